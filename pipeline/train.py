"""Train the selected model on the selected data.

Without flags this is the pipeline's stage: it reads params.yaml and writes models/ and
results/train/. Any flag makes it a scratch run: the same training, with its outputs in a folder of
their own. Missing data is made first, as the earlier stages would.
"""

import argparse
import math
import os
import sys
from pathlib import Path

from pipeline._earlier_stages import run_missing_stages
from ramengpt.cli import command_parser, run_main
from ramengpt.config import Config, load_config
from ramengpt.errors import UserError, shown
from ramengpt.training.schedule.plan_table import plan_table
from ramengpt.training.schedule.run_steps import StopRules
from ramengpt.training.session.folders import scratch_folders, stage_folders
from ramengpt.training.session.outputs import announce_run
from ramengpt.training.session.settings import RunOptions, plans_of
from ramengpt.training.tracking.wandb_run import wandb_mode


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("pipeline.train", __doc__)
    flags.add_argument(
        "--early_stop_steps", type=int, metavar="N", help="stop after N steps of the full schedule"
    )
    flags.add_argument(
        "--stop_at_loss",
        type=float,
        metavar="NATS",
        help="stop at the first held-out loss of at most NATS per token",
    )
    flags.add_argument(
        "--stop_after_seconds",
        type=float,
        metavar="S",
        help="stop after S seconds of training, to which the schedule is fitted",
    )
    flags.add_argument("--seed", type=int, help="use this seed instead of the one in params.yaml")
    flags.add_argument("--activation", help="use this activation in the MLP layers")
    flags.add_argument("--ffn_dim", help="inner width of the MLP layers, or auto")
    flags.add_argument(
        "--checkpoint_every", type=int, metavar="STEPS", help="steps between two checkpoints"
    )
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of params.yaml for this run; may be repeated",
    )
    flags.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the run, replacing what is there (default: a new one under runs/)",
    )
    flags.add_argument("--plan", action="store_true", help="print the schedule, and do not train")
    flags.add_argument("--config", help=argparse.SUPPRESS)
    return flags


def config_of(arguments: argparse.Namespace) -> Config:
    """params.yaml with the flags applied; each flag stands for a key.

    Raises:
        UserError: a value is wrong, or --config asks for a file of settings.
    """
    if arguments.config is not None:
        raise UserError("--config: values live in params.yaml; choose with --set model=base, ...")
    selected = load_config(arguments.set)
    keys = {
        "seed": arguments.seed,
        f"architectures.{selected.architecture_name}.activation": arguments.activation,
        f"models.{selected.model_name}.ffn_dim": arguments.ffn_dim,
        "train.checkpoint_every_steps": arguments.checkpoint_every,
    }
    flags = [f"{key}={value}" for key, value in keys.items() if value is not None]
    return load_config([*arguments.set, *flags])


def slice_sequences(config: Config) -> int | None:
    """What BATCH_SIZE_MULTIPLE says: the longest sequences that pass through the network at once.

    It is lowered to fit a card; a step then accumulates more gradients over the same tokens.
    Announced, since DVC cannot track it; without it None.

    Raises:
        UserError: no whole number from 1.
    """
    text = os.environ.get("BATCH_SIZE_MULTIPLE", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise UserError(f"BATCH_SIZE_MULTIPLE: expected a whole number from 1, found {shown(text)}")
    longest, whole = max(config.schedule.sequence.tokens), config.schedule.micro_batch_tokens
    tokens = int(text) * longest
    meaning = (
        "a step accumulates as many as its tokens need"
        if tokens < whole
        else f"the schedule's are no larger ({whole} tokens) and stay as they are"
    )
    size = f"{text} x {longest} = {tokens} tokens"
    print(f"BATCH_SIZE_MULTIPLE={text}: micro-batches of {size}; {meaning}")
    return int(text)


def early_stop_steps(arguments: argparse.Namespace) -> int | None:
    """The flag's value.

    Raises:
        UserError: it is not positive.
    """
    steps: int | None = arguments.early_stop_steps
    if steps is not None and steps < 1:
        raise UserError(f"--early_stop_steps: expected at least 1, found {steps}")
    return steps


def stop_rules(arguments: argparse.Namespace) -> StopRules:
    """What the flags say about the end of the run.

    Raises:
        UserError: a value is no positive number, or the flags contradict each other.
    """
    for flag in ("stop_at_loss", "stop_after_seconds"):
        value: float | None = getattr(arguments, flag)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UserError(f"--{flag}: expected a number above 0, found {value:g}")
    if arguments.stop_after_seconds is not None and arguments.early_stop_steps is not None:
        raise UserError(
            "--stop_after_seconds: follows the whole schedule, so it cannot be combined with "
            "--early_stop_steps; leave one out"
        )
    return StopRules(arguments.stop_at_loss, arguments.stop_after_seconds)


def main() -> None:
    """Run the stage, or a scratch run."""
    arguments = parser().parse_args()
    config = config_of(arguments)
    options = RunOptions(
        early_stop_steps(arguments), slice_sequences(config), stop_rules(arguments)
    )
    wandb_mode(config.tracking.wandb)  # refuses an unknown WANDB_MODE before outputs are touched
    if arguments.plan:
        print(plan_table(plans_of(config, options)))
        return
    is_scratch_run = len(sys.argv) > 1
    folders = scratch_folders(arguments.out) if is_scratch_run else stage_folders()
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)  # or fail before data are made
    if not is_scratch_run:
        announce_run(folders.results)
    run_missing_stages(config)
    # Only now: torch takes seconds to import, in which DVC would show another run's numbers.
    from ramengpt.training.run import train

    train(lambda: config_of(arguments), options, folders)


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
