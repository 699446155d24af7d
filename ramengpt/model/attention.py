"""Causal self-attention: one matrix for q, k, v and o, normed heads, gates, value embeddings.

Shapes: T packed tokens, D width, H heads, K head_dim, G inputs of a gate.

Sources: modded-nanogpt (merged matrix, gates, value embeddings, key offset); value residual
learning (2410.17897); query-key norm (2010.04245).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.qkv_prologue import (
    Rotation,
    kernel_supports,
    qkv_prologue,
    qkv_prologue_reference,
)
from ramengpt.model.attention_backend import AttentionContext
from ramengpt.model.attention_kind import attention_kind
from ramengpt.model.exclusive_attention import without_own_value
from ramengpt.model.norm import EPSILON
from ramengpt.model.paired_heads import from_slots, to_slots
from ramengpt.model.parameters import make_parameter, optional_parameter
from ramengpt.model.value_residual import ValueResidual, mixes_values


class Attention(nn.Module):
    """The attention of one layer.

    `weight` [4D, D] holds the blocks of q, k, v and o. A part that is off is None.
    """

    def __init__(self, config: NetworkConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.kind = attention_kind(config, layer)
        self.offsets_keys = config.key_offset and self.kind.window == "L"
        self.num_heads = config.num_heads
        self.gate_inputs = config.gate_inputs
        gate_shape = (config.num_heads, config.gate_inputs)
        self.weight = make_parameter("attention", 4 * config.width, config.width)
        self.weight.head_dim = config.head_dim  # type: ignore[attr-defined]
        self.gate = optional_parameter(config.attention_gate, "attention_gate", *gate_shape)
        has_values = config.value_embedding_pattern[layer] != "-"
        self.value_gate = optional_parameter(has_values, "value_gate", *gate_shape)
        self.splits_value_gate = config.split_value_gate
        self.exclusion = optional_parameter(
            config.exclusive_attention, "exclusive_attention", config.num_heads
        )
        self.value_residual = ValueResidual() if mixes_values(config, layer) else None

    def forward(
        self,
        x_TD: Tensor,
        *,
        value_TD: Tensor | None,
        first_value_THK: Tensor | None,
        lambdas_2: Tensor | None,
        rotation: Rotation,
        context: AttentionContext,
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            x_TD: [T, D], normed.
            value_TD: [T, D], this layer's value embedding of each token, if it has one.
            first_value_THK: [T, H, K], the values of the first attention; None in that one.
            lambdas_2: factors of the q, k, v blocks and of the o block; None for 1.
            rotation: of each token's position, doubled where heads are paired.
            context: the tokens before.

        Returns:
            [T, D], to be added to the residual stream, and the values [T, H, K] attended to.
        """
        num_tokens, width = x_TD.shape
        weight_qkv, weight_o = self.weight.split([3 * width, width])
        if lambdas_2 is not None:
            weight_qkv, weight_o = weight_qkv * lambdas_2[0], weight_o * lambdas_2[1]
        qkv_TD3 = F.linear(x_TD, weight_qkv.to(x_TD.dtype))
        inputs = x_TD[:, : self.gate_inputs]
        value_THK = gate_TH = None
        if self.value_gate is not None:
            assert value_TD is not None
            value_THK = value_TD.view(num_tokens, self.num_heads, -1)
            gate_TH = 2 * self._open(self.value_gate, self._value_gate_inputs(x_TD, value_TD))
        qkv_T3HK = qkv_TD3.view(num_tokens, 3, self.num_heads, -1)
        q, k, v = self._heads(qkv_T3HK, rotation, context, value_THK, gate_TH)
        if self.value_residual is not None and first_value_THK is not None:
            v = self.value_residual(v, first_value_THK)
        slots = self.kind.slots
        attended = context.attend(self.layer, self.kind, *(to_slots(x, slots) for x in (q, k, v)))
        y = from_slots(attended, slots)
        if self.exclusion is not None:
            y = without_own_value(y, v, self.exclusion)
        if self.gate is not None:
            y = y * self._open(self.gate, inputs)[..., None]
        y_TD = y.reshape(num_tokens, width)
        return F.linear(y_TD, weight_o.to(x_TD.dtype)), v

    def _heads(
        self,
        qkv_T3HK: Tensor,
        rotation: Rotation,
        context: AttentionContext,
        value_THK: Tensor | None,
        gate_TH: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values.

        Of every key the quarters that never rotate may come from the token before: so a query can
        find the token after the one that it matches, in one layer.
        """
        if context.whole_documents and kernel_supports(qkv_T3HK):
            positions_T = context.positions_T if self.offsets_keys else None
            return qkv_prologue(qkv_T3HK, rotation, positions_T, value_THK, gate_TH, EPSILON)

        def before(still: Tensor) -> Tensor:
            return context.look_back(f"keys of layer {self.layer}", still, at_start=still)

        look_back = before if self.offsets_keys else None
        return qkv_prologue_reference(qkv_T3HK, rotation, look_back, value_THK, gate_TH, EPSILON)

    def _value_gate_inputs(self, x_TD: Tensor, value_TD: Tensor) -> Tensor:
        """The leading entries of the layer's input; if split, half of them from its table."""
        if not self.splits_value_gate:
            return x_TD[:, : self.gate_inputs]
        half = self.gate_inputs // 2
        return torch.cat([x_TD[:, : self.gate_inputs - half], value_TD[:, :half]], dim=1)

    @staticmethod
    def _open(gate_HG: Tensor, inputs_TG: Tensor) -> Tensor:
        """How far each head's gate is open, in (0, 1): [T, H]."""
        return torch.sigmoid(F.linear(inputs_TG, gate_HG.to(inputs_TG.dtype)))
