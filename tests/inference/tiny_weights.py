"""A network of GPT-2's vocabulary, small enough to build in a test, and its exported weights."""

from pathlib import Path

import torch

from ramengpt.config import load_config
from ramengpt.config.model import NetworkConfig
from ramengpt.inference.weights import export_weights
from ramengpt.model.gpt import GPT

MAX_SEQUENCE_TOKENS = 64
MICRO_BATCH_TOKENS = 128


def tiny_config(**changes: object) -> NetworkConfig:
    """The `instant` model, narrow."""
    instant = load_config(["model=instant"]).network.model_dump()
    small = {"num_heads": 1, "head_dim": 16, "gate_inputs": 8}
    return NetworkConfig(**{**instant, **small, **changes})


def tiny_model(**changes: object) -> GPT:
    """Random weights that predict something: no projection is left at zero."""
    torch.manual_seed(0)
    model = GPT(
        tiny_config(**changes),
        max_sequence_tokens=MAX_SEQUENCE_TOKENS,
        backend="sdpa",
        compute_dtype=torch.float32,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.set_window(128)
    return model


def export_tiny(folder: Path, model: GPT) -> Path:
    """Export, judged with twice the window that it was trained with."""
    export_weights(
        model, folder, window_tokens=256, micro_batch_tokens=MICRO_BATCH_TOKENS, run={"seed": 1}
    )
    return folder
