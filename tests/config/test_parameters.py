"""Numbers of labels, and those that an architecture has in place of them."""

import pytest

from tests.config.loading import load, refusal

OWN = (
    "architectures.plain.parameters={head: {beta1: 0.5, wd_mul: 3.0}, bigram_lambda: {lr_mul: 1.0}}"
)


def test_an_architectures_own_numbers_take_the_place_of_the_shared_ones() -> None:
    shared, own = load("architecture=plain"), load("architecture=plain", OWN)
    values = shared.parameters.model_dump()
    values["head"] |= {"beta1": 0.5, "wd_mul": 3.0}
    values["bigram_lambda"] |= {"lr_mul": 1.0}
    assert own.parameters.model_dump() == values
    assert own.network == shared.network
    assert load("architecture=ramen", OWN).parameters == shared.parameters


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ("{hed: {lr_mul: 1.0}}", "architectures.ramen: unknown label hed, expected one of embed"),
        ("{mlp_in: {beta1: 0.5}}", "mlp_in has no beta1, only lr_mul, wd_mul"),
        ("{head: {beta1: 1.5}}", "architectures.ramen.parameters.head.beta1: expected"),
        ("{head: {beta3: 0.5}}", "architectures.ramen.parameters.head.beta3: unknown key"),
    ],
)
def test_own_numbers_are_checked_whether_or_not_they_are_selected(own: str, reason: str) -> None:
    assert reason in refusal("architecture=plain", f"architectures.ramen.parameters={own}")
