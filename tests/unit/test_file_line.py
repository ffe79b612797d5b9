"""Standing in the kernel's line for the lock, and the alarm that ends it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_queue
from minionize.engines.file.alarm import Alarm
from minionize.engines.file.calls import Calls
from minionize.engines.file.head_file import HeadFile
from minionize.engines.file.locking import LockTaken
from minionize.engines.file.people import FileQueue

LONG_S = 300.0


class Held:
    """The head of a queue, whose lock somebody else has."""

    def __init__(self, folder: Path) -> None:
        self.queue: FileQueue = open_queue(str(folder), EngineOptions(minion_id="filler"))
        self.queue.put([1, 2, 3])
        self.path = f"{folder}/head"
        self.calls = Calls()
        self._holder = Calls()
        self._fd = self._holder.open(self.path, write=True)
        self.take()

    def take(self) -> None:
        assert self._holder.lock(self._fd)

    def head(self, patience_s: float = LONG_S, *, shared: bool = False) -> HeadFile:
        return HeadFile(self.calls, self.path, shared=shared, patience_s=patience_s)

    def let_go(self) -> None:
        self._holder.unlock(self._fd)

    def soon(self, act: Callable[[], object]) -> threading.Thread:
        """When somebody stands in line for a moment."""

        def acts() -> None:
            while not self.calls.lock_trips:
                time.sleep(0.01)
            time.sleep(0.3)
            act()

        thread = threading.Thread(target=acts)
        thread.start()
        return thread

    def is_free(self) -> bool:
        return not self._holder.is_locked(self._fd)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    before = signal.getsignal(signal.SIGALRM)
    yield Held(tmp_path / "queue")
    assert signal.getsignal(signal.SIGALRM) is before, "the alarm was not given back"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_who_stands_in_line_asks_once_and_is_let_in(held: Held) -> None:
    thread = held.soon(held.let_go)
    with held.head() as head:
        assert head.put == 3
    thread.join()
    # Once beside the line, and once in it.
    assert held.calls.lock_trips == 2
    assert held.is_free()


def test_the_line_is_left_when_patience_ends(held: Held) -> None:
    begin = time.monotonic()
    with pytest.raises(LockTaken, match="look for a stopped"), held.head(0.5):
        raise AssertionError
    assert time.monotonic() - begin >= 0.5
    assert held.calls.lock_trips == 2
    held.let_go()
    assert held.is_free(), "one that was told that it has no lock got it"


def test_a_signal_in_the_line_is_heeded_and_the_line_is_not_left(held: Held) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))

    def acts() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        while not heard:
            time.sleep(0.01)
        held.let_go()

    try:
        thread = held.soon(acts)
        with held.head() as head:
            assert head.put == 3
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_in_the_line_leaves_no_lock_behind(held: Held) -> None:
    main = threading.main_thread().ident or 0
    thread = held.soon(lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), held.head():
        raise AssertionError
    thread.join()
    held.let_go()
    assert held.is_free()


def polls(held: Held) -> None:
    with pytest.raises(LockTaken), held.head(0.3):
        raise AssertionError
    assert held.calls.lock_trips > 2, "it stood in line"


def test_another_thread_asks_again_and_again(held: Held) -> None:
    thread = threading.Thread(target=polls, args=[held])
    thread.start()
    thread.join()
    assert held.calls.lock_trips > 2


def test_an_alarm_that_is_somebody_elses_is_left_alone(held: Held) -> None:
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        polls(held)
        while not rang:
            time.sleep(0.01)
        assert len(rang) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_where_no_alarm_would_be_heard_it_asks_again_and_again(held: Held) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        polls(held)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_on_a_network_file_system_it_asks_again_and_again(held: Held) -> None:
    with pytest.raises(LockTaken), held.head(0.3, shared=True):
        raise AssertionError
    assert held.calls.lock_trips > 2


def test_others_that_write_meanwhile_are_seen_from_the_line(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_line(fd: int, within_s: float) -> bool:
        held.let_go()
        held.queue.steer(paused=True)
        held.take()
        return False

    monkeypatch.setattr(held.calls, "lock_in_line", in_line)
    with pytest.raises(LockTaken, match="let in before") as caught, held.head():
        raise AssertionError
    assert caught.value.busy


def test_an_alarm_is_late_for_what_is_done() -> None:
    done: list[int] = []
    assert Alarm().within(LONG_S, lambda: done.append(1)) is True
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        Alarm().within(LONG_S, lambda: 1 // 0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
