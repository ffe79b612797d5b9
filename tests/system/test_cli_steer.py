"""Pause, resume, stop, wait, purge, retry, as people type them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from services.processes import until

from minionize.contracts.engine import Engine, EngineOptions
from minionize.engines.registry import open_engine, open_queue
from minionize.values import Failure, Lease, State, Stats

ROOT = Path(__file__).parents[2]
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
DEADLINE_S = 180.0


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    return {**clean, "PYTHONPATH": str(ROOT)}


def minion(folder: Path, *args: str, status: int = 0) -> tuple[str, str]:
    """Run `minion ARGS` in `folder`; (stdout, stderr) of what must end with `status`."""
    ran = subprocess.run(  # noqa: PLW1510
        [*MINION, *args], cwd=folder, env=environment(), capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=DEADLINE_S,
    )  # fmt: skip
    assert ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
    assert "Traceback" not in ran.stderr
    return ran.stdout, ran.stderr


@contextmanager
def started(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """`minion ARGS`, running; killed if it still does at the end."""
    with subprocess.Popen(
        [*MINION, *args], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a queue of four params."""
    queue = open_queue(str(tmp_path / "minion-queue"), EngineOptions())
    queue.put_texts(['"a"', '"b"', '"c"', '"d"'])
    queue.close()
    return tmp_path


@contextmanager
def engine_of(folder: Path) -> Iterator[Engine]:
    engine = open_engine(str(folder / "minion-queue"), EngineOptions(minion_id="m", slots=1))
    try:
        yield engine
    finally:
        engine.close()


def leased(engine: Engine, count: int) -> list[Lease]:
    leases: list[Lease] = []

    def all_there() -> bool:
        leases.extend(engine.lease(count - len(leases), 0.1))
        return len(leases) == count

    until(all_there)
    return leases


def stats(folder: Path) -> Stats:
    queue = open_queue(str(folder / "minion-queue"), EngineOptions())
    try:
        return queue.stats()
    finally:
        queue.close()


def bury_two(folder: Path) -> None:
    """`a` and `b` are dead, with different reasons."""
    with engine_of(folder) as engine:
        a, b = leased(engine, 2)
        engine.bury([a], Failure("exit 3", "no such lattice"))
        engine.bury([b], Failure("signal SIGSEGV"))


def test_no_queue_is_a_usage_error_and_makes_none(tmp_path: Path) -> None:
    for command in ("pause", "resume", "stop", "wait", "purge", "retry"):
        _, err = minion(tmp_path, command, status=2)
        assert "no queue" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "minion-queue").exists()


def test_pause_and_resume(folder: Path) -> None:
    out, _ = minion(folder, "pause")
    assert out == "paused: file:minion-queue; go on with minion resume\n"
    assert stats(folder).paused
    with engine_of(folder) as engine:
        assert not engine.lease(1, 0.2)
    assert minion(folder, "pause")[0].startswith("already paused")
    assert minion(folder, "resume")[0] == "resumed: file:minion-queue, 4 waiting\n"
    assert not stats(folder).paused
    assert minion(folder, "resume")[0].startswith("was not paused")
    with engine_of(folder) as engine:
        assert len(leased(engine, 1)) == 1


def test_stop_without_minions_says_so(folder: Path) -> None:
    assert minion(folder, "stop", "--wait")[0] == "no minion is at work: file:minion-queue\n"
    with engine_of(folder) as engine:
        assert len(leased(engine, 1)) == 1
        assert engine.orders().stops == 0 or not engine.orders().paused
    _, err = minion(folder, "stop", "--timeout", "3", status=2)
    assert "--timeout is for --wait" in err
    _, err = minion(folder, "stop", "--wait", "--timeout", "soon", status=2)
    assert "is no time" in err


def test_stop_waits_until_they_are_gone(folder: Path) -> None:
    command = ["sh", "-c", "sleep 1000", "x"]
    with started(folder, "run", "--lease", "4", "--grace", "20", *command) as worker:
        until(lambda: stats(folder).running == 1)
        with engine_of(folder) as engine:
            out, err = minion(folder, "stop", "--wait", "--timeout", "0.2", status=75)
            assert "told 2 minions to stop" in out
            assert "m" in err
            assert "still there after 0.2" in err
            before = engine.orders().stops
            minion(folder, "stop")
            until(lambda: bool(engine.extend([])) or engine.orders().stops > before)
        out, _ = minion(folder, "stop", "--wait")
        worker.communicate(timeout=DEADLINE_S)
        assert worker.returncode == 75
    assert stats(folder).minions == 0
    assert stats(folder).running == 0


