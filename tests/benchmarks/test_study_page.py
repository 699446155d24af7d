"""What a study comes to, as a page: its parts, cost, failures and answer."""

import pytest

from benchmarks.run_record import FAILED
from benchmarks.study.answer import answer
from benchmarks.study.page import (
    between_markers,
    cost_line,
    failures,
    gpu_minutes,
    parts_of,
    study_page,
)
from tests.benchmarks.fake_runs import parts_in
from tests.benchmarks.study_entries import ABOUT, SEEDS, entry, named


def test_gpu_minutes_count_time_once_however_many_runs_share_a_gpu() -> None:
    # 10:00 to 10:01 twice, 10:00:30 to 10:02, on another GPU half a minute.
    runs = named(
        entry("a", "rates", 0, 4.0), entry("a", "rates", 1, 4.0),
        entry("a", "rates", 2, 4.0, wall_seconds=90.0, finished="2030-01-02T10:02:00"),
        entry("a", "rates", 3, 4.0, wall_seconds=30.0, gpu="1"),
    )  # fmt: skip
    assert gpu_minutes(runs) == pytest.approx(2.5)
    assert cost_line(ABOUT, runs) == "4 runs in 2 GPU minutes; H100, torch 2.11.0; 2030-01-02."


def test_failures_are_listed() -> None:
    failed = entry("a", "rates", 0, None) | {"status": FAILED, "error": "no memory"}
    assert failures(named(failed) | SEEDS) == [
        "- a-rates-0 failed: no memory",
        "- bam-seeds-1 diverged: too much",
    ]


def test_a_page_holds_all_parts_of_both_lengths() -> None:
    parts = parts_of(ABOUT, SEEDS)
    assert parts_in(study_page(ABOUT, SEEDS)) == parts
    assert parts["seeds"].count("\n") == 4 and parts["seeds_2x"] == "None."
    assert "--trials 2 2 --arms " in parts["command"]
    assert parts_in(f"# Study\n\n{between_markers('seeds', 'x')}\n\nText.\n") == {"seeds": "x"}


# Losses of two seeds 3.0 and 3.2 apart from 4.0 and 4.2, all by the same 1.0 but for 0.001: far
# beyond chance; twice as long, muon_jordan is not told apart from adamw.
LONG = named(
    entry("adamw", "seeds", 1, 4.0), entry("adamw", "seeds", 2, 4.2),
    entry("muon_jordan", "seeds", 1, 3.0), entry("muon_jordan", "seeds", 2, 3.201),
    entry("soap", "seeds", 1, 2.0), entry("soap", "seeds", 2, 2.202),
    *(
        entry(arm, "seeds", seed, loss, times=2, name=f"{arm}-2x-{seed}")
        for arm, losses in {"adamw": (3.9, 4.1), "soap": (1.9, 2.102)}.items()
        for seed, loss in enumerate(losses, 1)
    ),
    entry("muon_jordan", "seeds", 1, 3.0, times=2, name="muon_jordan-2x-1"),
    entry("muon_jordan", "seeds", 2, 4.2, times=2, name="muon_jordan-2x-2"),
)  # fmt: skip


def test_better_is_what_is_below_at_both_lengths() -> None:
    first, *lines = answer(ABOUT, LONG).splitlines()
    assert first == "- Better than AdamW at every length: `soap`."
    assert lines[0] == (
        "- Of 3 arms, each tuned by 4 trials and run with 2 fresh seeds, `soap` ends lowest: "
        "2.1010 nats/token, 1.9990 below AdamW, 0.9995 below Keller Jordan's Muon."
    )
    assert lines[1] == "- Beside AdamW (p < 0.05), below: `muon_jordan` and `soap`."
    assert lines[2] == "- Beside Keller Jordan's Muon (p < 0.05), below: `soap`; above: `adamw`."
    # 4.1 after 1000 and 1102 of 4000 tokens, and after 1900 and 2202.
    assert lines[3] == "- 2 reach AdamW's last loss after 26 to 51 % of its tokens."
    assert lines[4].startswith("- Trained 2 times as long, of 3 arms, `soap` ends lowest: 2.0010")
    assert lines[5].startswith("- There, beside AdamW")
    assert "not told apart: `muon_jordan`" in lines[5]
    assert "Better than Keller" not in answer(ABOUT, LONG)
    assert lines[7].startswith("- Not evaluated: `adam`, `adam_hyperball`")


def test_one_length_makes_nothing_better() -> None:
    short = {name: each for name, each in LONG.items() if each["times"] == 1}
    assert "Better" not in answer(ABOUT, short)


def test_an_arm_that_diverged_is_neither_lowest_nor_compared() -> None:
    said = answer(ABOUT, SEEDS)
    assert "Of 3 arms" in said and "`bam`" not in said
