"""Write what a record says wherever the repository says it.

params.yaml's optimizers get the values with which they were evaluated, pages their tables, and
docs/ the curves and the contest's leaderboard. A second time changes nothing.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.contest import leaderboard
from benchmarks.run_record import Entries, read_record
from benchmarks.study.arms import Arm
from benchmarks.study.page import between_markers, parts_of
from benchmarks.study.pictures import write_pictures
from benchmarks.study.tables import arms_of
from ramengpt.config.by_schedule import DEFAULT
from ramengpt.files import write_bytes

PAGES = ("docs/results.md", "docs/optimizers.md")
SCHEDULE = "contest"
"""Entry of `schedules` that is the study's."""
CONTEST = "contest.json"
"""Of the contest, beside the study's record."""


def publish(record: Path, root: Path) -> None:
    """Update params.yaml, docs/ and README.md.

    Args:
        record: of the study.
        root: of the repository.

    Raises:
        UserError: a record cannot be read.
    """
    about, entries = read_record(record)
    params = root / "params.yaml"
    write_bytes(params, with_found_values(params.read_text(), about, entries).encode())
    parts = parts_of(about, entries)
    for page in PAGES:
        text = with_parts((root / page).read_text(), parts)
        write_bytes(root / page, text.encode())
    write_pictures(root / "docs/pictures", about, entries)
    board = leaderboard(about, contest_of(record), entries)
    write_bytes(root / "docs/results/leaderboard.md", board.encode())


def with_parts(page: str, parts: Mapping[str, str]) -> str:
    """A page with its marked parts replaced."""
    for name, part in parts.items():
        marked = rf"^<!-- study: {name} -->$.*?^<!-- end -->$"
        new = between_markers(name, part).replace("\\", r"\\")
        page = re.sub(marked, new, page, flags=re.S | re.M)
    return page


def contest_of(record: Path) -> Entries:
    """The contest's runs, beside the study's record; none where there is no record of them."""
    path = record.parent / CONTEST
    return read_record(path)[1] if path.exists() else {}


def found_settings(about: Mapping[str, Any], entries: Entries) -> dict[str, tuple[str, ...]]:
    """For each optimizer that was evaluated without a hook, the settings that its search found."""
    return {
        name: Arm(name).settings(next(iter(runs.values()))["values"])[1:]
        for name, runs in arms_of(about, entries, 1).items()
        if not Arm(name).hook
    }


def with_found_values(text: str, about: Mapping[str, Any], entries: Entries) -> str:
    """params.yaml with the values of :func:`found_settings`, for the study's schedule.

    A momentum that differs from the shared one gets a schedule named like the optimizer.
    """
    params = yaml.safe_load(text)
    for name, settings in found_settings(about, entries).items():
        values = dict(setting.removesuffix(".").split("=", 1) for setting in settings)
        own = {key.split(".")[-1]: value for key, value in values.items() if key.startswith("opt")}
        if "momentum" in own:
            shared = params["momentum_schedules"][own["momentum"]]
            prefix = f"momentum_schedules.{own['momentum']}."
            found = {key.removeprefix(prefix): values[key] for key in values if prefix in key}
            found = shared | {key: float(value) for key, value in found.items()}
            text = _with_block(text, "momentum_schedules", name, found if found != shared else {})
            own["momentum"] = name if found != shared else own["momentum"]
        text = _with_values(text, params, name, own)
    return text


def _shared_values(params: Mapping[str, Any]) -> dict[str, float]:
    """What an optimizer trains with where its entry has no value of its own."""
    embeddings = params["embedding_adam"]["learning_rate"]
    return {
        "embedding_learning_rate": embeddings,
        "head_learning_rate": embeddings,
        "scalar_learning_rate": params["scalar_adam"]["learning_rate"],
        "warmup_steps": params["schedules"][SCHEDULE]["learning_rate"]["warmup_steps"],
    }


def _with_block(text: str, section: str, name: str, values: Mapping[str, Any]) -> str:
    """The text with an entry at the end of a section, in place of an earlier one; none if empty."""
    lines = "".join(f"    {key}: {value}\n" for key, value in values.items())
    lines = f"  {name}:\n{lines}" if values else ""
    begin = re.search(rf"^{section}:\n", text, re.M)
    assert begin is not None
    body = re.match(r"(?: .*\n)*", text[begin.end() :])
    assert body is not None
    kept = re.sub(rf"^  {name}:.*\n(?:    .*\n)*", "", body[0], flags=re.M)
    rest = text[begin.end() + body.end() :]
    return f"{text[: begin.end()]}{kept}{lines}{rest}"


def _with_values(
    text: str, params: Mapping[str, Any], optimizer: str, values: Mapping[str, str]
) -> str:
    """The text with values of an optimizer's entry; those that it lacks come after its rate."""
    entry = re.search(rf"^optimizers:\n(?: .*\n)*?  {optimizer}:.*\n((?:    .*\n)+)", text, re.M)
    assert entry is not None
    body, before, shared = entry[1], params["optimizers"][optimizer], _shared_values(params)
    added = ""
    for key, value in values.items():
        old = before.get(key)
        default = old[DEFAULT] if isinstance(old, Mapping) else old
        line = f"    {key}: {_by_schedule(default, value)}"
        written = re.compile(rf"^    {key}: (?:\{{.*?\}}|\S+)( *)(?=#|$)", re.M)
        if found := written.search(body):
            if body[found.end() :].startswith("#"):
                line = f"{line}  ".ljust(len(found[0]))
            body = written.sub(line, body)
        elif yaml.safe_load(value) != shared.get(key):
            added += f"{line}\n"
    body = re.sub(r"^    learning_rate: .*\n", lambda rate: rate[0] + added, body, flags=re.M)
    return text[: entry.start(1)] + body + text[entry.end(1) :]


def _by_schedule(default: Any, found: str) -> str:
    """A value that differs by schedule, or the one that does not."""
    same = yaml.safe_load(found) == default
    plain = "null" if default is None else default
    return f"{plain}" if same else f"{{{DEFAULT}: {plain}, {SCHEDULE}: {found}}}"
