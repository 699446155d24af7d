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


def attention(model: GPT, layer: int, x_TD: Tensor, tokens: Tensor, positions: Tensor) -> Tensor:
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
    q, k = (rope(norm(x), positions, model.rotary.frequencies_F) for x in (q, k))
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
    document = (positions == 0).cumsum(0).tolist()
    rows = []
    for t in range(len(x_TD)):
        seen = [s for s in range(t + 1) if document[s] == document[t] and t - s < window]
        scores = torch.einsum("hk,shk->hs", q[t], k[seen]) * model.rotary.attention_scale
        rows.append(torch.einsum("hs,shk->hk", scores.softmax(-1), v[seen]))
    y = torch.stack(rows)
    if config.exclusive_attention:
        for h, strength in enumerate(torch.tanh(module.exclusion)):
            for t in range(len(y)):
                own = v[t, h] / v[t, h].norm()
                y[t, h] = y[t, h] - strength * (y[t, h] @ own) * own
    if config.attention_gate:
        y = y * torch.sigmoid(inputs @ module.gate.T)[..., None]
    return y.reshape(-1, width) @ (lambdas[1] * w_o).T


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
    x0 = x = norm(e)
    outputs = []
    if config.bigram_embedding:
        bigrams = torch.stack(
            [
                bigram(model, None if positions_T[t] == 0 else int(tokens[t - 1]), int(tokens[t]))
                for t in range(len(tokens))
            ]
        )
    for layer, block in enumerate(model.blocks):
        if config.skip_connection and layer == config.skip_target_layer:
            open_T1 = 2 * torch.sigmoid(x0[:, : config.gate_inputs] @ model.skip.gate.T)
            gated = outputs[config.skip_source_layer] * open_T1
            x = x + gated / (1 + math.e**-model.skip.skip_lambda)
        if config.dense_connections and layer == config.num_layers - 1:
            x = x + dense(model.into_last, x, [x0, outputs[config.backout_layer]])
            before_last = x
        if config.embedding_mix:
            x = model.residual_lambda[layer] * x + model.embedding_lambda[layer] * x0
        if config.bigram_embedding:
            x = x + model.bigram_lambda[layer] * bigrams
        if config.attention_pattern[layer] != "-":
            late = config.late_attention and layer > config.backout_layer
            attended = outputs[config.backout_layer] if late else x
            x = x + attention(model, layer, norm(attended), tokens, positions_T)
        x = x + F.relu(norm(x) @ block.mlp.weight_in.T) ** 2 @ block.mlp.weight_out
        outputs.append(x)
    if config.backout:
        x = x - model.backout_lambda * outputs[config.backout_layer]
    if config.dense_connections:
        middle, skipped = outputs[config.backout_layer], outputs[config.skip_source_layer]
        x = x + dense(model.into_head, x, [x0, middle, before_last, skipped])
    z = norm(x) @ model.head.weight[: config.vocabulary].T
    return config.logit_scale / (1 + torch.exp(-(z + config.logit_shift) / config.logit_divisor))
