"""Print parameters, FLOPs and memory of a network of params.yaml."""

import argparse
import sys

import torch

from ramengpt.cli import command_parser, run_main
from ramengpt.config import Config, load_config
from ramengpt.model.cost import count_as_gpt2, count_parameters, flops_per_token
from ramengpt.training.memory import MemoryEstimate


def summarise(config: Config) -> str:
    """A table of parameters, floating point operations and memory.

    Args:
        config: its model, with the sequence, window and micro-batch of its schedule.

    Returns:
        Lines of text.
    """
    schedule = config.schedule
    counts = count_parameters(config.network)
    lines = [f"model {config.model_name}, schedule {config.schedule_name}", ""]
    lines += [f"{'group':<12}{'label':<18}{'parameters':>14}"]
    lines += [f"{group:<12}{label:<18}{count:>14,}" for (group, label), count in counts.items()]
    lines += [f"{'total':<30}{sum(counts.values()):>14,}"]
    lines += [f"{'total as GPT-2 counts':<30}{count_as_gpt2(config.network):>14,}", ""]
    stages = {"first": 0, "last": -1}
    for name, stage in stages.items():
        sequence, window = schedule.sequence.tokens[stage], schedule.window.tokens[stage]
        flops = flops_per_token(config.network, sequence_tokens=sequence, window_tokens=window)
        lines += [
            f"{flops / 1e6:,.1f} MFLOP/token in training, {name} stage: documents of {sequence} "
            f"tokens, window {window}"
        ]
    lines += [""]
    for dtype in (torch.bfloat16, torch.float32):
        tokens = schedule.micro_batch_tokens
        memory = MemoryEstimate.of(config, dtype).training_bytes(tokens) / 2**30
        lines += [
            f"about {memory:.1f} GiB to train micro-batches of {tokens:,} tokens in "
            f"{str(dtype).removeprefix('torch.')}"
        ]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("ramengpt.model.summary", __doc__)
    for selector in ("model", "schedule"):
        flags.add_argument(
            f"--{selector}",
            metavar="NAME",
            help=f"entry of `{selector}s` (default: the selected one)",
        )
    return flags


def main() -> None:
    """Parse arguments and print."""
    arguments = vars(parser().parse_args())
    overrides = [f"{selector}={name}" for selector, name in arguments.items() if name]
    sys.stdout.write(summarise(load_config(overrides)) + "\n")


if __name__ == "__main__":
    run_main(main)
