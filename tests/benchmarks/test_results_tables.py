"""The study's tables against figures worked out by hand, and against the pages that show them."""

import pytest

from benchmarks.results.tables import (
    TABLES,
    between_markers,
    embedding_table,
    machine_line,
    outermost_best,
    parts_table,
    parts_tried,
    results_page,
    seeds_table,
    small_table,
    spread_of_seeds,
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


def run(optimizer: str, rate: float, seed: int, loss: float | None, **rest: object) -> Entry:
    labels = {"optimizer": optimizer, "learning_rate": rate, "seed": seed}
    stage = "sweep" if seed == 1337 else "seeds"
    return entry(f"{optimizer}-{rate}-{seed}", stage, loss, **labels, **rest)


SHARED_GPU = {"tokens_per_second": 7.0, "steady_seconds": 7.0}
SWEEP = named(
    run("adam", 0.002, 1337, 4.5, **SHARED_GPU),
    run("adam", 0.004, 1337, 4.9, **SHARED_GPU),
    run("normuon", 0.02, 1337, 4.0, **SHARED_GPU),
    run("normuon", 0.04, 1337, 4.3, **SHARED_GPU),
)
RUNS = SWEEP | named(
    run("adam", 0.002, 1338, 4.7, alone=True, tokens_per_second=1000.0, steady_seconds=4.0),
    run("normuon", 0.02, 1338, 4.1, alone=True),
    run("normuon", 0.02, 1339, 4.2, **SHARED_GPU),
    run("normuon", 0.04, 1339, 3.9, **SHARED_GPU),  # not the best: the sweep chose with one seed
)


def test_optimizers_are_summed_up_at_their_best_and_timed_where_alone() -> None:
    # adam's mean is 4.6. The curve of normuon's timed run falls from 5.1 at 2000 tokens to 4.1 at
    # 4000: it is as low after 3000.
    assert seeds_table(RUNS).splitlines()[2:] == [
        "| normuon | 0.02 | 4.1000 ± 0.1000 | -0.5000 | 3 | 2 k | 2.0 | 3 k |",
        "| adam | 0.002 | 4.6000 ± 0.1414 | +0.0000 | 2 | 1 k | 4.0 | - |",
    ]


def test_without_a_timed_run_there_are_no_seconds() -> None:
    more = named(run("muon", 0.02, 1337, 4.05, **SHARED_GPU), run("muon", 0.02, 1338, None))
    rows = seeds_table(RUNS | more).splitlines()[2:]
    assert rows[0] == "| muon | 0.02 | 4.0500 | -0.5500 | 1 | - | - | - |"
    assert [row.split()[1] for row in rows] == ["muon", "normuon", "adam"]


def test_without_the_reference_nothing_is_held_against_it() -> None:
    only = {name: each for name, each in RUNS.items() if each["optimizer"] == "normuon"}
    assert seeds_table(only).splitlines()[2:] == [
        "| normuon | 0.02 | 4.1000 ± 0.1000 | - | 3 | 2 k | 2.0 | - |"
    ]


def test_seeds_have_no_table_before_there_are_some() -> None:
    assert seeds_table(SWEEP) == ""
    elsewhere = named(run("normuon", 0.04, 1339, 3.9))
    assert seeds_table(SWEEP | elsewhere) == ""


def test_a_loss_that_one_seed_never_reached_was_not_reached() -> None:
    runs = [run("muon", 0.02, 1, loss) for loss in (4.0, 4.1, 4.2)]
    assert tokens_to(runs, 4.6) == pytest.approx(3000, abs=0.1)  # 2800, 3000 and 3200
    assert tokens_to(runs, 4.15) is None


def part(name: str, text: str, loss: float | None, rate: float) -> Entry:
    labels = {"part": text, "optimizer": "normuon", "learning_rate": rate}
    return entry(name, "parts", loss, **labels)


def parts_at(rate: float) -> dict[str, Entry]:
    return named(
        part("a", "swiglu", 4.1, rate),
        part("b", "swiglu", 4.0, rate),
        part("c", "without backout", None, rate),
        part("d", "without smear", 4.3, rate),
        part("e", "head in float8", 4.2, rate),
        part("f", "head in float8", None, rate),
    )


def test_the_spread_is_pooled_over_optimizers_at_their_best() -> None:
    assert spread_of_seeds(SWEEP) is None
    # Squares: 0.02 of three runs of normuon, 0.02 of two of adam. One run alone has no spread.
    more = named(run("muon", 0.02, 1337, 4.05), run("muon", 0.02, 1338, None))
    assert spread_of_seeds(RUNS | more) == pytest.approx((0.04 / 3) ** 0.5)


def test_parts_are_held_against_the_baselines_mean_the_most_harmful_first() -> None:
    # The spread is sqrt(0.04 / 3): squares of 0.02 each, of three runs of normuon and two of adam.
    # Times sqrt(1 + 1/3), and sqrt(1/2 + 1/3) with two seeds.
    assert parts_table(RUNS | parts_at(0.02)).splitlines()[2:] == [
        "| none (baseline) | 4.1000 ± 0.1000 |  |  | 3 |",
        "| without smear | 4.3000 | +0.2000 | 0.1333 | 1 |",
        "| head in float8 | 4.2000 | +0.1000 | 0.1333 | 1 |",
        "| swiglu | 4.0500 | -0.0500 | 0.1054 | 2 |",
        "| without backout | failed |  |  |  |",
    ]


def test_the_baseline_of_parts_need_not_be_the_best_rate() -> None:
    # 4.3 and 3.9; sqrt(0.04 / 3) x sqrt(1 + 1/2) and sqrt(0.04 / 3) x sqrt(1/2 + 1/2)
    assert parts_table(RUNS | parts_at(0.04)).splitlines()[2:] == [
        "| none (baseline) | 4.1000 ± 0.2828 |  |  | 2 |",
        "| without smear | 4.3000 | +0.2000 | 0.1414 | 1 |",
        "| head in float8 | 4.2000 | +0.1000 | 0.1414 | 1 |",
        "| swiglu | 4.0500 | -0.0500 | 0.1155 | 2 |",
        "| without backout | failed |  |  |  |",
    ]


def test_parts_are_those_at_one_rate_which_the_page_tells() -> None:
    earlier = named(part("earlier", "swiglu", 1.0, 0.04))
    runs = RUNS | earlier | parts_at(0.02)
    assert parts_tried(runs) == list(parts_at(0.02).values())
    assert parts_table(runs) == parts_table(RUNS | parts_at(0.02))
    page = results_page(ABOUT, runs)
    assert "\n\nParts of the network were tried under normuon at 0.02.\n" in page


def test_parts_need_a_baseline_and_a_spread_for_an_error() -> None:
    assert parts_table(RUNS) == parts_table(parts_at(0.02)) == ""
    rows = parts_table(SWEEP | parts_at(0.02)).splitlines()[2:]
    assert rows[:2] == [
        "| none (baseline) | 4.0000 |  |  | 1 |",
        "| without smear | 4.3000 | +0.3000 | - | 1 |",
    ]


def test_the_sweep_is_a_row_a_rate_the_best_in_bold() -> None:
    failed = named(run("muon", 0.04, 1337, None))
    muon = named(run("muon", 0.02, 1337, 4.2), run("muon", 0.014, 1337, 4.1))
    runs = named(run("adam", 0.002, 1337, 4.5)) | muon | failed | parts_at(0.02)
    runs |= named(run("muon", 0.02, 1338, 1.0))
    assert sweep_table(runs).splitlines()[2:] == [
        "| muon | 0.014 | **4.1000** | 1 |",
        "| muon | 0.02 | 4.2000 | 1 |",
        "| muon | 0.04 | failed | |",
        "| adam | 0.002 | **4.5000** | 1 |",
    ]


def test_a_best_rate_at_the_end_of_the_grid_is_told() -> None:
    def swept(optimizer: str, *losses: float | None) -> dict[str, Entry]:
        return named(*(run(optimizer, n, 1337, loss) for n, loss in enumerate(losses)))

    runs = swept("adam", 5.0, 4.0, 4.5) | swept("bam", 4.0, 4.5) | swept("aro", 5.0, 4.0, None)
    assert outermost_best(runs) == ["bam"]
    assert "outermost tried of: bam." in results_page(ABOUT, runs)
    assert "outermost" not in results_page(ABOUT, swept("adam", 5.0, 4.0, 4.5))


def test_factors_of_embeddings_stand_beside_the_one_of_the_sweep() -> None:
    shared = {"optimizer": "normuon", "learning_rate": 0.02}
    tried = named(
        entry("a", "embedding", 4.5, embedding_factor=0.5, **shared),
        entry("b", "embedding", 4.2, embedding_factor=0.125, **shared),
    )
    assert embedding_table(RUNS | tried).splitlines()[2:] == [
        "| 0.125 | 4.2000 |",
        "| 0.5 | 4.5000 |",
        "| of params.yaml | 4.0000 |",
    ]
    assert embedding_table(RUNS) == ""


def test_small_stands_beside_base() -> None:
    shared = {"optimizer": "normuon", "learning_rate": 0.02, "alone": True}
    shared |= {"peak_memory_gib": 9.0, "tokens_per_second": 500.0}
    small = named(entry("s", "small", 3.5, **shared))
    assert small_table(RUNS | small).splitlines()[2:] == [
        "| base | 0.02 | 4.1000 ± 0.1000 | 3 | 4 k | 2 k | 1.50 GiB |",
        "| small | 0.02 | 3.5000 | 1 | 4 k | 500 | 9.00 GiB |",
    ]
    assert small_table(small).splitlines()[2] == "| base | 0.02 | - | 0 | 4 k | - | - |"
    assert small_table(RUNS) == ""


def test_a_page_holds_the_tables_that_have_rows() -> None:
    page = results_page(ABOUT, RUNS)
    assert page.startswith("gpu NVIDIA H200, torch 2.11.0; 2030-01-02\n")
    assert tables_in(page) == {"sweep": sweep_table(RUNS), "seeds": seeds_table(RUNS)}
    assert tables_in(f"# Study\n\n{between_markers('seeds', 'x')}\n\nText.\n") == {"seeds": "x"}
    assert results_page(ABOUT, {}) == "gpu NVIDIA H200, torch 2.11.0\n"


def test_runs_of_two_days_say_so() -> None:
    later = named(run("adam", 0.002, 1339, 4.6, finished="2030-01-04T00:00:00"))
    assert machine_line(ABOUT, RUNS | later).endswith("; 2030-01-02 to 2030-01-04")


@pytest.mark.parametrize("name", ["docs/results.md", "README.md"])
def test_the_tables_of_a_page_are_those_of_the_record(name: str) -> None:
    _, entries = read_record(ROOT / "docs/results/results.json")
    page = (ROOT / name).read_text()
    tables = tables_in(page)
    assert tables and page.count("<!-- table: ") == len(tables)
    assert tables == {name: TABLES[name](entries) for name in tables}
