"""A run's name changes exactly when something it depends on does."""

from pathlib import Path

from ramengpt.training.session.fingerprint import code_digest, run_fingerprint


def test_settings_and_files_decide(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text("one")
    first = run_fingerprint({"seed": 1, "lr": 0.1}, [manifest])
    assert first == run_fingerprint({"lr": 0.1, "seed": 1}, [manifest])
    assert first != run_fingerprint({"seed": 2, "lr": 0.1}, [manifest])
    manifest.write_text("two")
    assert first != run_fingerprint({"seed": 1, "lr": 0.1}, [manifest])


def test_code_decides(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("not code")
    assert code_digest(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_digest(tmp_path) != before
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert code_digest(tmp_path) != before
