"""Further targets of each position, besides the next token, predicted by the same logits.

    loss_t = CE(z_t, y_t) + a CE(z_t, y_{t+1}) + b CE(z_t, y_{t+2}) + c CE(z_t, prefix(y_t))

y_t is the token after position t; prefix(y) is the longest proper prefix of its bytes that is a
token too. Targets never cross into the next document: a missing target, at the end of a document
or without a prefix, has weight 0. Validation uses the next token only.

Shapes: T packed tokens, K targets of a token, V tokens of the vocabulary.

Source: multi-token prediction 2404.19737, here without heads of its own, and the prefix loss, both
as in modded-nanogpt.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig

FURTHER_TOKENS = 2
"""Tokens after the next one that are predicted too."""


class ExtraTargets(nn.Module):
    """Weighted targets of every position; the weights change without recompiling anything."""

    weights_K: Tensor
    prefixes_V: Tensor

    def __init__(self, config: NetworkConfig, prefixes_V: Tensor | None) -> None:
        """Start with weight 0 for all but the next token.

        Args:
            config: says which extra targets there are.
            prefixes_V: integers [V], the prefix of every token, -1 without one; needed for training
                with `prefix_loss`.
        """
        super().__init__()
        self.further_tokens = FURTHER_TOKENS if config.multi_token_loss else 0
        self.prefix_loss = config.prefix_loss
        num_targets = 1 + self.further_tokens + config.prefix_loss
        next_token_only_K = F.one_hot(torch.tensor(0), num_targets).float()
        self.register_buffer("weights_K", next_token_only_K, persistent=False)
        self.register_buffer("prefixes_V", prefixes_V, persistent=False)

    @torch.no_grad()
    def set_weights(self, further_tokens: Sequence[float], prefix: float) -> None:
        """Set the weights of the tokens after the next one, and of the prefix."""
        chosen = (*further_tokens[: self.further_tokens], *[prefix] * self.prefix_loss)
        for slot, weight in zip(self.weights_K[1:], chosen, strict=True):
            slot.fill_(weight)

    def forward(self, targets_T: Tensor, positions_T: Tensor) -> tuple[Tensor, Tensor]:
        """Integers [T, K], the next token first, and their weights in the mean loss, float32.

        Args:
            targets_T: the token after every position.
            positions_T: offset of each token in its document.

        Raises:
            ValueError: `prefix_loss` without a table of prefixes.
        """
        targets, exists = [targets_T], [torch.ones_like(targets_T, dtype=torch.bool)]
        for ahead in range(1, self.further_tokens + 1):
            later_positions_T = F.pad(positions_T, (0, ahead), value=-1)[ahead:]
            targets.append(F.pad(targets_T, (0, ahead))[ahead:])
            exists.append(later_positions_T == positions_T + ahead)
        if self.prefix_loss:
            if self.prefixes_V is None:
                raise ValueError("model: prefix_loss needs the vocabulary's table of prefixes")
            prefixes_T = self.prefixes_V[targets_T].to(targets_T.dtype)
            targets.append(prefixes_T.clamp(min=0))
            exists.append(prefixes_T >= 0)
        weights_TK = torch.stack(exists, dim=1) * self.weights_K / len(targets_T)
        return torch.stack(targets, dim=1), weights_TK
