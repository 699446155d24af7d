"""params.yaml: every mistake is one clear line, and nothing unknown passes."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ramengpt.config import ConfigError, load_config
from ramengpt.config.base import Section
from tests.config.loading import PARAMS, load, refusal


@pytest.mark.parametrize("table", ["dataset", "model", "optimizer", "schedule"])
def test_every_entry_can_be_selected(table: str) -> None:
    entries = YAML(typ="safe").load(PARAMS.read_text())[f"{table}s"]
    for name in entries:
        assert getattr(load(f"{table}={name}"), f"{table}_name") == name


def test_the_fixed_entries_are_there() -> None:
    params = YAML(typ="safe").load(PARAMS.read_text())
    assert set(params["datasets"]) == {
        "docstrings", "fineweb10B", "fineweb100B", "fineweb-edu10B", "fineweb10B-raw",
        "fineweb100B-raw", "text",
    }  # fmt: skip
    assert {"instant", "base", "small", "medium"} <= set(params["models"])
    assert {"instant", "base", "small", "medium"} <= set(params["schedules"])
    assert {"normuon", "muon", "bam", "aro", "adam"} <= set(params["optimizers"])
    assert params["optimizer"] == "normuon"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer=adamz", "optimizer: 'adamz' is not in optimizers; did you mean 'adam'?"),
        ("dataset=fineweb", "did you mean 'fineweb10B'?"),
        ("reading.text.order=random", "reading.text.order: expected 'sequential' or 'shuffled'"),
        ("reading.text.long_documents=cut", "long_documents: expected 'dropped' or 'split'"),
        ("seed=-1", "seed: expected greater than or equal to 0, found -1"),
        ("seed=1.5", "seed: expected integer, found 1.5"),
        ("seed=true", "seed: expected integer, found True"),
        ("optimizers.normuon.learning_rate='1e-5'", "expected number, found '1e-5' (a string"),
        ("optimizers.bam.learning_rate=0", "optimizers.bam.learning_rate: expected greater than 0"),
        ("architecture=plane", "'plane' is not in architectures; did you mean 'plain'?"),
        (
            "models.instant.backout_layer=3",
            "models.instant with architectures.ramen: backout_layer must lie before",
        ),
        ("schedules.base.sequence.tokens=[262144]", "at least the longest sequence"),
        ("schedules.base.micro_batch_tokens=131000", "must be a multiple of 128"),
        ("schedules.base.learning_rate.warmup_steps=4000", "warmup_steps + the cooldown must fit"),
        ("train.precision=float64", "expected 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("sample.prompts=[]", "sample.prompts: expected"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(override: str, line: str) -> None:
    assert line in refusal(override)


def test_small_numbers_may_be_written_with_an_exponent() -> None:
    assert load("optimizers.adam.learning_rate=1e-5").optimizer_name == "normuon"


def test_an_override_of_an_unknown_key_names_the_nearest() -> None:
    assert "did you mean 'optimizers.normuon.beta2'" in refusal("optimizers.normuon.beta=0.9")
    assert "did you mean 'seed'" in refusal("sed=1")
    assert "expected key=value" in refusal("seed")


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = PARAMS.read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("\nseed: 1337\n", "\n", "seed: missing"),
        ("\nseed: 1337\n", "\nsead: 1337\n", "sead: unknown key; did you mean 'seed'?"),
        ("\nseed: 1337\n", "\nseed: 1337\nseed: 1\n", "not valid YAML"),
        ("    kind: docstrings\n", "    kind: docstringz\n", "datasets.docstrings.kind: expected"),
        ("  top_k: ", "  top_q: ", "sample.top_q: unknown key; did you mean 'top_k'?"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, old: str, new: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path=edited(tmp_path, old, new))
    assert line in str(caught.value)


def test_every_wrong_key_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load("seed=-1", "tracking.log_every_steps=0")
    one, other = str(caught.value).splitlines()
    assert "seed" in one
    assert "tracking.log_every_steps" in other


def test_a_missing_file_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run this from the project's folder"):
        load_config(path=tmp_path / "params.yaml")


def test_no_value_lives_in_code() -> None:
    def sections(section: type[Section]) -> list[type[Section]]:
        return [s for sub in section.__subclasses__() for s in (sub, *sections(sub))]

    for section in sections(Section):
        for name, field in section.model_fields.items():
            # None says that a key may be left out, since another section holds the value.
            assert field.is_required() or field.default is None, (
                f"{section.__name__}.{name} has a default"
            )


def test_every_dataset_says_how_it_is_read(tmp_path: Path) -> None:
    params = YAML(typ="safe").load(PARAMS.read_text())
    assert set(params["reading"]) == set(params["datasets"])
    path = edited(tmp_path, "reading:\n  docstrings:\n", "reading:\n  docstring:\n")
    with pytest.raises(ConfigError, match="'docstrings' is not in reading; did you mean"):
        load_config(path=path)
