"""The board that minion and child share: what it says, and who goes on where it is closed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.worker.functions import records
from minionize.worker.functions.board import BOARD_BYTES, ENTRIES, Board, may_begin, views
from minionize.worker.signals import is_readable


class Child:
    """What a child does with a board, one step at a time."""

    def __init__(self, fd: int, records_fd: int) -> None:
        self.limit, self.entries = views(fd)
        self.records_fd = records_fd
        self.now = 0.0

    def note(self, entry: int, result: str | None = None) -> None:
        """Fill this entry."""
        self.now += 0.25
        sign = 1.0
        if result is not None:
            os.write(self.records_fd, records.encode_result(result))
            sign = -1.0
        self.entries[entry % ENTRIES] = sign * self.now


@contextmanager
def made() -> Iterator[tuple[Board, Child]]:
    """A board, and a child that has it."""
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile(buffering=0) as noted:
        file.write(bytes(BOARD_BYTES))
        file.flush()
        board = Board(os.dup(file.fileno()), os.dup(noted.fileno()))
        try:
            yield board, Child(file.fileno(), noted.fileno())
        finally:
            board.close()


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 5)), min_size=1, max_size=30))
def test_what_is_filled_is_read_once_and_in_order(batches: list[tuple[int, int]]) -> None:
    """Over many laps, read in pieces, some entries with records."""
    with made() as (board, child):
        noted: list[float] = []
        told: list[str] = []
        read: list[float] = []
        heard: list[str] = []

        def look() -> None:
            while True:
                entries, more = board.read()
                if not entries:
                    return
                read.extend(entries)
                heard.extend(more)

        for size, every in batches * 3:
            if not board.has_room(size):
                look()
            assert board.has_room(size)
            first = board.give(size)
            for entry in range(first, first + size + 1):
                with_record = entry > first and entry % every == 1
                child.note(entry, str(entry) if with_record else None)
                if with_record:
                    told.append(str(entry))
                noted.append(-child.now if with_record else child.now)
                if entry % 97 == 0:
                    look()
        look()
        assert read == noted and heard == told


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_what_has_begun_is_not_taken_back(sizes: list[int], filled: int, read_at: int) -> None:
    with made() as (board, child):
        begun, entries = 0, []
        for size in sizes:
            first = board.give(size)
            entries += [
                (first, False),
                *((entry, True) for entry in range(first + 1, first + size + 1)),
            ]
        filled = min(filled, len(entries))
        for entry, _ in entries[:filled]:
            child.note(entry)
            if entry == read_at:
                board.read()
        # A run has begun with the entry before its own, which may be the last run's end.
        runs = [is_run for _, is_run in entries]
        begun = sum(runs[: filled + 1]) if filled else 0
        assert board.take_back() == sum(sizes) - begun
        assert board.take_back() == 0
        granted = [entry for entry, is_run in entries if is_run and may_begin(child.limit, entry)]
        assert len(granted) == begun
        # They are noted down, and what comes next begins behind them.
        for entry in granted:
            if entry not in [at for at, _ in entries[:filled]]:
                child.note(entry)
        while board.read()[0]:
            pass
        first = board.give(2)
        for entry in range(first, first + 3):
            assert entry == first or may_begin(child.limit, entry)
            child.note(entry)
        assert len(board.read()[0]) == 3


def test_an_entry_whose_record_cannot_be_seen_yet_is_left() -> None:
    with made() as (board, child):
        first = board.give(3)
        child.note(first)
        child.note(first + 1)
        child.note(first + 2, "7")
        child.entries[(first + 3) % ENTRIES] = -9.0
        assert board.read() == ([0.25, 0.5, -0.75], ["7"])
        assert board.read() == ([], [])
        os.write(child.records_fd, records.encode_result("8"))
        assert board.read() == ([-9.0], ["8"])


def _run_on(child: Child, first: int, runs: int, ran: memoryview) -> None:
    """What a child does with a batch, as fast as it can: counts the runs that it begins."""
    if not may_begin(child.limit, first + 1):
        return
    child.entries[first % ENTRIES] = 1.0
    for entry in range(first + 1, first + 1 + runs):
        if child.limit[0] <= entry and not may_begin(child.limit, entry):
            if entry == first + 1:
                child.entries[first % ENTRIES] = 0.0
            return
        ran[0] += 1
        child.entries[entry % ENTRIES] = 1.0


@pytest.mark.parametrize("delay_us", [0, 50, 200, 700])
def test_what_is_taken_back_while_the_child_runs_on_is_run_by_nobody(delay_us: int) -> None:
    """Two processes, at once: each run is either begun by the child or taken back."""
    with made() as (board, child), tempfile.TemporaryFile() as shared:
        shared.write(bytes(BOARD_BYTES))
        shared.flush()
        ran = views(shared.fileno())[0]
        theirs, ours = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                while order := os.read(theirs[0], 4096):
                    first, runs = json.loads(order)
                    _run_on(child, first, runs, ran)
                    os.write(ours[1], b".")
            finally:
                os._exit(0)
        try:
            given_runs = taken = read = 0
            for round_number in range(40):
                runs = 4000
                first = board.give(runs)
                given_runs += runs
                os.write(theirs[1], json.dumps([first, runs]).encode())
                until = time.monotonic() + (delay_us + 13 * round_number) / 1e6
                while time.monotonic() < until:
                    pass
                taken += board.take_back()
                assert is_readable(ours[0], 30.0), "the child hangs"
                os.read(ours[0], 1)
                begun = 0
                while entries := board.read()[0]:
                    begun += len(entries)
                read += max(0, begun - 1)
                assert ran[0] == read == given_runs - taken
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for fd in (*theirs, *ours):
                os.close(fd)
