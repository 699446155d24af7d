"""One run from start to end: hold its lock, train, write its outputs, let go of its checkpoints.

The outputs are those of the last complete run until this one is complete: a run that is killed or
diverges leaves them as they were.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ramengpt.config import Config
from ramengpt.errors import UserError
from ramengpt.files import write_bytes
from ramengpt.inference.weights import export_weights
from ramengpt.progress import say
from ramengpt.training.loop import fit
from ramengpt.training.run_data import data_files, epochs_line, open_data, reading_order
from ramengpt.training.schedule.plan_table import write_plan
from ramengpt.training.session.checkpoint import CheckpointFolder
from ramengpt.training.session.fingerprint import run_fingerprint
from ramengpt.training.session.folders import RunFolders
from ramengpt.training.session.interruption import stop_on_signals
from ramengpt.training.session.lock import run_lock
from ramengpt.training.session.settings import RunOptions, plans_of, run_settings
from ramengpt.training.setup import prepared_run
from ramengpt.training.tracking.live_view import LiveView, run_summary

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def train(config: Config, options: RunOptions, folders: RunFolders) -> None:
    """Train, or go on where a killed run of the same settings, code and data stopped.

    Args:
        config: the selected values.
        options: of the command line and the environment.
        folders: where the run writes.

    Raises:
        UserError: data that is not what was verified, a run that is already going, a diverged
            loss, a full disk, or an interruption; each says what to do.
    """
    settings = run_settings(config, options)
    plans = plans_of(config, options)
    data = open_data(config)
    record = settings | {"data_path": data.data_path}
    fingerprint = run_fingerprint(settings, data_files())
    checkpoints = CheckpointFolder(folders.checkpoints / fingerprint, config.train.checkpoints_kept)
    with run_lock(checkpoints.folder), stop_on_signals() as stop, full_disk_in_one_line():
        say(epochs_line(data.train, reading_order(config), plans))
        say(f"the log grows in {checkpoints.log}")
        write_plan(plans, checkpoints.log / "plan.csv")
        total_tokens = plans[-1].tokens_before + plans[-1].tokens
        with (
            LiveView(len(plans), total_tokens) as view,
            prepared_run(
                config,
                plans,
                data,
                checkpoints,
                record=record,
                wandb_directory=folders.wandb,
                show=view.show,
            ) as run,
        ):
            fit(run, stop)
        with run.optimizers.evaluation_weights():
            export_weights(
                run.model,
                folders.models,
                window_tokens=config.schedule.window.validation_tokens,
                micro_batch_tokens=config.schedule.micro_batch_tokens,
                run=record,
            )
        for file in checkpoints.log.iterdir():
            write_bytes(folders.results / file.name, file.read_bytes())
        checkpoints.remove()
    say(run_summary(run.tracker.metrics(), folders.models, folders.results))


@contextmanager
def full_disk_in_one_line() -> Iterator[None]:
    """Tell a user whose disk is full so, whatever was being written.

    Raises:
        UserError: instead of the error that a full disk, a quota or a limit of size raised.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno not in NO_ROOM:
            raise
        place = getattr(error, "filename", None) or Path.cwd()
        raise UserError(
            f"{place}: no room to write ({error}); free some disk space, then run the same "
            "command again: it goes on from its newest checkpoint"
        ) from error
