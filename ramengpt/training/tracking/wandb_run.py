"""A run on Weights & Biases that never holds up training.

wandb prompts for a key on a terminal, and waits for minutes without a network. So we first look up
the key and probe the server, both within seconds. If anything fails, the run is kept on disk, and
one line says why and how to upload it later. Nothing here raises into training, except for an
unknown WANDB_MODE.
"""

import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ramengpt.config.tracking import TrackingConfig
from ramengpt.errors import UserError

Mode = Literal["online", "offline", "disabled"]

PROBE_SECONDS = 5.0
INIT_SECONDS = 10.0
FINISH_SECONDS = 30.0


class WandbRun:
    """A started run; every method returns in bounded time and reports a failure in one line.

    Args:
        run: from wandb.init.
        online: whether it uploads.
    """

    def __init__(self, run: Any, *, online: bool) -> None:
        self._run = run
        self._online = online
        self._failed = False
        self._first_step: int = run.starting_step
        self.run_id: str = run.id

    def log(self, table: str, row: Mapping[str, float]) -> None:
        """Send one row, named `table/column`, at the step that it holds.

        A resumed run repeats steps that wandb already has; those are skipped.
        """
        if self._failed or row["step"] < self._first_step:
            return
        named = {f"{table}/{name}": value for name, value in row.items() if name != "step"}
        try:
            self._run.log(named, step=int(row["step"]))
        except Exception as error:  # wandb's own process may have died; training continues
            self._failed = True
            _say(f"wandb: stopped logging ({_first_line(error)}); {self.sync_command()}")

    def finish(self) -> None:
        """Upload what is pending, for at most FINISH_SECONDS; say how to upload the rest."""
        try:
            self._run.finish()
        except Exception as error:  # a TimeoutError, or wandb's own process has died
            _say(f"wandb: not everything was uploaded ({_first_line(error)})")
            self._online = False
        if self._online:
            _say(f"wandb: {self._run.url}")
        else:
            _say(f"wandb: {self.sync_command()}")

    def sync_command(self) -> str:
        """How to upload the run from disk."""
        return f"to upload the run: wandb sync {Path(self._run.dir).parent}"


def start_wandb(
    config: TrackingConfig, run_config: Mapping[str, Any], directory: Path, run_id: str
) -> WandbRun | None:
    """Start a run as `tracking.wandb` and WANDB_MODE say, offline if online is impossible.

    Args:
        config: the section `tracking`.
        run_config: shown by wandb beside the run.
        directory: parent of wandb's folder `wandb`.
        run_id: of the run to resume; empty for a new one.

    Returns:
        The run, or None where wandb is disabled or cannot even write to disk.

    Raises:
        UserError: WANDB_MODE is set to something unknown.
    """
    mode = wandb_mode(config.wandb)
    if mode == "disabled":
        return None
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no crash reports to wandb's makers
    try:
        import wandb

        return _start(
            wandb, mode, config, run_config=run_config, directory=directory, run_id=run_id
        )
    except Exception as error:  # not installed, or it cannot even write to disk
        _say(
            f"wandb: not tracked ({_first_line(error)}); metrics and plots are on disk nevertheless"
        )
        return None


def _start(wandb: Any, mode: Mode, config: TrackingConfig, **plan: Any) -> WandbRun:
    reason = f"{'WANDB_MODE' if os.environ.get('WANDB_MODE') else 'tracking.wandb'} is offline"
    if mode == "online":
        reason = _why_not_online(wandb)
    if not reason:
        try:
            return WandbRun(_init(wandb, "online", config, **plan), online=True)
        except Exception as error:  # wandb raises many kinds; all mean the same here
            reason = f"{_server(wandb)}: {_first_line(error)}"
    run = WandbRun(_init(wandb, "offline", config, **plan), online=False)
    _say(f"wandb: kept on disk ({reason}); {run.sync_command()}")
    return run


def wandb_mode(configured: Mode) -> Mode:
    """The mode in force: WANDB_MODE if it is set, else that of params.yaml.

    Raises:
        UserError: WANDB_MODE is none of the three.
    """
    match os.environ.get("WANDB_MODE") or configured:
        case "online" | "offline" | "disabled" as mode:
            return mode
        case unknown:
            raise UserError(
                f"WANDB_MODE: expected online, offline or disabled, found {unknown!r}; "
                "unset it to use tracking.wandb of params.yaml"
            )


def _init(
    wandb: Any,
    mode: Literal["online", "offline"],
    config: TrackingConfig,
    *,
    run_config: Mapping[str, Any],
    directory: Path,
    run_id: str,
) -> Any:
    directory.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        mode=mode,
        project=config.wandb_project,
        dir=str(directory),
        config=dict(run_config),
        id=run_id or None,
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            console="off",
            silent=True,
        ),
    )


def _why_not_online(wandb: Any) -> str:
    """The reason, found within seconds; empty if wandb has a key and its server answers."""
    try:
        wandb.setup(wandb.Settings(silent=True))
        if not wandb.login(prompt=False, verify=False):
            return "no key; run `wandb login` once, or set WANDB_API_KEY"
    except Exception as error:  # such as a key of the wrong length
        return _first_line(error)
    server = _server(wandb)
    answers: list[str] = []
    # DNS look-ups take no timeout, so the probe runs in a thread that can be abandoned.
    probe = threading.Thread(target=lambda: answers.append(_server_error(server)), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS + 1)
    if not answers:
        return f"{server} did not answer within {PROBE_SECONDS:g} seconds"
    return answers[0]


def _server_error(server: str) -> str:
    """Why a server cannot be used; empty if it answers, whatever the page."""
    try:
        urllib.request.urlopen(server, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        return f"{server} answers {error.code}" if error.code >= 500 else ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return ""  # it answered; wandb has its own certificates
        return f"{server} cannot be reached: {_first_line(error.reason)}"
    except (TimeoutError, OSError) as error:
        return f"{server} cannot be reached: {_first_line(error)}"
    except ValueError as error:
        return f"{server}: {_first_line(error)}"
    return ""


def _server(wandb: Any) -> str:
    return str(wandb.setup().settings.base_url)


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
