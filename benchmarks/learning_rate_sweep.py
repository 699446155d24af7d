"""Validation loss of every optimizer over a grid of learning rates, as a Markdown table.

    python -m benchmarks.learning_rate_sweep --factors 0.25,0.5,1,2,4 --seeds 1337,1338

Each run is a scratch run of `python -m pipeline.train` in a folder of its own, with everything but
optimizer, learning rate and seed as in params.yaml or `--set`. Finished runs are kept in
`sweep.json`, so a stopped sweep resumes and can be widened later; failed runs are retried. See
benchmarks/run_pool.py for the files that a run leaves.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.optimizer_step import OPTIMIZERS
from benchmarks.run_pool import PoolOptions, run_all
from benchmarks.run_record import Run, RunRecord
from ramengpt.cli import run_main
from ramengpt.config import load_config
from ramengpt.files import write_bytes


@dataclass(frozen=True)
class Point:
    """One run of the sweep."""

    optimizer: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.optimizer}-{self.learning_rate:g}-{self.seed}"

    def run(self) -> Run:
        """What is started for it."""
        settings = trained_with(self.optimizer, self.learning_rate)
        labels = {"optimizer": self.optimizer, "learning_rate": self.learning_rate}
        return Run(self.name, self.seed, settings, labels)


def trained_with(optimizer: str, learning_rate: float) -> tuple[str, str]:
    """The settings that select an optimizer at a learning rate."""
    return f"optimizer={optimizer}", f"optimizers.{optimizer}.learning_rate={learning_rate}"


def grid(
    optimizers: list[str], factors: list[float], seeds: list[int], settings: list[str]
) -> list[Point]:
    """All runs; a factor multiplies the optimizer's own learning rate in params.yaml."""
    points = []
    for optimizer in optimizers:
        config = load_config([*settings, f"optimizer={optimizer}"])
        for factor in factors:
            rate = float(f"{config.optimizer.learning_rate * factor:.3g}")
            points += [Point(optimizer, rate, seed) for seed in seeds]
    return points


def table(losses: dict[Point, float | None]) -> str:
    """A row for each optimizer and learning rate; the best of each optimizer is in bold."""
    lines = ["| optimizer | learning rate | validation loss | runs |", "|---|---:|---:|---:|"]
    for optimizer in dict.fromkeys(point.optimizer for point in losses):
        rates = sorted({point.learning_rate for point in losses if point.optimizer == optimizer})
        whole: dict[float, list[float]] = {}
        for rate in rates:
            found = [
                loss
                for point, loss in losses.items()
                if (point.optimizer, point.learning_rate) == (optimizer, rate)
            ]
            finished = [loss for loss in found if loss is not None]
            if len(finished) == len(found):
                whole[rate] = finished
        best = min(whole, key=lambda rate: statistics.fmean(whole[rate]), default=None)
        for rate in rates:
            if rate not in whole:
                lines.append(f"| {optimizer} | {rate:g} | failed | |")
                continue
            text = with_spread(whole[rate])
            text = f"**{text}**" if rate == best else text
            lines.append(f"| {optimizer} | {rate:g} | {text} | {len(whole[rate])} |")
    return "\n".join(lines)


def with_spread(values: Sequence[float]) -> str:
    """Mean, and sample standard deviation where there are several."""
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def sweep(
    points: list[Point], settings: list[str], folder: Path, processes_each: int
) -> dict[Point, float | None]:
    """Run what `sweep.json` in the folder does not hold yet.

    Returns:
        All losses in it, the points' first; None where a run failed.

    Raises:
        UserError: the folder's runs had other settings.
    """
    record = RunRecord(folder / "sweep.json", {"settings": settings})
    options = PoolOptions(
        folder=folder,
        settings=("tracking.wandb=disabled", *settings),
        processes_each=processes_each,
        timeout_seconds=math.inf,
        deadline=math.inf,
    )
    runs = [point.run() for point in points]
    run_all(lambda _: runs, record, options)
    found = {
        Point(each["optimizer"], each["learning_rate"], each["seed"]): each.get("validation_loss")
        for each in record.entries.values()
    }
    return {point: found[point] for point in points} | found


def main() -> None:
    """Sweep what was asked for, then print the table and write it as sweep.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_rate_sweep", description=__doc__
    )
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS), help="by commas")
    parser.add_argument("--factors", default="0.25,0.5,1,2,4", help="of each learning rate")
    parser.add_argument("--seeds", default="1337", help="by commas")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time on one GPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_rate_sweep"))
    arguments = parser.parse_args()
    points = grid(
        arguments.optimizers.split(","),
        [float(factor) for factor in arguments.factors.split(",")],
        [int(seed) for seed in arguments.seeds.split(",")],
        arguments.set,
    )
    text = table(sweep(points, arguments.set, arguments.out, arguments.processes))
    write_bytes(arguments.out / "sweep.md", (text + "\n").encode())
    print(text)


if __name__ == "__main__":
    run_main(main)
