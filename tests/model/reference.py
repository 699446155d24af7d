# ruff: noqa: PLR0912, PLR0915, PLR0917
"""The whole network again, as plainly as its equations allow: one token at a time, dense scores."""

import math

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
        offset = k.clone()
        for t in range(1, len(k)):
            if positions[t] > 0:
                for dims in (slice(size // 4, size // 2), slice(3 * size // 4, size)):
                    offset[t, :, dims] = k[t - 1, :, dims]
        k = offset
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
    document = (positions == 0).cumsum(0).tolist()
    if paired:
        y = pairs_of_heads(model, q, k, v, document, window)
    else:
        y = heads_apart(model, q, k, v, document, window)
    if config.exclusive_attention:
        for h, strength in enumerate(torch.tanh(module.exclusion)):
            for t in range(len(y)):
                own = v[t, h] / v[t, h].norm()
                y[t, h] = y[t, h] - strength * (y[t, h] @ own) * own
    if config.attention_gate:
        y = y * torch.sigmoid(inputs @ module.gate.T)[..., None]
    return y.reshape(-1, width) @ (lambdas[1] * w_o).T, v


def heads_apart(
    model: GPT, q: Tensor, k: Tensor, v: Tensor, document: list[int], window: int
) -> Tensor:
    rows = []
    for t in range(len(q)):
        seen = [s for s in range(t + 1) if document[s] == document[t] and t - s < window]
        scores = torch.einsum("hk,shk->hs", q[t], k[seen]) * model.rotary.attention_scale
        rows.append(torch.einsum("hs,shk->hk", scores.softmax(-1), v[seen]))
    return torch.stack(rows)


def pairs_of_heads(
    model: GPT, q: Tensor, k: Tensor, v: Tensor, document: list[int], window: int
) -> Tensor:
    """Head by head and slot by slot: (0, token), (1, token), (0, next token), ..."""
    half, y = q.size(1) // 2, torch.empty_like(q)
    slots = [(slot, t) for t in range(len(q)) for slot in (0, 1)]
    for head in range(half):
        for index, (slot, t) in enumerate(slots):
            seen = slots[max(0, index - window + 1) : index + 1]
            seen = [(other, s) for other, s in seen if document[s] == document[t]]
            query = q[t, head + slot * half] * model.rotary.attention_scale
            keys = torch.stack([k[s, head + other * half] for other, s in seen])
            values = torch.stack([v[s, head + other * half] for other, s in seen])
            y[t, head + slot * half] = (keys @ query).softmax(0) @ values
    return y


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


def dense(module: torch.nn.Module, x_TD: Tensor, sources: list[Tensor]) -> Tensor:
    rows = []
    for t, x in enumerate(norm(x_TD)):
        hidden = module.weight_in @ x
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        weights = 0.1 * (module.weight_out @ hidden + module.bias)
        rows.append(sum(w * source[t] for w, source in zip(weights, sources, strict=True)))
    return torch.stack(rows)


@torch.no_grad()
def reference_logits(model: GPT, tokens_T: Tensor, positions_T: Tensor) -> Tensor:
    """Logits [T, vocabulary] of a float64 model with squared ReLU."""
    config, tokens = model.config, tokens_T.long()
    e = model.embedding.weight[tokens]
    if config.smear:
        smeared = e.clone()
        gate = torch.sigmoid(e[:, : config.gate_inputs] @ model.smear.gate[0])
        for t in range(1, len(e)):
            if positions_T[t] > 0:
                smeared[t] = e[t] + model.smear.smear_lambda * gate[t] * e[t - 1]
        e = smeared
    x0 = norm(e)
    streams = [x0] * (config.hyper_connection_streams if config.hyper_connections else 1)
    outputs, first_value = [], None
    if config.bigram_embedding:
        bigrams = torch.stack(
            [
                bigram(model, None if positions_T[t] == 0 else int(tokens[t - 1]), int(tokens[t]))
                for t in range(len(tokens))
            ]
        )

    gains = torch.zeros(len(tokens), 2 * config.num_layers).double()
    if config.token_gains and model.token_gains is not None:
        module = model.token_gains
        hidden = x0 @ module.weight_in.T
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        found = module.scale * (hidden @ module.weight_out.T)
        if config.embedding_mix:
            gains[:, : config.num_layers] = found[:, : config.num_layers]
        if config.bigram_embedding:
            gains[:, config.num_layers :] = found[:, -config.num_layers :]

    def through(around: torch.nn.Module, sublayer: int, read: list[Tensor], function) -> None:
        nonlocal streams
        entering, writes = read[0], [1.0] * len(streams)
        if config.hyper_connections:
            entering, streams, writes = read_streams(around.streams, sublayer, streams, read)
        output, r, p = function(norm(entering)), 1.0, 1.0
        if config.sublayer_gains:
            r, p = around.gains.residual, around.gains.output
        streams = [r * x + p * w * output for x, w in zip(streams, writes, strict=True)]

    for layer, block in enumerate(model.blocks):
        if config.skip_connection and layer == config.skip_target_layer:
            open_T1 = 2 * torch.sigmoid(x0[:, : config.gate_inputs] @ model.skip.gate.T)
            open_T1 = open_T1 / (1 + math.e**-model.skip.skip_lambda)
            source = outputs[config.skip_source_layer]
            streams = [x + open_T1 * old for x, old in zip(streams, source, strict=True)]
        if config.dense_connections and layer == config.num_layers - 1:
            middle = outputs[config.backout_layer]
            streams = [
                x + dense(model.into_last, x, [x0, old])
                for x, old in zip(streams, middle, strict=True)
            ]
            before_last = streams
        if config.embedding_mix:
            r = 1.0 if config.sublayer_gains else model.residual_lambda[layer]
            weight_T1 = model.embedding_lambda[layer] + gains[:, layer, None]
            streams = [r * x + weight_T1 * x0 for x in streams]
        if config.bigram_embedding:
            column = config.num_layers + layer
            added = (model.bigram_lambda[layer] + gains[:, column, None]) * bigrams
        after = config.bigram_after_attention and layer > 0
        if config.bigram_embedding and not after:
            streams = [x + added for x in streams]
        if config.attention_pattern[layer] != "-":
            late = config.late_attention and layer > config.backout_layer

            def attend(normed: Tensor, layer: int = layer) -> Tensor:
                nonlocal first_value
                y, value = attention(model, layer, normed, tokens, positions_T, first_value)
                first_value = value if first_value is None else first_value
                return y

            read = outputs[config.backout_layer] if late else streams
            through(block.around_attention, 2 * layer, read, attend)
        if config.bigram_embedding and after:
            streams = [x + added for x in streams]

        def mlp(normed: Tensor, mlp: torch.nn.Module = block.mlp) -> Tensor:
            return F.relu(normed @ mlp.weight_in.T) ** 2 @ mlp.weight_out

        through(block.around_mlp, 2 * layer + 1, streams, mlp)
        outputs.append(streams)
    if config.backout:
        middle = outputs[config.backout_layer]
        streams = [x - model.backout_lambda * old for x, old in zip(streams, middle, strict=True)]
    if config.dense_connections:
        sources = (outputs[config.backout_layer], before_last, outputs[config.skip_source_layer])
        streams = [
            x + dense(model.into_head, x, [x0, *(source[n] for source in sources)])
            for n, x in enumerate(streams)
        ]
    x = sum(streams) / len(streams)
    z = norm(x) @ model.head.weight[: config.vocabulary].T
    return config.logit_scale / (1 + torch.exp(-(z + config.logit_shift) / config.logit_divisor))
