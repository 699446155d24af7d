"""What a study came to, as a page and as the marked parts of other pages."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from benchmarks.run_record import DONE, Entries, Entry
from benchmarks.study.answer import answer
from benchmarks.study.tables import found_table, lengths_of, seeds_table, space_table

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


def parts_of(about: Mapping[str, Any], entries: Entries) -> dict[str, str]:
    """All parts of a page, by name."""
    lengths = sorted({*LENGTHS, *lengths_of(entries)})
    seeds = {
        "seeds" if times == 1 else f"seeds_{times}x": seeds_table(about, entries, times)
        for times in lengths
    }
    rates, rest = about["trials"]
    parts = {
        "answer": answer(about, entries),
        **seeds,
        "found": found_table(about, entries),
        "space": space_table(entries),
        "cost": cost_line(about, entries),
        "command": f"```bash\npython -m benchmarks.study --trials {rates} {rest}\n```",
        "failed": "\n".join(failures(entries)),
    }
    return {name: part or "None." for name, part in parts.items()}


def study_page(about: Mapping[str, Any], entries: Entries) -> str:
    """All parts, one after another."""
    parts = parts_of(about, entries).items()
    return "\n\n".join(between_markers(name, part) for name, part in parts) + "\n"


def between_markers(name: str, text: str) -> str:
    """A part as a page holds it."""
    return f"<!-- study: {name} -->\n\n{text}\n\n<!-- end -->"


def parts_in(page: str) -> dict[str, str]:
    """The parts that stand between markers of a page."""
    found = re.findall(r"^<!-- study: (\w+) -->\n\n(.*?)\n\n<!-- end -->$", page, re.S | re.M)
    return dict(found)
