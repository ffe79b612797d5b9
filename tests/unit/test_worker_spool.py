"""What a program prints, in memory and on disk: each byte is where it was, whatever moves."""

from __future__ import annotations

import os
import random
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minionize.worker import output, program_output
from minionize.worker import spool as module
from minionize.worker.output import TAIL_BYTES
from minionize.worker.program_output import ProgramOutput
from minionize.worker.spool import ProgramSpool

_TURN = 64 * 1024
_PIECE = 8 * 1024


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgramSpool]:
    """With small pieces, so that little output goes through all of it."""
    monkeypatch.setattr(module, "TURN_BYTES", _TURN)
    monkeypatch.setattr(module, "PUNCH_BYTES", _PIECE)
    made = ProgramSpool(str(tmp_path))
    yield made
    made.close()


def _rest(spool: module.Pages, start: int) -> bytes:
    found = b""
    while piece := spool.pread(1 << 20, start + len(found)):
        found += piece
    return found


def test_a_reader_that_caught_up_in_between_gets_each_byte(spool: ProgramSpool) -> None:
    first, second = (os.urandom(3 * _TURN) for _ in range(2))
    os.write(spool.fd, first)
    spool.spill(1)
    assert 0 < spool.spilled < len(first)
    # The reader has all of it: what is in memory is given back, and was never on disk.
    spool.passed = len(first)
    spool.free_passed()
    os.write(spool.fd, second)
    spool.spill(1)
    assert spool.spilled > len(first)
    assert _rest(spool, len(first)) == second


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_printing_passing_and_spilling(spool: ProgramSpool, seed: int) -> None:
    chance = random.Random(seed)
    for _run in range(2):
        written = b""
        for _step in range(30):
            step = chance.randrange(4)
            if step < 2:
                data = chance.randbytes(chance.randrange(3 * _PIECE))
                os.write(spool.fd, data)
                written += data
            elif step == 2:
                spool.passed = chance.randint(spool.passed, len(written))
                spool.free_passed()
            else:
                spool.spill(chance.choice([1, _PIECE, _TURN]))
            kept = max(0, spool.passed - TAIL_BYTES)
            assert _rest(spool, kept) == written[kept:]
        passed = spool.passed
        if chance.randrange(2):
            given = spool.give_away()
            assert _rest(given, passed) == written[passed:]
            given.close()
        else:
            spool.clear()
        assert spool.size() == 0


@pytest.mark.parametrize("library", ["glibc", "musl", "none"])
def test_room_is_reserved_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """musl has no fallocate64; its fallocate takes 64 bits."""
    if library != "glibc":
        real = output._library()
        calls = {"fallocate": real.fallocate64} if library == "musl" else {}
        monkeypatch.setattr(output, "_library", lambda: SimpleNamespace(**calls))
    with open(tmp_path / "file", "wb") as file:
        file.write(b"x" * 8192)
        file.flush()
        if library == "none":
            with pytest.raises(OSError, match="not supported"):
                output.fallocate(file.fileno(), output.KEEP_SIZE, 0, 1 << 20)
        else:
            output.fallocate(file.fileno(), output.KEEP_SIZE, 0, 1 << 20)
            assert os.fstat(file.fileno()).st_blocks * 512 >= 1 << 20
        output.punch(file.fileno(), 0, 4096)
        assert os.fstat(file.fileno()).st_size == 8192
    expected = b"x" * 8192 if library == "none" else bytes(4096) + b"x" * 4096
    assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.parametrize(("slots", "stopped"), [(1, False), (4, True), (64, True)])
def test_many_slots_share_the_memory_of_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int, stopped: bool
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(program_output, "_signal", lambda pgid, number: sent.append(number))
    told = ProgramOutput(
        select.poll(),
        slots=slots,
        capture=False,
        keep_end=False,
        live=False,
        on_closed=lambda why: None,
        before=None,
    )
    out, err = ProgramSpool(str(tmp_path)), ProgramSpool(str(tmp_path))
    slot: Any = SimpleNamespace(
        out=out, err=err, draft_out=None, draft_err=None, pid=7, held_up=False, end=""
    )
    os.write(out.fd, bytes(50 << 20))
    for _turn in range(5):
        told.tick(slot)
    assert sent == ([signal.SIGSTOP, signal.SIGCONT] if stopped else [])
    assert out.pread(10, (50 << 20) - 4) == bytes(4)
    for each in (out, err, told):
        each.close()
