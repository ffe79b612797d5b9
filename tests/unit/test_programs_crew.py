"""Real programs in the slots of a crew: how they are started and judged."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program_crews import ME, Make, Runs, end_of, ends, lease, made_crews, sh

from minionize.callbacks.process import ProcessCallback
from minionize.contracts.crew import Verdict
from minionize.errors import Reject, RetryLater
from minionize.values import Lease, Param
from minionize.worker.programs import ProgramCrew


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with made_crews(tmp_path) as make:
        yield make


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


def test_a_run_is_told_in_which_job_it_is(make: Make) -> None:
    env = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", "MINION_JOB": "of another minion"}
    assert said(make(sh('printf %s "$MINION_JOB"'), env=env)) == "slurm::7"


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
    for param in ("a\0b", "half \ud800", "x" * 200_000):
        outcome = end_of(crew, lease(param))
        assert outcome.verdict is Verdict.REJECTED, ascii(param[:9])
        assert "--stdin" in outcome.detail
    for param in ("whole \U0001f600", "a byte \udc80"):
        assert end_of(crew, lease(param)).verdict is Verdict.DONE
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
        ("ko", 9, "OSError"),
    ]


def test_a_teardown_that_raises_fails_the_attempt(make: Make) -> None:
    class Hooked(ProcessCallback):
        def teardown_ok(self, param: Param, engine: Any) -> None:
            raise ValueError("not good after all")

    outcome = end_of(make(Hooked()))
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "ValueError")
