"""The protocol on processes that take no time: what is run, in which order, and what is kept."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.run_record import DIVERGED, DONE, Entry, Run, read_record
from benchmarks.run_result import DIVERGED_LINE
from benchmarks.study import __main__ as command
from benchmarks.study import protocol
from benchmarks.study.arms import STAGES, Arm
from benchmarks.study.protocol import Study
from benchmarks.study.space import Values
from benchmarks.study.task import SELECTION_SEED, TASKS, evaluation_seeds
from ramengpt.errors import UserError
from ramengpt.training import loop
from tests.benchmarks.fake_runs import be_fake, started

START = {"learning rate": 0.02, "decay per step": 0.01, "warm-up steps": 0.0}
BEST = {"normuon": 0.04, "adamw": 0.004}


def settings_at(arm: Arm, values: Values) -> tuple[str, ...]:
    """A bowl in the learning rate, whose bottom lies at another place and height for each arm."""
    bottom = 3.0 if arm.name == "normuon" else 3.5
    loss = bottom + 0.1 * math.log2(values["learning rate"] / BEST[arm.name]) ** 2
    return f"optimizer={arm.name}", f"loss={loss:.6f}"


@pytest.fixture(autouse=True)
def tiny_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    be_fake(monkeypatch)
    monkeypatch.setattr(Arm, "settings", settings_at)
    monkeypatch.setattr(command, "data_checksum", lambda: "0123456789abcdef")


def study_of(*arms: str, trials: tuple[int, int] = (5, 4), timed: bool = False) -> Study:
    return Study(TASKS["base"], tuple(Arm(name) for name in arms), trials, 3, timed, (), ())


def ended(run: Run, loss: float | None) -> Entry:
    result = {"status": DIVERGED, "error": "too much"}
    if loss is not None:
        result = {"status": DONE, "validation_loss": loss}
    return json.loads(json.dumps(run.entry() | result))


def carried_out(study: Study, **losses: float | None) -> dict[str, Entry]:
    """All runs of a study, one by one, at their losses or at those given by name."""
    entries: dict[str, Entry] = {}
    while due := [run for run in study.runs(entries) if run.name not in entries]:
        loss = float(dict(s.split("=", 1) for s in due[0].settings)["loss"])
        entries[due[0].name] = ended(due[0], losses.get(due[0].name, loss))
    return entries


def study(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.study", *arguments])
    command.main()


def test_one_command_from_nothing_to_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--out", str(tmp_path), "--arms", "adamw", "normuon", "--trials", "4", "4")
    asked += ("--seeds", "2", "--timed", "--lengths", "2")
    with pytest.raises(SystemExit):
        study(monkeypatch, *asked, "--seconds", "0")
    assert "the same command resumes" in capsys.readouterr().out
    study(monkeypatch, *asked)
    _, entries = read_record(tmp_path / "study.json")
    stages = [entry["stage"] for entry in entries.values()]
    expected = {"rates": 8, "rest": 8, "seeds": 2 * 2 * 2, "timed": 2}
    assert {stage: stages.count(stage) for stage in stages} == expected
    assert sorted(started(tmp_path)) == sorted(entries)
    page = (tmp_path / "study.md").read_text()
    assert "| normuon | 3." in page and "<!-- study: seeds_2x -->" in page
    assert (tmp_path / "study_by_tokens.svg").exists()
    study(monkeypatch, *asked)  # nothing is left to do
    assert len(started(tmp_path)) == len(entries)
    capsys.readouterr()
    study(monkeypatch, "--tables", str(tmp_path / "study.json"))
    assert capsys.readouterr().out == page


def test_every_arm_has_as_many_trials_and_the_same_seeds() -> None:
    whole = study_of("adamw", "normuon")
    entries = carried_out(whole)
    for arm in ("adamw", "normuon"):
        trials = protocol.trials_of(entries, arm, STAGES)
        assert [len(protocol.trials_of(entries, arm, [stage])) for stage in STAGES] == [5, 4]
        assert {trial["seed"] for trial in trials} == {SELECTION_SEED}
        assert tuple(protocol.evaluated(entries, arm, 1)) == evaluation_seeds(3)


def test_an_arm_comes_before_the_next() -> None:
    """So that a study that is cut short is a whole one of fewer arms."""
    names = list(carried_out(study_of("adamw", "normuon")))
    assert [name.startswith("adamw") for name in names] == [True] * 12 + [False] * 12


def test_the_best_trial_is_evaluated_and_the_rest_is_searched_at_the_best_rates() -> None:
    entries = carried_out(study_of("normuon"))
    trials = protocol.trials_of(entries, "normuon", STAGES)
    best = min(trials, key=protocol.loss_of)
    assert all(
        entry["values"].items() >= best["values"].items()
        for entry in protocol.evaluated(entries, "normuon", 1).values()
    )
    rates = min(protocol.trials_of(entries, "normuon", STAGES[:1]), key=protocol.loss_of)
    for trial in protocol.trials_of(entries, "normuon", STAGES[1:]):
        assert trial["values"].items() >= rates["values"].items()
        assert "warm-up steps" in trial["values"]


def test_a_diverged_trial_is_a_result_and_counts() -> None:
    whole = study_of("normuon")
    entries = carried_out(whole, **{"normuon-rates-1": None, "normuon-rest-0": None})
    assert len(protocol.trials_of(entries, "normuon", STAGES)) == 9
    assert len(protocol.evaluated(entries, "normuon", 1)) == 3


def test_without_a_trial_that_ended_nothing_is_evaluated() -> None:
    diverged = {f"normuon-rates-{number}": None for number in range(5)}
    assert list(carried_out(study_of("normuon"), **diverged)) == list(diverged)


def test_recorded_trials_keep_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine may propose other digits: what was run counts."""
    entries = carried_out(study_of("normuon"))
    elsewhere = {**START, "learning rate": 0.5, "decay per step": 0.05}
    monkeypatch.setattr(protocol, "start_of", lambda *_: elsewhere)
    monkeypatch.setattr(
        protocol, "later_round", lambda *given: ({"learning rate": 9.0},) * given[2]
    )
    runs = study_of("normuon").runs(entries)
    assert [run.entry() for run in runs] == [
        {key: entries[run.name][key] for key in run.entry()} for run in runs
    ]


def test_what_a_study_needs() -> None:
    with pytest.raises(UserError, match="--trials: expected at least 4 in each stage"):
        study_of("normuon", trials=(4, 3))


def test_divergence_is_told_from_other_failures() -> None:
    checkpoints = SimpleNamespace(steps=list)
    run = SimpleNamespace(checkpoints=checkpoints, tracker=SimpleNamespace(directory="runs/x"))
    for found in ("the train loss is nan (gradient_norm_x: 1)", "model.head.weight holds a value"):
        with pytest.raises(UserError) as diverged:
            loop._stop_if_diverged(run, 3, found)
        assert DIVERGED_LINE.match(f"error: {diverged.value}"[:300])
    assert not DIVERGED_LINE.match("error: no memory")
