"""A step's update does not depend on how its tokens are cut into micro-batches."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ramengpt.config import load_config
from ramengpt.data.batches.slices import Batch, slice_ends, slices
from ramengpt.model.gpt import GPT
from ramengpt.optimizers import OptimizerSet
from ramengpt.training.network import build_run_optimizers
from ramengpt.training.schedule.plan import StepPlan
from ramengpt.training.step import accumulate_gradients, train_step
from tests.model.tiny import packed, tiny_config, tiny_model

MICRO_BATCH_LENGTHS = ([100, 28], [1, 127], [60, 60, 8])
"""Lengths of the documents of three micro-batches of 128 tokens."""


def micro_batches() -> list[list[Batch]]:
    packs = (packed(lengths, seed=i) for i, lengths in enumerate(MICRO_BATCH_LENGTHS))
    return [[Batch(*pack, None)] for pack in packs]


def one_batch() -> list[list[Batch]]:
    parts = zip(*(batch[:3] for (batch,) in micro_batches()), strict=True)
    return [[Batch(*map(torch.cat, parts), None)]]


def plan(micro_batches: int, *, embedding_tied: bool) -> StepPlan:
    return StepPlan(
        step=0,
        run_steps=100,
        micro_batches=micro_batches,
        micro_batch_tokens=384 // micro_batches,
        sequence_tokens=128,
        window_tokens=128,
        learning_rate_multiplier=1.0,
        momentum=0.9,
        embedding_tied=embedding_tied,
        scalars_frozen=False,
        transition=False,
        tokens_before=0,
        further_token_weights=(0.0, 0.0),
        prefix_weight=0.0,
    )


def optimizers_of(model: GPT, *overrides: str, embedding_tied: bool) -> OptimizerSet:
    config = load_config(["train.compile=no", *overrides])
    return build_run_optimizers(config, model, [plan(1, embedding_tied=embedding_tied)])


@pytest.mark.parametrize("embedding_tied", [True, False])
@pytest.mark.parametrize("optimizer", ["normuon", "adam"])
def test_micro_batches_give_the_update_of_one_large_batch(
    optimizer: str, embedding_tied: bool
) -> None:
    updates, measured = [], []
    for batches in (micro_batches(), one_batch()):
        model = tiny_model(tiny_config(), window=128)
        overrides = (f"optimizer={optimizer}", "gradient_clipping.hidden_norm=0.01")
        optimizers = optimizers_of(model, *overrides, embedding_tied=embedding_tied)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        step = plan(len(batches), embedding_tied=embedding_tied)
        measured.append(train_step(model, iter(batches), optimizers, step))
        after = [parameter.detach() for parameter in model.parameters()]
        updates.append([new - old for new, old in zip(after, before, strict=True)])
    for name in measured[0]:
        torch.testing.assert_close(measured[0][name], measured[1][name], rtol=1e-6, atol=0)
    assert {"loss", "gradient_norm_hidden"} <= measured[0].keys()
    names = [name for name, _ in model.named_parameters()]
    for name, found, expected in zip(names, *updates, strict=True):
        assert expected.abs().max() > 0, name
        difference = (found - expected).norm() / expected.norm()
        assert difference < 1e-5, (name, float(difference))


def test_the_gradient_is_that_of_the_mean_and_starts_from_nothing() -> None:
    model = tiny_model(tiny_config(), window=128)
    batches = micro_batches()
    loss = accumulate_gradients(model, iter(batches), 3)
    summed = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    expected_loss = torch.stack([model(*batch).detach() for (batch,) in batches]).mean()
    torch.testing.assert_close(loss, expected_loss)
    model.zero_grad()
    for (batch,) in batches:
        (model(*batch) / 3).backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(summed[name], parameter.grad), name
    optimizers = optimizers_of(model, embedding_tied=False)
    train_step(model, iter(batches), optimizers, plan(3, embedding_tied=False))
    assert all(not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("parts", [(), ("multi_token_loss",)])
def test_slices_and_recomputation_give_the_gradient_of_the_whole(
    parts: tuple[str, ...], recompute: bool
) -> None:
    config = tiny_config(**dict.fromkeys(parts, True))
    (whole,) = one_batch()[0]
    batch_3T = torch.stack(whole[:3])
    ends = slice_ends(whole.positions_T.numpy(), 130)
    assert ends == [129, 256, 384]
    gradients, losses = [], []
    for batches in ([whole], list(slices(batch_3T, ends, 130))):
        model = tiny_model(config, window=128, dtype=torch.float64)
        model.recompute_activations = recompute and len(batches) > 1
        model.set_extra_loss_weights((0.5, 0.25), 0.25)
        losses.append(accumulate_gradients(model, iter([batches]), 1))
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)
    for name, expected in gradients[0].items():
        difference = (gradients[1][name] - expected).norm() / expected.norm()
        assert difference < 1e-6, (name, float(difference))


def test_as_many_batches_are_taken_as_planned() -> None:
    model = tiny_model(tiny_config(), window=128)
    batches: Iterator[list[Batch]] = iter(micro_batches())
    accumulate_gradients(model, batches, 2)
    assert len(list(batches)) == 1


def test_what_optimizers_count_is_summed_over_their_stacks() -> None:
    model = tiny_model(tiny_config(), window=128)
    optimizers = optimizers_of(model, "optimizer=aro", embedding_tied=False)
    counters = optimizers.counters()
    assert len(counters) > 1
    for number, counter in enumerate(counters.values()):
        counter.fill_(10 * number)
    before = sum(int(counter) for counter in counters.values())
    measured = train_step(model, iter(micro_batches()), optimizers, plan(3, embedding_tied=False))
    kept_now = sum(int(counter) for counter in optimizers.counters().values()) - before
    assert measured["kept_rotations"].dtype is torch.float32
    assert int(measured["kept_rotations"]) == before + kept_now
    normuon = optimizers_of(model, embedding_tied=False)
    measured = train_step(model, iter(micro_batches()), normuon, plan(3, embedding_tied=False))
    assert "kept_rotations" not in measured


class CountingOptimizers:
    """Nothing but counters, on a GPU."""

    def __init__(self) -> None:
        self.zeros = {f"hidden/{i}/events": torch.zeros((), device="cuda") for i in range(3)}

    def before_forward(self, plan: StepPlan) -> None:
        pass

    def clip_gradients(self, plan: StepPlan) -> dict[str, Tensor]:
        return {}

    def step(self, plan: StepPlan) -> None:
        pass

    def zero_grad(self) -> None:
        pass

    def counters(self) -> dict[str, Tensor]:
        return self.zeros


@pytest.mark.gpu
def test_nothing_in_a_step_waits_for_the_gpu() -> None:
    weight = torch.ones((), device="cuda", requires_grad=True)
    batches = [[Batch(*torch.ones(3, 128, device="cuda").unbind(), None)] for _ in range(2)]
    optimizers = CountingOptimizers()
    torch.cuda.set_sync_debug_mode("error")
    try:
        measured = train_step(
            lambda tokens_T, *_: (weight * tokens_T).mean(),
            iter(batches),
            optimizers,  # type: ignore[arg-type]
            plan(2, embedding_tied=False),
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert {name: float(value) for name, value in measured.items()} == {"loss": 1, "events": 0}
