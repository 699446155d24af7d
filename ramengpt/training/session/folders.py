"""Where a run writes: the pipeline's own outputs, or a folder of its own for a scratch run."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ramengpt.errors import UserError

SAMPLES_FILE = Path("results/samples.md")


@dataclass(frozen=True)
class RunFolders:
    """The folders of one run.

    Attributes:
        models: final weights.
        samples: what stage sample makes from them; None of a scratch run.
        results: metrics and plots.
        checkpoints: has a subfolder for each run's fingerprint.
        wandb: parent of wandb's own folder.
        lock: locked while any run writes here.
        recorded: whether DVC records what is written.
    """

    models: Path
    samples: Path | None
    results: Path
    checkpoints: Path
    wandb: Path
    lock: Path
    recorded: bool


def stage_folders() -> RunFolders:
    """The outputs that dvc.yaml names; checkpoints in the main checkout.

    DVC runs queued experiments in a temporary copy of the project and sets DVC_ROOT to the checkout
    that it copied.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
    return RunFolders(
        models=Path("models"),
        samples=SAMPLES_FILE,
        results=Path("results/train"),
        checkpoints=root / "data" / "checkpoints",
        wandb=root,
        lock=Path("results"),
        recorded=True,
    )


def scratch_folders(out: Path | None) -> RunFolders:
    """The folders of a scratch run.

    Args:
        out: chosen by the user; None makes a new folder under runs/.

    Raises:
        UserError: `out` is where the pipeline writes, or holds the project.
    """
    out = out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    stage = stage_folders()
    place = out.resolve()
    pipelines = (stage.models, stage.results, stage.checkpoints.parent)
    if (
        Path.cwd().is_relative_to(place)
        or place == stage.lock.resolve()
        or any(place.is_relative_to(own.resolve()) for own in pipelines)
    ):
        raise UserError(f"--out: expected a folder of its own, found {out}, the pipeline's")
    return RunFolders(
        models=out / "models",
        samples=None,
        results=out / "results",
        checkpoints=out / "checkpoints",
        wandb=out,
        lock=out,
        recorded=False,
    )
