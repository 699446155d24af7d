"""A value that is refused is refused soon: before torch, which takes seconds to import."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import ROOT

COMMANDS = {
    "pipeline.check": (),
    "pipeline.download": (),
    "pipeline.verify": (),
    "pipeline.index": (),
    "pipeline.train": ("--early_stop_steps", "1"),
    "pipeline.sample": (),
    "ramengpt.inference.generate": ("--prompt", "x"),
}
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
    commands = [" ".join([module, *COMMANDS[module]]) for module in modules]
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
    lines = refusals(tmp_path, *COMMANDS)
    assert len(lines) == len(COMMANDS)
    assert all(line.startswith("error: params.yaml") and message in line for line in lines), lines


@pytest.mark.parametrize("content", ['{"format": 3}', "{" * 10**5, None])
def test_a_models_config_is_refused_before_torch(tmp_path: Path, content: str | None) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "models").mkdir()
    if content is not None:
        (tmp_path / "models/config.json").write_text(content)
    lines = refusals(tmp_path, "pipeline.sample", "ramengpt.inference.generate")
    assert len(lines) == 2
    assert all(line.startswith("error: models") and "config.json" in line for line in lines), lines
