"""Decoding with a KV cache: the same network, one token at a time.

    decoder = Decoder(model)
    logits_V = decoder.start(prompt)        # a list of token ids, the document so far
    logits_V = decoder.step(token)          # and so on, until decoder.full

Shapes: T new tokens, S tokens that the cache can hold, H heads, K head_dim, V vocabulary; where
heads are paired, T, S and H are those of the slots.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ramengpt.model.attention_kind import AttentionKind, attention_kind
from ramengpt.model.gpt import GPT


class CachedContext:
    """The KV cache of one growing document, an `AttentionContext` of the model."""

    positions_T: Tensor
    whole_documents = False

    def __init__(self, model: GPT) -> None:
        """Allocate room for `model.max_sequence_tokens` tokens."""
        config = model.config
        self.windows = model.rotary.windows
        device = model.head.weight.device
        self.keys_and_values: dict[int, Tensor] = {}
        for layer, window in enumerate(config.attention_pattern):
            if window != "-":
                slots = attention_kind(config, layer).slots
                shape = (slots * model.max_sequence_tokens, config.num_heads // slots)
                self.keys_and_values[layer] = torch.empty(
                    (2, *shape, config.head_dim), device=device, dtype=model.compute_dtype
                )
        self.last_rows: dict[str, Tensor] = {}
        self.device = device
        self.num_tokens = 0
        self.num_new = 0

    def admit(self, num_tokens: int) -> None:
        """Move the tokens of the last call into the past, and expect this many new ones."""
        self.num_tokens += self.num_new
        self.num_new = num_tokens
        self.positions_T = torch.arange(
            self.num_tokens, self.num_tokens + num_tokens, device=self.device, dtype=torch.int32
        )

    def look_back(self, slot: str, x: Tensor, at_start: Tensor) -> Tensor:
        """See :class:`ramengpt.model.attention_backend.AttentionContext`."""
        before = self.last_rows.get(slot, at_start[:1])
        self.last_rows[slot] = x[-1:]
        return torch.cat([before, x[:-1]])

    def attend(
        self, layer: int, kind: AttentionKind, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor
    ) -> Tensor:
        """See :class:`ramengpt.model.attention_backend.AttentionContext`."""
        start = kind.slots * self.num_tokens
        end = start + kind.slots * self.num_new
        window = self.windows[kind.window]
        cache = self.keys_and_values[layer]
        cache[0, start:end] = k_THK
        cache[1, start:end] = v_THK
        first = max(0, start - window + 1)
        k, v = cache[:, first:end].transpose(1, 2)
        query_T1 = torch.arange(start, end, device=self.device)[:, None]
        key_S = torch.arange(first, end, device=self.device)
        mask_TS = (key_S <= query_T1) & (key_S > query_T1 - window)
        q = q_THK.transpose(0, 1)
        y = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask_TS, scale=1.0)
        return y[0].transpose(0, 1)


class Decoder:
    """Continues one document, with the look-backs, windows and positions of the packed forward."""

    def __init__(self, model: GPT) -> None:
        """Decode with a model whose window is set."""
        self.model = model
        self.context = CachedContext(model)

    @property
    def full(self) -> bool:
        """Whether the document fills the model's context."""
        context = self.context
        return context.num_tokens + context.num_new >= self.model.max_sequence_tokens

    def start(self, tokens: Sequence[int]) -> Tensor:
        """Start a document and process the whole prompt at once.

        Args:
            tokens: token ids, starting with BOS.

        Returns:
            Logits [vocabulary] of the next token, float32 or wider.

        Raises:
            ValueError: no token, or more than fit the context.
        """
        if not tokens:
            raise ValueError("decoder: expected at least the BOS token, found none")
        self.context = CachedContext(self.model)
        return self._read(list(tokens))

    def step(self, token: int) -> Tensor:
        """Append one token.

        Returns:
            Logits [vocabulary] of the next token, float32 or wider.

        Raises:
            ValueError: the context is full.
        """
        return self._read([token])

    @torch.inference_mode()
    def _read(self, tokens: list[int]) -> Tensor:
        self.context.admit(len(tokens))
        length = self.context.num_tokens + len(tokens)
        if length > self.model.max_sequence_tokens:
            raise ValueError(
                f"decoder: a document of {length} tokens is longer than max_sequence_tokens = "
                f"{self.model.max_sequence_tokens}; build the model with more"
            )
        tokens_T = torch.tensor(tokens, device=self.context.device, dtype=torch.int32)
        x_TD = self.model.hidden(tokens_T, self.context)
        return self.model.head.logits(x_TD[-1:])[0]
