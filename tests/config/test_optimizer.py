"""What an optimizer's entry may hold in place of shared values."""

from tests.config.loading import load, refusal


def test_an_optimizers_own_rates_and_warmup_take_the_place_of_the_shared_ones() -> None:
    own = "optimizers.muon"
    settings = [
        f"{own}.warmup_steps=20",
        f"{own}.embedding_learning_rate=0.3",
        f"{own}.head_learning_rate=0.004",
        f"{own}.scalar_learning_rate=0.015",
    ]
    config = load("optimizer=muon", *settings)
    assert config.schedule.learning_rate.warmup_steps == 20
    assert config.embedding_adam.learning_rate == 0.3
    assert config.optimizer.head_learning_rate == 0.004
    assert config.scalar_adam.learning_rate == 0.015
    other = load("optimizer=normuon", *settings)
    assert other == load("optimizer=normuon")


def test_an_own_warmup_must_fit_the_schedule() -> None:
    overrides = ("optimizer=muon", "schedule=instant", "optimizers.muon.warmup_steps=200")
    assert "warmup_steps" in refusal(*overrides)
