"""Causal self-attention: one matrix for q, k, v and o, normed heads, gates, value embeddings.

Shapes: T packed tokens, D width, H heads, K head_dim, F = K / 4 frequencies.

Sources: modded-nanogpt (merged matrix, gates, value embeddings, key offset); value residual
learning (2410.17897); query-key norm (2010.04245).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import ModelConfig
from ramengpt.model.context import Context
from ramengpt.model.norm import normalise
from ramengpt.model.parameters import make_parameter
from ramengpt.model.rope import Rotation


class Attention(nn.Module):
    """The attention of one layer.

    `weight` [4D, D] holds the blocks of q, k, v and o; the three gates' absence is None.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.window = config.attention_pattern[layer]
        self.offsets_keys = config.key_offset and self.window == "L"
        self.num_heads = config.num_heads
        self.gate_inputs = config.gate_inputs
        gate_shape = (config.num_heads, config.gate_inputs)
        self.weight = make_parameter("attention", 4 * config.width, config.width)
        self.gate = make_parameter("attention_gate", *gate_shape) if config.attention_gate else None
        has_values = config.value_embedding_pattern[layer] != "-"
        self.value_gate = make_parameter("value_gate", *gate_shape) if has_values else None

    def forward(
        self,
        x_TD: Tensor,
        value_TD: Tensor | None,
        lambdas_2: Tensor,
        rotation: Rotation,
        context: Context,
    ) -> Tensor:
        """Attend.

        Args:
            x_TD: [T, D], normed.
            value_TD: [T, D], this layer's value embedding of each token, if it has one.
            lambdas_2: factors of the q, k, v blocks and of the o block.
            rotation: of each token's position.
            context: the tokens before.

        Returns:
            [T, D], to be added to the residual stream.
        """
        num_tokens, width = x_TD.shape
        weight_qkv, weight_o = self.weight.split([3 * width, width])
        qkv_TD3 = F.linear(x_TD, (weight_qkv * lambdas_2[0]).to(x_TD.dtype))
        q, k, v = qkv_TD3.view(num_tokens, 3, self.num_heads, -1).unbind(1)
        q = rotation.turn(normalise(q.to(rotation.dtype))) * rotation.attention_scale
        k = rotation.turn(normalise(k.to(rotation.dtype)))
        if self.offsets_keys:
            k = _offset(k, context, f"keys of layer {self.layer}")
        inputs = x_TD[:, : self.gate_inputs]
        if self.value_gate is not None:
            assert value_TD is not None
            v = v + 2 * self._open(self.value_gate, inputs) * value_TD.view_as(v)
        y = context.attend(self.layer, self.window, q.to(x_TD.dtype), k.to(x_TD.dtype), v)
        if self.gate is not None:
            y = y * self._open(self.gate, inputs)
        y_TD = y.reshape(num_tokens, width)
        return F.linear(y_TD, (weight_o * lambdas_2[1]).to(x_TD.dtype))

    @staticmethod
    def _open(gate_HG: Tensor, inputs_TG: Tensor) -> Tensor:
        """How far each head's gate is open, in (0, 1): [T, H, 1]."""
        return torch.sigmoid(F.linear(inputs_TG, gate_HG.to(inputs_TG.dtype)))[..., None]


def _offset(k_THK: Tensor, context: Context, slot: str) -> Tensor:
    """Take the quarters of every key that never rotate from the token before.

    A query can so find the token after the one that it matches, in one layer.
    """
    quarters = k_THK.unflatten(-1, (4, -1))
    turning, still = quarters[..., 0::2, :], quarters[..., 1::2, :]
    earlier = context.look_back(slot, still, at_start=still)
    return torch.stack([turning, earlier], dim=-2).flatten(-3)
