"""Which keys a query may attend to: causal, same document, sliding window; for all backends.

Documents lie one after the other, so the keys that query q may see are exactly one interval:

    first_key[q] = q - min(position[q], window - 1)  <=  key  <=  q

`first_key` never decreases, hence so do the first and last blocks of keys that a block of queries
needs, and the block masks follow from the interval ends: no pass over queries x keys.

Shapes: T packed tokens, N = T / 128 blocks, C blocks of keys that a block of queries can reach.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from ramengpt.config.schedule import WINDOW_BLOCK_TOKENS as BLOCK


def short_window(long_window_tokens: int) -> int:
    """Half the long window in whole blocks, at least one."""
    return max(long_window_tokens // (2 * BLOCK), 1) * BLOCK


def first_keys(positions_T: Tensor, window_tokens: Tensor | int) -> Tensor:
    """First key that each query may see.

    Args:
        positions_T: int32 [T], offset of each token in its document; the first one is 0.
        window_tokens: how many keys a query may see at most, itself included.

    Returns:
        int32 [T], never decreasing.
    """
    order_T = torch.arange(len(positions_T), device=positions_T.device, dtype=torch.int32)
    return order_T - positions_T.clamp(max=window_tokens - 1)


def block_mask(first_key_T: Tensor) -> BlockMask:
    """FlexAttention's sparse mask, made on the device from the interval ends.

    Args:
        first_key_T: from :func:`first_keys`; T a multiple of 128.

    Returns:
        The mask of one head and batch, equal to what `create_block_mask` finds.

    Raises:
        ValueError: T is not a multiple of 128.
    """
    num_tokens = len(first_key_T)
    if num_tokens % BLOCK:
        raise ValueError(
            f"flex attention: expected a multiple of {BLOCK} tokens, found {num_tokens}; "
            "pad the batch or use the sdpa backend"
        )
    # Block of queries i needs key blocks reach[i] .. i; those in full[i] .. i - 1 need no mask.
    i_N = torch.arange(num_tokens // BLOCK, device=first_key_T.device, dtype=torch.int32)
    reach_N = first_key_T[::BLOCK] // BLOCK
    full_N = (first_key_T[BLOCK - 1 :: BLOCK] + BLOCK - 1) // BLOCK
    # Seen from block of keys j: queries j .. last_reach[j] need it, j + 1 .. last_full[j] fully.
    last_reach_N = _last_at_most(reach_N, i_N)
    last_full_N = _last_at_most(full_N, i_N)
    none_N = torch.zeros_like(i_N)

    def mask_mod(_b: Tensor, _h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first_key_T[query])

    return BlockMask(
        (num_tokens, num_tokens),
        *_ranges(reach_N, (full_N.minimum(i_N) - reach_N).clamp(min=0), i_N, none_N + 1),
        *_ranges(full_N, (i_N - full_N).clamp(min=0), i_N, none_N),
        *_ranges(i_N, none_N + 1, last_full_N + 1, last_reach_N - last_full_N),
        *_ranges(i_N + 1, last_full_N - i_N, i_N, none_N),
        BLOCK_SIZE=(BLOCK, BLOCK),
        mask_mod=mask_mod,
    )


def _last_at_most(ends_N: Tensor, i_N: Tensor) -> Tensor:
    """For each j the last i >= j with ends[i] <= j (j itself if there is none)."""
    within_NN = (ends_N[None, :] <= i_N[:, None]) & (i_N[None, :] > i_N[:, None])
    return i_N + within_NN.sum(1, dtype=torch.int32)


def _ranges(
    first_N: Tensor, length_N: Tensor, then_N: Tensor, then_length_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Number and indices [1, 1, N, N] of the blocks of two successive ranges in each row."""
    n_N = torch.arange(len(first_N), device=first_N.device, dtype=torch.int32)[None]
    indices_NN = torch.where(
        n_N < length_N[:, None],
        first_N[:, None] + n_N,
        then_N[:, None] + n_N - length_N[:, None],
    )
    counts_N = length_N + then_length_N
    return counts_N[None, None], indices_NN.clamp(0, len(first_N) - 1)[None, None]


def band_mask(first_key_T: Tensor, blocks_back: int) -> Tensor:
    """Mask of each block of queries over its own block of keys and the `blocks_back` before it.

    Args:
        first_key_T: from :func:`first_keys`; T a multiple of 128.
        blocks_back: at least as many as any query reaches back.

    Returns:
        bool [N, 1, 128, (blocks_back + 1) * 128], for blocks laid out by :func:`band`.
    """
    num_tokens = len(first_key_T)
    order_T = torch.arange(num_tokens, device=first_key_T.device, dtype=torch.int32)
    offsets = torch.arange(-blocks_back * BLOCK, BLOCK, device=order_T.device, dtype=torch.int32)
    key_N1C = order_T[::BLOCK, None, None] + offsets
    query_NB1 = order_T.view(-1, BLOCK, 1)
    first_NB1 = first_key_T.view(-1, BLOCK, 1)
    return ((key_N1C <= query_NB1) & (key_N1C >= first_NB1))[:, None]


def band(x_THK: Tensor, blocks_back: int) -> Tensor:
    """Each block of tokens after the `blocks_back` before it (zeros where there are none).

    Args:
        x_THK: [T, H, K], T a multiple of 128.
        blocks_back: how many blocks to repeat.

    Returns:
        [N, H, (blocks_back + 1) * 128, K].
    """
    num_blocks = len(x_THK) // BLOCK
    blocks_NBHK = x_THK.view(num_blocks, BLOCK, *x_THK.shape[1:])
    padded = F.pad(blocks_NBHK, (0, 0) * 3 + (blocks_back, 0))
    shifted = [padded[n : n + num_blocks] for n in range(blocks_back + 1)]
    return torch.cat(shifted, dim=1).transpose(1, 2)
