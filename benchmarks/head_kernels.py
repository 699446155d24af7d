"""The softcapped head and loss against its reference, and kernel by kernel."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.ceilings import Ceilings
from benchmarks.report import Report, median_milliseconds, peak_gib, random_matrix, relative_error
from ramengpt.kernels.head import cuda
from ramengpt.kernels.head.float8 import largest_power_for_u, to_float8
from ramengpt.kernels.head.persistent import persistent_exponentials
from ramengpt.kernels.head.softcapped_cross_entropy import (
    softcapped_cross_entropy,
    softcapped_cross_entropy_reference,
)
from ramengpt.kernels.tiles import add_product, supports_tma

VOCABULARY, PADDED = 50_257, 50_304
SOFTCAP = (23.0, 5.0, 7.5)
CHUNKS_TOKENS = (4096, 8192, 16_384)


class HeadCase:
    """A head with its inputs, and the ways to train it."""

    def __init__(self, tokens: int, width: int) -> None:
        self.x = random_matrix(tokens, width).requires_grad_()
        weight = random_matrix(PADDED, width, scale=0.1, dtype=torch.float32)
        self.weight = weight.requires_grad_()
        self.targets = torch.randint(0, VOCABULARY, (tokens,), device="cuda", dtype=torch.int32)

    def step(
        self, function: Callable[..., tuple[Tensor, Tensor]], **options: bool
    ) -> tuple[Tensor, ...]:
        """The loss, and its gradients."""
        loss, _ = function(self.x, self.weight, self.targets, None, VOCABULARY, *SOFTCAP, **options)
        return (loss.detach(), *torch.autograd.grad(loss, (self.x, self.weight)))

    def with_chunks(self, chunk_tokens: int) -> None:
        """A step with chunks of another size."""
        with patch.object(cuda, "GPU_CHUNK_TOKENS", chunk_tokens):
            self.step(softcapped_cross_entropy)

    def four_targets(self, **options: bool) -> None:
        """Forward and backward with three more targets of each token."""
        several = torch.stack([self.targets.roll(-ahead) for ahead in range(4)], dim=1)
        weights = torch.full(several.shape, 1 / len(several), device="cuda")
        loss, _ = softcapped_cross_entropy(
            self.x, self.weight, several, weights, VOCABULARY, *SOFTCAP, **options
        )
        torch.autograd.grad(loss, (self.x, self.weight))

    @torch.no_grad()
    def losses(self) -> Tensor:
        """Without gradients, hence with exact sigmoids."""
        inputs = (self.x, self.weight, self.targets, None)
        return softcapped_cross_entropy(*inputs, VOCABULARY, *SOFTCAP)[0]


def head(report: Report, ceilings: Ceilings, preset: str, tokens: int, width: int) -> None:
    """Head and loss, forward and backward."""
    report.title(f"head and loss, {preset}: {tokens} x {width} x {PADDED}")
    case = HeadCase(tokens, width)
    step, ours = case.step, softcapped_cross_entropy
    compiled = torch.compile(softcapped_cross_entropy_reference)
    rivals: dict[str, Callable[[], tuple[Tensor, ...]]] = {"ours": partial(step, ours)}
    variants: dict[str, Callable[[], object]] = {
        f"ours, chunks of {chunk}": partial(case.with_chunks, chunk) for chunk in CHUNKS_TOKENS
    }
    variants["ours, four targets per token"] = case.four_targets
    if supports_tma(case.x, case.weight):
        in_float8 = partial(step, ours, float8=True)
        rivals["ours in float8"] = variants["ours in float8"] = in_float8
        variants["ours in float8, four targets per token"] = partial(case.four_targets, float8=True)
    theirs = step(compiled)
    for name, rival in rivals.items():
        found = rival()
        report.add(
            "head",
            f"{preset}: {name} against compiled reference",
            loss_difference=float(found[0] - theirs[0]),
            exact_loss_difference=float(case.losses() - theirs[0]),
            gx_error=relative_error(found[1], theirs[1]),
            gw_error=relative_error(found[2], theirs[2]),
        )
    del found, theirs
    flops = 2.0 * tokens * width * PADDED
    # Minimum traffic once the logits exceed the cache: dz is written once and read twice.
    floor = ceilings.floor_milliseconds(3 * flops, 3 * 2.0 * tokens * PADDED)
    variants["compiled reference"] = partial(step, compiled)
    for name, function in variants.items():
        milliseconds, peak = median_milliseconds(function), peak_gib(function)
        variant = f"{preset}: {name}, forward and backward"
        report.add("head", variant, ms=milliseconds, floor_ms=floor, peak_GiB=peak)
        torch.cuda.empty_cache()
    report.add(
        "head",
        f"{preset}: ours, losses only (exact sigmoids)",
        ms=median_milliseconds(case.losses),
        floor_ms=ceilings.floor_milliseconds(flops, 0),
    )


def head_pieces(report: Report, ceilings: Ceilings, preset: str, tokens: int, width: int) -> None:
    """One chunk of the head, kernel by kernel; times are scaled to all tokens."""
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
