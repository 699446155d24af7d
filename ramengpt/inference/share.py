"""Share trained weights through a Hugging Face Hub repository, or fetch shared ones.

A repository holds the weights, their config.json, the run's metrics.json, its samples where there
are any, and a generated model card. A token comes from `hf auth login` or HF_TOKEN.

    ramengpt share push OWNER/NAME
    ramengpt share pull OWNER/NAME --to DIR
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ramengpt.cli import command_parser, run_main
from ramengpt.data.sources.hub_client import hub_transport
from ramengpt.errors import UserError, shown
from ramengpt.inference.model_card import model_card
from ramengpt.inference.weights_config import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    add_weights_flag,
    read_weights_config,
)

METRICS_FILE, SAMPLES_FILE, CARD_FILE = "metrics.json", "samples.md", "README.md"
FILES = (WEIGHTS_FILE, CONFIG_FILE, METRICS_FILE, SAMPLES_FILE, CARD_FILE)


def push(repository: str, folder: Path, *, private: bool) -> str:
    """Upload a run's results in one commit; the repository is made if it is missing.

    Args:
        repository: OWNER/NAME.
        folder: of the weights; the run's results lie beside it.
        private: whether a new repository is.

    Returns:
        Where it is.

    Raises:
        UserError: weights or metrics are missing or unfinished, or the Hub refuses.
    """
    read_weights_config(folder)  # before torch, which takes seconds to import
    import torch
    from huggingface_hub import HfApi

    from ramengpt.inference.weights import load_weights

    weights = load_weights(folder, torch.device("cpu"))
    metrics, samples = _results_of(folder)
    parameters = sum(parameter.numel() for parameter in weights.model.parameters())
    card = model_card(repository, weights.config, json.loads(metrics.read_text()), parameters)
    with tempfile.TemporaryDirectory() as staged, _hub_errors_as_user_errors(repository):
        for file in (folder / WEIGHTS_FILE, folder / CONFIG_FILE, metrics, samples):
            if file is not None:
                (Path(staged) / file.name).symlink_to(file.resolve())
        (Path(staged) / CARD_FILE).write_text(card)
        api = HfApi()
        place = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=staged, commit_message="Upload a run of ramengpt"
        )
    return str(place)


def _results_of(folder: Path) -> tuple[Path, Path | None]:
    """The run's metrics and samples: beside models/, as the pipeline or a scratch run wrote them.

    Raises:
        UserError: there are none, or the run is not finished.
    """
    results = folder.resolve().parent / "results"
    places = (results / "train" / METRICS_FILE, results / METRICS_FILE, folder / METRICS_FILE)
    metrics = next((place for place in places if place.is_file()), None)
    if metrics is None or not json.loads(metrics.read_text()).get("finished"):
        raise UserError(f"{folder}: no finished metrics.json beside it; push a run's own folder")
    samples = [results / SAMPLES_FILE, folder / SAMPLES_FILE]
    return metrics, next((place for place in samples if place.is_file()), None)


def pull(repository: str, folder: Path) -> None:
    """Download a repository's files and give them their name once they have been loaded.

    Args:
        repository: OWNER/NAME.
        folder: must not exist yet.

    Raises:
        UserError: the folder exists, the Hub refuses, or what came is no network of ours.
    """
    import torch
    from huggingface_hub import snapshot_download

    from ramengpt.inference.weights import load_weights

    if folder.exists():
        raise UserError(f"{folder}: exists already; choose another folder with --to")
    partial = folder.with_name(f"{folder.name}.part")
    with _hub_errors_as_user_errors(repository):
        snapshot_download(repository, local_dir=partial, allow_patterns=list(FILES))
    load_weights(partial, torch.device("cpu"))
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the client's own notes
    partial.rename(folder)


@contextmanager
def _hub_errors_as_user_errors(repository: str) -> Iterator[None]:
    """One line for whatever the Hub's client raises.

    Raises:
        UserError: the Hub refused, or cannot be reached.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
    )

    advice = "check the name, run `hf auth login` or set HF_TOKEN"
    try:
        yield
    except HFValidationError:
        raise UserError(f"{shown(repository)}: expected OWNER/NAME of a repository") from None
    except (LocalEntryNotFoundError, json.JSONDecodeError):
        raise UserError(
            f"{repository}: the Hub gave no usable answer; check the network, HF_ENDPOINT and the "
            "token"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise UserError(f"{repository}: the Hub refused ({status}); {advice}") from None
    except LocalTokenNotFoundError:
        raise UserError(f"{repository}: no token; {advice}") from None
    except hub_transport().HTTPError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{repository}: the Hub cannot be reached ({reason})") from None


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    flags = command_parser("ramengpt.inference.share", __doc__)
    commands = flags.add_subparsers(dest="command", required=True)
    pushing = commands.add_parser("push", help="upload weights, config, samples and a model card")
    pushing.add_argument("repository", metavar="OWNER/NAME")
    add_weights_flag(pushing)
    pushing.add_argument("--private", action="store_true", help="make a new repository private")
    pulling = commands.add_parser("pull", help="download them into a folder of their own")
    pulling.add_argument("repository", metavar="OWNER/NAME")
    pulling.add_argument("--to", type=Path, metavar="DIR", help="new folder (default: NAME)")
    return flags


def main() -> None:
    """Push or pull."""
    arguments: Any = parser().parse_args()
    if arguments.command == "push":
        place = push(arguments.repository, arguments.weights, private=arguments.private)
        print(f"shared at {place}")
    else:
        folder = arguments.to or Path(arguments.repository.rpartition("/")[2])
        pull(arguments.repository, folder)
        generate = f"ramengpt generate --weights {folder}"
        print(f'weights in {folder}; try {generate} --prompt "Once upon a time"')


if __name__ == "__main__":
    run_main(main)
