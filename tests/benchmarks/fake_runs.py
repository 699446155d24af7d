"""Runs that take no time: tiny processes that leave what `pipeline.train --out` leaves.

They end at once, when as many have started as `meet` says, or when the file `until` is there: they
wait for each other, never for a time, so that a busy machine changes nothing.
"""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import run_pool
from benchmarks.run_record import Entry
from tests.conftest import ROOT

WORKER = """
import json, os, pathlib, sys, time
sys.path.insert(0, ROOT)
from benchmarks.run_worker import serve

def train(arguments):
    exec(RUN, {"argv": arguments})

serve(train)
"""
RUN = """
import json, os, pathlib, sys, time
out = pathlib.Path(argv[1])
settings = [each.removeprefix("--set=") for each in argv if each.startswith("--set=")]
settings = dict(each.split("=") for each in settings if each.count("=") == 1)
with open(out.parent / "started.txt", "a") as file:
    file.write(out.name + "\\n")
(out / "pid").write_text(str(os.getpid()))
began = time.monotonic()
(out / "gpu").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
while len((out.parent / "started.txt").read_text().split()) < int(settings.get("meet", 0)):
    time.sleep(0.01)  # the pool ends a run that waits in vain
while "until" in settings and not (out.parent / settings["until"]).exists():
    time.sleep(0.01)
if "fail" in settings:
    print("Traceback (most recent call last):\\nMemoryError: out of it\\nsome advice")
    sys.exit(1)
if "nothing" in settings:
    sys.exit(0)
loss = float(settings.get("loss", 4))
(out / "seconds").write_text(f"{began} {time.monotonic()}")
(out / "results").mkdir(exist_ok=True)
(out / "models").mkdir(exist_ok=True)
(out / "models/model.safetensors").write_text("large")
(out / "models/config.json").write_text(json.dumps({"run": {"seed": 1}}))
metrics = {"validation": {"loss": loss}, "train": {"loss": 5.0}, "tokens": 400, "seconds": 13.0}
metrics["speed"] = {"peak_memory_gib": 0.5}
(out / "results/metrics.json").write_text(json.dumps(metrics))
steps = ["1\\t10.0\\t6", "2\\t1.0\\t5", "3\\t1.0\\t5", "4\\t1.0\\t5"]
(out / "results/train.tsv").write_text("step\\tstep_seconds\\tloss\\n" + "\\n".join(steps) + "\\n")
(out / "results/validation.tsv").write_text(f"step\\ttokens\\tloss\\n4\\t400\\t{loss}\\n")
"""


def be_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start tiny runs in place of real ones."""
    script = f"ROOT = {str(ROOT)!r}\nRUN = {RUN!r}\n{WORKER}"
    monkeypatch.setattr(run_pool, "worker_command", lambda: [sys.executable, "-S", "-c", script])


def started(folder: Path) -> list[str]:
    """Names of the runs that were started in a folder, in order."""
    return (folder / "started.txt").read_text().split()


def entry(name: str, stage: str, loss: float | None, **rest: object) -> Entry:
    """A recorded run; one without a loss has failed."""
    result: Entry = {"status": "failed", "error": "MemoryError: out of it"}
    if loss is not None:
        result = {
            "status": "done",
            "validation_loss": loss,
            "tokens": 4000,
            "tokens_per_second": 2000.0,
            "steady_seconds": 2.0,
            "peak_memory_gib": 1.5,
            "validation": [[2000, loss + 1], [4000, loss]],
        }
    shared = {"name": name, "stage": stage, "seed": 1337, "alone": False}
    return shared | {"finished": "2030-01-02T10:00:00"} | result | rest


def parts_in(page: str) -> dict[str, str]:
    """The parts of a study that stand between markers of a page."""
    found = re.findall(r"^<!-- study: (\w+) -->\n\n(.*?)\n\n<!-- end -->$", page, re.S | re.M)
    return dict(found)
