"""LITE against its equations with exact singular vectors, in float64."""

import pytest
import torch
from torch import Tensor

from ramengpt.optimizers.lite import Lite, adapt_threshold, flat_part, ramped
from tests.optimizers.models import PARAMS, gaussian, optimizer_config, scalars

SHAPES = [(2, 8, 8), (2, 16, 8), (2, 8, 16)]
EXACT = PARAMS["polynomials"]["polar_express"] | {"steps": 12, "safety": 1.0001}


def lite(**changes) -> Lite:
    return Lite(optimizer_config("lite", polar=EXACT, sharp_share=0.3, **changes), compile=False)


def spread(seed: int, *shape: int) -> Tensor:
    """A gradient with singular values 1, 1/2, 1/4, ..., none near a threshold of the test."""
    left, _, right = torch.linalg.svd(gaussian(*shape, seed=seed), full_matrices=False)
    values = 2.0 ** -torch.arange(min(shape[-2:]), dtype=torch.float64)
    return left * values @ right


def flat_projection(matrix: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """I - V V^T over singular vectors above the threshold, and how many there are."""
    _, values, right = torch.linalg.svd(matrix, full_matrices=False)
    sharp = (values > threshold * torch.linalg.vector_norm(matrix, dim=(-2, -1))[:, None]).double()
    kept = right * sharp[:, :, None]
    return torch.eye(matrix.size(-1)).double() - kept.mT @ kept, sharp.sum(-1)


def polar(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_follow_the_equations(shape, cautious: bool) -> None:
    rule, weight = lite(cautious_decay=cautious, ramp_fraction=0.5), gaussian(*shape)
    state, expected = rule.new_state(weight), weight.clone()
    momentum = torch.zeros_like(weight)
    threshold = torch.full((2, 1), min(shape[1:]) ** -0.5, dtype=torch.float64)
    rms = 0.2 * max(shape[1:]) ** 0.5
    for update in range(1, 6):
        progress, gradient = update / 8, spread(update, *shape)
        share = min(progress / 0.5, 1)
        damping, gain = -0.25 + share * 1.25, 1 + share
        momentum = 0.9 * momentum + 0.1 * gradient
        direction = 0.1 * gradient + 0.9 * momentum
        flat, count = flat_projection(direction, threshold)
        step = polar(direction) - 0.25 * polar(gradient)
        step = step + (damping + 0.25) * polar(gradient) @ flat
        step = step + (gain - 1) * step @ flat
        decayed = expected + (gain - 1) * expected @ flat
        if cautious:
            decayed = decayed * (step * expected >= 0)
        expected = expected - 0.02 * 2 * (rms * step + 0.3 * decayed)
        threshold = threshold * torch.where(count > 3, 1.05, 0.95)[:, None].double()
        numbers = scalars(update, 0.02, lr_mul=2.0, weight_decay=0.3, progress=progress)
        rule.step(weight, gradient, state, numbers)
        torch.testing.assert_close(state["threshold"], threshold[:, :, None], rtol=0, atol=1e-7)
        torch.testing.assert_close(weight, expected, rtol=0, atol=2e-4)


def test_the_share_of_sharp_directions_is_found_and_kept() -> None:
    rule, weight = lite(), gaussian(1, 30, 40)
    state, counts = rule.new_state(weight), []
    for update in range(1, 121):
        gradient = gaussian(1, 30, 40, seed=update)
        rule.step(weight, gradient, state, scalars(update, 0.001))
        counts.append(
            int(
                flat_projection(0.1 * gradient + 0.9 * state["momentum"], state["threshold"][:, 0])[
                    1
                ]
            )
        )
    assert sum(counts[-40:]) / 40 == pytest.approx(0.3 * 30 + 1, abs=2)


def test_without_damping_and_gain_it_is_muon() -> None:
    from ramengpt.optimizers.muon import Muon

    rule = lite(sharp_damping=0.0, flat_damping=0.0, flat_gain=1.0, update_rms=12**-0.5)
    plain = {"decay_scale": "rate", "cautious_decay": False}
    muon = Muon(optimizer_config("muon", polar=EXACT, **plain), compile=False)
    weights = gaussian(2, 8, 12), gaussian(2, 8, 12)
    for each, weight in zip((rule, muon), weights, strict=True):
        state = each.new_state(weight)
        for update in range(1, 4):
            numbers = scalars(update, 0.02, weight_decay=0.1, progress=0.9)
            each.step(weight, gaussian(2, 8, 12, seed=update), state, numbers)
    torch.testing.assert_close(*weights, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_flat_part_is_orthogonal_to_the_sharp_one(shape) -> None:
    rows = torch.linalg.qr(gaussian(2, shape[2], 3))[0].mT
    sharp = torch.linalg.qr(gaussian(2, shape[1], 3, seed=1))[0] @ rows
    part = flat_part(gaussian(*shape, seed=2), sharp)
    torch.testing.assert_close(
        part @ rows.mT, torch.zeros(2, shape[1], 3).double(), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(flat_part(part, sharp), part, rtol=0, atol=1e-13)


def test_a_threshold_never_exceeds_the_norm() -> None:
    threshold, sharp = torch.full((1, 1, 1), 0.999), torch.ones(1, 4, 4)
    adapt_threshold(threshold, sharp, 0.5)
    assert threshold.item() == 1.0
    adapt_threshold(threshold, torch.zeros(1, 4, 4), 0.5)
    assert threshold.item() == pytest.approx(0.95)


def test_damping_and_gain_grow_until_the_end_of_the_ramp() -> None:
    config = optimizer_config("lite", ramp_fraction=0.5)
    for progress, damping, gain in [(0.0, -0.25, 1.0), (0.25, 0.375, 1.5), (0.7, 1.0, 2.0)]:
        found = ramped(config, progress, gaussian(1))
        assert (float(found.flat_damping), float(found.flat_gain)) == (damping, gain)
    whole = ramped(optimizer_config("lite", ramp_fraction=0.0), 0.0, gaussian(1))
    assert float(whole.flat_gain) == 2.0
