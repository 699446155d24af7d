"""What a run prints: a progress bar on a terminal, plain lines elsewhere, a summary at the end."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TextIO

from ramengpt.progress import PLAIN_INTERVAL_SECONDS, bar_on_terminal, duration, scaled

SPEED_DECAY = 0.9
"""EMA decay, per row, of the tokens/s from which the time left is estimated."""


class LiveView:
    """Show the rows of a run as they become known; use as a context manager.

    Args:
        total_steps: of the whole run; None if that is not known.
        total_tokens: likewise; the time left follows from tokens, since batches may grow.
        stream: where to write; None: standard error.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        total_steps: int | None,
        total_tokens: int | None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_steps = total_steps
        self._total_tokens = total_tokens
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._last_line_seconds = clock()
        self._train: Mapping[str, float] = {}
        self._validation_loss: float | None = None
        self._tokens_per_second: float | None = None
        self._exit = ExitStack()
        self._refresh: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._open_bar()
        return self

    def _open_bar(self) -> None:
        update = self._exit.enter_context(
            bar_on_terminal(self._stream, "train", self._total_tokens)
        )
        update(0, self.status())
        self._refresh = lambda: update(self._train.get("tokens", 0), self.status())

    def show(self, rows: Iterable[tuple[str, Mapping[str, float]]]) -> None:
        """Show rows as :meth:`Tracker.log` returns them; a validation is always printed.

        Args:
            rows: `train` rows with `step`, `tokens`, `loss` and `tokens_per_second`; `validation`
                rows with `loss`.
        """
        measured = False
        for table, row in rows:
            if table == "validation":
                self._validation_loss = row["loss"]
                measured = True
            else:
                self._update_speed(row)
        if not self._train:
            return
        if self._refresh is not None:
            self._refresh()
        elif measured or self._clock() - self._last_line_seconds >= PLAIN_INTERVAL_SECONDS:
            self._last_line_seconds = self._clock()
            self._stream.write(f"train: {self.status()}\n")
            self._stream.flush()

    def _update_speed(self, row: Mapping[str, float]) -> None:
        self._train = row
        speed = row["tokens_per_second"]
        before = speed if self._tokens_per_second is None else self._tokens_per_second
        self._tokens_per_second = SPEED_DECAY * before + (1 - SPEED_DECAY) * speed

    def status(self) -> str:
        """The newest values, e.g. `step 20/420, loss 5.4321, 24 k tokens/s, 12 s left`."""
        row = self._train
        if not row or self._tokens_per_second is None:
            return "starting"
        of_all = "" if self._total_steps is None else f"/{self._total_steps}"
        parts = [f"step {row['step']:.0f}{of_all}", f"loss {row['loss']:.4f}"]
        if self._validation_loss is not None:
            parts.append(f"validation {self._validation_loss:.4f}")
        parts.append(f"{scaled(self._tokens_per_second, 'tokens')}/s")
        left_tokens = (self._total_tokens or 0) - row["tokens"]
        if left_tokens > 0 and self._tokens_per_second > 0:
            parts.append(f"{duration(left_tokens / self._tokens_per_second)} left")
        return ", ".join(parts)

    def __exit__(self, *error: object) -> None:
        self._exit.close()


def run_summary(metrics: Mapping[str, Any], models: Path, results: Path) -> str:
    """The result of a finished run, where its files are, and what to try next.

    Args:
        metrics: from :meth:`Tracker.metrics`.
        models: folder of the weights.
        results: folder of metrics and plots.
    """
    losses = [
        f"{label} loss {metrics[name]['loss']:.4f}"
        for name, label in (("validation", "validation"), ("train", "training"))
        if name in metrics
    ]
    if "bits_per_byte" in metrics.get("validation", {}):
        losses[0] += f" ({metrics['validation']['bits_per_byte']:.4f} bits/byte)"
    seconds = metrics.get("seconds", 0.0)
    speed = metrics.get("speed", {}).get("tokens_per_second", 0.0)
    work = (
        f"{scaled(metrics.get('tokens', 0), 'tokens')} in {duration(seconds)} of training, "
        f"{scaled(speed, 'tokens')}/s"
    )
    commands = [
        f'ramengpt generate --prompt "Once upon a time" --weights {models}',
        f"ramengpt compare {models.parent}",
    ]
    if models == Path("models"):
        commands = [
            'ramengpt generate --prompt "Once upon a time"',
            'git add params.yaml dvc.lock && git commit -m "Record a run"',
            "dvc exp run -S optimizer=muon",
            "ramengpt compare HEAD workspace",
        ]
    return "\n".join(
        [
            f"result    {', '.join(losses) or 'no step was made'}",
            f"work      {work}",
            *_stop_lines(metrics),
            f"weights   {models}",
            f"numbers   {results}",
            f"try next  {commands[0]}",
            *(f"{10 * ' '}{command}" for command in commands[1:]),
        ]
    )


def _stop_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What became of the rules that end a run early, if it had any."""
    rules = metrics.get("stop", {})
    lines = []
    if "at_loss" in rules:
        became = "reached" if rules["loss_reached"] else "not reached"
        lines.append(f"stop      held-out loss {rules['at_loss']:g} {became}")
    if "after_seconds" in rules:
        spent = f"{rules['spent_seconds']:.1f} of {rules['after_seconds']:g} seconds spent"
        lines.append(f"stop      {spent}, compilation, validation and checkpoints not counted")
    return lines
