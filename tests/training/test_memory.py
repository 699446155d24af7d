"""The estimate of memory against peaks that were measured on an H100 or H200 in bfloat16."""

import pytest
import torch

from ramengpt.config import load_config
from ramengpt.training.memory import MemoryEstimate

OLD_SPEEDRUN = (
    "architecture=speedrun",
    "architectures.speedrun.late_attention=true",
    "architectures.speedrun.dense_connections=true",
    "architectures.speedrun.value_residual=false",
    "architectures.speedrun.prefix_loss=false",
    "architectures.speedrun.bigram_vocabularies=5.0",
)
SPEEDRUN = ("architecture=speedrun",)
AVERAGED = (*SPEEDRUN, "hooks.evaluation_average.share=0.8")
NO_BIGRAMS = (*SPEEDRUN, "architectures.speedrun.bigram_embedding=false")


def estimate(*overrides: str, dtype: torch.dtype = torch.bfloat16) -> MemoryEstimate:
    return MemoryEstimate.of(load_config(overrides), dtype)


@pytest.mark.parametrize(
    ("preset", "tokens", "overrides", "gib"),
    [
        ("base", 131_072, (), 7.88),
        ("base", 131_072, ("architectures.ramen.activation=swiglu",), 9.48),
        ("base", 65_536, (), 4.81),
        ("base", 65_536, ("architectures.ramen.bigram_embedding=true",), 5.81),
        ("base", 65_536, ("architectures.ramen.exclusive_attention=true",), 5.20),
        ("base", 65_536, ("architectures.ramen.dense_connections=true",), 4.97),
        ("base", 65_536, OLD_SPEEDRUN, 6.75),
        ("base", 65_536, (*OLD_SPEEDRUN, "hooks.evaluation_average.share=0.5"), 7.30),
        ("base", 65_536, SPEEDRUN, 7.27),
        ("base", 65_536, AVERAGED, 7.93),
        ("base", 65_536, NO_BIGRAMS, 5.79),
        ("small", 65_536, (), 21.78),
        ("small", 65_536, AVERAGED, 33.8),
        ("small", 65_536, OLD_SPEEDRUN, 29.0),
    ],
)
def test_it_is_what_was_measured(
    preset: str, tokens: int, overrides: tuple[str, ...], gib: float
) -> None:
    found = estimate(f"model={preset}", f"schedule={preset}", *overrides).training_bytes(tokens)
    assert 0.99 < found / 2**30 / gib < 1.04


def test_in_float16_the_head_is_counted_in_float32() -> None:
    found = estimate("model=base", "schedule=base", dtype=torch.float16).training_bytes(131_072)
    assert 0.99 < found / 2**30 / 8.7 < 1.04


def test_weights_gradients_and_optimizer_states_are_counted_one_by_one() -> None:
    embeddings, hidden, head = 51.5e6, 4.72e6, 12.9e6
    base = estimate("model=base", dtype=torch.float32)
    assert base.state_bytes == pytest.approx(16 * embeddings + 12 * hidden + 4 * head, rel=0.01)
    adam = estimate("model=base", "optimizer=adam", dtype=torch.float32)
    assert adam.state_bytes - base.state_bytes == pytest.approx(4 * hidden, rel=0.02)
    narrow = estimate("model=base")
    assert narrow.state_bytes - base.state_bytes == pytest.approx(2 * (hidden + head), rel=0.01)


def test_it_grows_with_tokens_and_recomputation_lets_it_grow_less() -> None:
    usual = estimate("model=medium")
    recomputed = estimate("model=medium", "train.recompute_activations=true")
    assert usual.training_bytes(8192) < usual.training_bytes(8320)
    assert recomputed.state_bytes == usual.state_bytes
    assert recomputed.token_bytes < 0.3 * usual.token_bytes
