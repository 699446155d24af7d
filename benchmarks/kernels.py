# ruff: noqa: PLR0917
"""Each kernel against its plain PyTorch, torch.compile of it, and the floor of the card."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.ceilings import Ceilings, measure_ceilings
from benchmarks.report import Report, graph_milliseconds, median_milliseconds, relative_error

TOKENS_WIDTH = {"base": (131_072, 256), "small": (65_536, 768)}
VOCABULARY, PADDED = 50_257, 50_304
SOFTCAP = (23.0, 5.0, 7.5)
TILES = (
    (128, 128, 64, 8, 3),
    (128, 128, 64, 4, 3),
    (256, 128, 64, 8, 3),
)
"""BLOCK_M, BLOCK_N, BLOCK_K, num_warps, num_stages: the fastest of the nine that were tried."""
PERSISTENT_TILES = (
    ((128, 128, 64, 8, 3), 1),
    ((128, 128, 64, 8, 4), 1),
    ((128, 128, 64, 8, 2), 2),
    ((128, 128, 64, 4, 2), 2),
    ((128, 256, 64, 8, 3), 1),
    ((256, 128, 64, 8, 3), 1),
)
"""Tiles of the persistent variant, and how many of its programs a multiprocessor holds."""
CHUNKS_TOKENS = (4096, 8192, 16_384)


def measure(report: Report) -> None:
    """All kernels at the shapes of the presets."""
    if not torch.cuda.is_available():
        raise ValueError("benchmarks: kernels need a CUDA device")
    ceilings = measure_ceilings(report)
    for preset, (tokens, width) in TOKENS_WIDTH.items():
        for part in (head, head_pieces, mlp):
            name = f"{part.__name__}, {preset}"
            report.attempt(name, partial(part, report, ceilings, preset, tokens, width))
            torch.cuda.empty_cache()
    for shape in ((24, 256, 256), (12, 256, 1024), (24, 768, 3072), (48, 1024, 1024)):
        report.attempt(f"symmetric, {shape}", partial(symmetric, report, ceilings, *shape))


def _random(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return (torch.randn(*shape, device="cuda") * scale).to(dtype)


def _tile(numbers: tuple[int, ...]) -> dict[str, int]:
    names = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages")
    return dict(zip(names, numbers, strict=True))


def _peak_gib(function: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def head(report: Report, ceilings: Ceilings, preset: str, tokens: int, width: int) -> None:
    """Head and loss, forward and backward."""
    from ramengpt.kernels import softcapped_cross_entropy_cuda as cuda
    from ramengpt.kernels.softcapped_cross_entropy import (
        softcapped_cross_entropy,
        softcapped_cross_entropy_reference,
    )

    report.title(f"head and loss, {preset}: {tokens} x {width} x {PADDED}")
    x = _random(tokens, width).requires_grad_()
    weight = _random(PADDED, width, scale=0.1, dtype=torch.float32).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (tokens,), device="cuda", dtype=torch.int32)

    def step(function: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        loss, _ = function(x, weight, targets, None, VOCABULARY, *SOFTCAP)
        return (loss.detach(), *torch.autograd.grad(loss, (x, weight)))

    def ours_with_chunks(chunk_tokens: int) -> tuple[Tensor, ...]:
        with patch.object(cuda, "GPU_CHUNK_TOKENS", chunk_tokens):
            return step(softcapped_cross_entropy)

    def losses() -> Tensor:
        with torch.no_grad():
            return softcapped_cross_entropy(x, weight, targets, None, VOCABULARY, *SOFTCAP)[0]

    flops = 2.0 * tokens * width * PADDED
    # The least that must move once the logits do not fit the cache: dz written, and read twice.
    floor = ceilings.floor_milliseconds(3 * flops, 3 * 2.0 * tokens * PADDED)
    compiled = torch.compile(softcapped_cross_entropy_reference)
    ours, theirs = step(softcapped_cross_entropy), step(compiled)
    report.add(
        "head",
        f"{preset}: ours against compiled reference",
        loss_difference=float(ours[0] - theirs[0]),
        exact_loss_difference=float(losses() - theirs[0]),
        gx_error=relative_error(ours[1], theirs[1]),
        gw_error=relative_error(ours[2], theirs[2]),
    )
    del ours, theirs
    variants: dict[str, Callable[[], object]] = {
        f"ours, chunks of {chunk}": partial(ours_with_chunks, chunk) for chunk in CHUNKS_TOKENS
    }
    variants["compiled reference"] = partial(step, compiled)
    for name, function in variants.items():
        report.add(
            "head",
            f"{preset}: {name}, forward and backward",
            ms=median_milliseconds(function),
            floor_ms=floor,
            peak_GiB=_peak_gib(function),
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
    from ramengpt.kernels import softcapped_cross_entropy_cuda as cuda
    from ramengpt.kernels.tiles import add_product

    chunk = cuda.GPU_CHUNK_TOKENS
    report.title(f"pieces of the head, {preset}: chunks of {chunk}, ms for all {tokens} tokens")
    scale, shift, divisor = SOFTCAP
    softcap = (scale / 2, 0.5 / divisor, 0.5 * shift / divisor)
    x, weight = _random(chunk, width), _random(PADDED, width, scale=0.1)
    targets = torch.randint(0, VOCABULARY, (chunk,), device="cuda", dtype=torch.int32)
    u, nothing = _random(chunk, PADDED), x.new_empty(0)
    weights = torch.full((chunk,), 1 / tokens, device="cuda")
    grad_x, grad_weight, scaled_x = torch.empty_like(x), weight.float(), torch.empty_like(x)
    multiply = partial(cuda.exponentials, x, weight)
    sums = multiply(u, VOCABULARY, softcap, True)
    per_token = (targets, weights, sums, torch.empty_like(weights))

    pieces: dict[str, Callable[[], object]] = {
        "x W^T by cuBLAS": lambda: torch.mm(x, weight.T, out=u),
        "targets": lambda: cuda.finish_targets(
            x, weight, *per_token, u, torch.empty_like(weights), scaled_x, softcap, True
        ),
        "dx = r (u W) by cuBLAS": lambda: torch.mm(u, weight, out=grad_x),
        "dW += u^T (r x) by cuBLAS, float32": lambda: add_product(grad_weight, u.T, scaled_x),
        "sums, exact": partial(multiply, nothing, VOCABULARY, softcap, False),
    }
    for numbers in TILES:
        last = (VOCABULARY, softcap, True, _tile(numbers))
        pieces |= {
            f"u and sums, tile {numbers}": partial(multiply, u, *last),
            f"sums, tile {numbers}": partial(multiply, nothing, *last),
        }
    for name, function in pieces.items():
        if report.time_left():
            _try(report, "head_pieces", f"{preset}: {name}", function, tokens / chunk)
    if torch.cuda.get_device_capability()[0] >= 9:
        _persistent_pieces(report, preset, x, weight, softcap, tokens)


def _persistent_pieces(
    report: Report,
    preset: str,
    x: Tensor,
    weight: Tensor,
    softcap: tuple[float, float, float],
    tokens: int,
) -> None:
    """The variant that needs the copy engine of Hopper and later."""
    from benchmarks.persistent_head import persistent_exponentials
    from ramengpt.kernels.softcapped_cross_entropy_cuda import exponentials

    multiprocessors = torch.cuda.get_device_properties(x.device).multi_processor_count
    expected, u = x.new_empty(len(x), PADDED), x.new_empty(len(x), PADDED)
    sums = exponentials(x, weight, expected, VOCABULARY, softcap, True).sum(0)
    for numbers, programs_each in PERSISTENT_TILES:
        for flatten in (False, True):
            function = partial(
                persistent_exponentials,
                *(x, weight, u, VOCABULARY, softcap, True, _tile(numbers)),
                programs=programs_each * multiprocessors,
                flatten=flatten,
            )
            name = f"{preset}: u and sums, persistent {numbers} x {programs_each}, flat {flatten}"
            u.fill_(float("nan"))
            if report.time_left() and _try(report, "head_pieces", name, function, tokens / len(x)):
                report.add(
                    "head_pieces",
                    f"{preset}: its errors",
                    u_error=relative_error(u, expected),
                    sums_error=relative_error(function().sum(0), sums),
                )


def _try(
    report: Report, part: str, name: str, function: Callable[[], object], factor: float = 1.0
) -> bool:
    """Time something that may need more shared memory than there is; whether it ran."""
    from triton.runtime.errors import OutOfResources

    try:
        report.add(part, name, ms=factor * median_milliseconds(function, 0.1))
    except OutOfResources as error:
        report.add(part, name, failed=str(error))
        return False
    return True


def mlp(report: Report, ceilings: Ceilings, preset: str, tokens: int, width: int) -> None:
    """The MLP with relu squared."""
    from ramengpt.kernels import relu_squared_mlp as fused

    report.title(f"relu squared MLP, {preset}: {tokens} x {width} x {4 * width}")
    x, grad = _random(tokens, width).requires_grad_(), _random(tokens, width)
    w_in, w_out = (
        _random(4 * width, width, scale=width**-0.5, dtype=torch.float32).requires_grad_()
        for _ in range(2)
    )

    def both(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(x, w_in, w_out), (x, w_in, w_out), grad)

    compiled = torch.compile(fused.linear_relu_squared_mlp_reference)
    ours, theirs = both(fused.linear_relu_squared_mlp), both(compiled)
    errors = [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]
    report.add("mlp", f"{preset}: largest error against compiled", error=max(errors))
    flops = 2.0 * tokens * width * 4 * width
    functions = {
        "ours": fused.linear_relu_squared_mlp,
        "compiled reference": compiled,
        "reference": fused.linear_relu_squared_mlp_reference,
    }
    forward_floor = ceilings.floor_milliseconds(2 * flops, 2.0 * tokens * width * 10)
    both_floor = ceilings.floor_milliseconds(6 * flops, 2.0 * tokens * width * 29)
    for name, function in functions.items():
        report.add(
            "mlp",
            f"{preset}: {name}, forward",
            ms=median_milliseconds(partial(function, x, w_in, w_out), 0.2),
            floor_ms=forward_floor,
        )
        report.add(
            "mlp",
            f"{preset}: {name}, forward and backward",
            ms=median_milliseconds(partial(both, function), 0.2),
            floor_ms=both_floor,
            peak_GiB=_peak_gib(partial(both, function)),
        )
    narrow, wide = x.detach(), w_in.detach().bfloat16()
    h = fused.launch_product(narrow, wide, None)
    for numbers in TILES:
        for kind, saved in (("forward", None), ("backward", h)):
            if report.time_left():
                _try(
                    report,
                    "mlp_tiles",
                    f"{preset}: {kind} product, tile {numbers}",
                    partial(fused.launch_product, narrow, wide, saved, _tile(numbers)),
                )
    _try(report, "mlp_tiles", f"{preset}: product by cuBLAS", lambda: narrow @ wide.T)


def symmetric(report: Report, ceilings: Ceilings, batch: int, rows: int, columns: int) -> None:
    """The two products of Polar Express."""
    from ramengpt.kernels import symmetric_matmul as ours

    report.title(f"symmetric products, {batch} matrices of {rows} x {columns}")
    x = _random(batch, rows, columns, scale=columns**-0.5)
    a = ours.symmetric_product(x)
    exact_product = ours.symmetric_product_reference(x.float())
    exact = ours.symmetric_quadratic_reference(a.float(), -2.0, 0.5)
    cases: dict[str, tuple[Callable[[], Tensor], Tensor, float]] = {
        "X X^T": (lambda: ours.symmetric_product(x), exact_product, columns),
        "X X^T by cuBLAS": (
            lambda: ours.symmetric_product_reference(x),
            exact_product,
            columns,
        ),
        "b A + c A A": (lambda: ours.symmetric_quadratic(a, -2.0, 0.5), exact, rows),
        "b A + c A A by cuBLAS": (
            lambda: torch.baddbmm(a, a, a, beta=-2.0, alpha=0.5),
            exact,
            rows,
        ),
    }
    for name, (function, expected, inner) in cases.items():
        floor = ceilings.floor_milliseconds(
            batch * rows * (rows + 1.0) * inner, 2.0 * batch * rows * (inner + rows)
        )
        report.add(
            "symmetric",
            f"{batch} x {rows} x {columns}: {name}",
            ms=median_milliseconds(function, 0.1),
            graph_ms=graph_milliseconds(function),
            floor_ms=floor,
            error=relative_error(function(), expected),
        )
