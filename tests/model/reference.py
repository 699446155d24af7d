# ruff: noqa: PLR0917
"""The whole network again, as plainly as its equations allow: one token at a time, dense scores."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ramengpt.model.gpt import GPT


def norm(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()


def rope(x_THK: Tensor, positions_T: Tensor, frequencies_F: Tensor) -> Tensor:
    """Pairs (j, j + K / 2) as complex numbers turned by -position * frequency."""
    half = x_THK.size(-1) // 2
    frequencies = torch.cat([frequencies_F, torch.zeros(half - len(frequencies_F))])
    angles = positions_T[:, None, None] * frequencies
    turn = torch.polar(torch.ones_like(angles), -angles)
    turned = torch.complex(x_THK[..., :half], x_THK[..., half:]) * turn
    return torch.cat([turned.real, turned.imag], dim=-1)


def attention(
    model: GPT,
    layer: int,
    x_TD: Tensor,
    tokens: Tensor,
    positions: Tensor,
    first_value: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    config, module = model.config, model.blocks[layer].attention
    width, heads, size = config.width, config.num_heads, config.head_dim
    lambdas = (1.0, 1.0)
    if config.attention_lambdas:
        lambdas = model.attention_lambda[layer - config.attention_pattern[:layer].count("-")]
    kind = config.attention_pattern[layer]
    long = int(model.rotary.long_window_tokens)
    window = long if kind == "L" else max(128, long // 2 // 128 * 128)
    w_q, w_k, w_v, w_o = module.weight.view(4, width, width)
    q, k, v = ((x_TD @ (lambdas[0] * w).T).view(-1, heads, size) for w in (w_q, w_k, w_v))
    paired = config.paired_heads_pattern[layer] == "P"
    angles = positions * (2 if paired else 1)
    q, k = (rope(norm(x), angles, model.rotary.frequencies_F) for x in (q, k))
    if config.key_offset and kind == "L":
        k = with_earlier_quarters(k, positions)
    inputs = x_TD[:, : config.gate_inputs]
    letter = config.value_embedding_pattern[layer]
    if letter != "-":
        value = model.value_embeddings[letter].weight[tokens].view(-1, heads, size)
        gate_inputs = inputs.clone()
        if config.split_value_gate:
            half = config.gate_inputs // 2
            gate_inputs[:, config.gate_inputs - half :] = value.reshape(-1, width)[:, :half]
        v = v + 2 * torch.sigmoid(gate_inputs @ module.value_gate.T)[..., None] * value
    if config.value_residual and first_value is not None:
        own, first = module.value_residual.weights_2
        v = own * v + first * first_value
    slots = 2 if paired else 1
    document = (positions == 0).cumsum(0).repeat_interleave(slots).tolist()
    sequences = (x.reshape(-1, heads // slots, size) for x in (q, k, v))
    y = attended(*sequences, model.rotary.attention_scale, document, window)
    y = y.reshape(-1, heads, size)
    if config.exclusive_attention:
        for h, strength in enumerate(torch.tanh(module.exclusion)):
            for t in range(len(y)):
                own = v[t, h] / v[t, h].norm()
                y[t, h] = y[t, h] - strength * (y[t, h] @ own) * own
    if config.attention_gate:
        y = y * torch.sigmoid(inputs @ module.gate.T)[..., None]
    return y.reshape(-1, width) @ (lambdas[1] * w_o).T, v


def with_earlier_quarters(k_THK: Tensor, positions: Tensor) -> Tensor:
    """The second and the fourth quarter are those of the token before."""
    offset, quarter = k_THK.clone(), k_THK.size(-1) // 4
    for t in range(1, len(k_THK)):
        if positions[t] > 0:
            for dims in (slice(quarter, 2 * quarter), slice(3 * quarter, None)):
                offset[t, :, dims] = k_THK[t - 1, :, dims]
    return offset


def attended(
    q: Tensor, k: Tensor, v: Tensor, scale: Tensor, document: list[int], window: int
) -> Tensor:
    """One query after the other; of paired heads (0, token), (1, token), (0, next token), ..."""
    rows = []
    for t in range(len(q)):
        seen = [s for s in range(t + 1) if document[s] == document[t] and t - s < window]
        scores = torch.einsum("hk,shk->hs", q[t], k[seen]) * scale
        rows.append(torch.einsum("hs,shk->hk", scores.softmax(-1), v[seen]))
    return torch.stack(rows)


def read_streams(
    module: torch.nn.Module, sublayer: int, streams: list[Tensor], read: list[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """A hyper-connection, one stream after the other."""
    n = len(streams)
    weights = [
        module.bias[i] + 0.01 * torch.tanh(norm(streams[i]) @ module.weight.T) for i in range(n)
    ]
    entering = sum((weights[i][:, :1] + (i == sublayer % n)) * read[i] for i in range(n))
    mixed = [
        sum((weights[i][:, 1 + j : 2 + j] + (i == j)) * streams[i] for i in range(n))
        for j in range(n)
    ]
    return entering, mixed, [1 + weights[j][:, n + 1 :] for j in range(n)]


def bigram(model: GPT, previous: int | None, token: int) -> Tensor:
    table, signs = model.bigram.weight, model.bigram.signs
    if previous is None:
        return table[-1] * signs[0]
    row = ((36313 * token) ^ (27191 * previous)) % (len(table) - 1)
    return table[row] * signs[(token ^ previous) % 8192]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def dense(module: torch.nn.Module, x_TD: Tensor, sources: list[Tensor]) -> Tensor:
    rows = []
    for t, x in enumerate(norm(x_TD)):
        weights = 0.1 * (module.weight_out @ gelu(module.weight_in @ x) + module.bias)
        rows.append(sum(w * source[t] for w, source in zip(weights, sources, strict=True)))
    return torch.stack(rows)


class Reference:
    """A float64 model with squared ReLU on some tokens: streams, and those after every layer."""

    def __init__(self, model: GPT, tokens_T: Tensor, positions_T: Tensor) -> None:
        self.model, self.config = model, model.config
        self.tokens, self.positions = tokens_T.long(), positions_T
        self.x0 = norm(self.smeared(model.embedding.weight[self.tokens]))
        several = self.config.hyper_connections
        self.streams = [self.x0] * (self.config.hyper_connection_streams if several else 1)
        self.outputs: list[list[Tensor]] = []
        self.first_value: Tensor | None = None
        self.gains = self.token_gains()

    def smeared(self, e: Tensor) -> Tensor:
        if not self.config.smear:
            return e
        smear, result = self.model.smear, e.clone()
        gate = torch.sigmoid(e[:, : self.config.gate_inputs] @ smear.gate[0])
        for t in range(1, len(e)):
            if self.positions[t] > 0:
                result[t] = e[t] + smear.smear_lambda * gate[t] * e[t - 1]
        return result

    def token_gains(self) -> Tensor:
        """Of the embedding in every layer, then of the bigram."""
        config, module, layers = self.config, self.model.token_gains, self.config.num_layers
        gains = torch.zeros(len(self.tokens), 2 * layers).double()
        if module is not None:
            found = module.scale * (gelu(self.x0 @ module.weight_in.T) @ module.weight_out.T)
            if config.embedding_mix:
                gains[:, :layers] = found[:, :layers]
            if config.bigram_embedding:
                gains[:, layers:] = found[:, -layers:]
        return gains

    def add_bigrams(self, layer: int) -> None:
        tokens = self.tokens.tolist()
        rows = [
            bigram(self.model, before if position > 0 else None, token)
            for before, token, position in zip([0, *tokens], tokens, self.positions, strict=False)
        ]
        gain_T1 = self.gains[:, self.config.num_layers + layer, None]
        added = (self.model.bigram_lambda[layer] + gain_T1) * torch.stack(rows)
        self.streams = [x + added for x in self.streams]

    def add_sublayer(
        self,
        around: torch.nn.Module,
        sublayer: int,
        read: list[Tensor],
        function: Callable[[Tensor], Tensor],
    ) -> None:
        entering, streams, writes = read[0], self.streams, [1.0] * len(self.streams)
        if self.config.hyper_connections:
            entering, streams, writes = read_streams(around.streams, sublayer, streams, read)
        output, r, p = function(norm(entering)), 1.0, 1.0
        if self.config.sublayer_gains:
            r, p = around.gains.residual, around.gains.output
        self.streams = [r * x + p * w * output for x, w in zip(streams, writes, strict=True)]

    def connect(self, layer: int) -> None:
        """Add what comes from earlier layers and from the embedding."""
        config, model = self.config, self.model
        if config.skip_connection and layer == config.skip_target_layer:
            open_T1 = 2 * torch.sigmoid(self.x0[:, : config.gate_inputs] @ model.skip.gate.T)
            open_T1 = open_T1 / (1 + math.e**-model.skip.skip_lambda)
            source = self.outputs[config.skip_source_layer]
            self.streams = [x + open_T1 * old for x, old in zip(self.streams, source, strict=True)]
        if config.dense_connections and layer == config.num_layers - 1:
            self.streams = [
                x + dense(model.into_last, x, [self.x0, old])
                for x, old in zip(self.streams, self.outputs[config.backout_layer], strict=True)
            ]
            self.before_last = self.streams
        if config.embedding_mix:
            r = 1.0 if config.sublayer_gains else model.residual_lambda[layer]
            weight_T1 = model.embedding_lambda[layer] + self.gains[:, layer, None]
            self.streams = [r * x + weight_T1 * self.x0 for x in self.streams]

    def run_layer(self, layer: int) -> None:
        config, block = self.config, self.model.blocks[layer]
        self.connect(layer)
        after = config.bigram_after_attention and layer > 0
        if config.bigram_embedding and not after:
            self.add_bigrams(layer)

        def attend(normed: Tensor) -> Tensor:
            inputs = (normed, self.tokens, self.positions, self.first_value)
            y, value = attention(self.model, layer, *inputs)
            self.first_value = value if self.first_value is None else self.first_value
            return y

        def mlp(normed: Tensor) -> Tensor:
            return F.relu(normed @ block.mlp.weight_in.T) ** 2 @ block.mlp.weight_out

        if config.attention_pattern[layer] != "-":
            late = config.late_attention and layer > config.backout_layer
            read = self.outputs[config.backout_layer] if late else self.streams
            self.add_sublayer(block.around_attention, 2 * layer, read, attend)
        if config.bigram_embedding and after:
            self.add_bigrams(layer)
        self.add_sublayer(block.around_mlp, 2 * layer + 1, self.streams, mlp)
        self.outputs.append(self.streams)

    def logits(self) -> Tensor:
        config, model = self.config, self.model
        for layer in range(config.num_layers):
            self.run_layer(layer)
        streams, middle = self.streams, self.outputs[config.backout_layer]
        if config.backout:
            streams = [x - model.backout_lambda * y for x, y in zip(streams, middle, strict=True)]
        if config.dense_connections:
            sources = (middle, self.before_last, self.outputs[config.skip_source_layer])
            streams = [
                x + dense(model.into_head, x, [self.x0, *(source[n] for source in sources)])
                for n, x in enumerate(streams)
            ]
        z = norm(sum(streams) / len(streams)) @ model.head.weight[: config.vocabulary].T
        return config.logit_scale * torch.sigmoid((z + config.logit_shift) / config.logit_divisor)


@torch.no_grad()
def reference_logits(model: GPT, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
    """Logits [T, vocabulary]."""
    return Reference(model, tokens_T, positions_T).logits()
