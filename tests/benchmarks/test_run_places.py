"""No GPU is idle while a run could begin there, and a run that wants one to itself gets it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.run_pool import Child, places
from benchmarks.run_record import Run


def run(name: str, *, alone: bool = False) -> Run:
    return Run(name, 1, (), {}, alone)


def going(name: str, gpu: str, *, alone: bool = False) -> Child:
    return Child(run(name, alone=alone), gpu, process=None, started=0.0)


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[str], int, list[Child]]:
    """GPUs, processes on each, and what goes on there."""
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
def test_places_leave_no_gpu_idle_and_a_run_alone_that_should_be(
    machine: tuple[list[str], int, list[Child]], wishes: list[bool]
) -> None:
    gpus, processes_each, running = machine
    due = [run(f"due{number}", alone=alone) for number, alone in enumerate(wishes)]
    found = places(due, running, gpus, processes_each)
    begun = [each for each, _ in found]
    assert len({each.name for each in begun}) == len(begun)
    assert all(each in due and gpu in gpus for each, gpu in found)
    before = {gpu: [child.run for child in running if child.gpu == gpu] for gpu in gpus}
    after = {gpu: before[gpu] + [each for each, at in found if at == gpu] for gpu in gpus}
    for load in after.values():
        assert len(load) <= processes_each
        assert len(load) <= 1 or not any(each.alone for each in load)
    for alone in (False, True):  # in their order
        own = [each for each in due if each.alone == alone]
        first = [each for each in begun if each.alone == alone]
        assert first == own[: len(first)]
    waiting = [each for each in due if each not in begun]
    if any(not load for load in after.values()):
        assert not waiting
    if any(not each.alone for each in waiting):
        spare = [
            load
            for load in after.values()
            if len(load) < processes_each and not any(each.alone for each in load)
        ]
        assert len(spare) <= sum(each.alone for each in waiting)  # kept, and none besides
        kept = [gpu for gpu in gpus if after[gpu] in spare]
        assert all(after[gpu] == before[gpu] for gpu in kept)


@settings(deadline=None, max_examples=100)
@given(machines(), st.integers(1, 3), st.data())
def test_a_run_alone_is_not_starved_by_others_that_never_end_to_come(
    machine: tuple[list[str], int, list[Child]], count: int, data: st.DataObject
) -> None:
    gpus, processes_each, running = machine
    lasts = st.integers(1, 5)
    left = {child.run.name: data.draw(lasts) for child in running}
    waiting = [run(f"alone{number}", alone=True) for number in range(count)]
    moments = 0
    while waiting:
        shared = [run(f"{moments}-{number}") for number in range(len(gpus) * processes_each)]
        for each, gpu in places([*shared, *waiting], running, gpus, processes_each):
            running.append(Child(each, gpu, process=None, started=0.0))
            left[each.name] = data.draw(lasts)
            waiting = [other for other in waiting if other is not each]
        moments += 1
        assert moments <= 5 * processes_each * count + 5
        left = {name: time_left - 1 for name, time_left in left.items()}
        running = [child for child in running if left[child.run.name] > 0]


@pytest.mark.parametrize(
    ("loads", "due", "expected"),
    [
        ((0, 0), "ss", "ab"),  # spread
        ((2, 0), "ssss", "bbba"),
        ((0, 0), "sAs", "bab"),  # one GPU is kept, the other filled
        ((1, 2), "As", "-b"),  # the one with the fewest is kept
        ((2, 1), "As", "-a"),
        ((1, 1), "AAs", "---"),
        ((0, 1), "AAs", "a--"),
    ],
)
def test_the_gpu_with_the_fewest_runs_is_kept(
    loads: tuple[int, int], due: str, expected: str
) -> None:
    running = [
        going(f"{gpu}{n}", gpu) for gpu, load in zip("ab", loads, strict=True) for n in range(load)
    ]
    runs = [run(f"{kind}{n}", alone=kind == "A") for n, kind in enumerate(due)]
    found = {each.name: gpu for each, gpu in places(runs, running, ["a", "b"], 3)}
    assert "".join(found.get(each.name, "-") for each in runs) == expected
