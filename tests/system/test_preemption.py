"""The contract of docs/preemption.md, with real minions: what each scheduler says by its variables
and signals, and what a minion makes of it. The schedulers themselves are at work elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from preempted import LONG, SAVES, a_field, asked, began, fake, nothing_was_lost
from storming import Field, until

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.events import Kind
from minionize.values import State
from minionize.worker.decisions import STOP_COMES_S


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with a_field(tmp_path) as field:
        yield field


WARNINGS = [
    ("nobody", {}, signal.SIGTERM, 75),
    ("OAR's checkpoint", {"OAR_JOB_ID": "7"}, signal.SIGUSR2, 75),
    ("Slurm's --signal", {"SLURM_JOB_ID": "7"}, signal.SIGUSR1, 75),
    ("Slurm", {"SLURM_JOB_ID": "7"}, signal.SIGTERM, 75),
    ("Kubernetes", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, signal.SIGTERM, 75),
    ("a person", {}, signal.SIGINT, -signal.SIGINT),
]


@pytest.mark.parametrize(
    ("variables", "number", "status"),
    [warning[1:] for warning in WARNINGS],
    ids=[warning[0] for warning in WARNINGS],
)
def test_a_warning(field: Field, variables: dict[str, str], number: int, status: int) -> None:
    fake(field, oarstat="exit 1", squeue="echo RUNNING", scontrol="exit 1")
    field.put(range(3))
    field.env |= variables
    minion = field.script(LONG)
    until(lambda: began(field))
    minion.send_signal(number)
    assert field.ended(minion) == status, field.said(minion)
    nothing_was_lost(field, waiting=3)
    # Nobody said that the job may come back.
    assert not any("scontrol" in line for line in asked(field))


@pytest.mark.parametrize("who", ["all at once", "the program first"])
def test_a_signal_to_all_processes_of_the_job_charges_nobody(field: Field, who: str) -> None:
    """Slurm and systemd signal programs as well, and a program may die before its minion hears."""

    def signalled(number: int) -> float:
        """Both are; the seconds between the two signals."""
        field.queue = field.folder / f"q{number}"
        field.put(range(2))
        pid = field.folder / "1.pid"
        pid.unlink(missing_ok=True)
        minion = field.script(LONG)
        until(lambda: began(field) and pid.read_text().endswith("\n"))
        program = int(pid.read_text())
        begin = time.monotonic()
        os.kill(program, signal.SIGTERM)
        if who == "the program first":
            # Long enough for the minion to see its end, and a little longer.
            until(lambda: not Path(f"/proc/{program}").exists())
            time.sleep(0.05)
        minion.terminate()
        took_s = time.monotonic() - begin
        assert field.ended(minion) == 75, field.said(minion)
        return took_s

    # A machine that stalls in between shows nothing.
    turns = count()
    until(lambda: signalled(next(turns)) < STOP_COMES_S / 2)
    nothing_was_lost(field, waiting=2)


WALLTIMES: dict[str, Callable[[], dict[str, str]]] = {
    "Slurm": lambda: {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": f"{time.time() + 5:.0f}"},
    "OAR": lambda: {"OAR_JOB_ID": "7", "OAR_JOB_WALLTIME_SECONDS": "5"},
    "PBS": lambda: {"PBS_JOBID": "7", "PBS_WALLTIME": "0:05"},
    "a variable": lambda: {"MINION_DEADLINE": f"{time.time() + 5:.1f}"},
}


@pytest.mark.parametrize("name", WALLTIMES)
def test_the_wall_time_comes_up(field: Field, name: str) -> None:
    fake(field, oarstat="exit 1")
    field.put(range(2))

    def took_s() -> float:
        field.env |= WALLTIMES[name]()
        started = time.monotonic()
        minion = field.script(LONG, "--grace", "1")
        assert field.ended(minion) == 75, field.said(minion)
        nothing_was_lost(field, waiting=2)
        return time.monotonic() - started

    # Else the scheduler would have killed it; whatever stalls this machine now and then.
    until(lambda: took_s() < 5.5)
    assert "its time is over" in field.said(field.minions[-1])


def test_a_file_queue_keeps_the_checkpoint_for_the_next_minion(field: Field) -> None:
    """The second one stands for another host: all they share is the queue's folder."""
    field.put(["x"])
    preempted = field.script(SAVES)
    until((field.folder / "1.began").exists)
    preempted.terminate()
    assert field.ended(preempted) == 75
    saved = list((field.queue / "checkpoints").iterdir())
    assert [path.name for path in saved] == ["1"]
    other = field.script(SAVES)
    assert field.ended(other) == 0, field.said(other)
    (line,) = (field.folder / "went").read_text().splitlines()
    assert str(preempted.pid) in line
    assert not saved[0].exists(), "it is done, and its checkpoint of no use"


def test_a_checkpoint_root_serves_queues_without_a_folder(field: Field) -> None:
    pytest.importorskip("execo_engine")
    sweep = open_queue(f"execo:{field.folder}/sweeps", EngineOptions(minion_id="feeder"))
    sweep.put([{"a": 1}])
    sweep.close()
    root = field.folder / "root"
    field.queue = Path("execo:sweeps")
    field.env["MINION_CHECKPOINT_ROOT"] = "root"
    preempted = field.script(SAVES)
    until(lambda: list(field.folder.glob("*.began")), lambda: field.said(preempted))
    preempted.terminate()
    assert field.ended(preempted) == 75, field.said(preempted)
    (saved,) = root.glob("*/*")
    other = field.script(SAVES)
    assert field.ended(other) == 0, field.said(other)
    assert str(preempted.pid) in (field.folder / "went").read_text()
    assert not saved.exists()


