"""The runs of a study and their results: a JSON file to which each finished run adds a line."""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramengpt.errors import UserError
from ramengpt.files import write_bytes
from ramengpt.training.tracking.log_table import LogTable

Entry = dict[str, Any]
Entries = Mapping[str, Entry]
"""By the runs' names."""
DONE = "done"
DIVERGED = "diverged"
"""A result too: the run is not repeated."""
FAILED = "failed"
SLOW_STEP_RATIO = 5.0
"""A step this many times slower than the median included a compilation."""


@dataclass(frozen=True)
class Run:
    """A scratch run of `python -m pipeline.train`.

    Attributes:
        name: of its folder; no two runs of a study share it.
        seed: of the run.
        settings: `key=value` each, beside those that all runs share.
        labels: identify the run in tables, JSON-ready.
        alone: whether it has a GPU to itself, so that its seconds can be compared.
    """

    name: str
    seed: int
    settings: tuple[str, ...]
    labels: Mapping[str, Any]
    alone: bool = False

    @property
    def arm(self) -> str:
        """Runs of an arm differ in seeds and rates only."""
        return str(self.labels.get("arm", self.name))

    def entry(self) -> Entry:
        """What is recorded of the run itself."""
        settings = list(self.settings)
        return {
            "name": self.name,
            **self.labels,
            "seed": self.seed,
            "settings": settings,
            "alone": self.alone,
        }


Plan = Callable[[Entries], list[Run]]
"""All runs that are wanted, given what is known; called again whenever a run has ended."""


class RunRecord:
    """The runs that have ended, on disk as soon as they have.

    Args:
        path: of the file.
        about: what all its runs share, JSON-ready.

    Raises:
        UserError: the file's runs share something else.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.about = dict(about)
        self.entries: dict[str, Entry] = {}
        if path.exists():
            found, self.entries = read_record(path)
            if found != self.about:
                raise UserError(
                    f"{path}: its runs share {json.dumps(found)}, not {json.dumps(self.about)}; "
                    "give another --out"
                )

    def add(self, entry: Entry) -> None:
        """Record a run, replacing an earlier one of the same name."""
        self.entries[entry["name"]] = entry
        self._write()

    def forget_what_failed(self, plan: Plan) -> None:
        """Drop planned runs that failed or had other settings, so that they are run again."""
        unlike = [run.name for run in plan(self.entries) if not self._holds(run)]
        while unlike:
            for name in unlike:
                del self.entries[name]
            unlike = [run.name for run in plan(self.entries) if not self._holds(run)]

    def _holds(self, run: Run) -> bool:
        entry = self.entries.get(run.name)
        if entry is None:
            return True
        return entry["status"] in (DONE, DIVERGED) and all(
            entry.get(key) == value for key, value in run.entry().items()
        )

    def _write(self) -> None:
        runs = ",\n".join(json.dumps(entry) for entry in self.entries.values())
        text = f'{{"about": {json.dumps(self.about)},\n"runs": [\n{runs}\n]}}\n'
        write_bytes(self.path, text.encode())


def read_record(path: Path) -> tuple[dict[str, Any], dict[str, Entry]]:
    """What the runs of a record share, and the runs.

    Raises:
        UserError: the file is no such record.
    """
    try:
        saved = json.loads(path.read_text())
        return saved["about"], {entry["name"]: entry for entry in saved["runs"]}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: no record of runs; give another --out") from None


def measured(folder: Path) -> Entry:
    """The results of a finished scratch run.

    Returns:
        Losses in nats/token; `train_seconds` as the run counted them, `steady_seconds` without
        compilation, and the speed from those; `validation`, pairs of tokens and loss.

    Raises:
        OSError: a file is missing.
        ValueError: a file or value is missing or damaged.
    """
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        train = LogTable((folder / "train.tsv").read_text()).rows()
        validation = LogTable((folder / "validation.tsv").read_text()).rows()
        steady = steady_seconds([row["step_seconds"] for row in train])
        return {
            "validation_loss": metrics["validation"]["loss"],
            "train_loss": metrics["train"]["loss"],
            "tokens": metrics["tokens"],
            "train_seconds": round(metrics["seconds"], 3),
            "steady_seconds": round(steady, 3),
            "tokens_per_second": round(metrics["tokens"] / steady, 1),
            "peak_memory_gib": round(metrics["speed"]["peak_memory_gib"], 3),
            "validation": [[row["tokens"], row["loss"]] for row in validation],
        }
    except (KeyError, ZeroDivisionError, statistics.StatisticsError) as error:
        raise ValueError(f"{folder}: not the results of a whole run: {error!r}") from None


def steady_seconds(step_seconds: list[float]) -> float:
    """Sum of the steps' seconds; those that included a compilation count as the median."""
    usual = statistics.median(step_seconds)
    return sum(usual if each > SLOW_STEP_RATIO * usual else each for each in step_seconds)
