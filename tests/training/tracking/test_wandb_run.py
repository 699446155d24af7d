import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ramengpt.config.tracking import TrackingConfig
from ramengpt.errors import UserError
from ramengpt.training.tracking import wandb_run
from ramengpt.training.tracking.tracker import Tracker
from tests.training.tracking.wandb_server import WandbServer

SHORTENED = {
    "hangs": "PROBE_SECONDS",
    "api hangs": "INIT_SECONDS",
    "api 500": "INIT_SECONDS",
    "upload hangs": "FINISH_SECONDS",
}
"""The time limit that a fault runs into."""
PATIENCE_SECONDS = 60
"""wandb by itself would wait for minutes; a busy machine needs more than a second."""
KEY = "0123456789abcdef0123456789abcdef01234567"


def tracking(mode: str) -> TrackingConfig:
    return TrackingConfig(
        wandb=mode, wandb_project="project", log_every_steps=10, write_every_seconds=1.0
    )


@pytest.fixture(autouse=True)
def own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no settings of the user's, no environment."""
    import wandb

    wandb.teardown()
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    yield
    wandb.teardown()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WandbServer]]:
    """Start a server and point wandb at it, with a key."""
    servers = []

    def start(fault: str = "", last_step: int | None = None) -> WandbServer:
        servers.append(WandbServer(fault, last_step))
        if fault in SHORTENED:
            monkeypatch.setattr(wandb_run, SHORTENED[fault], 1.0)
        monkeypatch.setenv("WANDB_BASE_URL", servers[-1].url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def follow(directory: Path, mode: str = "online", run_id: str = "", steps: int = 3) -> float:
    """Log a short run; gives the seconds that it took."""
    started = time.monotonic()
    run = wandb_run.start_wandb(tracking(mode), {"seed": 7}, directory, run_id)
    assert run is not None
    for step in range(1, steps + 1):
        run.log("train", {"step": step, "loss": 1 / step})
    run.finish()
    return time.monotonic() - started


def offline_folder(directory: Path) -> Path:
    (folder,) = (directory / "wandb").glob("offline-run-*")
    return folder


def test_online_uploads_every_row_and_prints_the_address(tmp_path, serve, capsys):
    server = serve()
    follow(tmp_path)
    rows = server.rows()
    assert [(row["_step"], row["train/loss"]) for row in rows] == [(1, 1), (2, 0.5), (3, 1 / 3)]
    assert f"wandb: {server.url}/me/project/runs/" in capsys.readouterr().err
    (started,) = [body for _, _, body in server.requests if '"UpsertBucket"' in body][:1]
    assert "seed" in started


def test_a_resumed_run_keeps_its_id_and_sends_only_what_is_new(tmp_path, serve):
    server = serve(last_step=2)
    follow(tmp_path, run_id="resumed1", steps=5)
    assert [row["_step"] for row in server.rows()] == [3, 4, 5]
    assert all("/resumed1/" in path for _, path, _ in server.requests if "file_stream" in path)


def test_without_a_key_it_asks_nobody_and_is_kept_on_disk(tmp_path, monkeypatch, capsys):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked a server without a key to show it")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("builtins.input", refuse)
    assert follow(tmp_path) < PATIENCE_SECONDS
    said = capsys.readouterr().err
    assert "no key" in said
    assert f"wandb sync {offline_folder(tmp_path)}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hangs", "timed out"),
        ("500", "answers 500"),
        ("api hangs", ""),
        ("api 500", ""),
        ("no key", "401"),
    ],
)
def test_a_faulty_server_costs_seconds_and_nothing_else(tmp_path, serve, capsys, fault, reason):
    server = serve(fault)
    assert follow(tmp_path) < PATIENCE_SECONDS
    said = capsys.readouterr().err
    assert server.url in said and reason in said
    assert f"wandb sync {offline_folder(tmp_path)}" in said


def test_a_server_that_refuses_is_named(tmp_path, serve, capsys):
    server = serve()
    server.close()
    assert follow(tmp_path) < PATIENCE_SECONDS
    assert f"{server.url} cannot be reached" in capsys.readouterr().err


def test_an_upload_that_hangs_does_not_block_the_end(tmp_path, serve, capsys):
    serve("upload hangs")
    assert follow(tmp_path) < PATIENCE_SECONDS
    said = capsys.readouterr().err
    (folder,) = (tmp_path / "wandb").glob("run-*")
    assert "not everything was uploaded" in said and f"wandb sync {folder}" in said


def test_offline_asks_no_server(tmp_path, serve, capsys):
    server = serve()
    follow(tmp_path, mode="offline")
    assert server.requests == []
    assert "tracking.wandb is offline" in capsys.readouterr().err


def test_wandb_mode_takes_precedence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_run.start_wandb(tracking("online"), {}, tmp_path, "") is None
    assert not (tmp_path / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    follow(tmp_path, mode="disabled")
    assert "WANDB_MODE is offline" in capsys.readouterr().err


def test_an_unknown_mode_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(UserError, match="WANDB_MODE: expected online, offline or disabled"):
        wandb_run.wandb_mode("online")


def test_a_run_that_wandb_loses_does_not_stop_training(tmp_path, capsys):
    run = wandb_run.start_wandb(tracking("offline"), {}, tmp_path, "")
    assert run is not None
    run._run.finish()
    run.log("train", {"step": 1, "loss": 1.0})
    run.log("train", {"step": 2, "loss": 1.0})
    run.finish()
    assert capsys.readouterr().err.count("stopped logging") == 1


def test_rows_of_a_checkpoint_that_the_server_misses_are_sent_before_new_ones(tmp_path, serve):
    server = serve(last_step=2)
    rows = "".join(f"{step}\t{1 / step}\n" for step in range(1, 5))
    state = {"wandb_run_id": "resumed2", "train": f"step\tloss\n{rows}", "validation": ""}
    config = tracking("online")
    tracker = Tracker(tmp_path, config, "adam-0", {}, wandb_directory=tmp_path, state=state)
    tracker.log(5, {"loss": 0.2})
    tracker.log(5, {"loss": 0.3}, table="validation")
    assert tracker.state()["wandb_run_id"] == "resumed2"
    tracker.close()
    assert [row["_step"] for row in server.rows()] == [3, 4, 5]
    assert server.rows()[-1]["validation/loss"] == 0.3
