"""Any mutation of a model's two files loads as what it was, or is refused in one line."""

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramengpt.inference.weights import load_weights
from ramengpt.inference.weights_config import CONFIG_FILE, WEIGHTS_FILE, WeightsError
from tests.inference.tiny_weights import export_tiny, tiny_model

VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(0, -1, 3, 7, 2**24, 2**31, 2**63, 10**30, 1e308, 0.5, float("nan"), float("inf")),
        *("", "auto", "L" * 256, "L" * 100_000, "gelu", "\ud800", "\0", "-" * 4, True, None),
        *([], {}, [[]], {"a": 1}, {"x" * 5000: 1}),
    ]
)
LIMIT_CPU_SECONDS = 2  # of CPU, which other load hardly changes; refusals take 0.1
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("fuzz") / "models", tiny_model(vocabulary=128))


def check(original: Path, name: str, content: bytes) -> bool:
    """Whether a copy with one file changed loads; if so, the network is the exported one."""
    folder = original.with_name("changed")
    shutil.copytree(original, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    start = time.process_time()
    try:
        loaded = load_weights(folder, torch.device("cpu"))
    except WeightsError as error:
        assert str(error).isprintable() and len(str(error)) < 1000, str(error)[:2000]
        assert time.process_time() - start < LIMIT_CPU_SECONDS
        return False
    assert loaded.config.model == tiny_model(vocabulary=128).config
    return True


def test_the_files_as_they_are_load(original: Path) -> None:
    assert check(original, CONFIG_FILE, (original / CONFIG_FILE).read_bytes())


@FUZZ
@given(seed=st.integers(0, 2**32), value=VALUES)
def test_any_value_in_place_of_any_other(original: Path, seed: int, value: object) -> None:
    config = json.loads((original / CONFIG_FILE).read_bytes())
    section = random.Random(seed).choice([config, *[config["model"]] * 5])
    section[random.Random(seed + 1).choice([*section])] = value
    check(original, CONFIG_FILE, json.dumps(config).encode())


@FUZZ
@given(
    name=st.sampled_from([WEIGHTS_FILE, CONFIG_FILE]),
    place=st.floats(0, 1) | st.floats(0, 0.01),
    edit=st.tuples(st.integers(0, 40), st.binary(max_size=20)),
)
def test_any_bytes_in_place_of_any_others(
    original: Path, name: str, place: float, edit: tuple[int, bytes]
) -> None:
    content, (removed, inserted) = (original / name).read_bytes(), edit
    start = int(len(content) * place)
    changed = content[:start] + inserted + content[start + removed :]
    loads = check(original, name, changed)
    assert not loads or name == CONFIG_FILE or changed == content


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf{}", b"\0" * 99),
        *(b'{"format": "' + b"x" * 2**20, b"9" * 5000, "{}".encode("utf-16")),
    ],
    ids=range(10),
)
def test_a_config_that_is_something_else(original: Path, content: bytes) -> None:
    assert not check(original, CONFIG_FILE, content)
