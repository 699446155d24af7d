"""A saved graph computes what the module does, and is loaded without tracing where it fits."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ramengpt.training.saved_graph import SavedGraph, importing_compiler
from tests.model.test_gpu import LENGTHS, WINDOWS, network
from tests.model.tiny import packed


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor, weights: Tensor | None) -> Tensor:
        assert weights is None
        return (self.scale * x).square().sum()


def check(module: Scaled, x: Tensor) -> None:
    found = SavedGraph(module, "settings")(x, None)
    (gradient,) = torch.autograd.grad(found, module.scale)
    torch.testing.assert_close(found, module(x, None))
    torch.testing.assert_close(gradient, 2 * module.scale.detach() * x.square().sum())


def test_a_later_process_loads_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    x = torch.randn(32)
    check(Scaled(2.0), x)
    (saved,) = (tmp_path / "ramengpt").iterdir()
    whole = saved.read_bytes()

    later = Scaled(3.0)
    with monkeypatch.context() as patch:
        patch.delattr(torch, "compile")
        check(later, x + 1)
        for settings, other_x in (("other settings", x), ("settings", x[:16])):
            with pytest.raises(AttributeError, match="compile"):
                SavedGraph(later, settings)(other_x, None)

    for broken in (whole[: len(whole) // 2], b""):
        saved.write_bytes(broken)
        check(later, x)
        assert len(saved.read_bytes()) > len(whole) // 2


def test_the_compiler_is_there_after_the_block() -> None:
    with importing_compiler(enabled=True):
        pass
    with importing_compiler(enabled=False):
        pass
    assert torch._inductor.compile_fx


@pytest.mark.gpu
@pytest.mark.parametrize("recompute", [False, True])
def test_a_loaded_network_takes_every_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recompute: bool
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    batch = packed(LENGTHS, 997, device="cuda")
    found = []
    for _ in range(2):
        model = network("flex", torch.bfloat16)
        model.recompute_activations = recompute
        graph = SavedGraph(model, "network")
        for window in WINDOWS:
            model.set_window(window)
            loss = graph(*batch, None)
            found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
        monkeypatch.delattr(torch, "compile", raising=False)  # the second network is loaded
    assert len({float(values[0]) for values in found[:3]}) == 3
    for compiled, loaded in zip(found[:3], found[3:], strict=True):
        torch.testing.assert_close(compiled, loaded)
