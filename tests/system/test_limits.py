"""Every limit that `ulimit` knows, each at four sizes, around a minion of programs, one of
functions, `feed` and `status`: one clear line or success, no param is charged, none is lost."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from services import account, limited
from services.account import Account
from services.command_line import Ran, fill

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue

PARAMS = 6
FITTING = {0, 69, 70}
FUNCTION = """
from minionize import current_run
def note(param):
    with open("noted", "a") as file:
        file.write(f"{param['x']} {current_run().attempt}\\n")
    return param
"""
PROGRAM = ("sh", "-c", 'echo "$1 $MINION_ATTEMPT" >>"noted"; echo out', "x", "{x}")
MINIONS = {
    "program": ("-j", "3", "--reconnect", "2", "--stdout", "out/{id}", *PROGRAM),
    "function": ("-j", "3", "--reconnect", "2", "--call", "mod:note"),
}


def stats(folder: Path) -> tuple[int | None, int | None, int | None]:
    queue = open_queue(f"file:{folder}/q", EngineOptions())
    try:
        told = queue.stats()
        return told.put, told.done, told.dead
    finally:
        queue.close()


def clear(ran: Ran) -> None:
    """It went well, or says in a line or two why not."""
    assert ran.returncode in FITTING, (ran.returncode, ran.stderr)
    assert "Traceback" not in ran.stderr and "report it" not in ran.stderr, ran.stderr
    said = ran.stderr.splitlines()
    assert len(said) <= 3, ran.stderr
    assert ran.returncode == 0 or said, "it failed without a word"


def prepared(folder: Path, kind: str) -> Path:
    place = folder / kind
    place.mkdir()
    (place / "mod.py").write_text(FUNCTION)
    fill(f"file:{place}/q", *({"x": x} for x in range(PARAMS)))
    return place


def finished(place: Path, kind: str, ran: Ran) -> None:
    """After one more run without the limit all is done, each once, at its first attempt."""
    again = limited.run(place, None, "minionize", "-q", "q", *MINIONS[kind])
    assert again.returncode == 0, (ran.stderr, again.stderr)
    assert stats(place) == (PARAMS, PARAMS, 0), ran.stderr
    noted = sorted((place / "noted").read_text().splitlines())
    assert noted == [f"{x} 1" for x in range(PARAMS)], (ran.stderr, again.stderr)
    if kind == "program":
        assert sorted(p.read_text() for p in (place / "out").iterdir()) == ["out\n"] * PARAMS


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("letter", limited.LIMITS)
@pytest.mark.parametrize("kind", MINIONS)
def test_a_minion(tmp_path: Path, kind: str, letter: str, which: int) -> None:
    place = prepared(tmp_path, kind)
    limit = limited.limits(letter, limited.LIMITS[letter][1][which])
    ran = limited.run(place, limit, "minionize", "-q", "q", *MINIONS[kind])
    clear(ran)
    finished(place, kind, ran)


@pytest.mark.parametrize("letter", limited.LIMITS)
def test_feed_and_status(tmp_path: Path, letter: str) -> None:
    for size in limited.LIMITS[letter][1]:
        limit = limited.limits(letter, size)
        place = prepared(tmp_path, f"{size}")
        clear(limited.run(place, limit, "minion", "status", "-q", "q"))
        ran = limited.run(place, limit, "minion", "feed", "-q", "q", "--grid", "x=6:9")
        clear(ran)
        assert stats(place) == (PARAMS if ran.returncode else PARAMS + 3, 0, 0), ran.stderr


def test_more_slots_than_open_files(tmp_path: Path) -> None:
    """The soft limit is raised for the minion, not for its programs, which may call select()."""
    fill(f"file:{tmp_path}/q", *range(300))
    script = 'ulimit -Sn >>limits; echo "$1"; echo "$1" >&2; sleep 0.2'
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ran = limited.run(
        tmp_path, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard)), "minionize",
        "-q", "q", "-j", "100", "--stdout", "o/{id}", "--stderr", "e/{id}", "sh", "-c", script, "x",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "300 done in" in ran.stderr and len(ran.stderr.splitlines()) == 1
    assert (tmp_path / "limits").read_text() == "200\n" * 300
    assert len(list((tmp_path / "o").iterdir())) == len(list((tmp_path / "e").iterdir())) == 300


def test_functions_have_the_limits_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text(
        "import resource\ndef f(x):\n    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n"
    )
    fill(f"file:{tmp_path}/q", *range(20))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ran = limited.run(
        tmp_path, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard)), "minionize",
        "-q", "q", "-j", "20", "--call", "mod:f",
    )  # fmt: skip
    assert (ran.returncode, len(ran.stderr.splitlines())) == (0, 1), ran.stderr
    told = limited.run(tmp_path, None, "minion", "results", "-q", "q", "--format", "jsonl")
    assert told.stdout.count('"result": 60') == 20, told.stdout


def test_fewer_slots_where_the_limit_is_hard(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", *range(40))
    ran = limited.run(
        tmp_path, limited.limits("n", 64), "minionize", "-q", "q", "-j", "256", "--stdout",
        "o/{id}", "echo",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, last = ran.stderr.splitlines()
    assert "a process may have 64 files open here, enough for -j 7 but not for -j 256" in first
    assert last.startswith("minionize: 40 done in")


def test_as_many_processes_as_another_user_may_have(
    tmp_path: Path, needs_server: Callable[[str], None]
) -> None:
    """Root is exempt from that limit, and where it hits, what runs goes on."""
    if not account.python():
        needs_server("no Python that other users can execute")
    with Account("minionize-limits") as user:
        for kind in MINIONS:
            for most in (1, 2, 4, 16):
                place = prepared(user.home, kind)
                for path in (place, *place.rglob("*")):
                    user.own(path)
                limit = f'ulimit -u {most} && exec "$@"'
                words = ("bash", "-c", limit, "x", "minionize", "-q", "q", *MINIONS[kind])
                told = user.run(*words, cwd=place)
                ran = subprocess.CompletedProcess(words, told.status, told.out, told.err)
                clear(ran)
                assert (ran.returncode == 0) == (most > 2), ran.stderr
                assert most > 2 or "process" in ran.stderr
                finished(place, kind, ran)
                shutil.rmtree(place)


def test_output_that_is_longer_than_a_file_may_be(tmp_path: Path) -> None:
    """What is printed goes through a file of ours: it is no fault of the param."""
    fill(f"file:{tmp_path}/q", *range(3))
    limit = limited.limits("f", 100_000)
    for cmd in ('head -c 200000 /dev/zero; exit "$1"', "trap '' XFSZ; head -c 200000 /dev/zero"):
        ran = limited.run(
            tmp_path, limit, "minionize", "-q", "q", "--max-failures-in-a-row", "3", "bash", "-c",
            cmd, "x",
        )  # fmt: skip
        assert ran.returncode == 70, ran.stderr
        assert "no room for its output" in ran.stderr and "ulimit -f" in ran.stderr
        assert stats(tmp_path) == (3, 0, 0)
    again = limited.run(
        tmp_path, None, "minionize", "-q", "q", "sh", "-c", "echo $MINION_ATTEMPT", "x"
    )
    assert (again.returncode, again.stdout) == (0, "1\n" * 3), again.stderr


def test_output_of_functions_adds_up_in_a_file_that_may_not_be_long(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_text("def f(x):\n    print('y' * 59_999)\n")
    fill(f"file:{tmp_path}/q", *range(10))
    # More than the board that a function's process shares with its minion.
    limit = limited.limits("f", 150_000)
    ran = limited.run(tmp_path, limit, "minionize", "-q", "q", "--call", "mod:f")
    assert ran.returncode == 0, ran.stderr
    assert stats(tmp_path) == (10, 10, 0)
    failed = limited.run(tmp_path, None, "minion", "failures", "-q", "q")
    assert "OSError" not in failed.stdout, failed.stdout


def test_cpu_seconds_that_runs_before_used_up(tmp_path: Path) -> None:
    """A process of functions runs many params, and its CPU seconds are counted together."""
    (tmp_path / "mod.py").write_text(
        "import time\n"
        "from minionize import current_run\n"
        "def f(x):\n"
        "    until = time.process_time() + 0.8\n"
        "    while time.process_time() < until: pass\n"
        "    return current_run().attempt\n"
    )
    fill(f"file:{tmp_path}/q", *range(5))
    ran = limited.run(tmp_path, limited.limits("t", 2), "minionize", "-q", "q", "--call", "mod:f")
    assert (ran.returncode, stats(tmp_path)) == (0, (5, 5, 0)), ran.stderr
    told = limited.run(tmp_path, None, "minion", "results", "-q", "q", "--format", "jsonl")
    assert told.stdout.count('"result": 1,') == 5, told.stdout


def test_a_minion_whose_cpu_seconds_are_used_up_stops_in_order(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", *range(100_000))
    ran = limited.run(tmp_path, limited.limits("t", 2), "minionize", "-q", "q", "-j", "4", "true")
    assert ran.returncode == 75, ran.stderr
    assert "SIGXCPU" in ran.stderr
    put, done, dead = stats(tmp_path)
    assert (put, dead) == (100_000, 0) and done
    told = limited.run(tmp_path, None, "minion", "status", "-q", "q", "--json")
    assert '"running": 0' in told.stdout, told.stdout
