"""A compared run made of a few losses."""

from ramengpt.comparison.runs import ComparedRun


def compared(
    name: str, losses: list[float], seconds: float = 100.0, **params: object
) -> ComparedRun:
    rows = [{"step": 10 * n, "tokens": 1000 * n, "loss": loss} for n, loss in enumerate(losses, 1)]
    metrics = {"validation.loss": losses[-1], "seconds": seconds}
    return ComparedRun(name, metrics, params, rows, rows)
