"""Progress: plain lines with rate and time left, a bar on a terminal."""

import io

from ramengpt.progress import Progress, duration, scaled


def test_plain_lines_every_few_seconds():
    stream, now = io.StringIO(), [0.0]
    with Progress("fetch", 1000, "B", done=200, stream=stream, clock=lambda: now[0]) as progress:
        for _ in range(12):
            now[0] += 1.0
            progress.advance(50)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "fetch: 450 B of 1 kB (45%), 50 B/s, 11 s left"
    assert lines[1] == "fetch: 700 B of 1 kB (70%), 50 B/s, 6 s left"
    assert lines[2] == "fetch: 800 B of 1 kB (80%), 50 B/s, 4 s left"
    assert len(lines) == 3


def test_an_unknown_total_has_no_time_left():
    stream, now = io.StringIO(), [0.0]
    with Progress("read", None, "tokens", stream=stream, clock=lambda: now[0]) as progress:
        now[0] = 10.0
        progress.advance(2_500_000)
    assert stream.getvalue().splitlines()[0] == "read: 2.5 M tokens, 250 k tokens/s"


def test_a_bar_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress("fetch", 100, "B", stream=stream) as progress:
        progress.advance(100)
    assert "fetch" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_quantities():
    assert scaled(2_000_000_000, "B") == "2 GB"
    assert scaled(83, "tokens") == "83 tokens"
    assert [duration(value) for value in (-1, 59, 200, 7500)] == [
        "0 s",
        "59 s",
        "3 min 20 s",
        "2 h 05 min",
    ]
