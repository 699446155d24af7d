"""Half-truncated rotary position embedding, stretched by YaRN when the attention window changes.

A head's K dims are four quarters. Pairs (j, j + K/2) of the first and third quarter rotate; the
second and fourth have frequency zero and never rotate, so that the key offset can use them.

Shapes: T packed tokens, K head_dim, P positions of the tables, F = K / 4 frequencies.

Sources: RoFormer (2104.09864); YaRN (2309.00071) and the half truncation as in modded-nanogpt.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ramengpt.config.model import NetworkConfig
from ramengpt.kernels.qkv_prologue import Rotation
from ramengpt.model.masks import BLOCK, short_window


class Rotary(nn.Module):
    """Rotation tables and everything else that depends on the attention window.

    The state (frequencies, attention scale, long window) is buffers of the checkpoint, changed
    in place: a compiled model sees a new window without recompiling.
    """

    frequencies_F: Tensor
    attention_scale: Tensor
    long_window_tokens: Tensor
    short_window_tokens: Tensor
    cos_PF: Tensor
    sin_PF: Tensor

    def __init__(self, config: NetworkConfig, max_sequence_tokens: int) -> None:
        super().__init__()
        self.config = config
        num_frequencies = config.head_dim // 4
        exponents_F = torch.arange(num_frequencies) / (num_frequencies - 1)
        self.register_buffer("frequencies_F", config.rope_base**-exponents_F)
        self.register_buffer("attention_scale", torch.tensor(config.attention_scale))
        self.register_buffer("long_window_tokens", torch.tensor(0, dtype=torch.int32))
        self.register_buffer(
            "short_window_tokens", torch.tensor(0, dtype=torch.int32), persistent=False
        )
        for name in ("cos_PF", "sin_PF"):
            table_PF = torch.empty(max_sequence_tokens, num_frequencies)
            self.register_buffer(name, table_PF, persistent=False)
        self.has_window = False
        self.windows = {"L": 0, "S": 0}  # what the buffers hold, without asking the device
        self._fill_tables()
        self.register_load_state_dict_post_hook(_after_loading)

    @property
    def max_sequence_tokens(self) -> int:
        """Longest document (or piece of one) that the tables reach."""
        return self.cos_PF.size(0)

    @torch.no_grad()
    def set_window(self, window_tokens: int) -> None:
        """Set the long window; from the second on, stretch the slow rotations to it.

        Args:
            window_tokens: a multiple of 128.

        Raises:
            ValueError: it is not.
        """
        if window_tokens <= 0 or window_tokens % BLOCK:
            raise ValueError(
                f"window: expected a positive multiple of {BLOCK} tokens, found {window_tokens}"
            )
        if window_tokens == self.windows["L"]:
            return
        if self.has_window and self.config.yarn:
            self._stretch(self.windows["L"], window_tokens)
        self._fill_tables()
        self._remember(window_tokens)

    def window_on_device(self, window: str) -> Tensor:
        """The long ("L") or short ("S") window in tokens, an int32 scalar changed in place."""
        return self.long_window_tokens if window == "L" else self.short_window_tokens

    @contextmanager
    def temporary_window(self, window_tokens: int) -> Iterator[None]:
        """Use another window inside a `with`; restores the exact state after it.

        Setting the window twice would not: YaRN's stretch there and back is not the identity.
        """
        before = {name: value.clone() for name, value in self.state_dict().items()}
        self.set_window(window_tokens)
        try:
            yield
        finally:
            self.load_state_dict(before)

    def _remember(self, window_tokens: int) -> None:
        self.windows = {"L": window_tokens, "S": short_window(window_tokens)}
        self.long_window_tokens.fill_(self.windows["L"])
        self.short_window_tokens.fill_(self.windows["S"])
        self.has_window = window_tokens > 0

    def _stretch(self, old_tokens: int, new_tokens: int) -> None:
        config = self.config
        ratio = old_tokens / new_tokens
        rotations_F = self.frequencies_F * (old_tokens / (2 * math.pi))
        span = config.yarn_high_rotations - config.yarn_low_rotations
        kept_F = ((rotations_F - config.yarn_low_rotations) / span).clamp(0, 1)
        self.frequencies_F.mul_(ratio + kept_F * (1 - ratio))
        self.attention_scale.mul_(1 - config.yarn_scale_gain * math.log(ratio))

    def _fill_tables(self) -> None:
        positions_P = torch.arange(self.max_sequence_tokens, device=self.frequencies_F.device)
        angles_PF = torch.outer(positions_P.to(self.frequencies_F.dtype), self.frequencies_F)
        self.cos_PF.copy_(angles_PF.cos())
        self.sin_PF.copy_(angles_PF.sin())

    def forward(self, positions_T: Tensor) -> Rotation:
        """The rotation of queries and keys at these positions [T], each within the tables."""
        return Rotation(
            cos_TF=self.cos_PF.index_select(0, positions_T),
            sin_TF=self.sin_PF.index_select(0, positions_T),
            attention_scale=self.attention_scale,
        )


@torch.no_grad()
def _after_loading(rotary: nn.Module, _incompatible_keys: Any) -> None:
    assert isinstance(rotary, Rotary)
    rotary._fill_tables()
    rotary._remember(int(rotary.long_window_tokens))
