"""Show a schedule: a table of its phases, and one row per step for a plot."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ramengpt.files import write_bytes
from ramengpt.training.schedule.plan import StepPlan

HEADER = (
    "steps",
    "batch tokens",
    "micro-batches",
    "sequence",
    "window",
    "learning rate",
    "momentum",
    "embedding",
    "frozen steps",
    "tokens so far",
)


def plan_phases(plans: Sequence[StepPlan]) -> list[list[StepPlan]]:
    """Split a plan at its transitions."""
    phases: list[list[StepPlan]] = []
    for plan in plans:
        if plan.transition or not phases:
            phases.append([])
        phases[-1].append(plan)
    return phases


def plan_table(plans: Sequence[StepPlan]) -> str:
    """The phases of a plan as a Markdown table, with the totals below.

    Args:
        plans: consecutive steps, at least one.
    Returns:
        Several lines; a value that changes within a phase is shown at both ends.
    """
    rows = [HEADER, *(_phase_cells(phase) for phase in plan_phases(plans))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    last = plans[-1]
    total_tokens = last.tokens_before + last.tokens
    lines.append(f"\n{len(plans)} steps, {total_tokens:,} tokens")
    return "\n".join(lines)


def _phase_cells(phase: Sequence[StepPlan]) -> tuple[str, ...]:
    """A row of the table."""
    first, last = phase[0], phase[-1]
    return (
        f"{first.step}-{last.step}",
        _from_to(f"{first.tokens:,}", f"{last.tokens:,}"),
        _from_to(str(first.micro_batches), str(last.micro_batches)),
        str(first.sequence_tokens),
        str(first.window_tokens),
        _from_to(f"{first.learning_rate_multiplier:.3f}", f"{last.learning_rate_multiplier:.3f}"),
        _from_to(f"{first.momentum:.3f}", f"{last.momentum:.3f}"),
        "tied" if first.embedding_tied else "split",
        str(sum(plan.scalars_frozen for plan in phase)),
        f"{last.tokens_before + last.tokens:,}",
    )


def _from_to(first: str, last: str) -> str:
    """One value, or both ends of a change."""
    return first if first == last else f"{first} to {last}"


def write_plan(plans: Sequence[StepPlan], path: Path) -> None:
    """Write one CSV row per step, atomically; `dvc plots` draws it.

    Args:
        plans: one per step.
        path: of the file; its folder is created.
    Raises:
        OSError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "step",
            "tokens",
            "batch_tokens",
            "sequence_tokens",
            "window_tokens",
            "learning_rate_multiplier",
            "momentum",
            "embedding_tied",
            "scalars_frozen",
        ]
    )
    for plan in plans:
        writer.writerow(
            [
                plan.step,
                plan.tokens_before + plan.tokens,
                plan.tokens,
                plan.sequence_tokens,
                plan.window_tokens,
                f"{plan.learning_rate_multiplier:.6g}",
                f"{plan.momentum:.6g}",
                int(plan.embedding_tied),
                int(plan.scalars_frozen),
            ]
        )
    write_bytes(path, text.getvalue().encode())