def test_wait_ends_when_the_queue_is_drained(folder: Path) -> None:
    _, err = minion(folder, "wait", "--timeout", "0.1", status=75)
    assert "4 params left after 0.1 s" in err
    assert "no minion is at work" in err
    with started(folder, "wait") as waiting, engine_of(folder) as engine:
        engine.ack(leased(engine, 4))
        engine.stats()
        out, _ = waiting.communicate(timeout=DEADLINE_S)
        assert waiting.returncode == 0
        assert out == "4 done, 0 dead\n"


def test_wait_for_a_queue_with_dead_letters_ends_with_1(folder: Path) -> None:
    bury_two(folder)
    with engine_of(folder) as engine:
        engine.ack(leased(engine, 2))
    assert minion(folder, "wait", status=1)[0] == "2 done, 2 dead: see minion failures\n"


def test_wait_waits_for_feeders(tmp_path: Path) -> None:
    queue = open_queue(str(tmp_path / "minion-queue"), EngineOptions())
    with queue.feeding():
        minion(tmp_path, "wait", "--timeout", "0.1", status=75)
    minion(tmp_path, "wait")
    queue.close()


def test_interrupted_wait_dies_of_it(folder: Path) -> None:
    with started(folder, "wait") as waiting:
        assert waiting.stderr is not None
        assert "no minion is at work" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=DEADLINE_S)
        assert waiting.returncode == -signal.SIGINT


def test_purge_asks_first(folder: Path) -> None:
    bury_two(folder)
    _, err = minion(folder, "purge", status=2)
    assert "would drop 2 waiting, 2 dead" in err
    assert "--yes" in err
    assert stats(folder).waiting == 2
    assert minion(folder, "purge", "--dead", "--yes")[0].startswith("2 params dropped")
    assert stats(folder)[1:6] == (2, 0, 0, 0, 0)
    assert minion(folder, "purge", "--dead")[0].startswith("no dead letter to drop")
    assert minion(folder, "purge", "--yes")[0].startswith("2 params dropped")
    assert minion(folder, "purge")[0].startswith("nothing waiting")
    assert stats(folder).purged == 4


@pytest.mark.parametrize(("answer", "left", "status"), [(b"n\n", 4, 2), (b"y\n", 0, 0)])
def test_purge_on_a_terminal(folder: Path, answer: bytes, left: int, status: int) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*MINION, "purge"], cwd=folder, env=environment(), stdin=theirs, stdout=theirs,
        stderr=theirs,
    ) as purge:  # fmt: skip
        os.close(theirs)
        asked = b""
        while b"?" not in asked:
            asked += os.read(ours, 1000)
        assert b"Drop 4 waiting" in asked
        os.write(ours, answer)
        assert purge.wait(DEADLINE_S) == status
    os.close(ours)
    assert stats(folder).waiting == left


def test_retry_all_by_id_by_reason_and_done(folder: Path) -> None:
    bury_two(folder)
    out, _ = minion(folder, "retry", "1")
    assert out == "1 dead letter back to work: file:minion-queue, 3 waiting\n"
    assert minion(folder, "retry", "--reason", "SEGV")[0].startswith("1 dead letter back")
    assert stats(folder).dead == 0
    assert minion(folder, "retry")[0].startswith("0 dead letters back")
    _, err = minion(folder, "retry", "--reason", "nothing", status=2)
    assert "no reason has 'nothing'" in err
    _, err = minion(folder, "retry", "1", "99", status=2)
    assert "not dead, so left alone: " in err
    assert "99 unknown" in err
    with engine_of(folder) as engine:
        engine.ack(leased(engine, 4))
    assert minion(folder, "retry", "--done", "3")[0].startswith("1 finished param back")
    assert stats(folder)[1:6] == (1, 0, 0, 3, 0)
    assert minion(folder, "retry", "--done")[0].startswith("3 finished params back")
    assert stats(folder).waiting == 4
    _, err = minion(folder, "retry", "--reason", "x", "3", status=2)
    assert "--reason chooses" in err


def test_retry_of_everything_dead_counts_anew(folder: Path) -> None:
    bury_two(folder)
    assert minion(folder, "retry")[0].startswith("2 dead letters back to work")
    with engine_of(folder) as engine:
        leases = leased(engine, 4)
        assert sorted(lease.param for lease in leases) == ["a", "b", "c", "d"]
        assert {lease.attempt for lease in leases} == {1}
    queue = open_queue(str(folder / "minion-queue"), EngineOptions())
    assert not list(queue.scan(State.DEAD))
    queue.close()
