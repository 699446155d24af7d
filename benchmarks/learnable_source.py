"""Batches that a language model can learn from, made on the fly: the same ones for every run.

Tokens have Zipf's frequencies. Each is one of the few fixed followers of the token before it, or
the token some places back, or neither: what embedding and head learn, what attention learns, noise.

Shapes: T packed tokens, V vocabulary, K followers, S streams side by side.
"""

import torch
from torch import Tensor

from benchmarks.train_step import synthetic_positions
from ramengpt.data.loader import Batch

FOLLOWERS = 4
FOLLOWING_SHARE = 0.5
REPEATED_SHARE = 0.25
REPEATED_FROM_TOKENS = 16  # how far back
STREAM_TOKENS = 2048  # streams are drawn at the same time, and laid one after the other


def learnable_batches(
    steps: int,
    tokens: int,
    sequence_tokens: int,
    vocabulary: int,
    *,
    seed: int,
    device: torch.device,
) -> list[Batch]:
    """One micro-batch a step, in documents of log-normal length cut at `sequence_tokens`."""
    generator = torch.Generator().manual_seed(seed)
    text = learnable_tokens(steps * tokens + 1, vocabulary, generator).to(device, torch.int32)
    batches = []
    for first in range(0, steps * tokens, tokens):
        positions_T = synthetic_positions(tokens, sequence_tokens, generator)
        batches.append(
            Batch(
                text[first : first + tokens],
                text[first + 1 : first + tokens + 1],
                positions_T.to(device, torch.int32),
            )
        )
    return batches


def learnable_tokens(count: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    """Draw `count` tokens, int64."""
    frequencies_V = 1 / torch.arange(1, vocabulary + 1)
    num_streams = -(-count // STREAM_TOKENS)
    shape = (STREAM_TOKENS, num_streams)

    def zipf(*sizes: int) -> Tensor:
        number = torch.Size(sizes).numel()
        drawn = torch.multinomial(frequencies_V, number, replacement=True, generator=generator)
        return drawn.view(sizes)

    followers_VK = zipf(vocabulary, FOLLOWERS)
    fresh, chance = zipf(*shape), torch.rand(shape, generator=generator)
    choice = torch.randint(0, FOLLOWERS, shape, generator=generator)
    rows_S = [fresh[0]]
    for place in range(1, STREAM_TOKENS):
        following_S = followers_VK[rows_S[-1], choice[place]]
        repeated_S = rows_S[max(place - REPEATED_FROM_TOKENS, 0)]
        not_following_S = torch.where(
            chance[place] < FOLLOWING_SHARE + REPEATED_SHARE, repeated_S, fresh[place]
        )
        rows_S.append(torch.where(chance[place] < FOLLOWING_SHARE, following_S, not_following_S))
    return torch.stack(rows_S, dim=1).flatten()[:count]
