"""README's section 'A day with ramengpt': all its commands, in order, in a fresh clone."""

import json
import re

import pytest

from tests.conftest import ROOT
from tests.small_project import Project, small_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

PAGE = ROOT / "README.md"
HEADING = "## A day with ramengpt\n"
OPTIMIZERS = ["adam", "muon", "normuon", "bam", "aro"]
TERMINAL_COLUMNS = 80


def blocks_of_the_day() -> list[str]:
    """The section's blocks of commands."""
    section = PAGE.read_text().split(HEADING, 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[tuple[str, str]]]:
    """A clone after that day, and what each block printed."""
    project = small_project(tmp_path_factory.mktemp("day") / "clone")
    printed = []
    for block in blocks_of_the_day():
        printed.append((block, project.run("bash", "-euo", "pipefail", "-c", block)))
        if "dvc queue start" in block:
            status = project.drained_queue()
            assert status.count("Success") == len(OPTIMIZERS), status
    return project, printed


def output_of(day: tuple[Project, list[tuple[str, str]]], command: str) -> str:
    """What the only block with a command printed."""
    (output,) = [printed for block, printed in day[1] if command in block]
    return output


def test_the_first_run_is_what_others_are_held_against(day) -> None:
    printed = output_of(day, "dvc metrics diff")
    assert re.search(r"optimizer +normuon +bam\n", printed)
    (loss,) = re.findall(r"validation\.loss +([\d.]+) +([\d.]+) +(-?[\d.]+)\n", printed)
    assert float(loss[2]) != 0
    page = (day[0].folder / "dvc_plots/index.html").read_text()
    for drawn in ("train.tsv", "validation.tsv", '"HEAD"', '"workspace"'):
        assert drawn in page


def test_queued_runs_fetch_nothing_and_start_at_their_first_step(day) -> None:
    """Their copy lacks the text that git ignores: `download` runs once for all of them, at no cost.

    It gives what it gave, so that `verify` and `index` have nothing to do.
    """
    project = day[0]
    for number, optimizer in enumerate(OPTIMIZERS, 1):
        log = project.run("dvc", "queue", "logs", f"rivals-{number}")
        for stage in ("verify", "index"):
            assert f"Stage '{stage}' didn't change, skipping" in log
        ran = re.findall(r"Running stage '(\w+)'", log)
        assert number == 1 or "download" not in ran, log
        results = [stage for stage in ran if stage not in ("check", "download")]
        assert results in (["train", "sample"], []), log
        assert "resuming after step" not in log
        (reference,) = project.run(
            "git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/rivals-{number}"
        ).split()
        params = project.run("git", "show", f"{reference}:params.yaml")
        assert f"\noptimizer: {optimizer}\n" in params
    assert not list((project.folder / "data/checkpoints").rglob("state.pt"))


def test_the_table_fits_a_terminal(day) -> None:
    printed = output_of(day, "dvc exp show")
    lines = [line.rstrip() for line in printed.splitlines()]
    assert max(map(len, lines)) <= TERMINAL_COLUMNS, printed
    for number, optimizer in enumerate(OPTIMIZERS, 1):
        assert re.search(rf"\[rivals-{number}\] .* {optimizer}$", "\n".join(lines), re.MULTILINE)


def test_the_comparison_names_all_runs(day) -> None:
    page = (day[0].folder / "results/compare.html").read_text()
    for name in ("HEAD", "rivals-1", "rivals-2", "rivals-4", "rivals-5"):
        assert f"<td>{name}</td>" in page


def test_the_chosen_run_is_in_the_workspace(day) -> None:
    printed = output_of(day, "dvc exp apply")
    assert "Return the number of" in printed
    assert "validation split: loss" in printed
    config = json.loads((day[0].folder / "models/config.json").read_text())
    assert config["run"]["optimizer"]["rule"] == "muon"
    assert day[0].run("git", "status", "--short") == ""


def test_a_clone_elsewhere_has_everything_without_training(day) -> None:
    assert "up to date" in output_of(day, "dvc pull")
    elsewhere = day[0].folder.parent / "elsewhere"
    for file in ("models/model.safetensors", "results/samples.md", "results/train/train.tsv"):
        assert (elsewhere / file).read_bytes() == (day[0].folder / file).read_bytes()
