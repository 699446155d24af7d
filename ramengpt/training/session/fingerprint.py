"""What a run depends on, in one short name, by which its checkpoints are found again."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]


def code_digest(package: Path = PACKAGE) -> str:
    """Hash every Python file of a package, by relative path and content."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def run_fingerprint(settings: dict[str, Any], files: Iterable[Path]) -> str:
    """Name a run after everything that decides its result.

    Args:
        settings: the selected, JSON-ready values of params.yaml and the overrides of this run.
        files: data files by content (the manifest, the index).

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps(settings, sort_keys=True).encode())
    digest.update(code_digest().encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
