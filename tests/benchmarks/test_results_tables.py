"""The study's tables against figures worked out by hand, and against docs/results.md."""

import pytest

from benchmarks.results.tables import (
    TABLES,
    between_markers,
    embedding_table,
    final_table,
    machine_line,
    outermost_best,
    parts_table,
    results_page,
    small_table,
    sweep_table,
    tables_in,
    tokens_to,
)
from benchmarks.run_record import Entry, read_record
from tests.benchmarks.fake_runs import entry
from tests.conftest import ROOT

ABOUT = {"settings": [], "machine": {"gpu": "NVIDIA H200", "torch": "2.11.0"}}


def named(*entries: Entry) -> dict[str, Entry]:
    return {each["name"]: each for each in entries}


def final(optimizer: str, seed: int, loss: float, **rest: object) -> Entry:
    labels = {"optimizer": optimizer, "learning_rate": 0.02, "seed": seed}
    return entry(f"final-{optimizer}-{seed}", "final", loss, **labels, **rest)


FINALS = named(
    final("adam", 1, 4.5),
    final("adam", 2, 4.7, tokens_per_second=1000.0, steady_seconds=4.0),
    final("normuon", 1, 4.0),
    final("normuon", 2, 4.1),
    final("normuon", 3, 4.2),
)


def test_final_runs_are_summed_up_by_optimizer() -> None:
    # adam's mean is 4.6. normuon's curves fall by 1 from 2000 tokens to 4000, from 5.0, 5.1 and
    # 5.2: each is as low 800, 1000 and 1200 tokens later.
    assert final_table(FINALS).splitlines()[2:] == [
        "| normuon | 0.02 | 4.1000 ± 0.1000 | -0.5000 | 3 | 2 k | 2.0 | 3 k |",
        "| adam | 0.02 | 4.6000 ± 0.1414 | +0.0000 | 2 | 1.5 k | 3.0 | 4 k |",
    ]


def test_without_the_reference_nothing_is_held_against_it() -> None:
    only = {name: each for name, each in FINALS.items() if each["optimizer"] == "normuon"}
    assert final_table(only).splitlines()[2:] == [
        "| normuon | 0.02 | 4.1000 ± 0.1000 | - | 3 | 2 k | 2.0 | - |"
    ]


def test_a_loss_that_one_seed_never_reached_was_not_reached() -> None:
    runs = list(FINALS.values())[2:]
    assert tokens_to(runs, 4.6) == pytest.approx(3000, abs=0.1)
    assert tokens_to(runs, 4.15) is None


def test_parts_are_held_against_the_baselines_mean() -> None:
    parts = named(
        entry("a", "parts", 4.3, part="without smear"),
        entry("b", "parts", 4.1, part="swiglu"),
        entry("c", "parts", 4.0, part="swiglu"),
        entry("d", "parts", None, part="without backout"),
    )
    # 0.1 x sqrt(1 + 1/3) and 0.1 x sqrt(1/2 + 1/3)
    assert parts_table(FINALS | parts).splitlines()[2:] == [
        "| none (baseline) | 4.1000 ± 0.1000 |  |  | 3 |",
        "| without smear | 4.3000 | +0.2000 | 0.1155 | 1 |",
        "| without backout | failed |  |  |  |",
        "| swiglu | 4.0500 | -0.0500 | 0.0913 | 2 |",
    ]
    assert parts_table(parts) == ""


def test_the_sweep_is_a_row_a_rate_the_best_in_bold() -> None:
    runs = named(
        entry("a", "sweep", 4.5, optimizer="adam", learning_rate=0.002),
        entry("b", "sweep", 4.2, optimizer="muon", learning_rate=0.02),
        entry("c", "sweep", 4.1, optimizer="muon", learning_rate=0.014),
        entry("d", "sweep", None, optimizer="muon", learning_rate=0.04),
        entry("e", "parts", 1.0, optimizer="muon", learning_rate=0.1, part="smear"),
    )
    assert sweep_table(runs).splitlines()[2:] == [
        "| muon | 0.014 | **4.1000** | 1 |",
        "| muon | 0.02 | 4.2000 | 1 |",
        "| muon | 0.04 | failed | |",
        "| adam | 0.002 | **4.5000** | 1 |",
    ]


def test_a_best_rate_at_the_end_of_the_grid_is_told() -> None:
    def swept(optimizer: str, *losses: float | None) -> dict[str, Entry]:
        return named(
            *(
                entry(f"{optimizer}{n}", "sweep", loss, optimizer=optimizer, learning_rate=n)
                for n, loss in enumerate(losses)
            )
        )

    runs = swept("adam", 5.0, 4.0, 4.5) | swept("bam", 4.0, 4.5) | swept("aro", 5.0, 4.0, None)
    assert outermost_best(runs) == ["bam"]
    assert "outermost tried of: bam." in results_page(ABOUT, runs)
    assert "outermost" not in results_page(ABOUT, swept("adam", 5.0, 4.0, 4.5))


def test_rates_of_embeddings_stand_beside_the_one_of_the_sweep() -> None:
    shared = {"optimizer": "normuon", "learning_rate": 0.02}
    runs = named(
        entry("a", "embedding", 4.5, embedding_learning_rate=0.032, **shared),
        entry("b", "embedding", 4.2, embedding_learning_rate=0.008, **shared),
        entry("c", "sweep", 4.1, **shared),
        entry("d", "sweep", 4.0, optimizer="normuon", learning_rate=0.014),
    )
    assert embedding_table(runs).splitlines()[2:] == [
        "| 0.008 | 4.2000 |",
        "| 0.032 | 4.5000 |",
        "| of params.yaml | 4.1000 |",
    ]
    assert embedding_table({}) == ""


def test_small_stands_beside_base() -> None:
    small = entry("s", "small", 3.5, optimizer="normuon", learning_rate=0.02, peak_memory_gib=9.0)
    assert small_table(FINALS | named(small)).splitlines()[2:] == [
        "| base | 0.02 | 4.1000 ± 0.1000 | 3 | 4 k | 2 k | 2.0 | 1.50 GiB |",
        "| small | 0.02 | 3.5000 | 1 | 4 k | 2 k | 2.0 | 9.00 GiB |",
    ]


def test_a_page_holds_the_tables_that_have_rows() -> None:
    page = results_page(ABOUT, FINALS)
    assert page.startswith("gpu NVIDIA H200, torch 2.11.0; 2030-01-02\n")
    assert tables_in(page) == {"final": final_table(FINALS), "small": small_table(FINALS)}
    assert tables_in(f"# Study\n\n{between_markers('final', 'x')}\n\nText.\n") == {"final": "x"}


def test_runs_of_two_days_say_so() -> None:
    later = named(final("adam", 3, 4.6, finished="2030-01-04T00:00:00"))
    assert machine_line(ABOUT, FINALS | later).endswith("; 2030-01-02 to 2030-01-04")


@pytest.mark.skipif(
    not (ROOT / "docs/results.md").exists(), reason="the study's page is not written"
)
def test_the_tables_of_the_page_are_those_of_its_record() -> None:
    _, entries = read_record(ROOT / "docs/results/results.json")
    page = (ROOT / "docs/results.md").read_text()
    tables = tables_in(page)
    assert tables and page.count("<!-- table: ") == len(tables)
    assert tables == {name: TABLES[name](entries) for name in tables}
