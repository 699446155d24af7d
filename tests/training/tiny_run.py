"""A project in a folder whose run has every kind of transition and takes a second."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ramengpt.config import Config, load_config
from ramengpt.data.index.bos_index import build_index
from ramengpt.data.shards.checksums import file_sha256
from ramengpt.data.shards.format import BOS_TOKEN, ShardWriter
from ramengpt.data.shards.manifest import DownloadedShard, DownloadRecord, write_manifest
from ramengpt.data.shards.verification import verify_shards
from ramengpt.model.gpt import GPT
from ramengpt.training import loop
from ramengpt.training.run import train
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.session.folders import RunFolders
from ramengpt.training.session.interruption import InterruptedRunError
from ramengpt.training.session.settings import RunOptions
from tests.conftest import ROOT, edited_params

STEPS = 12
CLOCKED = {"step_seconds", "seconds", "tokens_per_second", "peak_memory_gib"}
"""Columns of the log that differ from run to run."""


def make_tiny_project(folder: Path) -> None:
    """Write params.yaml, shards, manifest and index; the folder becomes a place to train in.

    The current directory must be the folder.
    """
    shutil.copy(ROOT / "params.yaml", folder)
    with edited_params(folder) as params:
        params |= {"dataset": "text", "model": "instant", "schedule": "instant"}
        params["models"]["instant"] |= {"num_heads": 1, "head_dim": 16}
        params["architectures"]["ramen"] |= {"gate_inputs": 8}
        params["schedules"]["instant"] |= {
            "micro_batch_tokens": 128,
            "scheduled_steps": STEPS - 2,
            "extension_steps": 2,
            "batch": {"shape": "stepped", "fractions": [0.0, 0.8], "micro_batches": [1, 2]},
            "window": {"fractions": [0.0, 0.5], "tokens": [128, 256], "validation_tokens": 256},
            "sequence": {"fractions": [0.0, 0.4], "tokens": [64, 128]},
            "embedding_split_fraction": 0.7,
            "scalar_freeze_steps": 1,
        }
        params["train"] |= {"checkpoint_every_steps": 2, "checkpoints_kept": 2, "compile": "no"}
        params["validation"] |= {"tokens": 256, "every_steps": 5}
        params["tracking"] |= {"wandb": "disabled", "write_every_seconds": 0.01}
    store = folder / "data" / "shards" / "text"
    for split, name in (("val", "text_val_000000.bin"), ("train", "text_train_000001.bin")):
        write_documents(store / name, documents=30 if split == "train" else 4)
    adopt_store(store)


def write_documents(path: Path, documents: int) -> None:
    """A shard of random documents whose next token is rather certain, so that losses fall."""
    random = np.random.default_rng(documents)
    with ShardWriter(path) as writer:
        for _ in range(documents):
            start, length = random.integers(50), random.integers(20, 200)
            tokens = (start + np.arange(length)) % 50
            writer.write(np.concatenate([[BOS_TOKEN], tokens]).astype(np.uint16))


def adopt_store(store: Path) -> None:
    """Do what download, verify and index leave behind for the shards of a folder."""
    shards = [
        DownloadedShard(path.name, split, path.stat().st_size, file_sha256(path))
        for split in ("val", "train")
        for path in sorted(store.glob(f"*_{split}_*.bin"))
    ]
    manifest, faults = verify_shards(DownloadRecord("text", tuple(shards)), store, lambda _: None)
    assert manifest is not None, faults
    write_manifest(manifest)
    build_index(manifest, store)


def folders_in(place: Path) -> RunFolders:
    """Everything that a run writes, in one folder."""
    return RunFolders(
        place / "models", None, place / "results", place / "checkpoints", place, place, False
    )


def train_in(
    place: Path,
    *overrides: str,
    slice_sequences: int | None = None,
    early_stop_steps: int | None = None,
) -> Config:
    """Run the training of the current folder's params.yaml; outputs go to `place`."""
    config = load_config(overrides)
    options = RunOptions(early_stop_steps, slice_sequences)
    train(lambda: config, options, folders_in(place))
    return config


def result(place: Path) -> dict[str, object]:
    """What a run came to, but for what clocks and memory say: weights' bytes, config, log rows."""
    return {
        "weights": (place / "models/model.safetensors").read_bytes(),
        "config": json.loads((place / "models/config.json").read_text()),
        "train": log_rows(place / "results/train.tsv"),
        "validation": log_rows(place / "results/validation.tsv"),
        "plan": (place / "results/plan.csv").read_text(),
    }


def log_rows(table: Path) -> list[dict[str, str]]:
    """Rows of a table as they are written, without the columns that differ from run to run."""
    header, *lines = [line.split("\t") for line in table.read_text().splitlines()]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    return [{key: cell for key, cell in row.items() if key not in CLOCKED} for row in rows]


def run_folder(place: Path) -> Path:
    """The checkpoint folder of the only run that was started."""
    (folder,) = (place / "checkpoints").iterdir()
    return folder


def saved_steps(place: Path) -> list[int]:
    """Steps of the checkpoints of the only run."""
    return sorted(int(path.name.removeprefix("step-")) for path in run_folder(place).glob("step-*"))


Intervene = Callable[[StepPlan, GPT], None]


def before_each_step(monkeypatch: pytest.MonkeyPatch, intervene: Intervene) -> None:
    """Let a function do something to a run in this process."""
    original = loop.train_step

    def step(model: GPT, batches: Any, optimizers: Any, plan: StepPlan, scale: Any) -> Any:
        intervene(plan, model)
        return original(model, batches, optimizers, plan, scale)

    monkeypatch.setattr(loop, "train_step", step)


def stop_in(monkeypatch: pytest.MonkeyPatch, step: int, *overrides: str, out: Path) -> None:
    """Leave a run as if it had been asked to stop during a step."""

    def ask(plan: StepPlan, _: GPT) -> None:
        if plan.step == step:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        before_each_step(patch, ask)
        with pytest.raises(InterruptedRunError) as stopped:
            train_in(out, *overrides)
    assert stopped.value.exit_status == 143
    assert saved_steps(out)[-1] == step + 1
