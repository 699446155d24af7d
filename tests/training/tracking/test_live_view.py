import io
from pathlib import Path

from ramengpt.training.tracking.live_view import LiveView, run_summary


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def row(step: int, speed: float = 1000.0) -> tuple[str, dict[str, float]]:
    return "train", {"step": step, "tokens": 100 * step, "loss": 5.0, "tokens_per_second": speed}


def test_plain_lines_come_every_few_seconds_and_at_each_measurement():
    now = [0.0]
    stream = io.StringIO()
    with LiveView(100, 10_000, stream=stream, clock=lambda: now[0]) as view:
        for step in range(1, 13):
            now[0] += 1
            view.show([row(step)])
        view.show([("validation", {"step": 12, "loss": 4.5})])
    assert stream.getvalue().splitlines() == [
        "train: step 5/100, loss 5.0000, 1 k tokens/s, 10 s left",
        "train: step 10/100, loss 5.0000, 1 k tokens/s, 9 s left",
        "train: step 12/100, loss 5.0000, validation 4.5000, 1 k tokens/s, 9 s left",
    ]


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with LiveView(4, 400, stream=stream) as view:
        view.show([row(1), row(2), ("validation", {"loss": 4.5})])
        view.show([row(4)])
    text = stream.getvalue()
    assert "step 4/4" in text and "validation 4.5000" in text and "\n" in text


def test_time_left_follows_the_speed_of_late():
    view = LiveView(1000, 100_000, stream=io.StringIO())
    view.show([row(1)])
    view.show([row(step, speed=100.0) for step in range(2, 100)])
    assert "100 tokens/s, 15 min" in view.status()


def test_nothing_is_shown_before_the_first_row():
    stream = io.StringIO()
    with LiveView(4, 400, stream=stream) as view:
        view.show([])
    assert stream.getvalue() == ""
    assert view.status() == "starting"


def test_the_summary_says_what_it_came_to_and_what_to_try():
    metrics = {
        "validation": {"loss": 5.25},
        "train": {"loss": 5.0},
        "tokens": 4_000_000,
        "seconds": 150.0,
        "speed": {"tokens_per_second": 26_700.0},
    }
    summary = run_summary(metrics, Path("runs/a/models"), Path("runs/a/results"))
    assert "validation loss 5.2500, training loss 5.0000" in summary
    assert "4 Mtokens in 2 min 30 s" in summary or "4 M tokens in 2 min 30 s" in summary
    assert "--weights runs/a/models" in summary
    assert summary.endswith("\n          ramengpt compare runs/a")
    summary = run_summary(metrics, Path("models"), Path("results/train"))
    assert "--weights" not in summary
    record, _, compare = (line.strip() for line in summary.splitlines()[-3:])
    assert record.startswith("git add params.yaml dvc.lock && git commit")
    assert compare == "ramengpt compare HEAD workspace", "it needs a committed lock"
