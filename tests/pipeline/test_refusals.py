"""A value that is refused is refused soon: before torch, which takes seconds to import."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ramengpt.inference.weights_config import CONFIG_FILE
from tests.conftest import ROOT
from tests.inference.tiny_weights import export_tiny, tiny_model

ARGUMENTS = {
    "pipeline.train": ("--early_stop_steps", "1"),
    "ramengpt.inference.generate": ("--prompt", "x"),
    "ramengpt.inference.share": ("push", "owner/name"),
}
PARAMS_COMMANDS = (
    *("pipeline.check", "pipeline.download", "pipeline.verify", "pipeline.index", "pipeline.train"),
    *("pipeline.sample", "ramengpt.inference.generate"),
)
WEIGHTS_COMMANDS = ("pipeline.sample", "ramengpt.inference.generate", "ramengpt.inference.evaluate")
RUN = """
    import runpy, sys
    for command in sys.argv[1:]:
        module, *sys.argv[1:] = command.split()
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as error:
            assert error.code == 1, error
        else:
            raise AssertionError(f"{module} accepts what it should refuse")
        assert "torch" not in sys.modules, module
"""


def refusals(folder: Path, *modules: str) -> list[str]:
    """Run commands in one process, and return the line that each ends in."""
    commands = [" ".join([module, *ARGUMENTS.get(module, ())]) for module in modules]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN), *commands],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: -1", "seed: expected greater than or equal to 0, found -1"),
        (b"seed: [", "not valid YAML"),
        (b"seed: \xff", "expected UTF-8"),
    ],
)
def test_every_command_refuses_params_before_torch(
    tmp_path: Path, content: bytes, message: str
) -> None:
    params = (ROOT / "params.yaml").read_bytes()
    (tmp_path / "params.yaml").write_bytes(params.replace(b"seed: 1337", content, 1))
    lines = refusals(tmp_path, *PARAMS_COMMANDS)
    assert len(lines) == len(PARAMS_COMMANDS)
    assert all(line.startswith("error: params.yaml") and message in line for line in lines), lines


def edited_config(folder: Path, edit: tuple[str, str]) -> None:
    """Write a model's two files, then replace one text by another in config.json."""
    path = export_tiny(folder / "models", tiny_model(vocabulary=128)) / CONFIG_FILE
    content = path.read_text()
    assert edit[0] in content
    path.write_text(content.replace(*edit, 1))


@pytest.mark.parametrize(
    "edit",
    [
        ('"ramengpt', "3"),
        ("{", "{" * 10**5),
        ('"activation": "', '"activation": "sw'),
        ('"max_sequence_tokens": 64', '"max_sequence_tokens": 65'),  # which only the weights reveal
        ('"num_heads": 1', '"num_heads": 2'),
    ],
    ids=range(5),
)
def test_a_models_config_is_refused_before_torch(tmp_path: Path, edit: tuple[str, str]) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edited_config(tmp_path, edit)
    lines = refusals(tmp_path, *WEIGHTS_COMMANDS, "ramengpt.inference.share")
    assert len(lines) == 4
    assert all(line.startswith("error: models") and "config.json" in line for line in lines), lines


def test_a_missing_model_is_refused_before_torch(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    lines = refusals(tmp_path, *WEIGHTS_COMMANDS)
    assert all(line.startswith("error: models: no such folder") for line in lines), lines
