"""Minions as processes: killed, stopped, flooded, with their output closed; nothing outlives
them and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import minionize
from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.values import Entry, State, Stats

ROOT = str(Path(minionize.__file__).parent.parent)
MAIN = "from minionize.cli.minionize import main; main()"
Minion = subprocess.Popen[bytes]


class Place:
    """A folder with a queue, and minions in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.minions: list[Minion] = []
        ours = ("MINION_", "OAR_", "SLURM_", "PBS_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env = {**env, "PYTHONPATH": ROOT, "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir()

    def put(self, *params: Any) -> None:
        queue = open_queue(f"file:{self.folder}/q", EngineOptions(minion_id="filler"))
        queue.put(params)
        queue.close()

    def minion(self, *args: str, **more: Any) -> Minion:
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        minion = subprocess.Popen(
            [sys.executable, "-c", MAIN, "-q", "q", *args], cwd=self.folder, env=self.env, **more
        )
        self.minions.append(minion)
        return minion

    def script(self, script: str, *args: str, **more: Any) -> Minion:
        return self.minion(*args, "sh", "-c", script, "x", **more)

    def stats(self) -> Stats:
        queue = open_queue(f"file:{self.folder}/q", EngineOptions(minion_id="looks"))
        try:
            return queue.stats()
        finally:
            queue.close()

    def entries(self, *states: State) -> list[Entry]:
        queue = open_queue(f"file:{self.folder}/q", EngineOptions(minion_id="looks"))
        try:
            return [entry for state in states for entry in queue.scan(state)]
        finally:
            queue.close()

    def numbers(self, name: str) -> list[int]:
        """The pids in a file that runs write to."""
        path = self.folder / name
        return [int(word) for word in path.read_text().split()] if path.exists() else []

    def close(self) -> None:
        for minion in self.minions:
            if minion.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    minion.send_signal(signal.SIGCONT)
                minion.kill()
            minion.communicate(timeout=180)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def ended(minion: Minion) -> tuple[int, bytes, bytes]:
    out, err = minion.communicate(timeout=180)
    return minion.returncode, out, err


LONG = "echo $$ >>pids; sleep 600 & echo $! >>pids; wait"


def test_after_kill_nine_nothing_of_the_minion_is_alive(place: Place) -> None:
    place.put(1, 2)
    minion = place.script(LONG, "-j", "2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(place.numbers("pids")) == 4)
    minion.kill()
    until(lambda: not any(map(alive, place.numbers("pids"))))


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_nothing_is_alive_of_a_minion_in_a_minion(place: Place, how: str) -> None:
    """The inner one's guard carries the outer one's id, and has to end the inner programs."""
    place.put(1)
    inner = open_queue(f"file:{place.folder}/inner", EngineOptions(minion_id="filler"))
    inner.put([1])
    inner.close()
    python = f"{shlex.quote(sys.executable)} -c {shlex.quote(MAIN)}"
    script = f"{python} -q inner sh -c {shlex.quote(LONG)} & wait"
    outer = place.script(script, "--lease", "2", stdout=subprocess.DEVNULL)
    until(lambda: len(place.numbers("pids")) == 2)
    outer.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    until(lambda: not any(map(alive, place.numbers("pids"))))


def test_a_guard_that_is_killed_is_noticed(place: Place) -> None:
    place.put(1)
    minion = place.script(LONG, stdout=subprocess.DEVNULL)

    def guard() -> int:
        children = Path(f"/proc/{minion.pid}/task/{minion.pid}/children").read_text().split()
        names: dict[str, int] = {}
        for pid in children:
            with contextlib.suppress(OSError):  # it has gone since
                names[Path(f"/proc/{pid}/comm").read_text().strip()] = int(pid)
        return names.get("minion-guard", 0)

    until(lambda: len(place.numbers("pids")) == 2)
    until(guard)
    first = guard()
    assert first
    os.kill(first, signal.SIGKILL)
    until(lambda: guard() not in (0, first))
    assert minion.stderr is not None and b"guard" in minion.stderr.readline()
    minion.kill()
    until(lambda: not any(map(alive, place.numbers("pids"))))


def test_after_kill_nine_what_made_its_own_session_ends_too(place: Place) -> None:
    place.put(1)
    script = "setsid sh -c 'echo $$ >>pids; exec sleep 600' & echo $$ >>pids; wait"
    minion = place.script(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(place.numbers("pids")) == 2)
    minion.kill()
    until(lambda: not any(map(alive, place.numbers("pids"))))


def test_after_kill_nine_no_file_of_the_minion_is_left(place: Place) -> None:
    place.put("x" * 200_000)
    script = 'cp "$MINION_PARAM_FILE" copied; echo $$ >>pids; exec sleep 600'
    minion = place.minion("--stdin", "sh", "-c", script)
    until(lambda: place.numbers("pids"))
    assert len((place.folder / "copied").read_text()) == 200_002
    assert list((place.folder / "tmp").iterdir())
    minion.kill()
    ended(minion)
    until(lambda: not list((place.folder / "tmp").iterdir()))


def test_a_minion_that_hangs_loses_its_programs_before_others_run_the_param(place: Place) -> None:
    place.put(1)
    hung = place.script(LONG, "--lease", "2")
    until(lambda: len(place.numbers("pids")) == 2)
    hung.send_signal(signal.SIGSTOP)
    first = place.numbers("pids")
    other = place.script("echo again", "--lease", "6")
    assert ended(other)[:2] == (0, b"again\n")
    until(lambda: not any(map(alive, first)))
    hung.send_signal(signal.SIGCONT)
    status, _, err = ended(hung)
    assert status == 0, err
    stats = place.stats()
    assert (stats.done, stats.dead) == (1, 0)


def test_term_charges_nobody_and_what_ended_well_is_acked(place: Place) -> None:
    place.put(*range(200))
    script = 'trap "echo saved; exit 0" TERM; echo $$ >>pids; while :; do sleep 0.05; done'
    minion = place.script(script, "-j", "2")
    until(lambda: len(place.numbers("pids")) == 2)
    minion.terminate()
    status, out, err = ended(minion)
    assert status == 75, err
    assert out == b"saved\nsaved\n"
    stats = place.stats()
    assert (stats.done, stats.waiting, stats.delayed, stats.running, stats.dead) == (
        2,
        198,
        0,
        0,
        0,
    )
    assert {entry.attempt for entry in place.entries(State.WAITING)} == {1}


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT])
def test_other_signals_stop_it_as_well(place: Place, number: int) -> None:
    place.put(1)
    minion = place.script(LONG)
    until(lambda: len(place.numbers("pids")) == 2)
    minion.send_signal(number)
    status = ended(minion)[0]
    assert status == (-signal.SIGINT if number == signal.SIGINT else 75)
    assert place.stats().waiting == 1
    until(lambda: not any(map(alive, place.numbers("pids"))))


