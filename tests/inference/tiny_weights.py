"""A network of GPT-2's vocabulary, small enough to build in a test, and its exported weights."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ramengpt.config import load_config
from ramengpt.config.model import NetworkConfig
from ramengpt.inference.weights import export_weights
from ramengpt.model.gpt import GPT
from tests.conftest import ROOT

MAX_SEQUENCE_TOKENS = 64
MICRO_BATCH_TOKENS = 128


def tiny_config(**changes: object) -> NetworkConfig:
    """The `instant` model, narrow."""
    instant = load_config(["model=instant"]).network.model_dump()
    small = {"num_heads": 1, "head_dim": 16, "gate_inputs": 8}
    return NetworkConfig(**{**instant, **small, **changes})


def tiny_model(*, float8_mlp: bool = False, **changes: object) -> GPT:
    """Random weights that predict something: no projection is left at zero."""
    torch.manual_seed(0)
    model = GPT(
        tiny_config(**changes),
        max_sequence_tokens=MAX_SEQUENCE_TOKENS,
        backend="sdpa",
        compute_dtype=torch.float32,
        float8_mlp=float8_mlp,
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


def enter_trained_project(folder: Path, model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder with params.yaml and models/ the current one, on a CPU without bfloat16."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    shutil.copy(ROOT / "params.yaml", folder)
    export_tiny(folder / "models", model)


def call(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: str) -> None:
    """Run a command's main function on these arguments."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    main()
