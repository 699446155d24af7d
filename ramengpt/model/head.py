"""From the last hidden state to softcapped logits and to the loss.

Shapes: T packed tokens, D width, V rows of the head (the vocabulary and its padding).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.head.softcapped_cross_entropy import softcapped_cross_entropy
from ramengpt.model.parameters import make_parameter


class Head(nn.Module):
    """`weight` is [V, D]; its rows beyond the vocabulary have no part in any probability.

    With `float8`, training multiplies in float8; logits and losses without gradients never do.
    """

    def __init__(self, config: NetworkConfig, *, float8: bool) -> None:
        super().__init__()
        self.weight = make_parameter("head", config.padded_vocabulary, config.width)
        self.vocabulary = config.vocabulary
        self.scale, self.shift = config.logit_scale, config.logit_shift
        self.divisor = config.logit_divisor
        self.float8 = float8

    def logits(self, x_TD: Tensor) -> Tensor:
        """Logits [T, vocabulary] in (0, scale), float32 or wider."""
        z_TV = F.linear(x_TD, self.weight[: self.vocabulary].to(x_TD.dtype))
        wide_TV = z_TV.to(torch.promote_types(x_TD.dtype, torch.float32))
        return self.scale * torch.sigmoid((wide_TV + self.shift) / self.divisor)

    def losses(
        self, x_TD: Tensor, targets: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy in training, and of each token (float32 [T], without gradient).

        Args:
            x_TD: [T, D], the last hidden state.
            targets: integers [T], or [T, K] with several for a token.
            weights: float32 in the shape of `targets`; None for the mean.
        """
        if x_TD.dtype == torch.float16:
            x_TD = x_TD.float()  # exponentials and their gradients exceed float16's range
        return softcapped_cross_entropy(
            x_TD,
            self.weight,
            targets,
            weights,
            self.vocabulary,
            self.scale,
            self.shift,
            self.divisor,
            float8=self.float8,
        )
