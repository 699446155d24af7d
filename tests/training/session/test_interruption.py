"""The first signal is a request, the second takes its usual course."""

import signal

import pytest

from ramengpt.training.session.interruption import stop_on_signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_asks(number: int, status: int) -> None:
    with stop_on_signals() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop
        assert stop.exit_status == status


def test_the_second_signal_takes_its_usual_course() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop
        signal.raise_signal(signal.SIGINT)


def test_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(RuntimeError), stop_on_signals():
        assert signal.getsignal(signal.SIGINT) != before[1]
        raise RuntimeError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
