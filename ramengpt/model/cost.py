"""What a network costs, computed from its config: parameters, operations and memory.

Shapes: T tokens of a micro-batch, D width, F inner units, V rows of embedding and head.
"""

import functools

import torch

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.head.cuda import GPU_CHUNK_TOKENS
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

    Matrix products only; attention counts the keys that the mask permits, not those that a kernel
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
    keys = sum(_mean_keys(sequence_tokens, windows[kind]) for kind in pattern if kind != "-")
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


def training_bytes(
    config: NetworkConfig, micro_batch_tokens: int, compute_dtype: torch.dtype
) -> float:
    """Estimate the peak memory of a training step on a GPU.

    Counts: weights, gradients and optimizer moments in float32 (two moments for embeddings and
    scalars, one for hidden matrices), and the weights cast to a narrower dtype; the head's gradient
    a second time; what a compiled forward saves for the backward pass: 8 tensors of width D per
    attention (q, k, v before and after the norm, its output before and after the gate), 2 and the
    inner units per MLP, 7 for the two ends of the network, and the embeddings with their gradients
    once; and the head's chunk of logits, since the peak comes at the end of the forward pass.
    Within 1 % of the peaks of `base` and `small` in bfloat16.

    Args:
        config: the network.
        micro_batch_tokens: T.
        compute_dtype: of the activations.

    Returns:
        Bytes; increasing in the tokens.
    """
    copy = 0 if compute_dtype == torch.float32 else compute_dtype.itemsize
    states = sum(
        count * (12 + copy if group == "hidden" else 16)
        for (group, _), count in count_parameters(config).items()
    )
    width = config.width
    head = (4 + copy) * config.padded_vocabulary * width
    num_attentions = config.num_layers - config.attention_pattern.count("-")
    inner = config.ffn_units * (3 if config.gated else 1)  # both halves and their product
    layers = 8 * width * num_attentions + (2 * width + inner) * config.num_layers
    kept = (layers + 7 * width) * compute_dtype.itemsize
    num_tables = 1 + len(config.value_tables) + config.bigram_embedding
    tables = num_tables * width * (compute_dtype.itemsize + 4)
    chunk_tokens = min(micro_batch_tokens, GPU_CHUNK_TOKENS)
    logits = config.padded_vocabulary * compute_dtype.itemsize * chunk_tokens
    return states + head + logits + (kept + tables) * micro_batch_tokens
