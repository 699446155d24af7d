"""Bit for bit is said only where it is so."""

import torch

from ramengpt.training.session.environment import compute_environment, resumed_environments

CPU = {"device": "CPU", "threads": 2, "torch": "2"}


def test_a_new_run_has_nothing_to_say() -> None:
    assert resumed_environments([], CPU) == ([CPU], "")


def test_the_same_environment_is_recorded_once() -> None:
    environments, said = resumed_environments([CPU], CPU)
    assert environments == [CPU]
    assert said.startswith("bit for bit")


def test_another_number_of_threads_is_named_and_recorded() -> None:
    now = CPU | {"threads": 1}
    environments, said = resumed_environments([CPU], now)
    assert environments == [CPU, now]
    assert said == "not bit for bit, since threads 2 -> 1"


def test_threads_are_those_of_pytorch() -> None:
    environment = compute_environment(torch.device("cpu"), 256, recompute_activations=False)
    assert environment["threads"] == torch.get_num_threads()
    kinds = {type(value) for value in environment.values()}
    assert kinds == {str, int, bool}  # as a checkpoint may hold
