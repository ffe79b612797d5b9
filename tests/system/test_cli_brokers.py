"""The command line over queues that are no folder: what a broker can't do is said in one line,
what had to be made is said, and a password is nobody's business."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from services import mute

ROOT = Path(__file__).parents[2]
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
MINIONIZE = [sys.executable, "-m", "minionize.cli.minionize"]
SECRET = "S3cret-Pass"


class Here:
    """A folder to type commands in, where `mute:` is installed."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "here"
        self.cwd.mkdir()
        mute.install(folder / "site")
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{folder / 'site'}:{ROOT}",
            "MINION_QUEUE": "mute:q",
        }

    def run(self, program: list[str], *args: str, stdin: str = "", **env: str) -> tuple[int, str]:
        """(exit status, all that was shown)."""
        ran = subprocess.run(
            [*program, *args],
            cwd=self.cwd,
            env={**self.env, **env},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert "Traceback" not in ran.stdout and "unexpected" not in ran.stdout, ran.stdout
        return ran.returncode, ran.stdout


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


CANT = [
    ("list", 2, "mute:q can't list its running params: minion status counts"),
    ("list --state waiting", 2, "can't list its waiting params: minion status counts what it can"),
    ("list --state done", 0, r"\Z"),
    ("show 1", 2, "can't be asked for a param, and the report in minion-report has no '1'"),
    ("results", 0, "there is no report in minion-report"),
    ("results --all", 0, "there is no report in minion-report"),
    ("failures", 0, "can't list its dead letters, and there is no report in minion-report"),
    ("failures --json", 0, r"\Z"),
    ("retry", 2, "can't do that"),
    ("retry 1 2", 2, "can't do that"),
    ("retry --reason exit", 2, "can't do that"),
    ("retry --done", 2, "does not keep what is done: feed those params again"),
    ("pause", 2, "can't tell its minions anything: send them TERM to stop them"),
    ("resume", 2, "can't tell its minions anything"),
    ("stop --wait", 2, "can't tell its minions anything"),
    ("wait", 2, "can't tell when it is drained: wait for its minions, minionize --idle"),
    ("purge", 2, "this would drop params of mute:q, and nobody is there to be asked: give --yes"),
    ("purge --yes", 2, "can't do that"),
    ("purge --dead --yes", 2, "can't do that"),
    ("feed --dedupe --grid a=1", 2, "forgets what was put, so --dedupe can't compare"),
    ("doctor", 0, "queue        mute:q can be reached"),
    ("doctor --hosts 2", 2, "--hosts is for queues in a folder, and mute:q is none"),
]


def test_what_a_broker_cant_do_is_one_line(here: Here) -> None:
    for command in ("status", "list", "wait", "results", "failures", "show 1", "purge --yes"):
        status, shown = here.run(MINION, *command.split())
        assert status == 2 and "no queue in" in shown and len(shown.splitlines()) == 1, command
    assert here.run(MINION, "feed", stdin="1\n2\n3\n") == (0, "minion feed: made folder q\n"
                                                          "3 params put: mute:q\n")  # fmt: skip
    wrong = []
    for command, status, said in CANT:
        ended, shown = here.run(MINION, *command.split())
        if ended != status or not re.search(said, shown) or len(shown.splitlines()) > 1:
            wrong.append((command, ended, shown))
    assert not wrong
    status, shown = here.run(MINIONIZE, "--dry-run", "echo")
    assert status == 2 and "can't list what waits, so --dry-run has nothing to show" in shown


def test_a_page_of_what_is_not_known_claims_nothing(here: Here) -> None:
    here.run(MINION, "feed", stdin="1\n2\n")
    status, shown = here.run(MINION, "status")
    assert status == 0
    assert "waiting ?   delayed ?   running ?   done ?   dead ?" in shown
    assert "mute:q can't count what it holds, and no report in minion-report" in shown
    args = ["--idle", "0.5", "--max-attempts", "1", "--reporter", "json"]
    status, shown = here.run(MINIONIZE, *args, "sh", "-c", 'test "$1" != 2', "x")
    # Whether the dead one is the last of all nobody knows; that it is dead is known here.
    assert status == 1 and "1 done, 1 dead" in shown, shown
    assert "done 1   dead 1" in here.run(MINION, "status")[1]
    assert "exit 1: 1 dead, 1 failed attempt" in here.run(MINION, "failures")[1]
    assert len(here.run(MINION, "results", "--all")[1].splitlines()) == 3
    assert "dead: exit 1" in here.run(MINION, "show", "2")[1]
    assert here.run(MINION, "list", "--state", "done")[1].startswith("1 ")


def test_nothing_is_made_where_that_is_not_wanted(here: Here) -> None:
    for url in ("mute:q", "q", "execo:q", "memory:q"):
        for args in (["--grid", "a=1"], []):
            status, shown = here.run(
                MINION, "feed", "-q", url, "--no-create", *args, stdin="" if args else "1\n"
            )
            assert status == 2 and "no " in shown and len(shown.splitlines()) == 1, shown
    assert not os.listdir(here.cwd)
    _, shown = here.run(MINION, "feed", "-q", "execo:q", "--grid", "a=1")
    assert shown == "minion feed: made sweep q\n1 param put: execo:q, 1 waiting\n"
    assert here.run(MINION, "feed", "-q", "execo:q", "--no-create", "--grid", "a=2")[0] == 0


URL = f"mute://ada:{SECRET}@host/q"


def test_a_password_in_an_argument_is_warned_about_and_never_shown(here: Here) -> None:
    for program, args in (
        (MINION, ["status", "-q", URL]),
        (MINION, ["feed", "-q", URL, "--no-create", "--grid", "a=1"]),
        (MINION, ["config", "-q", URL]),
        (MINION, ["doctor", "-q", URL, "--hosts", "2"]),
        (MINIONIZE, ["-q", URL, "--dry-run", "true"]),
        (MINIONIZE, ["-q", URL, "true"]),
    ):
        _, shown = here.run(program, *args)
        assert SECRET not in shown, args
        if "--hosts" not in args:
            assert "--queue shows its password to everybody on this host (ps): put the URL" in shown
    _, shown = here.run(MINION, "config", "--json", MINION_QUEUE=URL)
    assert SECRET not in shown and "//host/q" in shown and "shows its password" not in shown
    _, shown = here.run(MINION, "config", "--reporter", f"redis://:{SECRET}@h/0")
    assert SECRET not in shown and "--reporter shows its password" in shown
    _, shown = here.run(MINION, "list", MINION_QUEUE=URL.replace("mute:", "muet:"))
    assert SECRET not in shown and "no engine for 'muet' (did you mean mute:?)" in shown
