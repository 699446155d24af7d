"""One run from start to end: take its locks, train, write its outputs, delete its checkpoints.

`ramengpt.training.session.outputs` says what the outputs hold at any moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from ramengpt.config import Config
from ramengpt.errors import UserError
from ramengpt.inference.weights import export_weights
from ramengpt.progress import say
from ramengpt.training.loop import fit
from ramengpt.training.micro_batch import out_of_memory_as_user_error
from ramengpt.training.run_data import epochs_line, reading_order
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.schedule.run_steps import StopRules
from ramengpt.training.session.folders import RunFolders
from ramengpt.training.session.inputs import check_inputs_match_stage_check, check_nothing_changed
from ramengpt.training.session.interruption import stop_on_signals
from ramengpt.training.session.lock import run_lock
from ramengpt.training.session.outputs import (
    announce_run,
    publish_outputs,
    unpublished_weights,
    withdraw_outputs,
)
from ramengpt.training.session.own_device import own_device, shared_device
from ramengpt.training.session.settings import RunOptions
from ramengpt.training.session.unresumable import COMMAND, unresumable_runs
from ramengpt.training.setup import RunSpec, inputs_now, prepared_run, specify_run
from ramengpt.training.tracking.live_view import LiveView, run_summary


def train(read_config: Callable[[], Config], options: RunOptions, folders: RunFolders) -> None:
    """Train, or resume where a killed run of the same settings, code and data stopped.

    Args:
        read_config: reads params.yaml and returns the selected values; called again at the end.
        options: from the command line and the environment.
        folders: where the run writes.

    Raises:
        UserError: data that differs from what was verified, the same run already in progress, a
            diverged loss, inputs edited during the run, or an interruption.
        OSError: a disk is full or refuses; it names the place.
    """
    spec = specify_run(read_config(), options, folders)
    with (
        out_of_memory_as_user_error(),
        run_lock(folders.lock, wait=False),
        run_lock(spec.checkpoints.folder, wait=folders.recorded),
        own_device() if folders.recorded else shared_device() as device,
        stop_on_signals() as stop,
    ):
        if folders.recorded:
            check_inputs_match_stage_check(spec.inputs)
        spec.checkpoints.describe(asdict(spec.inputs))
        for lost in unresumable_runs(folders.checkpoints):
            say(f"no run can resume from {lost}; `{COMMAND} --remove` deletes such checkpoints")
        rules = options.stop_rules
        if rules.after_seconds is None:
            say(epochs_line(spec.data.train, reading_order(spec.config), spec.plans))
        with (
            live_view(spec.plans, rules) as view,
            prepared_run(spec, device, view.show) as run,
        ):
            say(f"log: {folders.results}")
            reached = fit(run, stop)
            spent_seconds = run.budget.seconds
        with run.optimizers.evaluation_weights():
            export_weights(
                run.model,
                unpublished_weights(folders),
                window_tokens=run.validation.window_tokens,
                micro_batch_tokens=run.validation.micro_batch_tokens,
                run=spec.record | {"environments": run.environments},
            )
        if folders.recorded:
            withdraw_if_inputs_changed(spec, read_config)
        metrics = run.tracker.metrics()
        metrics |= rules.record(loss_reached=reached, spent_seconds=spent_seconds)
        publish_outputs(folders, metrics)
        spec.checkpoints.remove()
    say(run_summary(metrics, folders.models, folders.results))


def live_view(plans: Sequence[StepPlan], rules: StopRules) -> LiveView:
    """What shows the run; how many steps and tokens it will have is not known for all."""
    if rules.after_seconds is not None:
        return LiveView(None, None)
    return LiveView(len(plans), plans[-1].tokens_before + plans[-1].tokens)


def withdraw_if_inputs_changed(spec: RunSpec, read_config: Callable[[], Config]) -> None:
    """Withdraw the outputs if params.yaml, code or data changed since the run started.

    Raises:
        UserError: they changed, or params.yaml is no longer readable.
    """
    try:
        now = inputs_now(read_config(), spec.options)
        check_nothing_changed(spec.inputs, now, spec.checkpoints.folder)
    except (UserError, OSError):
        withdraw_outputs(spec.folders)
        announce_run(spec.folders.results)
        raise
