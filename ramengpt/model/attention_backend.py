"""How a token sees the tokens before it in its document, packed or cached.

The network needs two things only: the value of anything one token earlier (`look_back`), and
attention over the permitted keys (`attend`). :class:`PackedContext` provides both for a batch of
whole documents, `ramengpt.inference.decoding.CachedContext` for one growing document.

Shapes: T packed tokens, H heads, K head_dim.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from ramengpt.errors import UserError
from ramengpt.kernels.support import supports_kernels
from ramengpt.model.attention_kind import AttentionKind
from ramengpt.model.masks import BLOCK, band, band_mask, block_mask, first_keys
from ramengpt.model.paired_heads import slot_positions
from ramengpt.model.rope import Rotary

Backend = Literal["flex", "sdpa"]
KernelOptions = dict[str, int | bool]


class AttentionContext(Protocol):
    """The past of the tokens that pass through the network."""

    positions_T: Tensor
    """int32 [T], offset of each token in its document."""
    whole_documents: bool
    """Whether every document is complete from its start, so that no cache holds part of it."""

    def look_back(self, slot: str, x: Tensor, at_start: Tensor) -> Tensor:
        """The rows of `x` one token earlier, those of `at_start` where a document starts.

        Args:
            slot: a name for this look-back, the same at every call.
            x: [T, ...].
            at_start: broadcasts to `x`.
        """
        ...

    def attend(
        self, layer: int, kind: AttentionKind, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor
    ) -> Tensor:
        """Softmax attention [T, H, K] without further scaling, over the keys in the window.

        Args:
            layer: which layer asks.
            kind: its window and slots; with two slots, T and H are those of the slots.
            q_THK: queries.
            k_THK: keys of the same tokens.
            v_THK: values of the same tokens.
        """
        ...


def resolve_backend(name: Literal["auto", "flex", "sdpa"], device: torch.device) -> Backend:
    """Turn "auto" into the backend that is fastest on the device.

    Args:
        name: `train.attention_backend` of params.yaml.
        device: where the model runs.

    Returns:
        "flex" or "sdpa".

    Raises:
        UserError: flex was asked for where it has no backward pass, or was never tried.
    """
    has_flex = supports_kernels(device)
    if name == "flex" and not has_flex:
        raise UserError(
            "attention_backend: flex needs an NVIDIA GPU of compute capability 8 or later; use "
            "sdpa or auto"
        )
    if name == "auto":
        return "flex" if has_flex else "sdpa"
    return name


class PackedContext:
    """A batch of documents, one after the other; masks are made once and shared by the layers."""

    whole_documents = True

    def __init__(
        self,
        positions_T: Tensor,
        rotary: Rotary,
        kinds: Iterable[AttentionKind],
        backend: Backend,
        kernel_options: KernelOptions | None,
    ) -> None:
        """Prepare the masks.

        Args:
            positions_T: int32 [T].
            rotary: knows the long window.
            kinds: which any layer will ask for.
            backend: who computes attention.
            kernel_options: FlexAttention's, for this GPU.
        """
        self.positions_T = positions_T
        self.starts_T = positions_T == 0
        self.attention: dict[AttentionKind, _FlexAttention | _BandAttention] = {}
        for kind in kinds:
            positions = slot_positions(positions_T, kind.slots)
            if backend == "flex":
                first_key = first_keys(positions, rotary.window_on_device(kind.window))
                self.attention[kind] = _FlexAttention(first_key, kernel_options)
            else:
                longest = kind.slots * rotary.max_sequence_tokens
                window = rotary.windows[kind.window]
                self.attention[kind] = _BandAttention(positions, window, longest)

    def look_back(self, slot: str, x: Tensor, at_start: Tensor) -> Tensor:
        """See :class:`AttentionContext`."""
        starts = self.starts_T.view(-1, *(1,) * (x.dim() - 1))
        return torch.where(starts, at_start, torch.roll(x, 1, 0))

    def attend(
        self, layer: int, kind: AttentionKind, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor
    ) -> Tensor:
        """See :class:`AttentionContext`."""
        return self.attention[kind](q_THK, k_THK, v_THK)


@functools.cache
def _compiled_flex_attention() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


class _FlexAttention:
    """FlexAttention over one block mask.

    On the GPU it is always compiled, by itself if the network is not: uncompiled, it would hold
    the scores of all queries and keys.
    """

    def __init__(self, first_key_T: Tensor, kernel_options: KernelOptions | None) -> None:
        self.mask = block_mask(first_key_T)
        self.kernel_options = kernel_options

    def __call__(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q_THK, k_THK, v_THK))
        alone = q.is_cuda and not torch.compiler.is_compiling()
        attend: Any = _compiled_flex_attention() if alone else flex_attention
        y = attend(q, k, v, block_mask=self.mask, scale=1.0, kernel_options=self.kernel_options)
        return y[0].transpose(0, 1)


class _BandAttention:
    """Plain SDPA, each block of queries against the few blocks of keys that it can reach.

    The work is proportional to tokens x window, as FlexAttention's, in one call: the blocks are
    the batch.
    """

    def __init__(self, positions_T: Tensor, window_tokens: int, max_sequence_tokens: int) -> None:
        self.num_tokens = len(positions_T)
        self.padding = -self.num_tokens % BLOCK
        reach_tokens = min(window_tokens, max_sequence_tokens, self.num_tokens)
        self.blocks_back = -(-(reach_tokens - 1) // BLOCK)
        padded_T = F.pad(positions_T, (0, self.padding))
        self.mask = band_mask(first_keys(padded_T, window_tokens), self.blocks_back)

    def __call__(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor) -> Tensor:
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, self.padding)) for x in (q_THK, k_THK, v_THK))
        y_NHBK = F.scaled_dot_product_attention(
            band(q, 0),
            band(k, self.blocks_back),
            band(v, self.blocks_back),
            attn_mask=self.mask,
            scale=1.0,
        )
        return y_NHBK.transpose(1, 2).flatten(0, 1)[: self.num_tokens]
