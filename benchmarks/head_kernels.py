"""The softcapped head and loss against its reference, and kernel by kernel."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.ceilings import Ceilings
from benchmarks.report import (
    Report,
    median_milliseconds,
    peak_gib,
    random_matrix,
    relative_error,
)

VOCABULARY, PADDED = 50_257, 50_304
SOFTCAP = (23.0, 5.0, 7.5)
CHUNKS_TOKENS = (4096, 8192, 16_384)


def head(report: Report, ceilings: Ceilings, preset: str, tokens: int, width: int) -> None:
    """Head and loss, forward and backward."""
    from ramengpt.kernels.head import cuda
    from ramengpt.kernels.head.softcapped_cross_entropy import (
        softcapped_cross_entropy,
        softcapped_cross_entropy_reference,
    )
    from ramengpt.kernels.tiles import supports_tma

    report.title(f"head and loss, {preset}: {tokens} x {width} x {PADDED}")
    x = random_matrix(tokens, width).requires_grad_()
    weight = random_matrix(PADDED, width, scale=0.1, dtype=torch.float32).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (tokens,), device="cuda", dtype=torch.int32)

    def step(function: Callable[..., tuple[Tensor, Tensor]], **options: bool) -> tuple[Tensor, ...]:
        loss, _ = function(x, weight, targets, None, VOCABULARY, *SOFTCAP, **options)
        return (loss.detach(), *torch.autograd.grad(loss, (x, weight)))

    def ours_with_chunks(chunk_tokens: int) -> tuple[Tensor, ...]:
        with patch.object(cuda, "GPU_CHUNK_TOKENS", chunk_tokens):
            return step(softcapped_cross_entropy)

    def four_targets(**options: bool) -> tuple[Tensor, ...]:
        several, weights = targets[:, None].repeat(1, 4), targets.new_ones(tokens, 4) / tokens
        for ahead in (1, 2, 3):
            several[:, ahead] = targets.roll(-ahead)
        loss, _ = softcapped_cross_entropy(
            x, weight, several, weights, VOCABULARY, *SOFTCAP, **options
        )
        return torch.autograd.grad(loss, (x, weight))

    def losses() -> Tensor:
        with torch.no_grad():
            return softcapped_cross_entropy(x, weight, targets, None, VOCABULARY, *SOFTCAP)[0]

    flops = 2.0 * tokens * width * PADDED
    # Minimum traffic once the logits exceed the cache: dz is written once and read twice.
    floor = ceilings.floor_milliseconds(3 * flops, 3 * 2.0 * tokens * PADDED)
    compiled = torch.compile(softcapped_cross_entropy_reference)
    in_float8 = partial(step, softcapped_cross_entropy, float8=True)
    rivals: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "ours": partial(step, softcapped_cross_entropy)
    }
    variants: dict[str, Callable[[], object]] = {
        f"ours, chunks of {chunk}": partial(ours_with_chunks, chunk) for chunk in CHUNKS_TOKENS
    }
    variants["ours, four targets per token"] = four_targets
    if supports_tma(x, weight):
        rivals["ours in float8"] = variants["ours in float8"] = in_float8
        variants["ours in float8, four targets per token"] = partial(four_targets, float8=True)
    theirs = step(compiled)
    for name, rival in rivals.items():
        ours = rival()
        report.add(
            "head",
            f"{preset}: {name} against compiled reference",
            loss_difference=float(ours[0] - theirs[0]),
            exact_loss_difference=float(losses() - theirs[0]),
            gx_error=relative_error(ours[1], theirs[1]),
            gw_error=relative_error(ours[2], theirs[2]),
        )
    del ours, theirs
    variants["compiled reference"] = partial(step, compiled)
    for name, function in variants.items():
        report.add(
            "head",
            f"{preset}: {name}, forward and backward",
            ms=median_milliseconds(function),
            floor_ms=floor,
            peak_GiB=peak_gib(function),
        )
        torch.cuda.empty_cache()
    report.add(
        "head",
        f"{preset}: ours, losses only (exact sigmoids)",
        ms=median_milliseconds(losses),
        floor_ms=ceilings.floor_milliseconds(flops, 0),
    )


def head_pieces(report: Report, ceilings: Ceilings, preset: str, tokens: int, width: int) -> None:
    """One chunk of the head, kernel by kernel; times are scaled to all tokens."""
    from ramengpt.kernels.head import cuda
    from ramengpt.kernels.head.persistent import persistent_exponentials
    from ramengpt.kernels.tiles import add_product, supports_tma

    chunk = cuda.GPU_CHUNK_TOKENS
    report.title(f"pieces of the head, {preset}: chunks of {chunk}, ms for all {tokens} tokens")
    softcap = cuda.halves(*SOFTCAP)
    x, weight = random_matrix(chunk, width), random_matrix(PADDED, width, scale=0.1)
    targets = torch.randint(0, VOCABULARY, (chunk,), device="cuda", dtype=torch.int32)
    u, nothing = random_matrix(chunk, PADDED), x.new_empty(0)
    weights = torch.full((chunk,), 1 / tokens, device="cuda")
    shares = torch.ones(chunk, 1, device="cuda")
    grad_x, grad_weight, scaled_x = torch.empty_like(x), weight.float(), torch.empty_like(x)
    sums = cuda.exponentials(x, weight, u, VOCABULARY, softcap, True)
    per_token = (targets[:, None], weights, shares, sums, torch.empty_like(shares))
    pieces: dict[str, Callable[[], object]] = {
        "x W^T by cuBLAS": lambda: torch.mm(x, weight.T, out=u),
        "targets": lambda: cuda.finish_targets(
            x, weight, *per_token, u, torch.empty_like(weights), scaled_x, softcap, True
        ),
        "dx = r (u W) by cuBLAS": lambda: torch.mm(u, weight, out=grad_x),
        "dW += u^T (r x) by cuBLAS, float32": lambda: add_product(grad_weight, u.T, scaled_x),
        "sums, exact": lambda: cuda.exponentials(x, weight, nothing, VOCABULARY, softcap, False),
        "u and sums": lambda: cuda.exponentials(x, weight, u, VOCABULARY, softcap, True),
    }
    if supports_tma(x, weight):
        pieces["u and sums, persistent"] = lambda: persistent_exponentials(
            x, weight, u, VOCABULARY, softcap, True
        )
        pieces |= _float8_pieces(x, weight, targets, softcap)
    for name, function in pieces.items():
        if report.time_left():
            milliseconds = median_milliseconds(function, 0.1) * tokens / chunk
            report.add("head_pieces", f"{preset}: {name}", ms=milliseconds)


def _float8_pieces(
    x: Tensor, weight: Tensor, targets: Tensor, softcap: tuple[float, float, float]
) -> dict[str, Callable[[], object]]:
    """The same products in float8."""
    from ramengpt.kernels.head.float8 import largest_power_for_u, to_float8
    from ramengpt.kernels.head.persistent import persistent_exponentials

    x8, unit = to_float8(x)
    weight8, _ = to_float8(weight)
    x8_DC, weight8_DV = x8.T.contiguous(), weight8.T.contiguous()
    u8 = torch.empty(len(x), PADDED, device="cuda", dtype=torch.float8_e5m2)
    float8 = (u8.new_empty(PADDED, len(x)), targets, unit, largest_power_for_u(softcap[0]))

    def multiply() -> Tensor:
        return persistent_exponentials(x8, weight8, u8, VOCABULARY, softcap, True, float8=float8)

    multiply()
    product = partial(torch._scaled_mm, scale_a=unit, scale_b=unit)
    return {
        "u and sums in float8": multiply,
        "dx in float8 by cuBLAS": lambda: product(u8, weight8_DV.T, out_dtype=torch.bfloat16),
        "dW in float8 by cuBLAS": lambda: product(float8[0], x8_DC.T, out_dtype=torch.float32),
    }