def test_a_dead_letter_keeps_its_checkpoint(field: Field) -> None:
    field.put(["x"])
    script = 'mkdir -p "$MINION_CHECKPOINT_DIR"; exit 65'
    assert field.ended(field.script(script, "--checkpoint-root", "root")) == 1
    assert len(list((field.folder / "root").glob("*/1"))) == 1


# ---- near the end, and idle
def test_with_too_little_time_left_nothing_is_taken(field: Field) -> None:
    field.put(range(3))
    field.env |= {"SLURM_JOB_ID": "7", "MINION_REQUEUE": "1"}
    fake(field, squeue="echo RUNNING", scontrol="true")
    minion = field.script("true", "--max-time", "1m", "--min-left", "2m")
    assert field.ended(minion) == 75
    assert "less than 2 min left" in field.said(minion)
    assert not list(field.folder.glob("*.pid"))
    nothing_was_lost(field, waiting=3)
    assert asked(field) == [], "the same would happen again"


def test_short_of_its_end_it_lets_its_runs_end(field: Field) -> None:
    field.put(range(50))
    script = 'touch "$MINION_PARAM_ID.pid"; sleep 0.5'
    minion = field.script(script, "-j", "2", "--max-time", "608", "--min-left", "600")
    assert field.ended(minion) == 75, field.said(minion)
    stats = field.stats()
    ran = len(list(field.folder.glob("*.pid")))
    assert ran >= 2
    assert stats.done == ran, "what had begun came to its end"
    nothing_was_lost(field, waiting=50 - ran)


def test_idle_minions_give_their_nodes_back_and_one_stays(field: Field) -> None:
    field.put(["x"])
    script = 'touch 1.pid; until test -e go; do sleep 0.05; done; echo "$MINION_ID" >>ran'
    busy = field.script(script, "--lease", "2")
    until(lambda: began(field))
    idle = [field.script(script, "--lease", "2", "--idle", "1") for _ in range(4)]
    until(lambda: sum(one.poll() is None for one in idle) == 1)
    left = [one for one in idle if one.poll() is not None]
    assert [one.returncode for one in left] == [0, 0, 0]
    assert all("idle, others have the rest" in field.said(one) for one in left)
    (stays,) = (one for one in idle if one.poll() is None)
    # That is what it stays for.
    field.kill(busy)
    until(lambda: (field.stats().minions or 0) == 1)
    (field.folder / "go").touch()
    assert field.ended(stays) == 0, field.said(stays)
    assert str(stays.pid) in (field.folder / "ran").read_text()
    assert field.stats().done == 1


def test_more_may_be_kept(field: Field) -> None:
    field.put(["x"])
    script = "touch 1.pid; until test -e go; do sleep 0.05; done"
    field.script(script, "--lease", "2")
    until(lambda: began(field))
    args = ("--lease", "2", "--idle", "1", "--keep-idle", "2")
    idle = [field.script(script, *args) for _ in range(3)]
    until(lambda: any(one.poll() is not None for one in idle))
    time.sleep(3)
    assert sum(one.poll() is None for one in idle) == 2
    (field.folder / "go").touch()
    assert [field.ended(one) for one in field.minions] == [0, 0, 0, 0]


# ---- memory
@pytest.fixture
def small(field: Field) -> Iterator[str]:
    """A memory cgroup of 150 MiB (the file of processes that it takes)."""
    top = Path("/sys/fs/cgroup")
    name = f"minionize-test-{os.getpid()}"
    made = top / "memory" / name
    limit = "memory.limit_in_bytes"
    if not (top / "memory").is_dir():
        made, limit = top / name, "memory.max"
    try:
        made.mkdir()
        (made / limit).write_text(f"{150 << 20}")
        if (swap := made / "memory.swap.max").exists():
            swap.write_text("0")
    except OSError as error:
        if made.is_dir():
            made.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield str(made / "cgroup.procs")
    field.close()
    until(lambda: not (made / "cgroup.procs").read_text().strip())
    made.rmdir()


EATS = "x = bytearray(400 << 20)"


@pytest.mark.parametrize("how", ["program", "shell", "function"])
def test_out_of_memory_is_a_reason_of_its_own(field: Field, small: str, how: str) -> None:
    (field.folder / "eats.py").write_text(f"def eats(param):\n    {EATS}\n    return len(x)\n")
    cmd = {
        "program": [sys.executable, "-c", EATS],
        # A shell says 137, as a container does.
        "shell": ["sh", "-c", f"{sys.executable} -c '{EATS}'; exit $?"],
        "function": ["--call", "eats:eats"],
    }[how]
    field.put(["x"])
    enter = ["sh", "-c", f'echo $$ >{small} && exec "$@"', "sh"]
    minion = field.minion("--max-attempts", "1", *cmd, wrap=enter)
    assert field.ended(minion) == 1, field.said(minion)
    (entry,) = field.entries(State.DEAD)
    assert entry.failure is not None
    assert entry.failure.reason == "out of memory", field.said(minion)
    assert "0.146 GiB in all" in entry.failure.detail
    (event,) = (event for event in field.events() if event.kind is Kind.DEAD)
    assert event.reason == "out of memory"
    for command in ("failures", "status"):
        told = field.command(command, "-q", str(field.queue), stdout=subprocess.PIPE)
        out, _ = told.communicate(timeout=180)
        assert b"out of memory" in out


def test_a_kill_that_a_person_sent_is_none(field: Field) -> None:
    field.put(["x"])
    minion = field.script("kill -9 $$", "--max-attempts", "1")
    assert field.ended(minion) == 1
    (entry,) = field.entries(State.DEAD)
    assert entry.failure is not None
    assert entry.failure.reason == "signal SIGKILL"
