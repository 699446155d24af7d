"""FlexAttention, plain SDPA over bands, and the dense mask agree; compiling breaks nothing."""

import pytest
import torch
import torch.nn.functional as F

from ramengpt.model import attention_backend
from ramengpt.model.attention_backend import PackedContext, resolve_backend
from ramengpt.model.attention_kind import AttentionKind
from ramengpt.model.rope import Rotary
from tests.model.test_masks import dense
from tests.model.tiny import packed, tiny_config, tiny_model

LENGTHS = [[512], [1] * 40 + [200, 272], [127, 129, 128, 128], [90, 300, 5, 117]]
KINDS = (AttentionKind("L", 1), AttentionKind("S", 1))
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def rotary(window: int) -> Rotary:
    made = Rotary(tiny_config(), 512)
    made.set_window(window)
    return made


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("window", [128, 256, 384, 1024])
@pytest.mark.parametrize("backend", ["flex", "sdpa"])
def test_attention_equals_the_dense_mask(lengths, window, backend):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 512, 2, 16, dtype=torch.float64)
    positions = packed(lengths)[2]
    context = PackedContext(positions, rotary(window), KINDS, backend, None)
    for kind, tokens in (("L", window), ("S", max(128, window // 2 // 128 * 128))):
        scores = torch.einsum("qhk,shk->hqs", q, k)
        scores = scores.masked_fill(~dense(positions, tokens), -torch.inf)
        expected = torch.einsum("hqs,shk->qhk", scores.softmax(-1), v)
        torch.testing.assert_close(context.attend(0, AttentionKind(kind, 1), q, k, v), expected)


@pytest.mark.parametrize("num_tokens", [1, 100, 128, 130])
def test_sdpa_takes_any_number_of_tokens(num_tokens):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, num_tokens, 2, 16, dtype=torch.float64, requires_grad=True)
    positions = torch.arange(num_tokens, dtype=torch.int32)
    context = PackedContext(positions, rotary(256), KINDS[:1], "sdpa", None)
    y = context.attend(0, KINDS[0], q, k, v)
    expected = F.scaled_dot_product_attention(
        *(x.transpose(0, 1) for x in (q, k, v)), is_causal=True, scale=1.0
    ).transpose(0, 1)
    torch.testing.assert_close(y, expected)
    one, two = (torch.autograd.grad(out.square().sum(), (q, k, v)) for out in (y, expected))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("pattern", ["SL-L", "SSSS", "LLLL"])
@pytest.mark.parametrize("window", [128, 384])
def test_flex_forward_of_the_network_equals_sdpa(pattern, window):
    config = tiny_config(attention_pattern=pattern)
    tokens, targets, positions = packed([300, 1, 83, 128])
    losses = [
        tiny_model(config, window=window, backend=backend).token_losses(tokens, targets, positions)
        for backend in ("flex", "sdpa")
    ]
    torch.testing.assert_close(*losses)


def test_backend_auto_follows_the_device(monkeypatch):
    monkeypatch.setattr(attention_backend, "supports_kernels", lambda device: device.type == "cuda")
    assert resolve_backend("auto", torch.device("cuda")) == "flex"
    assert resolve_backend("auto", torch.device("cpu")) == "sdpa"
    assert resolve_backend("flex", torch.device("cuda")) == "flex"
    with pytest.raises(ValueError, match="sdpa"):
        resolve_backend("flex", torch.device("cpu"))


@pytest.mark.parametrize("backend", ["flex", "sdpa"])
def test_the_whole_network_is_one_graph(backend):
    more = dict.fromkeys(("hyper_connections", "sublayer_gains"), backend == "sdpa")
    model = tiny_model(tiny_config(**more), dtype=torch.float32, backend=backend)
    graphs = []

    def count(graph: torch.fx.GraphModule, _inputs: list) -> object:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(model.token_losses, backend=count, fullgraph=True)
    for window in (128, 256, 512):
        model.set_window(window)
        for seed in (0, 1):
            batch = packed([300, 1, 83, 128], seed=seed)
            torch.testing.assert_close(compiled(*batch), model.token_losses(*batch))
        if backend == "sdpa":  # its bands are as wide as the window: compiled for each
            break
    assert len(graphs) == 1
