"""No GPU is idle while a run could begin there, and what is timed has one to itself at the end."""

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.run_places import Child, places, visible_gpus
from benchmarks.run_record import Run
from benchmarks.run_worker import Worker


def run(name: str, *, alone: bool = False) -> Run:
    return Run(name, 1, (), {}, alone)


def going(name: str, gpu: str, *, alone: bool = False) -> Child:
    return Child(run(name, alone=alone), cast(Worker, SimpleNamespace(gpu=gpu)), started=0.0)


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[str], int, list[Child]]:
    """GPUs, processes on each, and what runs there."""
    gpus = list("abcd")[: draw(st.integers(1, 4))]
    processes_each = draw(st.integers(1, 4))
    running = []
    for gpu in gpus:
        if draw(st.booleans()):
            count = draw(st.integers(0, processes_each))
            running += [going(f"{gpu}{number}", gpu) for number in range(count)]
        else:
            running.append(going(gpu, gpu, alone=True))
    return gpus, processes_each, running


@settings(deadline=None, max_examples=300)
@given(machines(), st.lists(st.booleans(), max_size=12))
def test_no_gpu_is_idle_or_too_full_and_what_is_timed_waits_for_the_others(
    machine: tuple[list[str], int, list[Child]], wishes: list[bool]
) -> None:
    gpus, processes_each, running = machine
    due = [run(f"due{number}", alone=alone) for number, alone in enumerate(wishes)]
    found = places(due, running, gpus, processes_each)
    begun = [each for each, _ in found]
    before = {gpu: [child.run for child in running if child.gpu == gpu] for gpu in gpus}
    after = {gpu: before[gpu] + [each for each, at in found if at == gpu] for gpu in gpus}
    for load in after.values():
        assert len(load) <= processes_each
        assert len(load) <= 1 or not any(each.alone for each in load)
    shared = [each for each in due if not each.alone]
    timed = [each for each in due if each.alone]
    if shared or not all(child.run.alone for child in running):
        could_begin, most = shared, processes_each
    else:
        could_begin, most = timed, 1
    assert begun == could_begin[: len(begun)]  # in their order
    if len(begun) < len(could_begin):
        for load in after.values():
            assert len(load) == most or any(each.alone for each in load)


@pytest.mark.parametrize(
    ("loads", "due", "expected"),
    [
        ((0, 0), "ss", "ab"),  # spread
        ((2, 0), "ssss", "bbab"),
        ((0, 0), "sAs", "a-b"),
        ((1, 0), "A", "-"),
        ((0, 0), "AAA", "ab-"),
    ],
)
def test_runs_go_where_the_fewest_are(loads: tuple[int, int], due: str, expected: str) -> None:
    running = [
        going(f"{gpu}{n}", gpu) for gpu, load in zip("ab", loads, strict=True) for n in range(load)
    ]
    runs = [run(f"{kind}{n}", alone=kind == "A") for n, kind in enumerate(due)]
    found = {each.name: gpu for each, gpu in places(runs, running, ["a", "b"], 3)}
    assert "".join(found.get(each.name, "-") for each in runs) == expected


def test_where_one_is_timed_nothing_else_begins() -> None:
    running = [going("timed", "a", alone=True)]
    assert places([run("alone", alone=True)], running, ["a", "b"], 3)[0][1] == "b"
    assert [gpu for _, gpu in places([run("s1"), run("s2")], running, ["a", "b"], 3)] == ["b", "b"]
    assert places([run("alone", alone=True)], running, ["a"], 3) == []


def test_gpus_go_by_the_names_that_the_environment_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_gpus() == ["3", "5"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert visible_gpus() == [""]
