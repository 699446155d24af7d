"""Synthetic batches that a language model can learn from, the same for every run.

Token frequencies follow Zipf's law. Each token is one of a few fixed followers of the token before
it, or a copy of a recent token, or neither: what embedding and head learn, what attention learns,
and noise. Both are learned gradually, so no seed gets lucky with a sudden jump.

Shapes: T packed tokens, V vocabulary, K followers, S streams side by side.
"""

import torch
from torch import Tensor

from benchmarks.train_step import synthetic_positions
from ramengpt.data.batches.slices import Batch

FOLLOWERS = 4
FOLLOWING_SHARE = 0.5
REPEATED_SHARE = 0.25
REPEATED_FROM_TOKENS = 32  # maximum distance of a copy
STREAM_TOKENS = 2048  # streams are generated in parallel, then concatenated


def learnable_batches(
    steps: int,
    tokens: int,
    sequence_tokens: int,
    vocabulary: int,
    *,
    seed: int,
    device: torch.device,
) -> list[Batch]:
    """One micro-batch per step, in documents of log-normal length cut at `sequence_tokens`."""
    generator = torch.Generator().manual_seed(seed)
    text = learnable_tokens(steps * tokens + 1, vocabulary, generator).to(device, torch.int32)
    batches = []
    for first in range(0, steps * tokens, tokens):
        positions_T = synthetic_positions(tokens, sequence_tokens, generator)
        batches.append(
            Batch(
                text[first : first + tokens],
                text[first + 1 : first + tokens + 1].clone(),  # aligned: kernels specialise on that
                positions_T.to(device, torch.int32),
                None,
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
        return torch.multinomial(frequencies_V, number, replacement=True, generator=generator).view(
            sizes
        )

    followers_VK = zipf(vocabulary, FOLLOWERS)
    fresh, chance = zipf(*shape), torch.rand(shape, generator=generator)
    choice = torch.randint(0, FOLLOWERS, shape, generator=generator)
    back = torch.randint(1, REPEATED_FROM_TOKENS + 1, shape, generator=generator)
    stream_S = torch.arange(num_streams)
    drawn = fresh.clone()
    for place in range(1, STREAM_TOKENS):
        following_S = followers_VK[drawn[place - 1], choice[place]]
        repeated_S = drawn[(place - back[place]).clamp(min=0), stream_S]
        chance_S = chance[place]
        not_following_S = torch.where(
            chance_S < FOLLOWING_SHARE + REPEATED_SHARE, repeated_S, fresh[place]
        )
        drawn[place] = torch.where(chance_S < FOLLOWING_SHARE, following_S, not_following_S)
    return drawn.T.flatten()[:count]
