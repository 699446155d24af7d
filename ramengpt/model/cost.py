"""What a network costs, computed from its config: parameters and operations."""

import functools

import torch

from ramengpt.config.model import NetworkConfig
from ramengpt.model.attention_kind import attention_kind
from ramengpt.model.gpt import GPT
from ramengpt.model.masks import short_window


@functools.cache
def count_parameters(config: NetworkConfig) -> dict[tuple[str, str], int]:
    """Number of parameters by (group, label), in the order of the network."""
    with torch.device("meta"):
        model = GPT(
            config, max_sequence_tokens=1, backend="sdpa", compute_dtype=torch.float32
        )  # shapes only: nothing is allocated
    counts: dict[tuple[str, str], int] = {}
    for parameter in model.parameters():
        key = (parameter.group, parameter.label)  # type: ignore[attr-defined]
        counts[key] = counts.get(key, 0) + parameter.numel()
    return counts


def count_as_gpt2(config: NetworkConfig) -> int:
    """Parameters as GPT-2's sizes are given: one embedding, no value or bigram embeddings."""
    left_out = {"head", "value_embedding", "bigram_embedding"}
    counts = count_parameters(config)
    return sum(count for (_, label), count in counts.items() if label not in left_out)


def flops_per_token(config: NetworkConfig, *, sequence_tokens: int, window_tokens: int) -> float:
    """Floating point operations of training on one token: forward, and twice that backward.

    Large matrix products only, without those of gates and connections, which are below 1 %;
    attention counts the keys that the mask permits, not those that a kernel
    reads besides. Recomputation is not counted.

    Args:
        config: the network.
        sequence_tokens: length of every document.
        window_tokens: the long window.

    Returns:
        Mean over the tokens of a document.
    """
    width, pattern = config.width, config.attention_pattern
    windows = {"L": window_tokens, "S": short_window(window_tokens)}
    kinds = [attention_kind(config, n) for n, letter in enumerate(pattern) if letter != "-"]
    # Heads in pairs have half as many queries' heads, and two queries of each token.
    keys = sum(_mean_keys(kind.slots * sequence_tokens, windows[kind.window]) for kind in kinds)
    projections = 4 * width * width * (config.num_layers - pattern.count("-"))
    matrices_of_mlp = 3 if config.gated else 2
    mlps = matrices_of_mlp * config.ffn_units * width * config.num_layers
    head = config.vocabulary * width
    multiplications = projections + mlps + head + 2 * width * keys
    return 3 * 2 * multiplications


def _mean_keys(sequence_tokens: int, window_tokens: int) -> float:
    """Mean over q < sequence of min(q + 1, window)."""
    window = min(window_tokens, sequence_tokens)
    return window - window * (window - 1) / (2 * sequence_tokens)
