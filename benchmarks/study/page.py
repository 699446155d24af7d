"""What a study came to, as a page and as the marked parts of other pages."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from benchmarks.run_record import DONE, Entries, Entry
from benchmarks.study.answer import answer, listed
from benchmarks.study.arms import Arm
from benchmarks.study.tables import arms_of, found_table, lengths_of, seeds_table, space_table

LENGTHS = (1, 2)
"""Of evaluations, in multiples of the task's: a page has a part for each, run or not."""


def failures(entries: Entries) -> list[str]:
    """A line for each run that diverged or failed."""
    return [
        f"- {entry['name']} {entry['status']}: {entry['error']}"
        for entry in entries.values()
        if entry["status"] != DONE
    ]


def gpu_minutes(entries: Entries) -> float:
    """During which runs were under way, summed over the GPUs."""
    seconds = 0.0
    for gpu in {entry["gpu"] for entry in entries.values()}:
        until = datetime.min
        for begin, end in sorted(_interval(e) for e in entries.values() if e["gpu"] == gpu):
            seconds += max(0.0, (end - max(begin, until)).total_seconds())
            until = max(until, end)
    return seconds / 60


def _interval(entry: Entry) -> tuple[datetime, datetime]:
    end = datetime.fromisoformat(entry["finished"])
    return end - timedelta(seconds=entry["wall_seconds"]), end


def cost_line(about: Mapping[str, Any], entries: Entries) -> str:
    """How many runs there were, on what, when, and how long they took."""
    versions = ", ".join(f"{name} {value}" for name, value in sorted(about["machine"].items()))
    days = sorted({entry["finished"][:10] for entry in entries.values()})
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "no day"
    cards = " and ".join(sorted({entry["card"] or "CPU" for entry in entries.values()}))
    cost = f"{len(entries)} runs in {gpu_minutes(entries):.0f} GPU minutes"
    return f"{cost}; {', '.join([*filter(None, [cards]), versions])}; {when}."


def commands(about: Mapping[str, Any], entries: Entries) -> str:
    """What runs all that is in the record: the arms, then some of them longer or alone on a GPU."""
    rates, rest = about["trials"]
    command = f"python -m benchmarks.study --trials {rates} {rest} --arms"
    names = list(dict.fromkeys(entry["arm"] for entry in entries.values()))
    lines = [" ".join([command, *names])]
    for times in lengths_of(entries)[1:]:
        longer = arms_of(about, entries, times)
        lines.append(" ".join([command, *(n for n in names if n in longer), f"--lengths {times}"]))
    timed = [name for name in names if f"{name}-timed" in entries]
    if timed:
        lines.append(" ".join([command, *timed, "--timed"]))
    return "\n".join(lines)


def parts_of(about: Mapping[str, Any], entries: Entries) -> dict[str, str]:
    """All parts of a page, by name."""
    lengths = sorted({*LENGTHS, *lengths_of(entries)})
    seeds = {
        "seeds" if times == 1 else f"seeds_{times}x": seeds_table(about, entries, times)
        for times in lengths
    }
    parts = {
        "answer": answer(about, entries),
        **seeds,
        "found": found_table(about, entries),
        "space": space_table(entries),
        "cost": cost_line(about, entries),
        "command": f"```bash\n{commands(about, entries)}\n```",
        "failed": "\n".join(failures(entries)),
        "tuned": listed(name for name in arms_of(about, entries, 1) if not Arm(name).hook),
    }
    return {name: part or "None." for name, part in parts.items()}


def study_page(about: Mapping[str, Any], entries: Entries) -> str:
    """All parts, one after another."""
    parts = parts_of(about, entries).items()
    return "\n\n".join(between_markers(name, part) for name, part in parts) + "\n"


def between_markers(name: str, text: str) -> str:
    """A part as a page holds it."""
    return f"<!-- study: {name} -->\n\n{text}\n\n<!-- end -->"
