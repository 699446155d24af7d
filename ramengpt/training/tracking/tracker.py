"""Everything a run logs goes through here: to DVC's metrics and plots, and to wandb.

Files, each rewritten as a whole during the run, among its outputs:

    <directory>/train.tsv         one row per step
    <directory>/validation.tsv    one row per validation
    <directory>/metrics.json      the few numbers in the table of `dvc exp show`, marked as
                                  unfinished

Rows are part of a checkpoint: a resumed run starts from them, so the steps that it repeats are not
there twice. We do not use dvclive, which reads every file again at each step and repeats rows after
a resume.
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
"""Writing the files takes at most about this share of a run's time, however long the tables."""


class Tracker:
    """Log rows cheaply; write them now and then.

    Args:
        directory: where the files go; made if missing.
        config: the section `tracking`.
        run_name: shown with the numbers.
        run_config: the run's settings, shown by wandb.
        wandb_directory: wandb writes into its subfolder `wandb`; outside DVC's outputs.
        state: from :meth:`state`, to resume from a checkpoint; empty for a new run.

    Raises:
        UserError: WANDB_MODE is set to something unknown.
    """

    def __init__(
        self,
        directory: Path,
        config: TrackingConfig,
        run_name: str,
        run_config: Mapping[str, Any],
        *,
        wandb_directory: Path,
        state: Mapping[str, str],
    ) -> None:
        self.directory = directory
        self._run_name = run_name
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
            row: named values: numbers, one-element tensors on any device, or functions that return
                a number once the device has passed this point.
            table: `train` or `validation`.

        Returns:
            The rows, of either table, whose values became known since the last call: immediately
            on the CPU, up to twice `log_every_steps` later on CUDA.
        """
        self._deferred.put(table, {"step": step, **row})
        return self._collect(wait=False)

    def flush(self) -> list[tuple[TableName, dict[str, float]]]:
        """Wait for the values of all rows so far, and return them as :meth:`log` does."""
        return self._collect(wait=True)

    def state(self) -> dict[str, str]:
        """For a checkpoint: all rows (after waiting for them), and the id of their wandb run."""
        self._collect(wait=True)
        tables = {str(name): table.text() for name, table in self._tables.items()}
        return {"wandb_run_id": self._run_id, **tables}

    def metrics(self) -> dict[str, Any]:
        """The numbers of metrics.json, from the newest known rows."""
        metrics: dict[str, Any] = {"run": self._run_name}
        metrics |= headline(self._tables["train"].last, self._tables["validation"].last)
        steady = steady_tokens_per_second(self._tables["train"].rows())
        if steady is not None:
            metrics.setdefault("speed", {})["steady_tokens_per_second"] = steady
        return metrics

    def close(self) -> list[tuple[TableName, dict[str, float]]]:
        """Wait for all values, write everything, end the wandb run (within bounded time).

        Returns:
            The rows that became known, as :meth:`log` returns them.
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
        """Send the rows of a checkpoint to wandb, which skips those it already has."""
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
            losses = ("loss", "bits_per_byte")
            metrics[name] = {loss: row[loss] for loss in losses if loss in row}
    metrics |= {name: train[name] for name in ("step", "tokens", "seconds") if name in train}
    speed = {name: train[name] for name in ("mfu", "peak_memory_gib") if name in train}
    if train.get("seconds", 0) > 0 and "tokens" in train:
        speed["tokens_per_second"] = train["tokens"] / train["seconds"]
    return metrics | ({"speed": speed} if speed else {})
