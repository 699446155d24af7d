"""float16: the scale follows overflows, skipped steps change nothing, and checkpoints hold it."""

import json
import math
from pathlib import Path

import pytest
import torch

from ramengpt.training import loss_scale
from ramengpt.training.loss_scale import SMALLEST_SCALE, STEPS_TO_DOUBLE, LossScale
from ramengpt.training.step import train_step
from tests.model.tiny import tiny_config, tiny_model
from tests.training.test_step import micro_batches, optimizers_of, plan
from tests.training.tiny_run import log_rows, result, stop_in, train_in

FINE = {"hidden": torch.tensor(1.0)}
OVERFLOWED = {"hidden": torch.tensor(1.0), "scalar": torch.tensor(math.inf)}


def test_it_halves_after_an_overflow_and_doubles_after_enough_good_steps() -> None:
    scale = LossScale()
    first = scale.value
    assert scale.must_skip(OVERFLOWED) and scale.must_skip({"hidden": torch.tensor(math.nan)})
    assert (scale.value, scale.skipped_steps) == (first / 4, 2)
    for _ in range(STEPS_TO_DOUBLE):
        assert scale.value == first / 4
        assert not scale.must_skip(FINE)
    assert (scale.value, scale.good_steps, scale.skipped_steps) == (first / 2, 0, 2)
    copy = LossScale()
    copy.load_state_dict(scale.state_dict())
    assert vars(copy) == vars(scale)


def test_what_overflows_at_every_scale_is_not_skipped_for_ever() -> None:
    scale = LossScale()
    scale.value = SMALLEST_SCALE
    assert not scale.must_skip(OVERFLOWED)  # the loop stops at a norm that is not finite


def test_the_scale_has_no_part_in_the_update() -> None:
    updates = []
    for scale in (None, LossScale()):
        model = tiny_model(tiny_config(), window=128)
        optimizers = optimizers_of(model, embedding_tied=False)
        step = plan(3, embedding_tied=False)
        measured = train_step(model, iter(micro_batches()), optimizers, step, scale)
        updates.append([p.detach().clone() for p in model.parameters()])
    for one, other in zip(*updates, strict=True):
        assert torch.equal(one, other)  # powers of two change no digit in float32
    assert (measured["loss_scale"], measured["skipped_steps"]) == (2**16, 0)


def test_a_step_that_overflowed_changes_no_weight_and_is_counted() -> None:
    model = tiny_model(tiny_config(), window=128, dtype=torch.float16)
    optimizers = optimizers_of(model, embedding_tied=False)
    before = [p.detach().clone() for p in model.parameters()]
    scale = LossScale()
    scale.value = 2.0**40
    step = plan(3, embedding_tied=False)
    measured = train_step(model, iter(micro_batches()), optimizers, step, scale)
    assert all(map(torch.equal, before, model.parameters()))
    assert not any(p.grad.any() for p in model.parameters())
    assert measured["skipped_steps"] == 1 and scale.value == 2.0**39
    assert not any(name.startswith("gradient_norm") for name in measured)


def test_a_run_in_float16_learns_as_in_float32_and_resumes_with_its_scale(
    inside_project: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_scale, "FIRST_SCALE", 2.0**26)  # overflows at first
    whole, resumed, wide = tmp_path / "whole", tmp_path / "resumed", tmp_path / "wide"
    train_in(whole, "train.precision=float16")
    rows = log_rows(whole / "results/train.tsv")
    skipped = int(float(rows[-1]["skipped_steps"]))
    assert 0 < skipped < len(rows) - 4
    assert float(rows[-1]["loss_scale"]) == 2.0 ** (26 - skipped)
    assert rows[0]["gradient_norm_hidden"] == "" and rows[-1]["gradient_norm_hidden"] != ""
    stop_in(monkeypatch, 5, "train.precision=float16", out=resumed)
    train_in(resumed, "train.precision=float16")
    assert result(resumed) == result(whole)
    monkeypatch.setattr(loss_scale, "FIRST_SCALE", 2.0**10)
    train_in(tmp_path / "narrow", "train.precision=float16")
    train_in(wide, "train.precision=float32")
    losses = [
        json.loads((tmp_path / run / "results/metrics.json").read_text())["validation"]["loss"]
        for run in ("narrow", "wide")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
