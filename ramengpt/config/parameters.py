"""The section `parameters` of params.yaml: for every label, how its parameters are updated.

These are all labels that there are; an architecture may override some of the numbers.
"""

from collections.abc import Mapping
from typing import Literal, Self

from ramengpt.config.base import CountOrNone, Decay, NonNegative, Positive, Section

Group = Literal["embedding", "hidden", "scalar"]
"""Embeddings and head; hidden matrices; scalars and gates: each has its own optimizer."""


class HiddenNumbers(Section):
    """Multipliers of the learning rate and weight decay of a label."""

    lr_mul: NonNegative
    wd_mul: NonNegative


class AttentionNumbers(HiddenNumbers):
    """The same for attention's matrices.

    Attributes:
        query_key_block_heads: optimizers that orthogonalise by polynomials do so with q and k in
            blocks of this many heads; 0: as a whole.
    """

    query_key_block_heads: CountOrNone


class LabelNumbers(HiddenNumbers):
    """The same for a label that Adam updates, and Adam's constants for it.

    None: those of `embedding_adam` or `scalar_adam`.
    """

    beta1: Decay | None = None
    beta2: Decay | None = None
    epsilon: Positive | None = None


class OwnNumbers(Section):
    """A label's numbers that an architecture overrides; None: not overridden."""

    lr_mul: NonNegative | None = None
    wd_mul: NonNegative | None = None
    beta1: Decay | None = None
    beta2: Decay | None = None
    epsilon: Positive | None = None
    query_key_block_heads: CountOrNone | None = None


class ParametersConfig(Section):
    """The numbers of every label, whether or not the selected network has such parameters."""

    embedding: LabelNumbers
    head: LabelNumbers
    value_embedding: LabelNumbers
    attention: AttentionNumbers
    mlp_in: HiddenNumbers
    mlp_out: HiddenNumbers
    attention_gate: LabelNumbers
    value_gate: LabelNumbers
    smear_gate: LabelNumbers
    skip_gate: LabelNumbers
    residual_lambda: LabelNumbers
    embedding_lambda: LabelNumbers
    attention_lambda: LabelNumbers
    smear_lambda: LabelNumbers
    skip_lambda: LabelNumbers
    backout_lambda: LabelNumbers
    bigram_embedding: LabelNumbers
    bigram_lambda: LabelNumbers
    exclusive_attention: LabelNumbers
    dense_connection_in: LabelNumbers
    dense_connection_out: LabelNumbers
    dense_connection_bias: LabelNumbers
    residual_gain: LabelNumbers
    output_gain: LabelNumbers
    value_residual: LabelNumbers
    hyper_connection_weight: LabelNumbers
    hyper_connection_bias: LabelNumbers
    token_gain_in: LabelNumbers
    token_gain_out: LabelNumbers
    token_gain_scale: LabelNumbers

    def with_own(self, own: Mapping[str, OwnNumbers]) -> Self:
        """The same with own numbers in place of some; :func:`check_labels` has accepted them."""
        values = self.model_dump()
        for label, numbers in own.items():
            values[label] |= numbers.model_dump(exclude_none=True)
        return self.model_validate(values)


def check_labels(own: Mapping[str, OwnNumbers]) -> None:
    """Refuse labels that do not exist, and numbers that a label does not have.

    Raises:
        ValueError: says which.
    """
    for label, numbers in own.items():
        if label not in ParametersConfig.model_fields:
            raise ValueError(
                f"unknown label {label}, expected one of {', '.join(ParametersConfig.model_fields)}"
            )
        known = getattr(ParametersConfig.model_fields[label].annotation, "model_fields", {})
        if unknown := numbers.model_dump(exclude_none=True).keys() - known:
            raise ValueError(
                f"{label} has no {', '.join(sorted(unknown))}, only {', '.join(known)}"
            )
