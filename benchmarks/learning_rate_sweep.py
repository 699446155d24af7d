"""Validation loss of every optimizer over a grid of learning rates, as a Markdown table.

    python -m benchmarks.learning_rate_sweep --factors 0.25,0.5,1,2,4 --seeds 1337,1338

Each run is a scratch run of `python -m pipeline.train` in a folder of its own, with everything but
optimizer, learning rate and seed as in params.yaml or `--set`. Finished runs are kept in
`sweep.json`, so a sweep that was stopped goes on where it was, and may be widened later.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ramengpt.config import load_config
from ramengpt.files import write_bytes

OPTIMIZERS = "normuon,muon,bam,aro,adam"


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


def run_point(point: Point, settings: list[str], folder: Path) -> float | None:
    """Train one point; its validation loss, or None if it failed, which is then printed."""
    command = [sys.executable, "-m", "pipeline.train", "--out", str(folder / point.name)]
    command += ["--seed", str(point.seed)]
    for setting in [
        "tracking.wandb=disabled",
        *settings,
        f"optimizer={point.optimizer}",
        f"optimizers.{point.optimizer}.learning_rate={point.learning_rate}",
    ]:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{point.name}: {done.stderr.strip()[-500:]}", flush=True)
        return None
    metrics = json.loads((folder / point.name / "results" / "metrics.json").read_text())
    return float(metrics["validation"]["loss"])


def table(losses: dict[Point, float | None]) -> str:
    """A row for each optimizer and learning rate; the best of each optimizer is in bold."""
    lines = ["| optimizer | learning rate | validation loss | runs |", "|---|---:|---:|---:|"]
    for optimizer in dict.fromkeys(point.optimizer for point in losses):
        rates = sorted({point.learning_rate for point in losses if point.optimizer == optimizer})
        means: dict[float, tuple[float, float, int]] = {}
        for rate in rates:
            found = [
                loss
                for point, loss in losses.items()
                if (point.optimizer, point.learning_rate) == (optimizer, rate)
            ]
            finished = [loss for loss in found if loss is not None]
            if len(finished) == len(found):
                spread = statistics.stdev(finished) if len(finished) > 1 else 0.0
                means[rate] = (statistics.fmean(finished), spread, len(finished))
        best = min(means, key=lambda rate: means[rate][0], default=None)
        for rate in rates:
            if rate not in means:
                lines.append(f"| {optimizer} | {rate:g} | failed | |")
                continue
            mean, spread, runs = means[rate]
            text = f"{mean:.4f}" + (f" ± {spread:.4f}" if runs > 1 else "")
            text = f"**{text}**" if rate == best else text
            lines.append(f"| {optimizer} | {rate:g} | {text} | {runs} |")
    return "\n".join(lines)


def sweep(points: list[Point], settings: list[str], folder: Path) -> dict[Point, float | None]:
    """Run what `sweep.json` in the folder does not hold yet; all losses, in order.

    Raises:
        ValueError: the folder's runs had other settings.
    """
    record = folder / "sweep.json"
    saved: dict[str, Any] = {"settings": settings, "runs": []}
    if record.exists():
        saved = json.loads(record.read_text())
    if saved["settings"] != settings:
        raise ValueError(
            f"{record}: its runs had --set {saved['settings']}, not {settings}; give another --out"
        )
    losses: dict[Point, float | None] = {}
    for run in saved["runs"]:
        losses[Point(run["optimizer"], run["learning_rate"], run["seed"])] = run["loss"]
    for point in points:
        if point in losses:
            continue
        losses[point] = run_point(point, settings, folder)
        print(f"{point.name}: {losses[point]}", flush=True)
        runs = [asdict(known) | {"loss": loss} for known, loss in losses.items()]
        text = json.dumps({"settings": settings, "runs": runs}, indent=1)
        write_bytes(record, text.encode())
    return losses


def main() -> None:
    """Sweep what was asked for, then print the table and write it as sweep.md."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_rate_sweep", description=__doc__
    )
    parser.add_argument("--optimizers", default=OPTIMIZERS, help="by commas")
    parser.add_argument("--factors", default="0.25,0.5,1,2,4", help="of each learning rate")
    parser.add_argument("--seeds", default="1337", help="by commas")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/learning_rate_sweep"))
    arguments = parser.parse_args()
    points = grid(
        arguments.optimizers.split(","),
        [float(factor) for factor in arguments.factors.split(",")],
        [int(seed) for seed in arguments.seeds.split(",")],
        arguments.set,
    )
    text = table(sweep(points, arguments.set, arguments.out))
    write_bytes(arguments.out / "sweep.md", (text + "\n").encode())
    print(text)


if __name__ == "__main__":
    main()
