"""Measure trained weights: loss and bits per byte of any text, or benchmark tasks.

Without a FILE the text is the pipeline's validation split, measured as in training. With --tasks
it runs EleutherAI's lm-evaluation-harness (the extra `eval`), and prints the harness's table.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ramengpt.cli import command_parser, run_main
from ramengpt.config import load_config
from ramengpt.data.batches.indexed_split import SplitShards
from ramengpt.data.index.bos_index import check_index
from ramengpt.data.shards.manifest import read_manifest
from ramengpt.data.shards.store import locate_store
from ramengpt.data.sources.restore import restore_shards
from ramengpt.errors import UserError
from ramengpt.inference.weights_config import add_weights_flag, read_weights_config

if TYPE_CHECKING:
    from ramengpt.inference.weights import Weights


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("ramengpt.inference.evaluate", __doc__)
    flags.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="token shard (.bin) or UTF-8 text"
    )
    add_weights_flag(flags)
    flags.add_argument(
        "--tokens", type=int, metavar="N", help="measure only the first N tokens of each"
    )
    flags.add_argument(
        "--tasks",
        metavar="NAME,...",
        help="hellaswag, lambada_openai, arc_easy, piqa, blimp or any other of the harness",
    )
    flags.add_argument(
        "--limit", type=int, metavar="N", help="use only the first N examples of each task"
    )
    flags.add_argument(
        "--include_path",
        type=Path,
        metavar="DIR",
        help="folder of your own tasks, in the harness's YAML",
    )
    return flags


def validation_shards() -> SplitShards:
    """The validation split that data/manifest.json describes; lost shards are restored."""
    manifest = read_manifest()
    store = locate_store(manifest.dataset)
    store.announce()
    restore_shards(load_config(), manifest, store.folder)
    check_index(manifest)
    return SplitShards(manifest, "val", store.folder)


def print_tasks(weights: "Weights", arguments: argparse.Namespace) -> None:
    """Print the harness's table for some of its tasks.

    Raises:
        UserError: the harness is not installed, or does not know a task.
    """
    if arguments.files or arguments.tokens is not None:
        raise UserError("--tasks: takes no FILE and no --tokens; --limit shortens a task")
    try:
        from ramengpt.inference.harness import evaluate_tasks, table
    except ModuleNotFoundError as error:
        raise UserError(
            f"--tasks: {error.name} is not installed; run `pip install -e '.[eval]'`"
        ) from None
    tasks = arguments.tasks.split(",")
    print(table(evaluate_tasks(weights.model, tasks, arguments.limit, arguments.include_path)))


def main() -> None:
    """Print a line for each file."""
    arguments = parser().parse_args()
    if arguments.tokens is not None and arguments.tokens < 1:
        raise UserError(f"--tokens: expected at least 1, found {arguments.tokens}")
    read_weights_config(arguments.weights)  # before torch, which takes seconds to import
    import torch

    from ramengpt.inference.text_evaluation import evaluate_shards, read_tokens
    from ramengpt.inference.weights import load_weights

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.tasks is not None:
        print_tasks(load_weights(arguments.weights, device), arguments)
        return
    texts = {str(path): [read_tokens(path)] for path in arguments.files}
    weights = load_weights(arguments.weights, device)
    for label, shards in texts.items() or [("validation split", validation_shards())]:
        everything = 2**62 if arguments.files else load_config().validation.tokens
        result = evaluate_shards(weights, shards, arguments.tokens or everything, label)
        print(
            f"{label}: loss {result.loss:.4f} nats/token, {result.bits_per_byte:.4f} bits/byte "
            f"({result.tokens} tokens, {result.bytes} bytes)"
        )


if __name__ == "__main__":
    run_main(main)
