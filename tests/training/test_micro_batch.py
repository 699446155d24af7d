"""Which slices a card gets, and what running out of memory looks like."""

import pytest
import torch

from ramengpt.config import load_config
from ramengpt.config.base import ConfigError
from ramengpt.device import Profile
from ramengpt.errors import UserError
from ramengpt.training.memory import MemoryEstimate
from ramengpt.training.micro_batch import (
    choose_slice_tokens,
    out_of_memory_as_user_error,
    slices_line,
)

CPU = Profile("none", "CPU", (0, 0), 0, 0, bfloat16=True)


def card(memory_gib: float) -> Profile:
    return Profile("ampere", "A Card", (8, 0), 166_912, int(memory_gib * 2**30), bfloat16=True)


def chosen(profile: Profile, *overrides: str, sequences: int | None = None) -> int:
    return choose_slice_tokens(load_config(overrides), profile, torch.bfloat16, sequences)


@pytest.mark.parametrize("preset", ["base", "small", "medium"])
def test_what_is_chosen_fits_and_the_next_larger_does_not(preset: str) -> None:
    overrides = (f"model={preset}", f"schedule={preset}")
    config = load_config(overrides)
    estimate = MemoryEstimate.of(config, torch.bfloat16)
    whole, longest = config.schedule.micro_batch_tokens, max(config.schedule.sequence.tokens)
    found = [chosen(card(gib), *overrides) for gib in (16, 24, 80)]
    assert found == sorted(found)
    for gib, tokens in zip((16, 24, 80), found, strict=True):
        assert tokens % 128 == 0 and longest <= tokens <= whole
        assert estimate.training_bytes(tokens) < 0.9 * gib * 2**30
        assert tokens == whole or estimate.training_bytes(2 * tokens) > 0.8 * gib * 2**30


def test_medium_fits_24_gib_and_recomputation_makes_its_slices_larger() -> None:
    preset = ("model=medium", "schedule=medium")
    usual = chosen(card(24), *preset)
    recomputed = chosen(card(24), *preset, "train.recompute_activations=true")
    assert 4096 < usual < recomputed


def test_cards_without_our_kernels_get_smaller_slices() -> None:
    amd = Profile("amd", "Another Card", (9, 4), 0, 24 * 2**30, bfloat16=True)
    turing = Profile("turing", "A T4", (7, 5), 65_536, 24 * 2**30, bfloat16=False)
    for preset in ("small", "medium"):
        overrides = (f"model={preset}", f"schedule={preset}")
        usual = chosen(card(24), *overrides)
        assert chosen(amd, *overrides) == chosen(turing, *overrides) < usual


def test_a_limit_is_not_exceeded_and_the_cpu_has_none() -> None:
    assert chosen(CPU) == load_config().schedule.micro_batch_tokens
    assert chosen(CPU, "train.micro_batch_tokens=1024") <= 1024
    assert chosen(card(80), "train.micro_batch_tokens=256") == 256
    assert chosen(CPU, "train.micro_batch_tokens=1048576") == 2048


def test_the_environment_says_how_many_sequences_exactly() -> None:
    size = "train.micro_batch_tokens=2048"
    assert [chosen(card(80), size, sequences=count) for count in (1, 3, 7)] == [256, 768, 1792]
    assert chosen(card(1), sequences=10**9) == 2048, "no more than the schedule's micro-batch"
    base = ("model=base", "schedule=base")
    assert chosen(CPU, *base, sequences=64) == 64 * 512
    assert chosen(CPU, *base, sequences=256) == 131_072, "the original's default is all of it"


def test_a_limit_below_the_longest_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.micro_batch_tokens: expected auto or a multiple"):
        load_config(["train.micro_batch_tokens=128"])
    with pytest.raises(ConfigError, match=r"train.micro_batch_tokens: expected 'auto'"):
        load_config(["train.micro_batch_tokens=small"])


def test_a_card_that_is_too_small_is_one_line() -> None:
    with pytest.raises(UserError, match=r"even 1024 tokens .* A Card has 2.0 GiB") as error:
        chosen(card(2), "model=medium", "schedule=medium")
    assert "recompute_activations" in str(error.value) and "\n" not in str(error.value)


def test_slices_are_said_and_whole_micro_batches_are_not() -> None:
    config = load_config(["model=base", "schedule=base"])
    assert slices_line(config, 131_072, card(80)) == ""
    assert slices_line(config, 16_384, card(8)) == (
        "micro-batches of 131,072 tokens pass through the network in slices of up to 16,384; "
        "A Card has 8.0 GiB"
    )


@pytest.mark.parametrize(
    "raised",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 "
            "GiB of which 33.47 GiB is free. Process 755 has 10.67 GiB memory in use. See docs"
        ),
        RuntimeError("backend failed\nRuntimeError: CUDA error: out of memory\nfor debugging"),
    ],
)
def test_out_of_memory_is_one_line_with_two_ways_out(raised: RuntimeError) -> None:
    with pytest.raises(UserError) as error, out_of_memory_as_user_error():
        raise raised
    said = str(error.value)
    assert "\n" not in said and "out of memory" in said and "Process" not in said
    assert len(said) < 250
    assert "train.micro_batch_tokens" in said and "train.recompute_activations" in said


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape") as error, out_of_memory_as_user_error():
        raise RuntimeError("shape mismatch")
    assert not isinstance(error.value, UserError)
