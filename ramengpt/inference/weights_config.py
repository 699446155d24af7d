"""config.json, which says what trained weights are: read without torch, slow to import."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ramengpt.config.base import Section, Tokens
from ramengpt.config.messages import describe
from ramengpt.config.model import NetworkConfig
from ramengpt.errors import UserError, shortened
from ramengpt.files import open_regular

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
FORMAT = "ramengpt-2"
MAX_CONFIG_BYTES = 2**20
RESTORE = "restore both files (`dvc checkout`), or train again"


class WeightsError(UserError):
    """A folder of weights that cannot be used."""


class WeightsConfig(Section):
    """What config.json holds.

    Attributes:
        format: which layout of these files this is.
        model: the network.
        max_sequence_tokens: longest document that it was trained for.
        micro_batch_tokens: of the run's validation; its loss is reproduced with the same.
        run: what the run was started with, for the reader.
    """

    format: str
    model: NetworkConfig
    max_sequence_tokens: Tokens
    micro_batch_tokens: Tokens
    run: dict[str, Any]


def read_weights_config(folder: Path) -> WeightsConfig:
    """Read config.json.

    Args:
        folder: as :func:`ramengpt.inference.weights.export_weights` wrote it.

    Raises:
        WeightsError: the folder or the file is missing or damaged.
    """
    path = folder / CONFIG_FILE
    try:
        with open_regular(path) as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        what = f"no {CONFIG_FILE} in it" if folder.is_dir() else "no such folder"
        raise WeightsError(
            f"{folder}: {what}; train first (`dvc repro`), or name a folder that holds "
            f"{WEIGHTS_FILE} and {CONFIG_FILE}"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}; {RESTORE}") from None
    if len(content) > MAX_CONFIG_BYTES:
        raise WeightsError(f"{path}: expected at most {MAX_CONFIG_BYTES:,} bytes; {RESTORE}")
    try:
        config = WeightsConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise WeightsError(
            f"{path}: {describe(first['loc'] or ('the file',), [first])}; {RESTORE}"
        ) from None
    if config.format != FORMAT:
        found = shortened(config.format)
        raise WeightsError(f"{path}: format: expected {FORMAT!r}, found {found!r}; train again")
    return config
