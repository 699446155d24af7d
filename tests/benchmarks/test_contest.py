"""The contest: what is fixed stays fixed, and the board follows the record of the runs."""

import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks import contest
from benchmarks.contest import BASELINE, check_free, leaderboard, settings_on, standings
from benchmarks.run_record import DIVERGED, DONE, Entry, read_record
from benchmarks.study import task
from benchmarks.study.arms import STAGES, Arm
from benchmarks.study.space import RATES
from benchmarks.study.task import TASKS, data_checksum, evaluation_seeds
from ramengpt.config import load_config
from ramengpt.errors import UserError
from tests.benchmarks.fake_runs import be_fake, started
from tests.conftest import ROOT

SEEDS = evaluation_seeds(10)
ABOUT = {"data": "0123456789abcdef"}


def entered(name: str, losses: list[float]) -> dict[str, Entry]:
    entries = {}
    for seed, loss in zip(SEEDS, losses, strict=False):
        status = DIVERGED if loss == math.inf else DONE
        result = {"status": status, "error": "too much"}
        if status == DONE:
            result = {"status": DONE, "validation_loss": loss}
            result |= {"validation": [[500, loss + 1], [1000, loss]]}
        labels = {"name": f"{name}-{seed}", "entry": name, "arm": name, "stage": "seeds"}
        entries[f"{name}-{seed}"] = labels | {"seed": seed, "times": 1, "settings": []} | result
    return entries


NOISE = [0.0, 0.01, -0.01, 0.02, -0.02, 0.005, -0.005, 0.015, -0.015, 0.0]
RUNS = entered(BASELINE, [3.0 + noise for noise in NOISE])


@pytest.mark.parametrize("name", RATES)
def test_the_space_of_the_study_is_free(name: str) -> None:
    arm = Arm(name)
    check_free(arm.settings({d.name: d.high for stage in STAGES for d in arm.space(stage)}))
    check_free(["schedules.base.learning_rate.cooldown_fraction=0.7"])


@pytest.mark.parametrize(
    "setting",
    ["model=small", "seed=1", "schedules.base.scheduled_steps=999", "validation.tokens=1"],
)
def test_what_is_fixed_is_refused(setting: str) -> None:
    with pytest.raises(UserError, match="the contest fixes it; free are optimizer="):
        check_free(["optimizer=muon", setting])


@pytest.mark.parametrize("data", contest.DATA)
def test_the_data_set_is_the_only_difference(data: str) -> None:
    config = load_config(list(settings_on(TASKS["base"], data)), ROOT / "params.yaml")
    assert (config.dataset_name, config.reading.order) == (data, "shuffled")


def test_an_entry_beats_the_target_only_beyond_the_noise() -> None:
    # Paired by seed, the first is 0.1 lower with hardly any spread, the second lower by chance.
    better = [2.9 + noise + 0.001 * (-1) ** seed for seed, noise in enumerate(NOISE[:5])]
    lucky = [2.99, 3.02, 2.95, 3.03, 2.97]
    runs = RUNS | entered("better", better) | entered("lucky", lucky)
    runs |= entered("diverged", [2.0, 2.0, 2.0, 2.0, math.inf]) | entered("few", [1.0] * 4)
    board = leaderboard(ABOUT, runs, {})
    rows = [row for row in board.splitlines() if row.startswith("| ") and "---" not in row][1:]
    assert "Target 3.0000" in board and "Shards 0123456789abcdef." in board
    assert [row.split(" | ")[1] for row in rows] == [
        f"{BASELINE} (baseline)", "better", "lucky", "diverged",
    ]  # fmt: skip
    assert [row.split(" | ")[-1].strip(" |") for row in rows] == ["-", "yes", "no", "no"]
    assert "-0.0998 | < 0.001 | 950 |" in rows[1]  # from about 3.9 after 500 tokens to 2.9
    assert "| 1 diverged | 5 | - | - | - | no |" in rows[3]


def test_the_arms_of_the_study_are_entries() -> None:
    study = entered("normuon", [2.9] * 5) | entered(BASELINE, [3.0] * 5)
    assert [standing.name for standing in standings(RUNS, study)] == ["normuon"]


def test_before_ten_baseline_runs_nothing_beats_the_target() -> None:
    nine = {name: entry for name, entry in RUNS.items() if entry["seed"] != SEEDS[-1]}
    entry = entered("x", [1.0, 1.01, 1.02, 1.0, 1.01])
    board = leaderboard(ABOUT, nine | entry, {})
    assert "provisional until the baseline has 10 runs" in board and "| yes |" not in board
    study = entered(BASELINE, [3.0] * 10)  # trains the same: its seeds count
    board = leaderboard(ABOUT, nine | entry, study)
    assert "provisional" not in board and "| yes |" in board
    assert leaderboard(ABOUT, {}, {}).endswith("The baseline has 0 of its 10 runs.\n")


def test_the_checksum_is_that_of_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "MANIFEST_PATH", tmp_path / "manifest.json")
    with pytest.raises(UserError, match="it lists no shards; select the data set"):
        data_checksum()
    found = set()
    for checksum in ("a", "b", "a"):
        shards = [{"file": "x.bin", "sha256": checksum}]
        (tmp_path / "manifest.json").write_text(json.dumps({"shards": shards}))
        found.add(data_checksum())
    assert len(found) == 2 and all(len(each) == 16 for each in found)


def test_one_command_trains_the_baseline_and_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    be_fake(monkeypatch)
    monkeypatch.setattr(contest, "data_checksum", lambda: "0123456789abcdef")
    study = {"about": {}, "runs": list(entered(BASELINE, [3.0] * 5).values())}
    (tmp_path / "study.json").write_text(json.dumps(study))

    def command(*arguments: str) -> None:
        given = ("--study", str(tmp_path / "study.json"), "--out", str(tmp_path / "out"))
        monkeypatch.setattr(sys, "argv", ["benchmarks.contest", *given, *arguments])
        contest.main()

    with pytest.raises(SystemExit):
        command("--seconds", "0")
    command()
    assert len(started(tmp_path / "out")) == 10
    command("--name", "mine", "--seeds", "5", "--set", "optimizer=muon")
    assert len(started(tmp_path / "out")) == 15
    _, entries = read_record(tmp_path / "out/contest.json")
    assert {entry["seed"] for entry in entries.values()} == set(SEEDS)
    study["about"] = json.loads((tmp_path / "out/contest.json").read_text())["about"]
    (tmp_path / "study.json").write_text(json.dumps(study))
    command("--out", str(tmp_path / "other"))
    assert len(started(tmp_path / "other")) == 5  # the study has five of its seeds
    board = (tmp_path / "out/leaderboard.md").read_text()
    assert "| 1 | mine |" in board and board in capsys.readouterr().out
    with pytest.raises(UserError, match="--seeds: expected at least 5, found 4"):
        command("--name", "mine", "--seeds", "4")
