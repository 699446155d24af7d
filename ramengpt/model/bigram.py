"""Bigram embedding: a hashed table row for each pair of a token and the one before it.

    h_t = (36313 x_t XOR 27191 x_(t-1)) mod (rows - 1)
    e_t = S[(x_t XOR x_(t-1)) mod 8192] * E[h_t],   S fixed random signs, elementwise

Pairs that share a row differ in their signs: on average, what one writes into the row cancels for
another. A document's first token has no pair and takes a row that no pair can reach.

Shapes: T packed tokens, D width.

Source: modded-nanogpt (records of 2026); hashed n-gram embeddings as in 2501.16975.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.model.attention_backend import AttentionContext
from ramengpt.model.parameters import make_parameter

TOKEN_FACTOR, PREVIOUS_FACTOR = 36313, 27191
"""Odd numbers without a common factor, so that (a, b) and (b, a) have different rows."""
SIGN_ROWS = 8192
SIGN_SEED = 8192


class BigramEmbedding(nn.Module):
    """A vector [D] for each pair of consecutive tokens of a document.

    `signs` comes from a fixed seed and is not part of the state.
    """

    signs: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.rows = config.bigram_rows
        self.weight = make_parameter("bigram_embedding", self.rows, config.width)
        generator = torch.Generator(device="cpu").manual_seed(SIGN_SEED)
        bits = torch.randint(0, 2, (SIGN_ROWS, config.width), generator=generator, device="cpu")
        device = self.weight.device
        self.register_buffer("signs", (2 * bits - 1).to(device, torch.int8), persistent=False)

    def rows_of(self, tokens_T: Tensor, previous_T: Tensor) -> tuple[Tensor, Tensor]:
        """Row of the table and row of the signs, int64 [T] each.

        Args:
            tokens_T: ids.
            previous_T: ids of the tokens before; -1 at the start of a document.
        """
        token, previous = tokens_T.long(), previous_T.long()
        first = previous < 0
        hashed = (TOKEN_FACTOR * token ^ PREVIOUS_FACTOR * previous) % (self.rows - 1)
        return (
            torch.where(first, self.rows - 1, hashed),
            torch.where(first, 0, (token ^ previous) % SIGN_ROWS),
        )

    def forward(self, tokens_T: Tensor, context: AttentionContext, dtype: torch.dtype) -> Tensor:
        """Look up [T, D] in `dtype`."""
        nobody_T = torch.full_like(tokens_T, -1)
        previous_T = context.look_back("tokens", tokens_T, at_start=nobody_T)
        row_T, sign_row_T = self.rows_of(tokens_T, previous_T)
        return F.embedding(row_T, self.weight).to(dtype) * self.signs[sign_row_T].to(dtype)
