"""A project with the weights of a tiny network, for the commands that use a trained model."""

from pathlib import Path

import pytest

from ramengpt.model.gpt import GPT
from tests.inference.tiny_weights import enter_trained_project, tiny_model


@pytest.fixture(scope="session")
def model() -> GPT:
    """The network whose weights the project holds."""
    return tiny_model()


@pytest.fixture
def project(tmp_path: Path, model: GPT, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and models/, the current one."""
    enter_trained_project(tmp_path, model, monkeypatch)
    return tmp_path
