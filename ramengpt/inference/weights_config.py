"""config.json, which says what trained weights are: read without torch, slow to import.

The metadata of model.safetensors hold the checksum of the network that the weights belong to, so
that any other network in config.json is refused without torch too.
"""

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
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
FORMAT = "ramengpt-3"
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

    @property
    def network_sha256(self) -> str:
        """Checksum of what decides how the weights are used."""
        network = self.model.model_dump_json() + str(self.max_sequence_tokens)
        return hashlib.sha256(network.encode()).hexdigest()


@contextmanager
def open_weights(path: Path, framework: str) -> Iterator[Any]:
    """Open a .safetensors file.

    Args:
        path: the file; it is mapped rather than read.
        framework: what its tensors become: "pt", or "np" to do without torch.

    Yields:
        The open `safetensors.safe_open`.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        open_regular(path).close()  # safe_open would wait for the writer of a named pipe
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise WeightsError(f"{path}: missing; {RESTORE}") from None
    except (OSError, SafetensorError) as error:
        reason = shortened(" ".join(str(error).split()), 200)
        raise WeightsError(
            f"{path}: damaged or no safetensors file ({reason}); {RESTORE}"
        ) from None


def weights_checksums(file: Any) -> tuple[str, str]:
    """Checksums of the network and of the tensors, from an open file's metadata."""
    network, _, tensors = (file.metadata() or {}).get("sha256", "").partition("-")
    return network, tensors


def read_weights_config(folder: Path) -> WeightsConfig:
    """Read config.json, and check that the weights beside it are those of its network.

    Args:
        folder: as :func:`ramengpt.inference.weights.export_weights` wrote it.

    Raises:
        WeightsError: the folder or a file is missing or damaged, or they do not belong together.
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
    with open_weights(folder / WEIGHTS_FILE, "np") as file:
        network, _ = weights_checksums(file)
    if network != config.network_sha256:
        raise WeightsError(
            f"{path}: another network than that of the weights in {WEIGHTS_FILE}; {RESTORE}"
        )
    return config


def add_weights_flag(flags: argparse.ArgumentParser) -> None:
    """Let a command read weights that lie elsewhere than the pipeline's."""
    flags.add_argument(
        "--weights",
        type=Path,
        default=Path("models"),
        metavar="DIR",
        help="folder of the weights (default: models)",
    )
