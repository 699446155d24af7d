"""A DVC project whose training takes no time: curves are made from its parameters."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import NEW_REPOSITORY, ROOT, project_environment

TRAIN = """
import json, math, pathlib
from ruamel.yaml import YAML
params = YAML(typ="safe").load(open("params.yaml"))
speed = params["optimizers"][params["optimizer"]]["lr"]
folder = pathlib.Path("results/train")
folder.mkdir(parents=True, exist_ok=True)
def mean(step):
    return 4 + 7 * math.exp(-speed * step)
def noisy(step):
    return mean(step) + 0.1 * math.sin(17.0 * step)
def row(step, loss):
    return f"{step}\\t{1000 * step}\\t{0.5 * step}\\t{loss(step):.9g}"
train = [row(step, noisy) for step in range(1, 201)]
validation = [row(step, mean) for step in range(20, 201, 20)]
header = "step\\ttokens\\tseconds\\tloss\\n"
(folder / "train.tsv").write_text(header + "\\n".join(train) + "\\n")
(folder / "validation.tsv").write_text(header + "\\n".join(validation) + "\\n")
metrics = {"validation": {"loss": mean(200)}, "train": {"loss": noisy(200)}}
metrics |= {"tokens": 200000, "seconds": 100.0, "speed": {"tokens_per_second": 2000.0}}
(folder / "metrics.json").write_text(json.dumps(metrics | {"finished": True}))
pathlib.Path("models").mkdir()
name = params["optimizer"]
run = {"optimizer_name": name, "optimizer": params["optimizers"][name], "seed": 1}
pathlib.Path("models/config.json").write_text(json.dumps({"run": run}))
"""
DVC_YAML = """
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [optimizer, "optimizers.${optimizer}"]
    metrics: [results/train/metrics.json]
    outs: [models, results/train/train.tsv, results/train/validation.tsv]
"""
PARAMS = """
optimizer: normuon
optimizers:
  normuon:
    lr: 0.02
    momentum: 0.95
  adam:
    lr: 0.015
"""


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project; whatever it says comes back."""
    environment = project_environment() | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        command, cwd=project, env=environment, check=False, capture_output=True, text=True
    )


def make_project(project: Path) -> Path:
    """A project with two runs, HEAD and the experiment `with-adam`, and a commit without any."""
    project.mkdir()
    files = {"train.py": TRAIN, "dvc.yaml": DVC_YAML, "params.yaml": PARAMS}
    for name, content in files.items():
        (project / name).write_text(content)
    dvc = [sys.executable, "-m", "dvc"]
    commands = [
        *NEW_REPOSITORY,
        [*dvc, "init", "-q"],
        ["git", "add", "-A"],
        ["git", "commit", "-qm", "untrained"],
        ["git", "tag", "untrained"],
        [*dvc, "repro", "-q"],
        ["git", "add", "-A"],
        ["git", "commit", "-qm", "trained"],
        [*dvc, "exp", "run", "-q", "-n", "with-adam", "-S", "optimizer=adam"],
    ]
    for command in commands:
        done = run(project, *command)
        assert done.returncode == 0, done.stderr + done.stdout
    return project


if __name__ == "__main__":
    make_project(Path(os.fspath(sys.argv[1])))
