"""Runs of a study with figures to check by hand."""

from typing import Any

from benchmarks.run_record import DIVERGED, DONE, Entry

ABOUT: dict[str, Any] = {"machine": {"torch": "2.11.0"}, "trials": [2, 2], "seeds": 2}


def entry(arm: str, stage: str, number: int, loss: float | None, **rest: object) -> Entry:
    result: dict[str, Any] = {"status": DIVERGED, "error": "too much"}
    if loss is not None:
        result = {"status": DONE, "validation_loss": loss}
        result |= {"validation": [[1000, loss + 2], [2000, loss + 1], [4000, loss]]}
    shared = {"name": f"{arm}-{stage}-{number}", "arm": arm, "stage": stage, "seed": number}
    shared |= {"times": 1, "gpu": "0", "card": "H100", "values": {}, "ranges": {}}
    shared |= {"wall_seconds": 60.0, "finished": "2030-01-02T10:01:00"}
    return shared | result | rest


def named(*entries: Entry) -> dict[str, Entry]:
    return {each["name"]: each for each in entries}


SEEDS = named(
    entry("adamw", "seeds", 1, 4.0), entry("adamw", "seeds", 2, 4.2),
    entry("muon_jordan", "seeds", 1, 3.0), entry("muon_jordan", "seeds", 2, 3.1),
    entry("bam", "seeds", 1, None), entry("bam", "seeds", 2, 4.0),
    entry("soap", "seeds", 1, 3.0),
    {**entry("muon_jordan", "timed", 0, 3.0), "name": "muon_jordan-timed"}
    | {"tokens_per_second": 100.0},
)  # fmt: skip
