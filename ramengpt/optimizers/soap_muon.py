"""SOAP-Muon: the momentum whitened in SOAP's eigenbases, then orthogonalised as Muon's.

Shapes: N matrices of R rows and C columns. Source: modded-nanogpt, track 3 (pull requests 44 and
46), its core without the parts that are tied to one network.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ramengpt.config.optimizer import SoapMuonConfig
from ramengpt.optimizers.eigenbasis import (
    new_bases,
    refresh_bases,
    rotated,
    rotated_back,
    set_eigenbases,
    update_covariances,
)
from ramengpt.optimizers.muon import OrthogonalMomentum, apply_update
from ramengpt.optimizers.rule import State, StepScalars, compiled, reciprocal_root


class SoapMuon(OrthogonalMomentum[SoapMuonConfig]):
    """Muon of Q_L (Q_L^T N Q_R / sqrt(V)) Q_R^T; V is the mean square of the rotated N.

    N is Nesterov's direction. The first step is Muon's, since there are no bases yet.
    """

    counters: ClassVar[tuple[str, ...]] = ("kept_bases",)
    apply = staticmethod(apply_update)

    def __init__(self, config: SoapMuonConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self._whiten = compiled(whitened, compile)

    def new_state(self, weight_NRC: Tensor) -> State:
        """The mean of the gradient, V, covariances and bases."""
        state = super().new_state(weight_NRC) | {"second_moment": torch.zeros_like(weight_NRC)}
        return state | new_bases(weight_NRC, self._config.basis)

    def step(
        self, weight_NRC: Tensor, gradient_NRC: Tensor, state: State, scalars: StepScalars
    ) -> None:
        """Update weight and state in place."""
        numbers, config = scalars.on_device(), self._config
        direction_NRC = self._nesterov(gradient_NRC, state["momentum"], numbers.momentum)
        if scalars.update > 1:
            white_NRC = self._whiten(
                rotated(direction_NRC, state), state["second_moment"], config.beta2
            )
            direction_NRC = rotated_back(white_NRC, state)
        self.move(weight_NRC, self.orthogonalised(direction_NRC), state, numbers)
        update_covariances(state, gradient_NRC, config.basis.decay)
        if scalars.update == 1:
            set_eigenbases(state)
        elif scalars.update % config.basis.every_steps == 0:
            refresh_bases(state, state["second_moment"], config.basis)


def whitened(rotated_NRC: Tensor, second_moment_NRC: Tensor, beta2: float) -> Tensor:
    """Divide by the root of the mean square, updated in place; the result's scale is arbitrary."""
    second_moment_NRC.lerp_(rotated_NRC.square(), 1 - beta2)
    return rotated_NRC * reciprocal_root(second_moment_NRC)
