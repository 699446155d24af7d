"""Each kernel against its plain PyTorch, torch.compile of it, and the floor of the card."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.ceilings import Ceilings, measure_ceilings
from benchmarks.head_kernels import head, head_pieces
from benchmarks.report import (
    Report,
    graph_milliseconds,
    median_milliseconds,
    peak_gib,
    random_matrix,
    relative_error,
)
from ramengpt.kernels import qkv_prologue as prologues
from ramengpt.kernels import relu_squared_mlp as mlps
from ramengpt.kernels import symmetric_matmul as products
from ramengpt.kernels.relu_squared_mlp_persistent import launch_persistent_product
from ramengpt.kernels.tiles import supports_tma
from ramengpt.model.norm import EPSILON

TOKENS_WIDTH = {"base": (131_072, 256), "small": (65_536, 768)}
HEADS = {"base": (131_072, 4, 64), "small": (65_536, 6, 128)}
DOCUMENT_TOKENS = 400


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
    for preset, sizes in HEADS.items():
        for whole in (False, True):
            part = partial(qkv_prologue, report, ceilings, preset, sizes, whole=whole)
            report.attempt(f"QKV prologue, {preset}", part)
    for shape in ((24, 256, 256), (12, 256, 1024), (24, 768, 3072), (48, 1024, 1024)):
        report.attempt(f"symmetric, {shape}", partial(symmetric, report, ceilings, *shape))


def mlp(report: Report, ceilings: Ceilings, preset: str, tokens: int, width: int) -> None:
    """The MLP with relu squared."""
    report.title(f"relu squared MLP, {preset}: {tokens} x {width} x {4 * width}")
    x, grad = random_matrix(tokens, width).requires_grad_(), random_matrix(tokens, width)
    w_in, w_out = (
        random_matrix(4 * width, width, scale=width**-0.5, dtype=torch.float32).requires_grad_()
        for _ in range(2)
    )

    def both(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(x, w_in, w_out), (x, w_in, w_out), grad)

    compiled = torch.compile(mlps.linear_relu_squared_mlp_reference)
    ours, theirs = both(mlps.linear_relu_squared_mlp), both(compiled)
    errors = [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]
    report.add("mlp", f"{preset}: largest error against compiled", error=max(errors))
    flops = 2.0 * tokens * width * 4 * width
    functions = {
        "ours": mlps.linear_relu_squared_mlp,
        "compiled reference": compiled,
        "reference": mlps.linear_relu_squared_mlp_reference,
    }
    forward_floor = ceilings.floor_milliseconds(2 * flops, 2.0 * tokens * width * 10)
    both_floor = ceilings.floor_milliseconds(6 * flops, 2.0 * tokens * width * 29)
    for name, function in functions.items():
        milliseconds = median_milliseconds(partial(function, x, w_in, w_out), 0.2)
        report.add("mlp", f"{preset}: {name}, forward", ms=milliseconds, floor_ms=forward_floor)
        report.add(
            "mlp",
            f"{preset}: {name}, forward and backward",
            ms=median_milliseconds(partial(both, function), 0.2),
            floor_ms=both_floor,
            peak_GiB=peak_gib(partial(both, function)),
        )
    pieces = _mlp_pieces(x.detach(), w_in.detach().bfloat16())
    for name, piece in pieces.items():
        report.add("mlp", f"{preset}: {name}", ms=median_milliseconds(piece, 0.1))


def _mlp_pieces(narrow: Tensor, wide: Tensor) -> dict[str, Callable[[], object]]:
    """The GEMMs of the MLP."""
    h = mlps.launch_product(narrow, wide, None)
    pieces: dict[str, Callable[[], object]] = {
        "forward product": lambda: mlps.launch_product(narrow, wide, None),
        "backward product": lambda: mlps.launch_product(narrow, wide, h),
        "product by cuBLAS": lambda: narrow @ wide.T,
    }
    if supports_tma(narrow, wide):
        pieces |= {
            "forward product, persistent": lambda: launch_persistent_product(narrow, wide, None),
            "backward product, persistent": lambda: launch_persistent_product(narrow, wide, h),
        }
    return pieces


def qkv_prologue(
    report: Report,
    ceilings: Ceilings,
    preset: str,
    sizes: tuple[int, int, int],
    *,
    whole: bool,
) -> None:
    """Norms and rotations; with the key offset and value embeddings if `whole`."""
    tokens, num_heads, head_dim = sizes
    name = f"{preset}, {'offset and values' if whole else 'plain'}"
    report.title(f"QKV prologue, {name}: {tokens} x {num_heads} x {head_dim}")
    qkv = random_matrix(tokens, 3, num_heads, head_dim).requires_grad_()
    angles = torch.rand(tokens, head_dim // 4, device="cuda") * 6
    rotation = prologues.Rotation(angles.cos(), angles.sin(), torch.tensor(0.1, device="cuda"))
    value = random_matrix(tokens, num_heads, head_dim).requires_grad_() if whole else None
    gate = random_matrix(tokens, num_heads).requires_grad_() if whole else None
    positions = torch.arange(tokens, device="cuda", dtype=torch.int32) % DOCUMENT_TOKENS
    upstream = random_matrix(3, num_heads, tokens, head_dim).transpose(1, 2).unbind()
    leaves = [leaf for leaf in (qkv, value, gate) if leaf is not None]

    def before(still: Tensor) -> Tensor:
        starts = (positions == 0)[:, None, None, None]
        return torch.where(starts, still, torch.roll(still, 1, 0))

    def ours() -> tuple[Tensor, ...]:
        found = prologues.qkv_prologue(
            qkv, rotation, positions if whole else None, value, gate, EPSILON
        )
        return torch.autograd.grad(found, leaves, upstream)

    compiled = torch.compile(prologues.qkv_prologue_reference)

    def theirs() -> tuple[Tensor, ...]:
        found = compiled(qkv, rotation, before if whole else None, value, gate, EPSILON)
        return torch.autograd.grad(found, leaves, upstream)

    errors = [relative_error(a, b) for a, b in zip(ours(), theirs(), strict=True)]
    planes = 14 + (3 if whole else 0)  # tensors of the size of q that must move
    floor = ceilings.floor_milliseconds(0, 2.0 * planes * tokens * num_heads * head_dim)
    for variant, function in (("ours", ours), ("compiled reference", theirs)):
        report.add(
            "qkv_prologue",
            f"{name}: {variant}, forward and backward",
            ms=median_milliseconds(function, 0.2),
            floor_ms=floor,
            error=max(errors),
        )


def symmetric(report: Report, ceilings: Ceilings, batch: int, rows: int, columns: int) -> None:
    """The two products of Polar Express."""
    report.title(f"symmetric products, {batch} matrices of {rows} x {columns}")
    x = random_matrix(batch, rows, columns, scale=columns**-0.5)
    a = products.symmetric_product(x)
    exact_product = products.symmetric_product_reference(x.float())
    exact = products.symmetric_quadratic_reference(a.float(), -2.0, 0.5)
    cases: dict[str, tuple[Callable[[], Tensor], Tensor, float]] = {
        "X X^T": (lambda: products.symmetric_product(x), exact_product, columns),
        "X X^T by cuBLAS": (lambda: x @ x.mT, exact_product, columns),
        "b A + c A A": (lambda: products.symmetric_quadratic(a, -2.0, 0.5), exact, rows),
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
