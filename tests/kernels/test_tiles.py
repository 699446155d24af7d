"""What the kernels with a GEMM share, on the CPU; every such kernel's own test covers the tiles."""

import pytest
import torch

from ramengpt.kernels import tiles
from ramengpt.kernels.tiles import add_product, dot_precision, product, product_tile, supports_tma


def test_a_product_is_summed_in_float32() -> None:
    left, right = (torch.randn(8, 300).bfloat16(), torch.randn(300, 8).bfloat16())
    exact = left.double() @ right.double()
    assert product(left, right, torch.bfloat16).dtype == torch.bfloat16
    torch.testing.assert_close(
        product(left, right, torch.bfloat16).double(), exact, rtol=0.02, atol=0.2
    )
    total = torch.ones(8, 8, dtype=torch.float64)
    add_product(total, left.double(), right.double())
    torch.testing.assert_close(total, 1 + exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tile_is_blocks_that_triton_can_multiply(dtype: torch.dtype) -> None:
    tile = product_tile(dtype)
    sides = [tile[f"BLOCK_{side}"] for side in "MNK"]
    assert all(side >= 16 and side & (side - 1) == 0 for side in sides)
    staged = (sides[0] + sides[1]) * sides[2] * dtype.itemsize * tile["num_stages"]
    assert staged <= 99 * 1024  # the shared memory of 30- and 40-series cards
    assert dot_precision(dtype) == ("ieee" if dtype == torch.float32 else "tf32")


@pytest.mark.parametrize(
    ("width", "columns", "major", "expected"),
    [(64, 32, 9, True), (64, 32, 10, True), (64, 32, 12, False), (64, 32, 8, False),
     (60, 32, 9, False), (64, 33, 9, False)],
)  # fmt: skip
def test_tma_needs_the_gpu_and_aligned_rows(
    monkeypatch: pytest.MonkeyPatch, width: int, columns: int, major: int, expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    monkeypatch.setattr(tiles, "runs_kernels", lambda x: x.is_cuda)
    a, b = (torch.empty(rows, width, dtype=torch.bfloat16) for rows in (16, columns))
    assert not supports_tma(a, b)  # not on a GPU

    class OnCuda(torch.Tensor):
        is_cuda = True

    assert supports_tma(a.as_subclass(OnCuda), b.as_subclass(OnCuda)) == expected
