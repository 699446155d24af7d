"""A store to build in, one process to tokenise in, and a Hub on loopback."""

from pathlib import Path

import pytest

from ramengpt.data.sources import build
from ramengpt.data.text.token_stream import encode_batch, read_batches
from tests.data.sources.tiny_hub import FILES, REPOSITORY
from tests.loopback_hub import LoopbackHub


@pytest.fixture
def store(tmp_path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def tokenise_here(sources, start, processes):
    return (encode_batch(number, batch) for number, batch in read_batches(sources, start))


@pytest.fixture
def serial(monkeypatch):
    """Tokenise in this process: starting others takes seconds."""
    monkeypatch.setattr(build, "token_batches", tokenise_here)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LoopbackHub({REPOSITORY: dict(FILES)}, ("main", "v1")) as server:
        for key, value in server.environment(str(tmp_path / "home")).items():
            monkeypatch.setenv(key, value)
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
