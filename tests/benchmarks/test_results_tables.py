"""The study's tables against figures worked out by hand, and against the pages that show them."""

import pytest

from benchmarks.results.search import Point, grid
from benchmarks.results.study import FIRST_EMBEDDING_RATES, FIRST_RATES
from benchmarks.results.tables import (
    TABLES,
    between_markers,
    machine_line,
    parts_table,
    parts_tried,
    pooled_spread,
    results_page,
    seeds_table,
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


def run(
    optimizer: str, rate: float, embeddings: float, seed: int, loss: float | None, **rest: object
) -> Entry:
    labels = {"optimizer": optimizer, "learning_rate": rate, "embedding_rate": embeddings}
    stage = "sweep" if seed == 1337 else "seeds"
    name = f"{optimizer}-{rate}-{embeddings}-{seed}"
    return entry(name, stage, loss, seed=seed, **labels, **rest)


SHARED_GPU = {"tokens_per_second": 7.0, "steady_seconds": 7.0}
SWEEP = named(
    run("adam", 0.002, 0.5, 1337, 4.5, **SHARED_GPU),
    run("adam", 0.004, 0.5, 1337, 4.9, **SHARED_GPU),
    run("normuon", 0.02, 1.0, 1337, 4.0, **SHARED_GPU),
    run("normuon", 0.02, 2.0, 1337, 4.3, **SHARED_GPU),
)
RUNS = SWEEP | named(
    run("adam", 0.002, 0.5, 1338, 4.7, alone=True, tokens_per_second=1000.0, steady_seconds=4.0),
    run("normuon", 0.02, 1.0, 1338, 4.1, alone=True),
    run("normuon", 0.02, 1.0, 1339, 4.2, **SHARED_GPU),
    run("normuon", 0.02, 2.0, 1339, 3.9, **SHARED_GPU),  # the sweep chose with one seed
)


def test_optimizers_are_summed_up_at_their_best_and_timed_where_alone() -> None:
    # adam's mean is 4.6. The curve of normuon's timed run falls from 5.1 at 2000 tokens to 4.1 at
    # 4000: it is as low after 3000.
    table = seeds_table(RUNS).splitlines()
    assert table[0].startswith("| optimizer | learning rate | embeddings | validation loss |")
    assert table[2:] == [
        "| normuon | 0.02 | 1 | 4.1000 ± 0.1000 | -0.5000 | 3 | 2 k | 2.0 | 3 k |",
        "| adam | 0.002 | 0.5 | 4.6000 ± 0.1414 | +0.0000 | 2 | 1 k | 4.0 | - |",
    ]


def test_without_a_timed_run_there_are_no_seconds() -> None:
    muon = run("muon", 0.02, 1.0, 1337, 4.05, **SHARED_GPU)
    rows = seeds_table(RUNS | named(muon, run("muon", 0.02, 1.0, 1338, None))).splitlines()[2:]
    assert rows[0] == "| muon | 0.02 | 1 | 4.0500 | -0.5500 | 1 | - | - | - |"
    assert [row.split()[1] for row in rows] == ["muon", "normuon", "adam"]


def test_without_the_reference_nothing_is_held_against_it() -> None:
    only = {name: each for name, each in RUNS.items() if each["optimizer"] == "normuon"}
    assert seeds_table(only).splitlines()[2:] == [
        "| normuon | 0.02 | 1 | 4.1000 ± 0.1000 | - | 3 | 2 k | 2.0 | - |"
    ]


def test_seeds_have_no_table_before_there_are_some() -> None:
    assert seeds_table(SWEEP) == ""
    elsewhere = named(run("normuon", 0.02, 2.0, 1339, 3.9))
    assert seeds_table(SWEEP | elsewhere) == ""


def test_a_loss_that_one_seed_never_reached_was_not_reached() -> None:
    runs = [run("muon", 0.02, 1.0, 1, loss) for loss in (4.0, 4.1, 4.2)]
    assert tokens_to(runs, 4.6) == pytest.approx(3000, abs=0.1)  # 2800, 3000 and 3200
    assert tokens_to(runs, 4.15) is None


def part(name: str, text: str, loss: float | None, embeddings: float) -> Entry:
    labels = {"part": text, "optimizer": "normuon", "learning_rate": 0.02}
    return entry(name, "parts", loss, embedding_rate=embeddings, **labels)


def parts_at(embeddings: float) -> dict[str, Entry]:
    return named(
        part("a", "swiglu", 4.1, embeddings),
        part("b", "swiglu", 4.0, embeddings),
        part("c", "without backout", None, embeddings),
        part("d", "without smear", 4.3, embeddings),
        part("e", "head in float8", 4.2, embeddings),
        part("f", "head in float8", None, embeddings),
    )


def test_the_spread_is_pooled_over_groups_of_several() -> None:
    assert pooled_spread([[4.0], [], [5.0]]) is None
    # Squares about the means: 0.02 of three values, 0.02 of two; 2 + 1 degrees of freedom.
    assert pooled_spread([[4.0, 4.1, 4.2], [4.5, 4.7], [9.0]]) == pytest.approx((0.04 / 3) ** 0.5)


def test_parts_are_held_against_the_baselines_mean_the_most_harmful_first() -> None:
    # Squares of 0.02 of the baseline's three runs, 0.005 of the two with swiglu: the spread is
    # sqrt(0.025 / 3). Times sqrt(1 + 1/3), and sqrt(1/2 + 1/3) with two seeds.
    assert parts_table(RUNS | parts_at(1.0)).splitlines()[2:] == [
        "| none (baseline) | 4.1000 ± 0.1000 |  |  | 3 |",
        "| without smear | 4.3000 | +0.2000 | 0.1054 | 1 |",
        "| head in float8 | 4.2000 | +0.1000 | 0.1054 | 1 |",
        "| swiglu | 4.0500 | -0.0500 | 0.0833 | 2 |",
        "| without backout | failed |  |  |  |",
    ]


def test_the_baseline_of_parts_need_not_be_the_best_point() -> None:
    # 4.3 and 3.9: squares of 0.08, and 0.005 of swiglu's. sqrt(0.085 / 2) x sqrt(1 + 1/2) and x 1
    assert parts_table(RUNS | parts_at(2.0)).splitlines()[2:] == [
        "| none (baseline) | 4.1000 ± 0.2828 |  |  | 2 |",
        "| without smear | 4.3000 | +0.2000 | 0.2525 | 1 |",
        "| head in float8 | 4.2000 | +0.1000 | 0.2525 | 1 |",
        "| swiglu | 4.0500 | -0.0500 | 0.2062 | 2 |",
        "| without backout | failed |  |  |  |",
    ]


def test_parts_are_those_at_one_point_which_the_page_tells() -> None:
    earlier = named(part("earlier", "swiglu", 1.0, 2.0))
    runs = RUNS | earlier | parts_at(1.0)
    assert parts_tried(runs) == list(parts_at(1.0).values())
    assert parts_table(runs) == parts_table(RUNS | parts_at(1.0))
    told = "\n\nParts were tried under normuon at learning rates of 0.02 and 1.\n"
    assert told in results_page(ABOUT, runs)


def test_parts_need_a_baseline_and_a_spread_for_an_error() -> None:
    assert parts_table(RUNS) == parts_table(parts_at(1.0)) == ""
    once = {name: each for name, each in parts_at(1.0).items() if name != "b"}
    rows = parts_table(SWEEP | once).splitlines()[2:]
    assert rows[:2] == [
        "| none (baseline) | 4.0000 |  |  | 1 |",
        "| without smear | 4.3000 | +0.3000 | - | 1 |",
    ]


def test_the_sweep_is_a_row_a_rate_and_a_column_for_embeddings_the_best_in_bold() -> None:
    adam = named(run("adam", 0.002, 1.0, 1337, 4.1), run("adam", 0.002, 2.0, 1337, 4.5))
    muon = named(
        run("muon", 0.02, 1.0, 1337, 4.2),
        run("muon", 0.02, 0.25, 1337, None),
        run("muon", 0.014, 0.25, 1337, 4.1),
        run("muon", 0.02, 0.25, 1338, 1.0),
    )
    assert sweep_table(adam | muon | parts_at(0.125)).splitlines() == [
        "| optimizer | learning rate | embeddings 0.25 | embeddings 1 | embeddings 2 |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| muon | 0.014 | **4.1000** |  |  |",
        "| muon | 0.02 | failed | 4.2000 |  |",
        "| adam | 0.002 |  | **4.1000** | 4.5000 |",
    ]


def test_a_search_that_has_not_ended_is_told() -> None:
    def searched(optimizer: str, losses: dict[Point, float]) -> dict[str, Entry]:
        points = grid(FIRST_RATES[optimizer], FIRST_EMBEDDING_RATES)
        return named(*(run(optimizer, *each, 1337, losses.get(each, 4.5)) for each in points))

    ended = searched("adam", {Point(0.0028, 0.016): 4.0})
    at_a_side = searched("bam", {Point(0.02, 0.016): 4.0})
    first_going_on = named(run("muon", 0.02, 0.016, 1337, 4.0))
    failed = named(run("aro", 0.008, 1.0, 1337, None))
    page = results_page(ABOUT, ended | at_a_side | first_going_on | failed)
    assert page.endswith("\n\nBetter learning rates may lie beyond those tried of: muon, bam.\n")
    beyond = named(run("bam", 0.04, 0.016, 1337, 4.5))
    assert "Better" not in results_page(ABOUT, ended | at_a_side | beyond | failed)


def test_small_stands_beside_base() -> None:
    shared = {"optimizer": "normuon", "learning_rate": 0.02, "embedding_rate": 1.0}
    shared |= {"alone": True, "peak_memory_gib": 9.0, "tokens_per_second": 500.0}
    small = named(entry("s", "small", 3.5, **shared))
    assert small_table(RUNS | small).splitlines()[2:] == [
        "| base | 4.1000 ± 0.1000 | 3 | 4 k | 2 k | 1.50 GiB |",
        "| small | 3.5000 | 1 | 4 k | 500 | 9.00 GiB |",
    ]
    assert small_table(small).splitlines()[2] == "| base | - | 0 | 4 k | - | - |"
    assert small_table(RUNS) == ""


def test_a_page_holds_the_tables_that_have_rows() -> None:
    page = results_page(ABOUT, RUNS)
    assert page.startswith("gpu NVIDIA H200, torch 2.11.0; 2030-01-02\n")
    assert tables_in(page) == {"sweep": sweep_table(RUNS), "seeds": seeds_table(RUNS)}
    assert tables_in(f"# Study\n\n{between_markers('seeds', 'x')}\n\nText.\n") == {"seeds": "x"}
    assert results_page(ABOUT, {}) == "gpu NVIDIA H200, torch 2.11.0\n"


def test_runs_of_two_days_say_so() -> None:
    later = named(run("adam", 0.002, 0.5, 1339, 4.6, finished="2030-01-04T00:00:00"))
    assert machine_line(ABOUT, RUNS | later).endswith("; 2030-01-02 to 2030-01-04")


@pytest.mark.parametrize("name", ["docs/results.md", "README.md"])
def test_the_tables_of_a_page_are_those_of_the_record(name: str) -> None:
    _, entries = read_record(ROOT / "docs/results/results.json")
    page = (ROOT / name).read_text()
    tables = tables_in(page)
    assert tables and page.count("<!-- table: ") == len(tables)
    assert tables == {name: TABLES[name](entries) for name in tables}
