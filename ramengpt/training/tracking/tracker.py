"""Everything a run logs goes through here: to DVC's metrics and plots, and to wandb.

Files, all rewritten whole while the run goes on, in its own outputs:

    <directory>/train.tsv         one row a step
    <directory>/validation.tsv    one row a measurement
    <directory>/metrics.json      the few numbers that `dvc exp show` puts into its table, marked as
                                  unfinished

Rows are part of a checkpoint. A resumed run starts from the rows of its checkpoint, so that the
steps it repeats are not there twice. The files are written directly: dvclive reads every file
again at each step, and repeats rows after a resume.
"""

import statistics
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from ramengpt.config.tracking import TrackingConfig
from ramengpt.files import write_bytes
from ramengpt.training.session.outputs import write_metrics
from ramengpt.training.tracking.deferred import DeferredRows, Value
from ramengpt.training.tracking.log_table import LogTable
from ramengpt.training.tracking.wandb_run import WandbRun, start_wandb

TableName = Literal["train", "validation"]
TABLES: tuple[TableName, ...] = ("train", "validation")

WRITING_SHARE = 0.02
"""Writing the files takes at most about this share of a run, however long its tables get."""


class Tracker:
    """Log rows cheaply; write them now and then.

    Args:
        directory: where the files go; made if missing.
        config: the section `tracking`.
        run_config: everything that the run was started with, shown by wandb.
        wandb_directory: wandb's own files go into its subfolder `wandb`; outside DVC's outputs.
        state: what :meth:`state` gave, to resume from a checkpoint; None for a new run.

    Raises:
        UserError: WANDB_MODE is set to something unknown.
    """

    def __init__(
        self,
        directory: Path,
        config: TrackingConfig,
        run_config: Mapping[str, Any],
        *,
        wandb_directory: Path,
        state: Mapping[str, str] | None = None,
    ) -> None:
        state = state or {}
        self.directory = directory
        self._write_every_seconds = config.write_every_seconds
        self._tables = {name: LogTable(state.get(name, "")) for name in TABLES}
        self._deferred = DeferredRows(config.log_every_steps, config.write_every_seconds)
        self._wandb: WandbRun | None = start_wandb(
            config, run_config, wandb_directory, state.get("wandb_run_id", "")
        )
        self._run_id = self._wandb.run_id if self._wandb else state.get("wandb_run_id", "")
        self._next_write_seconds = 0.0
        self._resend_rows()
        self._write()

    def log(
        self, step: int, row: Mapping[str, Value], table: TableName = "train"
    ) -> list[tuple[TableName, dict[str, float]]]:
        """Add a row. Does not wait for the device.

        Args:
            step: number of steps done.
            row: named values: numbers, one-element tensors on any device, or functions that give
                a number once the device has passed this point.
            table: `train` or `validation`.

        Returns:
            The rows, of either table, whose values became known since the last call: at once on
            the CPU, some steps late on CUDA, at most twice `log_every_steps`.
        """
        self._deferred.put(table, {"step": step, **row})
        return self._collect(wait=False)

    def flush(self) -> list[tuple[TableName, dict[str, float]]]:
        """Wait for the values of all rows so far; returns them as :meth:`log` does."""
        return self._collect(wait=True)

    def state(self) -> dict[str, str]:
        """What a checkpoint keeps: all rows, and the wandb run they belong to. Waits for them."""
        self._collect(wait=True)
        tables = {str(name): table.text() for name, table in self._tables.items()}
        return {"wandb_run_id": self._run_id, **tables}

    def metrics(self) -> dict[str, Any]:
        """The numbers of metrics.json, from the newest rows that are known."""
        metrics = headline(self._tables["train"].last, self._tables["validation"].last)
        steady = steady_tokens_per_second(self._tables["train"].rows())
        if steady is not None:
            metrics.setdefault("speed", {})["steady_tokens_per_second"] = steady
        return metrics

    def close(self) -> list[tuple[TableName, dict[str, float]]]:
        """Wait for all values, write everything, end the wandb run (within bounded time).

        Returns:
            The rows that became known, as :meth:`log` gives them.
        """
        rows = self._collect(wait=True)
        self._write()
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None
        return rows

    def _collect(self, *, wait: bool) -> list[tuple[TableName, dict[str, float]]]:
        collected: list[tuple[TableName, dict[str, float]]] = []
        for row in self._deferred.take(wait=wait):
            name: TableName = "validation" if row.table == "validation" else "train"
            self._tables[name].append(row.values)
            if self._wandb is not None:
                self._wandb.log(name, row.values)
            collected.append((name, row.values))
        if collected and time.monotonic() >= self._next_write_seconds:
            self._write()
        return collected

    def _resend_rows(self) -> None:
        """Give the rows of a checkpoint to wandb, which keeps those that it does not have yet."""
        if self._wandb is not None:
            rows = [
                (row["step"], name, row) for name in TABLES for row in self._tables[name].rows()
            ]
            for _, name, row in sorted(rows, key=lambda entry: entry[0]):
                self._wandb.log(name, row)

    def _write(self) -> None:
        started = time.monotonic()
        for name, table in self._tables.items():
            write_bytes(self.directory / f"{name}.tsv", table.text().encode())
        write_metrics(self.directory, self.metrics(), finished=False)
        now = time.monotonic()
        pause = max(self._write_every_seconds, (now - started) / WRITING_SHARE)
        self._next_write_seconds = now + pause


def steady_tokens_per_second(rows: Iterable[Mapping[str, float]]) -> float | None:
    """Median speed of the steps after the first, which compiles; None before there is one.

    A resumed run compiles again in the middle, which a median ignores and a mean would not.
    """
    speeds = [row["tokens_per_second"] for row in rows if "tokens_per_second" in row]
    return statistics.median(speeds[1:]) if len(speeds) > 1 else None


def headline(train: Mapping[str, float], validation: Mapping[str, float]) -> dict[str, Any]:
    """Pick the numbers of metrics.json from the newest row of each table.

    Args:
        train: the newest training row; empty before the first.
        validation: the newest validation row; empty before the first.

    Returns:
        Nested numbers. `tokens_per_second` is the mean of the whole run, compilation included; a
        value that no row has is left out.
    """
    metrics: dict[str, Any] = {}
    for name, row in (("validation", validation), ("train", train)):
        if "loss" in row:
            metrics[name] = {"loss": row["loss"]}
    metrics |= {name: train[name] for name in ("step", "tokens", "seconds") if name in train}
    speed = {name: train[name] for name in ("mfu", "peak_memory_gib") if name in train}
    if train.get("seconds", 0) > 0 and "tokens" in train:
        speed["tokens_per_second"] = train["tokens"] / train["seconds"]
    return metrics | ({"speed": speed} if speed else {})
