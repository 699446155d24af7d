"""A table with a vector for each token.

Shapes: T packed tokens, D width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.model.parameters import make_parameter


class Embedding(nn.Module):
    """A vector [D] for each token of the padded vocabulary."""

    def __init__(self, config: NetworkConfig, label: str) -> None:
        super().__init__()
        self.weight = make_parameter(label, config.padded_vocabulary, config.width)

    def forward(self, tokens_T: Tensor) -> Tensor:
        """Look up [T, D]."""
        return F.embedding(tokens_T, self.weight)
