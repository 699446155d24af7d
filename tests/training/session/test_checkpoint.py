"""Checkpoints: whole or absent, whatever kills the writer."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramengpt.training.session import checkpoint
from ramengpt.training.session.checkpoint import CheckpointError, CheckpointFolder


def state(step: int) -> dict:
    return {"step": step, "weights": torch.full((1000,), float(step)), "nested": {"a": [1, 2.5]}}


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, kept=2)
    weights = torch.randn(50, 3)
    folder.save(7, {"weights": weights, "half": weights.bfloat16(), "step": 7})
    loaded, skipped = folder.load_newest()
    assert skipped == []
    assert loaded is not None
    assert torch.equal(loaded["weights"], weights)
    assert loaded["half"].dtype is torch.bfloat16
    assert loaded["step"] == 7


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(["state.pt", "checkpoint.json"]),
    place=st.floats(0, 1),
    removed=st.integers(0, 40),
    inserted=st.binary(max_size=20),
)
def test_any_bytes_in_place_of_others_are_loaded_as_they_were_or_skipped(
    tmp_path: Path, *, name: str, place: float, removed: int, inserted: bytes
) -> None:
    folder = CheckpointFolder(tmp_path, kept=2)
    folder.save(1, state(1))
    file = folder.save(2, state(2)) / name
    content = file.read_bytes()
    start = int(len(content) * place)
    file.write_bytes(content[:start] + inserted + content[start + removed :])
    try:
        loaded, skipped = folder.load_newest()
    except CheckpointError as error:  # the name of the run was changed
        assert name == "checkpoint.json" and "\n" not in str(error)
        return
    assert loaded is not None
    assert loaded["step"] == (1 if skipped else 2)
    assert torch.equal(loaded["weights"], state(loaded["step"])["weights"])


def test_only_the_newest_stay(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, kept=2)
    for step in (5, 10, 15, 20):
        folder.save(step, state(step))
    assert folder.steps() == [15, 20]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


def test_an_empty_folder_has_nothing_to_resume_from(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path, kept=1).load_newest() == (None, [])


def test_a_damaged_newest_never_pushes_out_a_whole_one(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, kept=1)
    folder.save(10, state(10))
    (folder.path(10) / "state.pt").write_bytes(b"damaged")
    folder.save(6, state(6))
    assert folder.steps() == [6]
    loaded, skipped = folder.load_newest()
    assert loaded is not None
    assert (loaded["step"], skipped) == (6, [])


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    other = CheckpointFolder(tmp_path / "other", kept=1)
    other.save(3, state(3))
    folder = CheckpointFolder(tmp_path / "this", kept=1)
    other.path(3).rename(folder.path(3))
    with pytest.raises(CheckpointError, match="the run this, found one of other; delete it"):
        folder.load_newest()


def test_removing_leaves_nothing_but_the_lock(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, kept=2)
    for step in (5, 10):
        folder.save(step, state(step))
    for left_by_a_kill in (tmp_path / "step-15.part", tmp_path / "step-05.deleted"):
        left_by_a_kill.mkdir()
        (left_by_a_kill / "file").write_text("content")
    (tmp_path / "run.lock").touch()
    folder.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file/run"):
        CheckpointFolder(tmp_path / "file" / "run", kept=1)


@pytest.mark.parametrize("damage", ["flip", "truncate", "", "[]", "no checksum", "no state"])
def test_a_corrupt_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    folder = CheckpointFolder(tmp_path, kept=3)
    folder.save(5, state(5))
    folder.save(10, state(10))
    file = folder.path(10) / "state.pt"
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "truncate":
        file.write_bytes(content[:-100])
    elif damage in ("", "[]"):
        (folder.path(10) / "checkpoint.json").write_text(damage)
    elif damage == "no checksum":
        (folder.path(10) / "checkpoint.json").unlink()
    else:
        file.unlink()
    loaded, skipped = folder.load_newest()
    assert loaded is not None
    assert loaded["step"] == 5
    assert len(skipped) == 1
    assert "step-00000010" in skipped[0]


def test_a_full_disk_leaves_older_checkpoints_and_says_so(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, kept=2)
    folder.save(5, state(5))
    code = f"""
        import resource, signal, torch
        from pathlib import Path
        from ramengpt.training.session.checkpoint import CheckpointFolder
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        CheckpointFolder(Path({str(tmp_path)!r}), 2).save(10, {{"w": torch.zeros(10**6)}})
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert "CheckpointError" in ended.stderr
    assert "the one of step 5 is intact" in ended.stderr
    assert folder.steps() == [5]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]
    loaded, _ = folder.load_newest()
    assert loaded is not None
    assert loaded["step"] == 5


def test_failing_to_flush_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    folder = CheckpointFolder(tmp_path, kept=2)
    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*there is none yet"):
        folder.save(1, state(1))
    assert folder.steps() == []


KILLED_WRITERS = """
import os, sys
from pathlib import Path
import torch
from ramengpt.training.session.checkpoint import CheckpointFolder
for folder in sys.stdin:  # each line starts a writer, without importing torch again
    writer = os.fork()
    if writer == 0:
        checkpoints = CheckpointFolder(Path(folder.strip()), 2)
        step = (checkpoints.steps() or [0])[-1]
        while True:
            step += 1
            state = {"step": step, "weights": torch.full((200_000,), float(step))}
            checkpoints.save(step, state)
    print(writer, flush=True)
    os.waitpid(writer, 0)
    print("killed", flush=True)
"""


@pytest.mark.slow
def test_kills_at_any_moment_leave_whole_checkpoints(tmp_path: Path) -> None:
    newest = 0
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITERS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        for attempt in range(6):
            print(tmp_path, file=parent.stdin, flush=True)
            writer = int(parent.stdout.readline())
            folder = CheckpointFolder(tmp_path, kept=2)
            while (folder.steps() or [0])[-1] <= newest:
                os.kill(writer, 0)  # raises if it has ended
            time.sleep(0.003 * attempt)  # to be killed at another point of a save
            os.kill(writer, signal.SIGKILL)
            assert parent.stdout.readline() == "killed\n"
            loaded, skipped = folder.load_newest()
            assert loaded is not None and skipped == []
            assert torch.equal(loaded["weights"], torch.full((200_000,), float(loaded["step"])))
            assert loaded["step"] > newest
            newest = loaded["step"]
        parent.stdin.close()
