# ruff: noqa: PLR0917
"""The softcapped head and loss against all logits at once in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramengpt.kernels.head import plain
from ramengpt.kernels.head import softcapped_cross_entropy as module
from ramengpt.kernels.head.cuda import GPU_CHUNK_TOKENS
from ramengpt.kernels.head.softcapped_cross_entropy import (
    softcapped_cross_entropy,
    softcapped_cross_entropy_reference,
)
from tests.kernels.numbers import SOFTCAP, head_inputs, relative_error, several_targets


def exact(x, weight, targets, weights, vocabulary, upstream=1.0):
    """Loss, token losses and gradients by the reference in float64."""
    x, weight = (t.detach().double().requires_grad_() for t in (x, weight))
    weights = None if weights is None else weights.double()
    loss, losses = softcapped_cross_entropy_reference(
        x, weight, targets, weights, vocabulary, *SOFTCAP
    )
    return loss.detach(), losses, *torch.autograd.grad(loss * upstream, (x, weight))


def ours(x, weight, targets, weights, vocabulary, upstream=1.0):
    x, weight = (t.detach().requires_grad_() for t in (x, weight))
    loss, losses = softcapped_cross_entropy(x, weight, targets, weights, vocabulary, *SOFTCAP)
    return loss.detach(), losses, *torch.autograd.grad(loss * upstream, (x, weight))


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(2, 70),
    width=st.integers(1, 20),
    vocabulary=st.integers(2, 50),
    padding=st.integers(0, 9),
    weighted=st.booleans(),
    num_targets=st.integers(1, 4),
    chunk=st.integers(1, 40),
)
def test_equals_all_logits_at_once(
    tokens, width, vocabulary, padding, weighted, num_targets, chunk
):
    x, weight, targets, weights = head_inputs(
        tokens, width, vocabulary + padding, vocabulary, torch.float32
    )
    if num_targets > 1:
        targets, weights = several_targets(targets, vocabulary, num_targets)
    weights = weights if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "CHUNK_TOKENS", chunk)
        patch.setattr(plain, "SLICE_TOKENS", 3)
        found = ours(x, weight, targets, weights, vocabulary, upstream=-2.5)
    for value, expected in zip(
        found, exact(x, weight, targets, weights, vocabulary, upstream=-2.5), strict=True
    ):
        assert value.dtype == torch.float32
        assert (value - expected).norm() <= 1e-5 * expected.norm() + 1e-7


@pytest.mark.usefixtures("poisoned")
def test_padded_rows_have_no_gradient_and_no_probability():
    x, weight, targets, weights = head_inputs(30, 8, 40, 33, torch.float32)
    loss, _, _, grad_weight = ours(x, weight, targets, weights, 33)
    assert torch.equal(grad_weight[33:], torch.zeros(7, 8))
    weight[33:] = 1e4
    assert ours(x, weight, targets, weights, 33)[0] == loss


def test_gradients_have_all_digits_of_float64():
    x, weight, targets, weights = head_inputs(9, 4, 12, 11, torch.float64)
    found = ours(x, weight, targets, weights, 11)
    expected = exact(x, weight, targets, weights, 11)
    assert relative_error(found[2], expected[2]) < 1e-12
    assert relative_error(found[3], expected[3]) < 1e-12


def test_the_gradient_in_float64_is_that_of_finite_differences():
    x, weight, targets, _ = head_inputs(7, 3, 6, 5, torch.float64)
    targets, weights = several_targets(targets, 5, 3)

    def loss(x, weight):
        return softcapped_cross_entropy_reference(
            x, weight, targets, weights.double(), 5, *SOFTCAP
        )[0]

    leaves = (x.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(loss, leaves)
    found = ours(x, weight, targets, weights, 5)[2:]
    for ours_, exact_ in zip(found, torch.autograd.grad(loss(*leaves), leaves), strict=True):
        assert relative_error(ours_, exact_) < 1e-12


def test_equal_targets_are_one_target_with_the_sum_of_their_weights():
    x, weight, targets, weights = head_inputs(12, 4, 9, 9, torch.float64)
    twice = torch.stack([targets, targets], dim=1)
    shared = torch.stack([weights * 0.25, weights * 0.75], dim=1)
    for one, two in zip(
        ours(x, weight, targets, weights, 9), ours(x, weight, twice, shared, 9), strict=True
    ):
        assert relative_error(two, one) < 1e-6


def test_targets_without_weight_change_nothing():
    x, weight, targets, weights = head_inputs(12, 4, 9, 9, torch.float32)
    more, _ = several_targets(targets, 9, 3)
    alone = torch.cat([weights[:, None], torch.zeros(12, 2)], dim=1)
    for one, three in zip(
        ours(x, weight, targets, weights, 9), ours(x, weight, more, alone, 9), strict=True
    ):
        assert relative_error(three, one) < 1e-6


def test_a_float32_master_gets_a_float32_gradient_beside_bfloat16():
    x, weight, targets, _ = head_inputs(64, 16, 40, 37, torch.float32)
    found = ours(x.bfloat16(), weight, targets, None, 37)
    assert (found[2].dtype, found[3].dtype) == (torch.bfloat16, torch.float32)
    expected = exact(x.bfloat16(), weight.bfloat16(), targets, None, 37)
    errors = [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    assert max(errors[:2]) < 2e-3, errors
    assert max(errors[2:]) < 6e-3, errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gradients_survive_the_ends_of_the_largest_softcap(dtype, sign):
    x, weight, targets, _ = head_inputs(40, 16, 30, 30, torch.float32)
    x, weight = (x + 3 * sign).to(dtype), (weight * 0.3 + 1.2).to(dtype)  # |z| about 58
    softcap = (80.0, 0.0, 20.0)
    leaves = [x.requires_grad_(), weight.requires_grad_()]
    loss, _ = softcapped_cross_entropy(x, weight, targets, None, 30, *softcap)
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected, _ = softcapped_cross_entropy_reference(*doubles, targets, None, 30, *softcap)
    pairs = zip(
        torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, doubles), strict=True
    )
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    assert all(relative_error(a, b) < tolerance for a, b in pairs)


def test_without_gradients_only_the_losses_are_computed():
    x, weight, targets, _ = head_inputs(20, 8, 30, 30, torch.float32)
    with torch.no_grad():
        outputs = module._operator(x, weight, targets, None, 30, *SOFTCAP, False, False)
    assert outputs[2].numel() == outputs[3].numel() == 0
    assert torch.equal(outputs[0], ours(x, weight, targets, None, 30)[0])
    assert not softcapped_cross_entropy(x, weight, targets, None, 30, *SOFTCAP)[1].requires_grad


def test_compiles_into_one_graph():
    x, weight, targets, _ = head_inputs(20, 8, 30, 30, torch.float32)
    x.requires_grad_()

    def mean_loss(x, weight):
        loss, losses = softcapped_cross_entropy(x * 2, weight, targets, None, 30, *SOFTCAP)
        return loss / 2, losses + 1

    compiled = torch.compile(mean_loss, fullgraph=True, backend="aot_eager")
    loss, losses = compiled(x, weight)
    loss.backward()
    plain_loss, plain_losses = mean_loss(x, weight)
    assert torch.equal(losses, plain_losses)
    assert torch.equal(torch.autograd.grad(plain_loss, x)[0], x.grad)


def test_the_operator_is_registered_as_pytorch_wants_it():
    x, weight, targets, weights = head_inputs(12, 4, 9, 9, torch.float32)
    torch.library.opcheck(
        module._operator,
        (x.requires_grad_(), weight.requires_grad_(), targets, weights, 9, *SOFTCAP, True, False),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_VD": torch.ones(5, 3)}, "has width 2"),
        ({"targets": torch.zeros(3)}, r"must have shape \(4,\) or \(4, K\), found \(3,\)"),
        ({"weights": torch.zeros(4, 2)}, r"targets' shape \(4,\), found \(4, 2\)"),
        ({"vocabulary": 6}, "vocabulary 6 must be in 1..5"),
        ({"scale": 200.0}, "scale 200.0 must be in"),
        ({"divisor": 0.0}, "divisor 0.0 positive"),
        ({"float8": True}, "tokens must be a multiple of 16, found 4"),
        ({"x_TD": torch.ones(4, 2).half()}, "float16 cannot hold"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {
        "x_TD": torch.ones(4, 2),
        "weight_VD": torch.ones(5, 2),
        "targets": torch.zeros(4, dtype=torch.int32),
        "weights": None,
        "vocabulary": 5,
        "scale": 23.0,
        "shift": 5.0,
        "divisor": 7.5,
    }
    with pytest.raises(ValueError, match=message):
        softcapped_cross_entropy(**(arguments | change))


def test_sizes_that_float8_cannot_take_are_named():
    module.check_float8_sizes("float8_head", {"width": 256, "the padded vocabulary": 50_304})
    with pytest.raises(ValueError, match="the padded vocabulary must be a multiple of 16, found 9"):
        module.check_float8_sizes("float8_head", {"width": 256, "the padded vocabulary": 9})


@pytest.mark.gpu
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("dtype", "weight_dtype", "tolerance"),
    [
        (torch.bfloat16, torch.float32, 6e-3),
        (torch.bfloat16, torch.bfloat16, 6e-3),
        (torch.float32, torch.float32, 1e-5),
    ],
)
@pytest.mark.parametrize(
    ("num_targets", "rows"), [(None, 1096), (1, 1096), (1, 1001), (4, 1096), (4, 1001)]
)
def test_on_gpu(dtype, weight_dtype, tolerance, num_targets, rows, monkeypatch):
    from ramengpt.kernels.head import cuda

    monkeypatch.setattr(cuda, "GPU_CHUNK_TOKENS", 384)
    x, weight, targets, weights = head_inputs(1000, 200, rows, 1000, dtype, "cuda")
    if num_targets is None:
        weights = None
    elif num_targets > 1:
        targets, weights = several_targets(targets, 1000, num_targets)
    found = ours(x, weight.to(weight_dtype), targets, weights, 1000, upstream=3.0)
    expected = exact(x, weight, targets, weights, 1000, upstream=3.0)
    assert (found[2].dtype, found[3].dtype) == (dtype, weight_dtype)
    assert not found[3][1000:].any()
    errors = [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    assert max(errors[:2]) < (2e-3 if dtype == torch.bfloat16 else 1e-5), errors
    assert max(errors[2:]) < tolerance, errors
    with torch.no_grad():  # exact sigmoids
        _, losses = softcapped_cross_entropy(x, weight, targets, weights, 1000, *SOFTCAP)
    assert relative_error(losses, expected[1]) < 1e-5


@pytest.mark.gpu
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("num_targets", [1, 4])
def test_in_float8_on_gpu(num_targets, monkeypatch):
    from ramengpt.kernels.head import float8
    from ramengpt.kernels.tiles import supports_tma

    monkeypatch.setattr(float8, "GPU_CHUNK_TOKENS", 384)
    x, weight, targets, weights = head_inputs(1008, 208, 1104, 1000, torch.bfloat16, "cuda")
    if not supports_tma(x, weight):
        pytest.skip("this GPU has no float8 head")
    if num_targets > 1:
        targets, weights = several_targets(targets, 1000, num_targets)
    x, weight = x.requires_grad_(), weight.float().requires_grad_()
    arguments = (x, weight, targets, weights, 1000, *SOFTCAP)
    loss, losses = softcapped_cross_entropy(*arguments, float8=True)
    found = (losses, *torch.autograd.grad(loss, (x, weight)))
    _, *expected = exact(x, weight, targets, weights, 1000)
    assert not found[2][1000:].any()
    errors = [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    assert errors[0] < 5e-3, errors
    assert 1e-3 < max(errors[1:]) < 4e-2, errors  # no better than float8 can be
    with torch.no_grad():
        assert torch.equal(
            softcapped_cross_entropy(*arguments, float8=True)[1],
            softcapped_cross_entropy(*arguments)[1],
        )


@pytest.mark.gpu
def test_on_gpu_memory_stays_that_of_one_chunk():
    tokens, rows = 2 * GPU_CHUNK_TOKENS + 1000, 16_384
    x, weight, targets, _ = head_inputs(tokens, 128, rows, rows, torch.bfloat16, "cuda")
    ours(x, weight, targets, None, rows)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ours(x, weight, targets, None, rows)
    peak = torch.cuda.max_memory_allocated() - before
    one_chunk = 2 * GPU_CHUNK_TOKENS * rows
    assert peak < 1.5 * one_chunk < 2 * tokens * rows


@pytest.mark.gpu
def test_on_gpu_compiles_into_one_graph():
    x, weight, targets, _ = head_inputs(640, 64, 512, 500, torch.bfloat16, "cuda")
    weight = weight.float().requires_grad_()

    def mean_loss(x, weight):
        return softcapped_cross_entropy(x * 2, weight, targets, None, 500, *SOFTCAP)[0]

    loss = torch.compile(mean_loss, fullgraph=True)(x, weight)
    (found,) = torch.autograd.grad(loss, weight)
    (expected,) = torch.autograd.grad(mean_loss(x, weight), weight)
    assert relative_error(found, expected) < 1e-5
