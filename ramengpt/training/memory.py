"""Memory of a training step on a GPU, estimated from params.yaml.

Checked against peaks measured on an H100 and an H200: at most 1 % below and 4 % above
(tests/training/test_memory.py). What plain PyTorch saves where the kernels do not run was counted
on a CPU, not measured on such a GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from ramengpt.config import Config
from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.head.cuda import GPU_CHUNK_TOKENS as KERNEL_CHUNK_TOKENS
from ramengpt.kernels.head.plain import GPU_CHUNK_TOKENS as PLAIN_CHUNK_TOKENS
from ramengpt.model.cost import count_parameters
from ramengpt.model.gpt import GPT
from ramengpt.training.network import build_run_optimizers
from ramengpt.training.schedule.plan import plan_run

PLAIN_FACTOR = 2.2
"""Activations saved by uncompiled layers, relative to compiled ones; windows of 512 to 1024."""
PLAIN_LOGITS_BYTES = 12  # of a logit in the head's chunk: itself and two temporaries, in float32
UPDATE_COPIES = 5
"""Temporaries of the hidden matrices' update, each of their size, in the narrower dtype."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run holds, by what they grow with.

    Attributes:
        state_bytes: master weights, gradients, the state of optimizers and hooks, the weights cast
            to a narrower dtype, and the head's gradient a second time.
        update_bytes: temporaries of the optimizer step, when no activations are held.
        token_bytes: saved per token by the forward pass for the backward pass; the head's input and
            its gradient in the head's own dtype.
        chunk_bytes: logits of one chunk of the head, where the peak is.
    """

    state_bytes: float
    update_bytes: float
    token_bytes: float
    chunk_bytes: float

    @classmethod
    def of(cls, config: Config, compute_dtype: torch.dtype, *, compiled: bool = True) -> Self:
        """Estimate a run.

        Args:
            config: its model, optimizers, hooks, and whether activations are recomputed.
            compute_dtype: of the activations.
            compiled: whether the network is compiled and its kernels run, or all is plain PyTorch.
        """
        network = config.network
        # In float16 the head multiplies in float32 (`model/head.py`).
        head_dtype = torch.float32 if compute_dtype == torch.float16 else compute_dtype
        head = network.padded_vocabulary * network.width
        hidden = sum(
            count for (group, _), count in count_parameters(network).items() if group == "hidden"
        )
        return cls(
            state_bytes=_state_bytes(config)
            + _copy_bytes(compute_dtype) * hidden
            + (4 + _copy_bytes(head_dtype)) * head,
            update_bytes=UPDATE_COPIES * compute_dtype.itemsize * hidden,
            token_bytes=_token_bytes(
                network,
                compute_dtype,
                recompute=config.train.recompute_activations,
                factor=1 if compiled else PLAIN_FACTOR,
            )
            + 2 * network.width * (head_dtype.itemsize - compute_dtype.itemsize),
            chunk_bytes=network.padded_vocabulary
            * (
                KERNEL_CHUNK_TOKENS * head_dtype.itemsize
                if compiled
                else PLAIN_CHUNK_TOKENS * PLAIN_LOGITS_BYTES
            ),
        )

    def training_bytes(self, tokens: int) -> float:
        """Peak of a step whose slices have so many tokens; increasing."""
        forward = self.chunk_bytes + self.token_bytes * tokens
        return self.state_bytes + max(forward, self.update_bytes)


def _copy_bytes(dtype: torch.dtype) -> int:
    """Of a float32 weight's copy in the dtype that it is multiplied in."""
    return 0 if dtype == torch.float32 else dtype.itemsize


def _token_bytes(
    network: NetworkConfig, compute_dtype: torch.dtype, *, recompute: bool, factor: float
) -> float:
    """What the forward pass keeps of a token, for layers times a factor.

    Of each attention 8 tensors of the model's width (q, k, v before and after the norm, its output
    before and after the gate; 2 more if exclusive), of each MLP 2 and its inner units, 7 for the
    two ends of the network, 5 for dense connections, and once the embeddings with their gradients.
    Of hyper-connections the streams before each of these, in place of one.
    With recomputation 2 for each layer (its input before and after the mix), and one layer whole.
    """
    width = network.width
    attention = (8 + 2 * network.exclusive_attention) * width
    mlp = 2 * width + network.ffn_units * (3 if network.gated else 1)  # 3: both halves, product
    num_attentions = network.num_layers - network.attention_pattern.count("-")
    layers = factor * (attention * num_attentions + mlp * network.num_layers)
    if recompute:
        layers = 2 * width * network.num_layers + factor * (attention + mlp)
    if network.hyper_connections:
        sublayers = network.num_layers if recompute else num_attentions + network.num_layers
        layers += (network.hyper_connection_streams - 1) * width * sublayers
    ends = (7 + 5 * network.dense_connections) * width
    num_tables = 1 + len(network.value_tables) + network.bigram_embedding
    tables = num_tables * width * (compute_dtype.itemsize + 4)
    return (layers + ends) * compute_dtype.itemsize + tables


def _state_bytes(config: Config) -> int:
    """Weights, gradients, and the state of the optimizers and hooks, built without memory."""
    with torch.device("meta"):
        model = GPT(
            config.network, max_sequence_tokens=1, backend="sdpa", compute_dtype=torch.float32
        )
        one_step = config.schedule.model_copy(update={"scheduled_steps": 1, "extension_steps": 0})
        plans = plan_run(one_step, config.optimizer.momentum)
        state = build_run_optimizers(config, model, plans).state_dict()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return 2 * weights + sum(tensor.nbytes for tensor in _tensors(state))


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)
