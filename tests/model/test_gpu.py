"""On a CUDA device: FlexAttention compiled, forward and backward, against SDPA and float64."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from ramengpt.device import flex_kernel_options, profile
from ramengpt.inference.decoding import Decoder
from ramengpt.model.gpt import GPT
from ramengpt.model.masks import BLOCK, block_mask, first_keys
from tests.model.test_masks import assert_same_blocks, dense
from tests.model.tiny import move_parameters, packed, tiny_config

pytestmark = pytest.mark.gpu

LENGTHS = [700, 1, 2, 61, 300, 128, 256, 600]  # 2048 tokens
WINDOWS = (128, 384, 896)
CONFIG = {"head_dim": 64, "vocabulary": 997, "attention_scale_gain": 1.12}


def network(backend: str, dtype: torch.dtype, **changes: object) -> GPT:
    torch.manual_seed(0)
    config = tiny_config(**(CONFIG | changes))
    model = GPT(
        config,
        max_sequence_tokens=1024,
        backend=backend,
        compute_dtype=dtype,
        kernel_options=flex_kernel_options(profile(torch.device("cuda")), 64, dtype)
        if backend == "flex"
        else None,
    )
    move_parameters(model)
    # The kernels have no float64: the exact network stays on the CPU.
    return model.double() if dtype == torch.float64 else model.cuda()


def gradients(model: GPT) -> dict[str, torch.Tensor]:
    """By name; those of the scalars as one vector: one alone may be nothing but rounding."""
    found, scalars = {}, []
    for name, parameter in model.named_parameters():
        if parameter.group == "scalar":
            scalars.append(parameter.grad.double().cpu().flatten())
        else:
            found[name] = parameter.grad.double().cpu()
    model.zero_grad()
    return found | {"scalars": torch.cat(scalars)}


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 2e-3), (torch.bfloat16, 4e-2)],  # TF32 or bfloat16 products, relative
    ids=["float32", "bfloat16"],
)
def test_flex_and_sdpa_agree_forward_and_backward_without_recompiling(dtype, tolerance):
    # These two see x before it is normed and give some tokens gradients thousands of times those of
    # the others: in bfloat16 plain attention's are then nothing but rounding, on any device.
    changes = {} if dtype == torch.float32 else {"token_gains": False, "dense_connections": False}
    flex, sdpa = network("flex", dtype, **changes), network("sdpa", dtype, **changes)
    exact = network("sdpa", torch.float64, **changes)
    torch._dynamo.reset()
    compiled = torch.compile(flex, fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for window in WINDOWS:
            batch = packed(LENGTHS, 997, seed=window, device="cuda")
            losses = []
            for model, forward in ((flex, compiled), (sdpa, sdpa), (exact, exact)):
                model.set_window(window)
                loss = forward(*(part.to(model.head.weight.device) for part in batch))
                loss.backward()
                losses.append(float(loss.detach()))
            assert losses[0] == pytest.approx(losses[2], rel=tolerance / 4)
            assert losses[1] == pytest.approx(losses[2], rel=tolerance / 4)
            truth, plain = gradients(exact), gradients(sdpa)
            for name, grad in gradients(flex).items():
                error, rounding = (
                    float((found - truth[name]).norm() / truth[name].norm())
                    for found in (grad, plain[name])
                )
                # Gradients of scalars are sums that nearly cancel: in bfloat16 plain attention too
                # is a tenth off, so the kernels are held against that.
                assert rounding < 4 * tolerance, f"{name} window {window}: plain {rounding:.4f}"
                assert error < max(tolerance, 1.5 * rounding), (
                    f"{name} window {window}: {error:.4f}, plain {rounding:.4f}"
                )


@pytest.mark.parametrize("pattern", ["LLLL", "SSSS", "S--L"])
@pytest.mark.parametrize("streams", [False, True])
def test_flex_and_sdpa_agree_for_every_kind_of_layer(pattern, streams):
    changes = {"attention_pattern": pattern, "value_embedding_pattern": "a--a"}
    changes |= {"hyper_connections": streams, "sublayer_gains": streams}
    batch = packed(LENGTHS, 997, device="cuda")
    losses = []
    for backend in ("flex", "sdpa"):
        model = network(backend, torch.float32, **changes)
        model.set_window(384)
        evaluate = model.token_losses
        if backend == "flex":
            torch._dynamo.reset()
            evaluate = torch.compile(evaluate, fullgraph=True)
        losses.append(evaluate(*batch))
    torch.testing.assert_close(*losses, rtol=2e-3, atol=2e-3)


def test_flex_alone_is_compiled_where_the_network_is_not():
    batch = packed(LENGTHS, 997, device="cuda")
    losses = []
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for backend in ("flex", "sdpa"):
            # Paired heads are half as many: a second shape, compiled by itself.
            config = {
                "attention_pattern": "LLLL",
                "value_embedding_pattern": "abba",
                "paired_heads": False,
            }
            model = network(backend, torch.float32, **config)
            for window in (256, 384):
                model.set_window(window)
                losses.append(model.token_losses(*batch))
    torch.testing.assert_close(losses[:2], losses[2:], rtol=2e-3, atol=2e-3)


def test_changing_one_document_leaves_the_losses_of_the_others_bit_equal():
    model = network("flex", torch.bfloat16)
    model.set_window(384)
    torch._dynamo.reset()
    evaluate = torch.compile(model.token_losses, fullgraph=True)
    tokens, targets, positions = packed(LENGTHS, 997, device="cuda")
    before = evaluate(tokens, targets, positions).clone()
    changed = tokens.clone()
    changed[703:764] = (changed[703:764] + 7) % 997
    after = evaluate(changed, targets, positions)
    same = before == after
    assert same[:703].all() and same[764:].all() and not same[703:764].any()


@pytest.mark.parametrize("window", WINDOWS)
def test_block_mask_has_the_blocks_of_create_block_mask(window):
    positions = packed(LENGTHS, device="cuda")[2]
    allowed = dense(positions.cpu(), window).cuda()
    n = len(positions)
    expected = create_block_mask(
        lambda b, h, q, k: allowed[q, k], None, None, n, n, device="cuda", BLOCK_SIZE=BLOCK
    )
    first = first_keys(positions, torch.tensor(window, dtype=torch.int32, device="cuda"))
    found = torch.compile(block_mask, fullgraph=True, dynamic=False)(first)
    assert_same_blocks(found, expected)


def test_nothing_in_a_step_waits_for_the_device():
    model = network("flex", torch.bfloat16)
    model.set_window(384)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    batch = packed(LENGTHS, 997, device="cuda")
    compiled(*batch).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.set_window(896)
        compiled(*batch).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_decoding_on_the_gpu_equals_the_packed_forward():
    model = network("sdpa", torch.float32)
    model.set_window(128)
    tokens, _, positions = packed([200], 997, device="cuda")
    expected = model.logits(tokens, positions)
    decoder = Decoder(model)
    logits = decoder.start(tokens[:150].tolist())
    for t in range(150, 200):
        torch.testing.assert_close(logits, expected[t - 1], rtol=1e-4, atol=1e-4)
        logits = decoder.step(int(tokens[t]))
