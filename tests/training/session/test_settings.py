"""What makes two runs the same run."""

import json

import pytest

from ramengpt.config import load_config
from ramengpt.training.session.settings import RunOptions, plans_of, run_settings

ALL_STEPS = RunOptions(early_stop_steps=None, slice_sequences=None)


def settings(*overrides: str, options: RunOptions = ALL_STEPS) -> str:
    return json.dumps(run_settings(load_config(overrides), options), sort_keys=True)


@pytest.mark.parametrize(
    "override",
    [
        "seed=5",
        "dataset=text",
        "optimizer=adam",
        "optimizers.normuon.learning_rate=0.03",
        "architecture=plain",
        "architectures.ramen.rope_base=513.0",
        "schedules.instant.scheduled_steps=1021",
        "parameters.head.lr_mul=2.0",
        "embedding_adam.beta1=0.5",
        "gradient_clipping.hidden_norm=1.0",
        "train.precision=float32",
        "validation.every_steps=7777",
    ],
)
def test_what_decides_a_result_is_part_of_it(override: str) -> None:
    assert settings(override) != settings()


@pytest.mark.parametrize(
    "override",
    [
        "train.checkpoint_every_steps=3",
        "train.checkpoints_kept=5",
        "train.micro_batch_tokens=1024",
        "train.recompute_activations=true",
        "tracking.wandb=offline",
        "download.attempts=2",
        "sample.top_k=3",
        "optimizers.adam.learning_rate=0.03",
        "architectures.plain.rope_base=512.0",
    ],
)
def test_what_changes_no_result_is_not(override: str) -> None:
    assert settings(override) == settings()


def test_options_are_part_of_it_and_of_the_plan() -> None:
    short = RunOptions(early_stop_steps=5, slice_sequences=None)
    assert settings(options=short) != settings()
    sliced = RunOptions(early_stop_steps=None, slice_sequences=2)
    assert settings(options=sliced) == settings()
    config = load_config()
    whole, plans = plans_of(config, ALL_STEPS), plans_of(config, short)
    all_steps = config.schedule.scheduled_steps + config.schedule.extension_steps
    assert (len(whole), len(plans)) == (all_steps, 5)
    assert plans == whole[:5]
