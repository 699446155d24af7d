"""Where a run writes: the pipeline's own outputs, or a folder of its own for a scratch run."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ramengpt.errors import UserError


@dataclass(frozen=True)
class RunFolders:
    """The folders of one run.

    Attributes:
        models: final weights.
        results: metrics and plots of the finished run.
        checkpoints: a folder for each run's fingerprint.
        wandb: parent of wandb's own folder.
        lock: held while a run writes here, whichever it is.
        recorded: DVC records what is written, with the values, code and data it came from.
    """

    models: Path
    results: Path
    checkpoints: Path
    wandb: Path
    lock: Path
    recorded: bool


def stage_folders() -> RunFolders:
    """The outputs that dvc.yaml names; checkpoints in the main checkout.

    DVC runs queued experiments in a copy of the project that it deletes, and sets DVC_ROOT to the
    checkout it copied.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd())
    return RunFolders(
        models=Path("models"),
        results=Path("results/train"),
        checkpoints=root / "data" / "checkpoints",
        wandb=root,
        lock=Path("results"),
        recorded=True,
    )


def scratch_folders(out: Path | None) -> RunFolders:
    """The folders of a scratch run.

    Args:
        out: chosen by the user; None takes a folder of this process under runs/.

    Raises:
        UserError: `out` is where the pipeline's own outputs are.
    """
    out = out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    stage = stage_folders()
    place = out.resolve()
    if place == Path.cwd() or any(
        place.is_relative_to(own.resolve()) for own in (stage.models, stage.results)
    ):
        raise UserError(f"--out: expected a folder of its own, found {out}, the pipeline's")
    return RunFolders(
        models=out / "models",
        results=out / "results",
        checkpoints=out / "checkpoints",
        wandb=out,
        lock=out,
        recorded=False,
    )
