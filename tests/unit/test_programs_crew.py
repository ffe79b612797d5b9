"""Real programs in the slots of a crew: how they are started, ended and judged."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minionize.callbacks.process import ProcessCallback
from minionize.contracts.callback import Invocation
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import Reject, RetryLater
from minionize.values import Lease, Param, to_text
from minionize.worker.guard import Guard
from minionize.worker.programs import ProgramCrew

# Of this process alone: what carries it is killed with a run that ran out of time.
ME = f"m-{os.getpid()}"


class Runs:
    """A callback that gives the invocation it was told to."""

    def __init__(self, *argv: str, append: bool = False, **more: Any) -> None:
        self.argv = list(argv)
        self.append = append
        self.more = more

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        argv = [*self.argv, str(lease.param)] if self.append else self.argv
        return Invocation(argv, **self.more)


def sh(script: str, **more: Any) -> Runs:
    return Runs("/bin/sh", "-c", script, **more)


Make = Callable[..., ProgramCrew]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    crews: list[ProgramCrew] = []
    wake, other = os.pipe()

    def make(callback: Any, *, slots: int = 1, **more: Any) -> ProgramCrew:
        more.setdefault("env", {**os.environ, "TMPDIR": str(tmp_path)})
        more.setdefault("capture", True)
        crew = ProgramCrew(callback, slots=slots, minion_id=ME, wake_fd=wake, **more)
        crews.append(crew)
        return crew

    yield make
    for crew in crews:
        crew.close()
    os.close(wake)
    os.close(other)


def lease(param: Param = 1, id_: str = "7", attempt: int = 1) -> Lease:
    return Lease(id_, to_text(param), attempt)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ends(crew: ProgramCrew, count: int = 1) -> list[Outcome]:
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + 60
    while len(outcomes) < count:
        assert time.monotonic() < deadline
        outcomes += crew.wait(1.0)
    return outcomes


def end_of(crew: ProgramCrew, *leases: Lease) -> Outcome:
    crew.start(leases or [lease()])
    return ends(crew)[0]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- how a run ends --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "verdict", "status", "reason"),
    [
        ("exit 0", Verdict.DONE, 0, ""),
        ("exit 3", Verdict.FAILED, 3, "exit 3"),
        ("exit 75", Verdict.LATER, 75, "exit 75"),
        ("exit 65", Verdict.REJECTED, 65, "exit 65"),
        ("kill -SEGV $$", Verdict.FAILED, -11, "signal SIGSEGV"),
        ("kill -PIPE $$", Verdict.FAILED, -13, "signal SIGPIPE"),
    ],
)
def test_exit_statuses_and_signals(
    make: Make, script: str, verdict: Verdict, status: int, reason: str
) -> None:
    outcome = end_of(make(sh(script)))
    assert (outcome.verdict, outcome.exit_status, outcome.reason) == (verdict, status, reason)
    assert outcome.seconds > 0 and outcome.slot == 0 and outcome.lease == lease()


def test_the_table_of_exit_statuses_can_be_changed(make: Make) -> None:
    crew = make(sh("exit 4"), on_exit={0: "done", 4: "done", 65: "failed"})
    assert end_of(crew).verdict is Verdict.DONE
    crew = make(sh("exit 65"), on_exit={0: "done", 4: "done", 65: "failed"})
    assert end_of(crew).verdict is Verdict.FAILED


def test_cpu_time_and_memory_are_those_of_the_run(make: Make) -> None:
    more_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + (100 << 10)
    code = f"x = bytearray({more_kib} << 10)\nfor i in range(10**6): pass"
    outcome = end_of(make(Runs(sys.executable, "-c", code)))
    assert outcome.peak_kib is not None and outcome.cpu_s is not None
    assert outcome.peak_kib > more_kib and not outcome.peak_below
    assert outcome.cpu_s > 0.005


def test_small_programs_are_said_to_be_below_the_minions_own_peak(make: Make) -> None:
    outcome = end_of(make(Runs("true")))
    assert outcome.peak_below


def test_slots_run_side_by_side(make: Make) -> None:
    crew = make(sh("sleep 0.2"), slots=3)
    assert crew.room(None) == 3
    crew.start([lease(1, "1"), lease(2, "2"), lease(3, "3")])
    assert crew.room(None) == 0
    assert {run.id for run, _ in crew.running()} == {"1", "2", "3"}
    assert {outcome.slot for outcome in ends(crew, 3)} == {0, 1, 2}
    assert crew.room(None) == 3


# -- what it is started with -----------------------------------------------------------------


def said(crew: ProgramCrew, *leases: Lease) -> str:
    outcome = end_of(crew, *leases)
    assert outcome.verdict is Verdict.DONE, outcome
    assert outcome.stdout is not None
    return outcome.stdout


def test_the_environment_of_a_run(make: Make, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "MINE": "é", "MINION_PARAM_FILE": "of another minion"}
    crew = make(
        Runs(sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"),
        env=env,
        checkpoints=str(tmp_path / "checkpoints"),
        deadline=1234.5,
    )
    seen = json.loads(said(crew, lease({"a": [1, "ü"]}, "12", attempt=2)))
    assert {name: value for name, value in seen.items() if name.startswith("MIN")} == {
        "MINE": "é",
        "MINION_PARAM": '{"a":[1,"\\u00fc"]}',
        "MINION_PARAM_ID": "12",
        "MINION_ATTEMPT": "2",
        "MINION_ID": ME,
        "MINION_SLOT": "0",
        "MINION_DEADLINE": "1234",
        "MINION_CHECKPOINT_DIR": str(tmp_path / "checkpoints" / "12"),
    }
    assert not (tmp_path / "checkpoints").exists(), "made by whoever wants it"


@pytest.mark.parametrize("char", ["x", "é"])
def test_a_large_param_comes_in_a_file(make: Make, char: str) -> None:
    crew = make(sh('test -z "$MINION_PARAM" && cat "$MINION_PARAM_FILE" | wc -c'))
    text = f'"{char * (1 << 20)}"'
    assert int(said(crew, Lease("1", text))) == len(text.encode())
    small = make(sh('test -z "$MINION_PARAM_FILE" && printf %s "$MINION_PARAM" | wc -c'))
    assert int(said(small, Lease("1", '"' + "x" * 1000 + '"'))) == 1002


def test_files_of_large_params_go_with_the_crew(make: Make, tmp_path: Path) -> None:
    crew = make(sh("true"))
    end_of(crew, lease("x" * 200_000))
    assert list(tmp_path.glob("minion-*/*"))
    crew.close()
    assert not list(tmp_path.iterdir())


def test_standard_input_is_empty_or_what_is_given(make: Make) -> None:
    assert said(make(Runs("cat"))) == ""
    assert said(make(Runs("cat", stdin=b'{"a": 1}'))) == '{"a": 1}'
    large = b"x" * 300_000
    assert int(said(make(Runs("wc", "-c", stdin=large)))) == 300_000


def test_signals_are_as_a_program_expects_them(make: Make) -> None:
    status = said(make(Runs("grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status")))
    masks = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines()}
    assert masks["SigBlk"] == 0
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT):
        assert not masks["SigIgn"] & (1 << (number - 1))


def test_nothing_of_ours_is_open_in_a_run(make: Make) -> None:
    script = "import os; print([fd for fd in os.listdir('/proc/self/fd')])"
    plain = subprocess.run(
        [sys.executable, "-c", script],
        close_fds=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said(make(Runs(sys.executable, "-c", script), slots=4)) == plain.stdout


def test_chdir_makes_the_folder_and_relative_programs_count_from_the_start(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tool.sh").write_text("#!/bin/sh\npwd\n")
    (tmp_path / "tool.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    crew = make(Runs("./tool.sh", chdir="runs/7"))
    assert said(crew) == f"{tmp_path}/runs/7\n"
    assert said(crew) == f"{tmp_path}/runs/7\n"
    assert os.getcwd() == str(tmp_path)


def test_a_folder_that_cannot_be_is_a_failed_attempt(make: Make) -> None:
    outcome = end_of(make(Runs("true", chdir="/proc/nothing/here")))
    assert outcome.verdict is Verdict.FAILED
    assert outcome.reason == "cannot enter its folder: No such file or directory"
    assert "/proc/nothing/here" in outcome.detail and "--chdir" in outcome.detail


def test_a_file_of_output_that_cannot_be_is_one_reason_for_all_params(make: Make) -> None:
    for number in (1, 2):
        outcome = end_of(make(Runs("true", stdout=f"/proc/nothing/{number}")))
        assert outcome.verdict is Verdict.FAILED
        assert outcome.reason == "cannot write its output: No such file or directory"
        assert "/proc/nothing" in outcome.detail and "--stdout" in outcome.detail


def test_a_script_without_a_first_line_is_run_by_the_shell(make: Make, tmp_path: Path) -> None:
    script = tmp_path / "bare"
    script.write_text("echo bare $1\n")
    script.chmod(0o755)
    assert said(make(Runs(str(script), "x"))) == "bare x\n"


# -- what cannot be started ------------------------------------------------------------------


def test_what_cannot_be_an_argument_is_a_dead_letter_with_a_remedy(make: Make) -> None:
    crew = make(Runs("true", append=True))
    for param in ("a\0b", "half \ud800", "half \udc80", "x" * 200_000):
        outcome = end_of(crew, lease(param))
        assert outcome.verdict is Verdict.REJECTED, ascii(param[:9])
        assert "--stdin" in outcome.detail
    assert end_of(crew, lease("whole \U0001f600")).verdict is Verdict.DONE
    assert crew.room(None) == 1


def test_what_is_not_found_is_a_failed_attempt(make: Make, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    for argv, why in (
        ("no-such-program", "No such file"),
        ("/no/such", "No such file"),
        (str(tmp_path / "data"), "Permission denied"),
        (str(tmp_path), "Permission denied"),
    ):
        outcome = end_of(make(Runs(argv)))
        assert outcome.verdict is Verdict.FAILED
        assert argv in outcome.reason and why in outcome.reason


def test_a_program_that_moves_along_path_is_found_again(make: Make, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    for folder in (one, two):
        (folder / "tool").write_text(f"#!/bin/sh\necho {folder.name}\n")
        (folder / "tool").chmod(0o755)
    crew = make(Runs("tool"), env={"PATH": f"{one}:{two}:/bin:/usr/bin"})
    assert said(crew) == "one\n"
    (one / "tool").unlink()
    assert said(crew) == "two\n"


# -- callbacks in Python ---------------------------------------------------------------------


class Says(ProcessCallback):
    def to_cmd(self, param: Param) -> str | list[str]:
        if param == "list":
            return ["echo", "$HOME", "a  b"]
        if param == "reject":
            raise Reject("no good")
        if param == "later":
            raise RetryLater
        if param == "raise":
            return [str(param)][len(param)]
        return "echo shell && exit 0"


def test_to_cmd_a_list_meets_no_shell_and_a_str_does(make: Make) -> None:
    assert said(make(Says()), lease("list")) == "$HOME a  b\n"
    assert said(make(Says()), lease("str")) == "shell\n"
    assert said(make(ProcessCallback()), lease("a; b")) == "a; b\n"


def test_to_cmd_may_raise(make: Make) -> None:
    crew = make(Says())
    rejected = end_of(crew, lease("reject"))
    assert (rejected.verdict, rejected.reason) == (Verdict.REJECTED, "no good")
    assert end_of(crew, lease("later")).verdict is Verdict.LATER
    raised = end_of(crew, lease("raise"))
    assert (raised.verdict, raised.reason) == (Verdict.FAILED, "IndexError")
    assert "list index out of range" in raised.detail


def test_hooks_run_only_if_they_are_there_and_around_the_run(make: Make) -> None:
    log: list[Any] = []

    class Hooked(ProcessCallback):
        def to_cmd(self, param: Param) -> str:
            log.append("cmd")
            return f"exit {param}"

        def setup(self, param: Param, engine: Any) -> None:
            log.append(("setup", param, engine))
            if param == 9:
                raise OSError("no room")

        def teardown_ok(self, param: Param, engine: Any) -> None:
            log.append(("ok", param))

        def teardown_ko(self, param: Param, engine: Any, exception: BaseException) -> None:
            log.append(("ko", param, type(exception).__name__))

    crew = make(Hooked(), engine="the queue")
    assert end_of(crew, lease(0)).verdict is Verdict.DONE
    assert end_of(crew, lease(3)).verdict is Verdict.FAILED
    refused = end_of(crew, lease(9))
    assert (refused.verdict, refused.reason) == (Verdict.FAILED, "OSError")
    assert log == [
        ("setup", 0, "the queue"),
        "cmd",
        ("ok", 0),
        ("setup", 3, "the queue"),
        "cmd",
        ("ko", 3, "CalledProcessError"),
        ("setup", 9, "the queue"),
    ]


def test_a_teardown_that_raises_fails_the_attempt(make: Make) -> None:
    class Hooked(ProcessCallback):
        def teardown_ok(self, param: Param, engine: Any) -> None:
            raise ValueError("not good after all")

    outcome = end_of(make(Hooked()))
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "ValueError")


# -- how runs are ended ----------------------------------------------------------------------


def test_a_timeout_ends_the_whole_group(make: Make, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    crew = make(
        sh(f"sleep 600 & echo $! >{pids}; sleep 600 & echo $! >>{pids}; wait"), timeout_s=0.3
    )
    crew.start([lease()])
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    outcome = ends(crew)[0]
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "timeout")
    until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_a_timeout_ends_what_left_the_group_too(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    crew = make(sh(f"setsid sh -c 'echo $$ >{pid}; exec sleep 600' & sleep 600"), timeout_s=0.3)
    crew.start([lease()])
    until(lambda: pid.exists() and pid.read_text().strip())
    assert ends(crew)[0].reason == "timeout"
    until(lambda: not alive(int(pid.read_text())))


def test_a_program_that_ignores_term_is_killed_after_the_grace(make: Make) -> None:
    crew = make(sh("trap '' TERM; while :; do sleep 0.05; done"), timeout_s=0.2, grace_s=0.3)
    outcome = end_of(crew)
    assert (outcome.reason, outcome.exit_status) == ("timeout", -signal.SIGKILL)
    assert outcome.seconds >= 0.5


def test_a_timeout_is_a_timeout_even_if_the_program_ends_well_then(make: Make) -> None:
    crew = make(sh("trap 'exit 0' TERM; while :; do sleep 0.05; done"), timeout_s=0.2)
    assert end_of(crew).verdict is Verdict.FAILED


def test_a_stopped_program_is_ended_as_well(make: Make) -> None:
    crew = make(sh("kill -STOP $$; sleep 600"), timeout_s=0.3)
    assert end_of(crew).reason == "timeout"


def test_what_a_run_left_in_the_background_ends_with_it(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    outcome = end_of(make(sh(f"sleep 600 & echo $! >{pid}")))
    assert outcome.verdict is Verdict.DONE
    until(lambda: not alive(int(pid.read_text())))


def test_terminate_gives_what_ended_well_as_done(make: Make, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    crew = make(sh(f"trap 'exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"))
    crew.start([lease()])
    until(ready.exists)
    crew.terminate()
    assert ends(crew)[0].verdict is Verdict.DONE


@pytest.mark.parametrize(
    "script", ["sleep 600", "trap 'exit 75' TERM; while :; do sleep 0.05; done"]
)
def test_terminate_charges_nobody(make: Make, script: str) -> None:
    crew = make(sh(script))
    crew.start([lease()])
    time.sleep(0.1)
    crew.terminate()
    assert ends(crew)[0].verdict is Verdict.ABORTED


def test_abort_kills_only_those(make: Make) -> None:
    crew = make(sh("sleep 600"), slots=2)
    crew.start([lease(1, "1"), lease(2, "2")])
    crew.abort({"2"})
    outcome = ends(crew)[0]
    assert (outcome.lease.id, outcome.verdict) == ("2", Verdict.ABORTED)
    assert [run.id for run, _ in crew.running()] == ["1"]
    crew.kill()
    assert ends(crew)[0].verdict is Verdict.ABORTED


def test_close_ends_everything_and_leaves_no_descriptor(make: Make) -> None:
    before = len(os.listdir("/proc/self/fd"))
    crew = make(sh("sleep 600"), slots=3, capture=False)
    crew.start([lease(n, str(n)) for n in range(3)])
    pids = [slot.pid for slot in crew._running.values()]
    crew.close()
    assert not any(alive(pid) for pid in pids)
    assert len(os.listdir("/proc/self/fd")) == before


# -- the guard -------------------------------------------------------------------------------


def test_a_minion_that_stood_still_charges_none_of_its_programs(make: Make) -> None:
    guard = Guard.start()
    try:
        crew = make(sh("exec sleep 600"), slots=3, guard=guard)
        crew.start([lease(1, "1"), lease(2, "2"), lease(3, "3")])
        guard.arm("", lease_s=0.2)
        guard.beat()
        # No beat any more: the guard takes the minion for hung.
        outcomes = ends(crew, 3)
        assert {outcome.verdict for outcome in outcomes} == {Verdict.ABORTED}
        guard.arm("", lease_s=1000)
        crew.start([lease(4, "4")])
        os.killpg(next(iter(crew._running.values())).pid, signal.SIGKILL)
        (outcome,) = ends(crew)
        assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "signal SIGKILL")
    finally:
        guard.close()


def guard_of_this_process() -> int:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    named = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "minion-guard\n"]
    return int(named[0]) if named else 0


def test_a_guard_that_was_killed_is_replaced(make: Make) -> None:
    guard = Guard.start()
    try:
        until(guard_of_this_process)
        crew = make(sh("exec sleep 600"), guard=guard)
        crew.start([lease()])
        assert guard.watch() is None
        os.kill(guard_of_this_process(), signal.SIGKILL)
        lines: list[str] = []

        def noticed() -> bool:
            lines.append(guard.watch() or "")
            return bool(lines[-1])

        until(noticed)
        assert lines[-1] == "the guard process was killed (signal 9): started another"
        assert guard.watch() is None
        guard.arm("", lease_s=0.2)
        (outcome,) = ends(crew)
        assert outcome.verdict is Verdict.ABORTED
    finally:
        guard.close()
    assert not guard_of_this_process()
