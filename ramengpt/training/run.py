"""One run from start to end: hold its lock, train, write its outputs, let go of its checkpoints."""

from ramengpt.config import Config
from ramengpt.progress import say
from ramengpt.training.checkpoint import CheckpointFolder
from ramengpt.training.fingerprint import run_fingerprint
from ramengpt.training.interruption import stop_on_signals
from ramengpt.training.live_view import LiveView, run_summary
from ramengpt.training.loop import fit
from ramengpt.training.plan_table import write_plan
from ramengpt.training.run_folders import RunFolders
from ramengpt.training.run_lock import run_lock
from ramengpt.training.setup import (
    RunOptions,
    data_files,
    open_data,
    plans_of,
    prepared_run,
    run_settings,
)
from ramengpt.training.weights import export_weights


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
    fingerprint = run_fingerprint(settings, data_files())
    checkpoints = CheckpointFolder(folders.checkpoints / fingerprint, config.train.checkpoints_kept)
    with run_lock(checkpoints.folder), stop_on_signals() as stop:
        write_plan(plans, folders.results / "plan.csv")
        total_tokens = plans[-1].tokens_before + plans[-1].tokens
        with (
            LiveView(len(plans), total_tokens) as view,
            prepared_run(
                config, options, data, folders, checkpoints=checkpoints, show=view.show
            ) as run,
        ):
            fit(run, stop)
        export_weights(
            run.model,
            folders.models,
            window_tokens=config.schedule.window.validation_tokens,
            micro_batch_tokens=config.schedule.micro_batch_tokens,
            run=settings,
        )
        checkpoints.remove()
    say(run_summary(run.tracker.metrics(), folders.models, folders.results))
