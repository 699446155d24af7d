"""A fresh clone whose default run takes seconds, and the commands that a user runs in it."""

import functools
import json
import operator
import re
import subprocess
import tempfile
import time
from pathlib import Path

from tests.conftest import copy_project, edited_params, project_environment

QUEUE_LIMIT_SECONDS = 300
ALL = ["check", "download", "verify", "index", "train", "sample"]


def shrink(project: Path) -> None:
    """Make the default run a matter of seconds: a small text of our own, four steps."""
    with edited_params(project) as params:
        params["dataset"] = "text"
        params["datasets"]["text"] |= {"paths": ["data/text/*.txt"], "val_tokens": 600}
        params["download"]["processes"] = 1
        params["models"]["instant"] |= {"num_heads": 1, "head_dim": 16}
        params["architectures"]["ramen"] |= {"gate_inputs": 8}
        params["architectures"]["plain"] |= {"gate_inputs": 8}
        params["schedules"]["instant"] |= {
            "micro_batch_tokens": 256,
            "scheduled_steps": 4,
            "extension_steps": 0,
            "sequence": {"fractions": [0.0], "tokens": [128]},
            "batch": {"shape": "stepped", "fractions": [0.0], "micro_batches": [1]},
        }
        params["schedules"]["instant"]["learning_rate"] |= {"warmup_steps": 0}
        params["sample"] |= {"prompts": ["Return the"], "new_tokens": 3}
    text = project / "data" / "text"
    text.mkdir(parents=True, exist_ok=True)
    for number in range(40):
        (text / f"{number:02}.txt").write_text(f"Document {number}. " + "Some words of it. " * 20)


class Project:
    """A clone with a small default run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run a command as a user would; give back all it printed."""
        # A file, since the workers of `dvc queue start` would keep a pipe open until they end.
        with tempfile.TemporaryFile("w+") as printed:
            ended = subprocess.run(
                command,
                cwd=self.folder,
                env=project_environment() | environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                timeout=500,
            )
            printed.seek(0)
            output = printed.read()
        assert (ended.returncode != 0) == fails, output
        return output

    def commit(self, message: str) -> None:
        """Commit everything that git would take."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def repro(self) -> list[str]:
        """Reproduce; give back the stages that ran."""
        return re.findall(r"Running stage '(\w+)'", self.run("dvc", "repro"))

    def drained_queue(self) -> str:
        """Wait until no queued experiment is left to run; give back `dvc queue status`."""
        limit = time.monotonic() + QUEUE_LIMIT_SECONDS
        while True:
            while self._runs_an_experiment() and time.monotonic() < limit:
                time.sleep(0.5)  # asking DVC takes a second from what we wait for
            status = self.run("dvc", "queue", "status")
            if "Running" not in status and "Queued" not in status:
                return status
            assert time.monotonic() < limit, status
            if "Worker status: 0 active, 0 idle" in status:  # DVC's workers may stop early
                self.run("dvc", "queue", "start")
            time.sleep(2)

    def _runs_an_experiment(self) -> bool:
        """Whether a process that DVC's queue has started is still going."""
        processes = (self.folder / ".dvc/tmp/exps/run").glob("*/*.json")
        return any(json.loads(file.read_text())["returncode"] is None for file in processes)

    def set(self, key: str, value: object) -> None:
        """Edit params.yaml by hand."""
        *parents, last = key.split(".")
        with edited_params(self.folder) as params:
            functools.reduce(operator.getitem, parents, params)[last] = value

    def edit(self, file: str, line: str) -> None:
        """Add a line to a module: a comment, or code that changes nothing."""
        path = self.folder / file
        path.write_text(f"{path.read_text()}\n{line}\n")


def small_project(folder: Path) -> Project:
    """Clone the project into a folder, shrink its default run and commit that."""
    copy_project(folder)
    shrink(folder)
    project = Project(folder)
    project.commit("a small default run")
    return project
