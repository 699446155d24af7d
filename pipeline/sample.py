"""Continue the prompts of params.yaml with the trained model."""

import argparse
from pathlib import Path

from pipeline._edits import check_values_unchanged
from ramengpt.cli import command_parser, run_main
from ramengpt.config import load_config
from ramengpt.files import write_bytes
from ramengpt.inference.weights_config import read_weights_config

WEIGHTS_FOLDER = Path("models")
SAMPLES_FILE = Path("results/samples.md")


def parser() -> argparse.ArgumentParser:
    """What the command line may say: nothing but --help."""
    return command_parser("pipeline.sample", __doc__)


def main() -> None:
    """Run the stage."""
    parser().parse_args()
    params = load_config()
    config = params.sample
    read_weights_config(WEIGHTS_FOLDER)  # before torch, which takes seconds to import
    import torch

    from ramengpt.inference.decoding import Decoder
    from ramengpt.inference.sampling import sample_text, samples_page
    from ramengpt.inference.weights import load_weights

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(WEIGHTS_FOLDER, device).model
    decoder = Decoder(model)
    samples = []
    for number, prompt in enumerate(config.prompts):
        seed = config.seed + number
        text = "".join(sample_text(decoder, prompt, config, seed, model.max_sequence_tokens))
        print(f"{prompt}{text}\n", flush=True)
        samples.append((prompt, text))
    write_bytes(SAMPLES_FILE, samples_page(samples, config).encode())
    check_values_unchanged("sample", lambda now: now.sample, params)
    print(f"samples: {SAMPLES_FILE}")


if __name__ == "__main__":
    run_main(main, output_is_optional=True)
