"""The card of a shared model: what it is, what it was measured at, and how to make and use it."""

from collections.abc import Mapping
from typing import Any

from ramengpt.inference.weights_config import WeightsConfig

FRONT_MATTER = """---
library_name: ramengpt
pipeline_tag: text-generation
tags:
- ramengpt
---
"""
LABELS = {
    "validation bits per byte": "validation bits/byte",
    "train loss": "training loss",
    "step": "steps",
    "seconds": "seconds of training",
    "speed peak memory gib": "peak memory, GiB",
    "speed tokens per second": "tokens/s",
    "speed steady tokens per second": "tokens/s, median after the first step",
}
SELECTORS = ("dataset", "model", "architecture", "optimizer", "schedule")
STOPS = ("early_stop_steps", "stop_at_loss", "stop_after_seconds")


def model_card(
    repository: str, config: WeightsConfig, metrics: Mapping[str, Any], parameters: int
) -> str:
    """Markdown with the Hub's front matter.

    Args:
        repository: OWNER/NAME.
        config: of the weights; holds every setting of the run.
        metrics: of the run.
        parameters: their number.
    """
    run = config.run
    name = repository.rpartition("/")[2]
    machines = "; ".join(
        f"{environment['device']}, PyTorch {environment['torch']}"
        for environment in run.get("environments", [])
    )
    rows = {
        "parameters": f"{parameters:,}",
        "longest document": f"{config.max_sequence_tokens:,} tokens",
        **{LABELS.get(name, name): _number(value) for name, value in _flat(metrics)},
        "trained on": machines or "not recorded",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""{FRONT_MATTER}
# {name}

A GPT of {parameters / 1e6:.1f} million parameters, trained by ramengpt. Losses are in nats/token.

| | |
|---|---|
{table}

## Use it

In ramengpt's folder:

```sh
ramengpt share pull {repository} --to {name}
ramengpt generate --weights {name} --prompt "Once upon a time"
```

## Reproduce it

```sh
{_command(run)}
```

with the values of `config.json` under `run`, which holds every setting of the run.
"""


def _command(run: Mapping[str, Any]) -> str:
    """What starts this run; only scratch runs end before their schedule does."""
    values = [f"{name}={run[f'{name}_name']}" for name in SELECTORS] + [f"seed={run['seed']}"]
    stops = [f"--{name} {run[name]}" for name in STOPS if run.get(name) is not None]
    if not stops:
        return " ".join(["dvc exp run", *(f"-S {value}" for value in values)])
    return " ".join(["python -m pipeline.train", *(f"--set {value}" for value in values), *stops])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Numbers of nested metrics, by names with spaces."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((name, value))
    return found


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
