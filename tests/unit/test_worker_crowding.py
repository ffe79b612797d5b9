"""Fewer at once where there is no room for one more process, and whose fault an error is."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from program_crews import Make, Runs, end_of, made_crews

from minionize.contracts.crew import Verdict
from minionize.errors import HostUnfit
from minionize.worker.blame import Blame, blame
from minionize.worker.crowding import Crowding


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with made_crews(tmp_path) as made:
        yield made


def test_there_is_room_for_all_at_first() -> None:
    assert Crowding(60.0).room(1000, 0.0) > 1000


def test_so_many_as_ran_run_on() -> None:
    crowding = Crowding(60.0)
    crowding.refused(3, "why", now=10.0)
    assert [crowding.room(running, 10.0) for running in (3, 2, 0)] == [0, 1, 3]
    assert crowding.room(3, 10.1) == 1, "one more is tried a while later"


def test_each_refusal_makes_the_next_try_later_up_to_some_seconds() -> None:
    crowding = Crowding(60.0)
    now, pauses = 0.0, []
    for _ in range(10):
        crowding.refused(1, "why", now)
        began = now
        while not crowding.room(1, now):
            now += 0.01
        pauses.append(now - began)
    assert pauses[0] == pytest.approx(0.1, abs=0.02) and pauses[-1] == pytest.approx(5.0, abs=0.1)
    assert all(later > pause - 0.1 for pause, later in itertools.pairwise(pauses))


def test_several_refusals_at_once_are_one() -> None:
    crowding = Crowding(60.0)
    for _ in range(64):
        crowding.refused(1, "why", now=0.0)
    assert crowding.room(1, 0.11) == 1


def test_room_comes_back_one_by_one() -> None:
    crowding = Crowding(60.0)
    crowding.refused(1, "why", now=0.0)
    now, running = 0.0, 1
    while crowding.most is not None:
        now += 0.1
        assert now < 60
        if crowding.room(running, now):
            running += 1
            crowding.started(running, slots=8, now=now)
    assert running == 8


def test_none_at_all_is_an_error_after_a_while() -> None:
    crowding = Crowding(60.0)
    crowding.refused(0, "no process can be started: why", now=5.0)
    crowding.check(64.9)
    with pytest.raises(HostUnfit, match=r"no process could be started here for 60 s \(no process"):
        crowding.check(65.0)
    crowding.started(1, slots=4, now=66.0)
    crowding.check(1000.0)


@pytest.mark.parametrize(
    ("number", "whose"),
    [
        (errno.EAGAIN, Blame.CROWDED),
        (errno.ENOMEM, Blame.CROWDED),
        (errno.EMFILE, Blame.CROWDED),
        (errno.ENFILE, Blame.CROWDED),
        (errno.EIO, Blame.MACHINE),
        (errno.ESTALE, Blame.MACHINE),
        (errno.ENOSPC, Blame.MACHINE),
        (errno.EDQUOT, Blame.MACHINE),
        (errno.EROFS, Blame.MACHINE),
        (errno.ETXTBSY, Blame.MACHINE),
        (errno.ENOTCONN, Blame.MACHINE),
        (errno.ENOENT, Blame.COMMAND),
        (errno.EACCES, Blame.COMMAND),
        (errno.ENAMETOOLONG, Blame.COMMAND),
    ],
)
def test_whose_fault_it_is(number: int, whose: Blame) -> None:
    error = OSError(number, os.strerror(number))
    assert blame(error) is whose
    others = whose if whose is not Blame.COMMAND else Blame.MACHINE
    assert blame(error, ours=True) is blame(error, worked=True) is others


def test_a_program_that_vanishes_is_no_fault_of_a_param(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    crew = make(Runs(str(program)))
    assert end_of(crew).verdict is Verdict.DONE
    program.unlink()
    gone = end_of(crew)
    assert gone.verdict is Verdict.UNABLE and "was started here before" in gone.detail


def test_a_program_that_never_was_there_is_the_commands(make: Make, tmp_path: Path) -> None:
    outcome = end_of(make(Runs(str(tmp_path / "none"))))
    assert outcome.verdict is Verdict.FAILED


def test_a_program_that_is_being_written_is_the_machines(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    with program.open("r+b"):
        outcome = end_of(make(Runs(str(program))))
    assert outcome.verdict is Verdict.UNABLE, outcome


def test_a_variable_that_cant_be_one_is_the_commands(make: Make) -> None:
    for env in ({"": "x"}, {"A=B": "x"}, {"A": "x\0y"}):
        outcome = end_of(make(Runs("/bin/true", env=env)))
        assert outcome.verdict is Verdict.FAILED and "environment" in outcome.reason