def test_hup_means_nothing_under_nohup(place: Place) -> None:
    place.put(1)
    minion = place.script(
        "echo $$ >>pids; until test -e go; do sleep 0.05; done; echo fine",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    until(lambda: place.numbers("pids"))
    minion.send_signal(signal.SIGHUP)
    os.kill(place.numbers("pids")[0], signal.SIGHUP)
    (place.folder / "go").touch()
    assert ended(minion)[:2] == (0, b"fine\n")


def test_a_second_int_does_not_wait_for_the_grace(place: Place) -> None:
    place.put(1)
    minion = place.script(
        "trap 'touch told' TERM; echo $$ >>pids; while :; do sleep 0.05; done", "--grace", "600"
    )
    until(lambda: place.numbers("pids"))
    minion.send_signal(signal.SIGINT)
    until((place.folder / "told").exists)  # two that come at once are one
    assert minion.poll() is None
    minion.send_signal(signal.SIGINT)
    assert ended(minion)[0] == -signal.SIGINT
    assert place.stats().waiting == 1
    until(lambda: not any(map(alive, place.numbers("pids"))))


def test_grace_is_followed_by_kill(place: Place) -> None:
    place.put(1)
    minion = place.script(
        "trap '' TERM; echo $$ >>pids; while :; do sleep 0.05; done", "--grace", "0.5"
    )
    until(lambda: place.numbers("pids"))
    minion.terminate()
    assert ended(minion)[0] == 75
    entry = place.entries(State.WAITING)[0]
    assert (entry.attempt, entry.crashes) == (1, 0)


def test_a_closed_stdout_ends_it_gently(place: Place) -> None:
    place.put(*range(1000))
    ours, theirs = os.pipe()
    minion = place.script('echo "$1"', "-j", "2", stdout=theirs)
    os.close(theirs)
    assert os.read(ours, 3)
    os.close(ours)
    status, _, err = ended(minion)
    assert status == 75, err
    assert b"Traceback" not in err
    stats = place.stats()
    assert stats.done is not None and 0 < stats.done < 1000
    assert (stats.done + (stats.waiting or 0), stats.dead) == (1000, 0)
    assert {entry.attempt for entry in place.entries(State.WAITING)} == {1}


def test_a_reader_that_pauses_costs_no_lease(place: Place) -> None:
    place.put(*range(20))
    ours, theirs = os.pipe()
    minion = place.script(
        'head -c 50000 /dev/zero | tr "\\\\0" x; echo "$1"', "--lease", "3", stdout=theirs
    )
    os.close(theirs)
    time.sleep(7)
    assert minion.poll() is None
    seen = bytearray()
    while piece := os.read(ours, 1 << 20):
        seen += piece
    os.close(ours)
    status, _, err = ended(minion)
    assert (status, len(seen.splitlines())) == (0, 20), err
    assert place.stats().done == 20


@pytest.mark.parametrize("slots", ["1", "2"])
def test_a_flood_eats_no_memory(place: Place, slots: str) -> None:
    place.put(1)
    size = 300 << 20
    minion = place.script(f"head -c {size} /dev/zero", "-j", slots)
    assert minion.stdout is not None
    peak_kib = count = 0
    while piece := minion.stdout.read(1 << 20):
        count += len(piece)
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{minion.pid}/status").read_text()
            peak_kib = max(peak_kib, int(status.partition("VmHWM:")[2].split()[0]))
    assert ended(minion)[0] == 0
    assert count == size
    assert peak_kib < 100 << 10


def test_output_of_several_slots_is_never_mixed(place: Place) -> None:
    place.put(*range(40))
    script = 'for i in 1 2 3 4 5; do echo "$1 $i"; sleep 0.01; done'
    status, out, _ = ended(place.script(script, "-j", "4"))
    assert status == 0
    lines = out.decode().split("\n")[:-1]
    assert len(lines) == 200
    for at in range(0, 200, 5):
        run = lines[at].split()[0]
        assert lines[at : at + 5] == [f"{run} {i}" for i in range(1, 6)]


def test_output_is_live_with_one_slot(place: Place) -> None:
    place.put(1)
    minion = place.script("echo first; until test -e go; do sleep 0.05; done; echo last")
    assert minion.stdout is not None
    assert os.read(minion.stdout.fileno(), 100) == b"first\n"
    (place.folder / "go").touch()
    assert ended(minion)[:2] == (0, b"last\n")


def test_a_minion_that_runs_minions(place: Place) -> None:
    place.put(1)
    inner = f"{sys.executable} -c \"{MAIN}\" --from - sh -c 'echo inner $1 $MINION_PARAM_ID' x"
    status, out, err = ended(place.script(f"echo a | {inner}; echo outer $MINION_PARAM_ID"))
    assert status == 0, err
    assert out == b"inner a 1\nouter 1\n"


def test_a_poison_dies_and_innocents_never_do(place: Place) -> None:
    place.put(*range(30))
    # 7 kills its minion, at once and every time.
    script = 'if [ "$1" = 7 ]; then kill -9 $PPID; sleep 600; fi; echo "$1" >>done'
    for _ in range(40):
        minion = place.script(script, "--max-crashes", "3", "-j", "2")
        status, _, _ = ended(minion)
        if status != -signal.SIGKILL:
            break
    assert status == 1
    dead = place.entries(State.DEAD)
    assert [entry.text for entry in dead] == ["7"]
    assert dead[0].failure is not None
    assert dead[0].failure.reason == "crashed its minion 3 times"
    assert set(place.numbers("done")) == set(range(30)) - {7}
