"""On a disk that is full or refuses, every stage ends in one line that names the place."""

import functools
import json
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, project_environment
from tests.pipeline.full_disk import STAGES
from tests.small_project import shrink

OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")


@functools.cache
def can_mount() -> bool:
    """Whether this machine lets us mount a tmpfs of our own; some containers do not."""
    try:
        mounts = ["sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
        return subprocess.run([*OWN_MOUNTS, *mounts], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str, int, str]]:
    """Stage, way, fault, exit status and standard error of every stage under every fault."""
    project = tmp_path_factory.mktemp("full_disk")
    shutil.copy(ROOT / "params.yaml", project)
    for package in ("pipeline", "ramengpt"):
        (project / package).symlink_to(ROOT / package)
    shrink(project)
    ways = ["limit", "refused", *(("tmpfs", "read_only") if can_mount() else ())]
    ran = subprocess.run(
        [*(OWN_MOUNTS if can_mount() else ()), sys.executable, "-m", "tests.pipeline.full_disk",
         str(project), *ways],
        cwd=ROOT, env=project_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return [tuple(json.loads(line)) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_names_the_place(
    stage: str, endings: list[tuple[str, str, str, int, str]]
) -> None:
    own = [ending for ending in endings if ending[0] == stage]
    assert {way for _, way, _, status, _ in own if status == 1} >= {"limit", "refused"}
    for _, way, fault, status, said in own:
        if status == 0:  # it had room enough
            assert way in ("refused", "tmpfs") and fault != "0 creations", (fault, said)
            continue
        assert status == 1, (fault, said)
        line = said.splitlines()[-1]
        assert line.startswith("error: "), said
        place = line.removeprefix("error: ").split(": ")[0].removeprefix("PROJECT/")
        assert place.startswith(("data/", "results/", "models")), (fault, said)
        reasons = ("File too large", "No space left", "Read-only")
        assert any(reason in line for reason in reasons), (fault, said)
        advice = ("make room", "Free some disk space", "disk is read-only")
        assert any(part in line for part in advice), (fault, said)


def test_a_real_full_disk_is_among_the_faults_where_one_can_be_mounted(
    endings: list[tuple[str, str, str, int, str]],
) -> None:
    real = {"tmpfs", "read_only"} if can_mount() else set()
    assert {way for _, way, *_ in endings} == {"limit", "refused"} | real
