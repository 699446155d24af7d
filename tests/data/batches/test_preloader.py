"""The thread and its ring, without any data behind them."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from ramengpt.data.batches.preloader import RING_BUFFERS, Preloader
from ramengpt.errors import UserError
from tests.data.make_shards import open_files

CPU = torch.device("cpu")


def counting_jobs(count: int, num_tokens: int = 5, log: list[int] | None = None) -> Iterator:
    """Batch i is filled with i; the note is 10 i."""
    for number in range(count):

        def fill(batch_3T, number=number):
            batch_3T[:] = number
            if log is not None:
                log.append(number)
            return 10 * number

        yield num_tokens, fill


def preloader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "preloader"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert preloader_threads() == []


def wait_until(condition) -> None:
    """At most a minute, for a busy machine."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_gives_every_batch_once_in_order_and_then_stops():
    with Preloader(counting_jobs(20), 5, CPU) as preloader:
        found = list(preloader)
        assert next(preloader, None) is None
    for number, (batch_3T, note) in enumerate(found):
        assert batch_3T.dtype == torch.int32
        assert note == 10 * number and torch.equal(batch_3T, torch.full((3, 5), number).int())


def test_lengths_may_change_up_to_the_capacity():
    def jobs():
        for num_tokens in (1, 7, 3, 7):
            yield num_tokens, lambda batch_3T: batch_3T.fill(batch_3T.shape[1])

    with Preloader(jobs(), 7, CPU) as preloader:
        found = [batch_3T.tolist() for batch_3T, _ in preloader]
    assert found == [[[num_tokens] * num_tokens] * 3 for num_tokens in (1, 7, 3, 7)]


def test_works_ahead_but_not_further_than_the_ring():
    log: list[int] = []
    with Preloader(counting_jobs(100, log=log), 5, CPU) as preloader:
        wait_until(lambda: len(log) == RING_BUFFERS)
        time.sleep(0.05)
        assert len(log) == RING_BUFFERS
        next(preloader)
        wait_until(lambda: len(log) == RING_BUFFERS + 1)


def test_batches_that_were_handed_out_are_never_overwritten():
    with Preloader(counting_jobs(50), 5, CPU) as preloader:
        kept = [batch_3T for batch_3T, _ in preloader]
    assert [int(batch_3T[0, 0]) for batch_3T in kept] == list(range(50))


def test_an_error_arrives_after_the_batches_before_it_with_its_cause():
    def jobs():
        yield from counting_jobs(6)

        def fail(_):
            try:
                raise OSError("disk gone")
            except OSError as error:
                raise UserError("shard 7 cannot be read") from error

        yield 5, fail

    with Preloader(jobs(), 5, CPU) as preloader:
        assert [note for _, note in (next(preloader) for _ in range(6))] == [0, 10, 20, 30, 40, 50]
        for _ in range(2):
            with pytest.raises(UserError, match="shard 7 cannot be read") as caught:
                next(preloader)
            assert isinstance(caught.value.__cause__, OSError)
            assert any(entry.name == "fail" for entry in caught.traceback)


def test_an_error_between_two_jobs_arrives_too():
    def jobs():
        yield from counting_jobs(1)
        raise MemoryError("no more")

    with Preloader(jobs(), 5, CPU) as preloader:
        next(preloader)
        with pytest.raises(MemoryError, match="no more"):
            next(preloader)


def test_a_stop_iteration_by_mistake_does_not_pass_for_the_end():
    def fail(_):
        return next(iter(()))

    with Preloader(iter([(5, fail)]), 5, CPU) as preloader, pytest.raises(RuntimeError):
        next(preloader)


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_close_ends_the_thread_at_any_time(taken):
    preloader = Preloader(counting_jobs(1000), 5, CPU)
    for _ in range(taken):
        next(preloader)
    preloader.close()
    assert preloader_threads() == []
    preloader.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(preloader)


def test_an_error_of_the_consumer_ends_the_thread():
    with pytest.raises(KeyError), Preloader(counting_jobs(1000), 5, CPU) as preloader:
        next(preloader)
        raise KeyError


def test_what_the_jobs_hold_is_released(tmp_path):
    (tmp_path / "file").write_bytes(b"x")

    def jobs():
        with (tmp_path / "file").open("rb") as file:
            for job in counting_jobs(1000):
                assert not file.closed
                yield job

    before = open_files()
    preloader = Preloader(jobs(), 5, CPU)
    next(preloader)
    assert open_files() == before + 1
    preloader.close()
    assert open_files() == before


@pytest.mark.gpu
def test_copies_to_the_gpu_are_ahead_right_and_never_of_a_reused_buffer():
    cuda = torch.device("cuda")
    num_tokens = 1 << 18
    with Preloader(counting_jobs(40, num_tokens), num_tokens, cuda) as preloader:
        sums = []
        for batch_3T, note in preloader:
            assert batch_3T.is_cuda and note == 10 * len(sums)
            torch.cuda._sleep(
                2_000_000
            )  # a step that is still running when the next one is asked for
            sums.append(batch_3T.sum(dtype=torch.int64))
            with torch.cuda.stream(preloader._copies):
                torch.cuda._sleep(1_000_000)  # copies that are late
        found = torch.stack(sums).tolist()
    assert found == [3 * num_tokens * number for number in range(40)]


@pytest.mark.gpu
def test_host_buffers_are_pinned_and_nothing_waits_for_the_gpu():
    cuda = torch.device("cuda")
    with Preloader(counting_jobs(8, 4096), 4096, cuda) as preloader:
        filled = preloader._ready.get()
        assert filled.buffer.is_pinned()
        preloader._free.put(filled.buffer)
        next(preloader)
        torch.cuda.synchronize()
        torch.cuda._sleep(4_000_000_000)  # about two seconds
        next(preloader)
        next(preloader)
        assert not torch.cuda.current_stream().query(), "it waited for the device"
        torch.cuda.synchronize()
