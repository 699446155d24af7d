"""Continue a text with trained weights.

The text appears token by token. Settings without a flag come from `sample` in params.yaml.

    ramengpt generate --prompt "Once upon a time"
"""

import argparse
import sys

from ramengpt.cli import command_parser, run_main
from ramengpt.config import load_config
from ramengpt.config.sample import SampleConfig
from ramengpt.errors import UserError
from ramengpt.inference.weights_config import add_weights_flag, read_weights_config


def parser() -> argparse.ArgumentParser:
    """What the command line may say; flags that are not given are None."""
    flags = command_parser("ramengpt.inference.generate", __doc__)
    flags.add_argument("--prompt", required=True, help="text to continue")
    add_weights_flag(flags)
    flags.add_argument("--new_tokens", type=int, metavar="N", help="sample at most N tokens")
    flags.add_argument(
        "--temperature", type=float, metavar="T", help="0: always the likeliest token"
    )
    flags.add_argument(
        "--top_k", type=int, metavar="K", help="sample among the K likeliest tokens; 0: all"
    )
    flags.add_argument("--seed", type=int, help="another seed gives another text")
    return flags


def sample_config(arguments: argparse.Namespace) -> SampleConfig:
    """The section `sample` of params.yaml with the flags applied.

    Raises:
        UserError: a value is out of range.
    """
    names = ("new_tokens", "temperature", "top_k", "seed")
    given = {name: getattr(arguments, name) for name in names}
    return load_config(
        [f"sample.{name}={value}" for name, value in given.items() if value is not None]
    ).sample


def main() -> None:
    """Stream prompt and continuation to standard output."""
    arguments = parser().parse_args()
    if not arguments.prompt.strip():
        raise UserError("--prompt: expected at least one word, found none")
    config = sample_config(arguments)
    read_weights_config(arguments.weights)  # before torch, which takes seconds to import
    import torch

    from ramengpt.inference.decoding import Decoder
    from ramengpt.inference.sampling import sample_text
    from ramengpt.inference.weights import load_weights

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(arguments.weights, device).model
    pieces = sample_text(
        Decoder(model), arguments.prompt, config, config.seed, model.max_sequence_tokens
    )
    sys.stdout.write(arguments.prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


if __name__ == "__main__":
    run_main(main)
