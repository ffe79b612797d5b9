"""Programs that are still busy when their main process ends: nothing of what they write is lost.

Every byte is compared with what `xargs` leaves of the same programs when they have all ended.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from services.command_line import Ran, command, environment, fill, runner
from services.processes import until

PARAMS = ("1", "2", "3")
SIZE = 3_000_000

BUSY = {
    "copy": "cp big out.$1 &",
    "slow copy": "(sleep 0.2; cp big out.$1) &",
    "two copies": "(sleep 0.1; cp big out.$1) & (sleep 0.3; cp big more.$1) &",
    "copy of a failed shell": "(sleep 0.2; cp big out.$1) & exit 3",
    "nested": "sh -c '(sleep 0.1; sh -c \"(sleep 0.2; cp big out.$1) &\") &' x $1",
    "nohup": "nohup sh -c 'sleep 0.2; cp big out.$0' $1 >/dev/null 2>&1 &",
    "closed": "(exec <&- >&- 2>&-; sleep 0.2; cp big out.$1) &",
    "compressor": "bash -c 'cat big > >(sleep 0.1; gzip -n -1 >out.$0.gz)' $1",
    "tee": "bash -c 'cat big | tee >(sleep 0.1; cksum >sum.$0) >out.$0' $1",
    "coprocess": "bash -c 'coproc dd of=out.$0 bs=64k 2>/dev/null; cat big >&${COPROC[1]}' $1",
    "behind a fifo": "mkfifo f.$1; (gzip -n -1 <f.$1 >out.$1.gz; rm f.$1) & cat big >f.$1",
    "session": "setsid sh -c 'sleep 0.3; cp big out.$0' $1 &",
    "daemon": "(setsid sh -c 'sleep 0.3; cp big out.$0' $1 </dev/null >/dev/null 2>&1 &)",
    "python daemon": (
        "python3 -c 'import os, shutil, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        'time.sleep(0.3); shutil.copy("big", "out." + sys.argv[1])\' $1'
    ),
    "job control": "bash -c 'set -m; (sleep 0.2; cp big out.$0) & disown' $1",
    "late output": "(sleep 0.2; seq $1 3000) & echo first $1",
    "late output of a session": "setsid sh -c 'sleep 0.3; seq $0 3000' $1 & echo first $1",
}


MODES: dict[str, Sequence[str]] = {
    "one slot": (),
    "three slots": ("-j", "3"),
    "capture": ("-j", "3", "--capture"),
    "stdout": ("-j", "2", "--stdout", "stdout.{}"),
}


class Left(NamedTuple):
    """What programs left: their files, and the lines of all their output."""

    files: dict[str, bytes]
    lines: list[bytes]


def files(folder: Path) -> dict[str, bytes]:
    ours = ("big", "minion-queue")
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ours and not path.name.startswith("stdout.")
    }


XARGS = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # all that xargs leaves behind becomes a child of this
script, *params = sys.argv[1:]
for param in params:  # one after the other: what is printed at once is mixed within lines
    subprocess.run(["xargs", "-n1", "sh", "-c", script, "x"], input=param.encode())
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
"""


def by_xargs(folder: Path, script: str) -> Left:
    """What is there once everything that `xargs` started has ended."""
    with open(folder.parent / "lines", "wb+") as out:
        subprocess.run(
            [sys.executable, "-c", XARGS, script, *PARAMS],
            cwd=folder,
            stdout=out,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        out.seek(0)
        return Left(files(folder), sorted(out.read().splitlines()))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("busy") / "big"
    path.write_bytes(os.urandom(SIZE // 2) + bytes(SIZE // 2))
    return path


@pytest.mark.parametrize("name", BUSY)
def test_every_byte_is_as_xargs_leaves_it(tmp_path: Path, big: Path, name: str) -> None:
    script = BUSY[name]
    if "bash" in script and not shutil.which("bash"):
        pytest.skip("there is no bash")

    def folder(name: str) -> Path:
        made = tmp_path / name
        made.mkdir()
        os.link(big, made / "big")
        return made

    wanted = by_xargs(folder("xargs"), script)
    assert wanted.files or wanted.lines
    for mode, options in MODES.items():
        for source in ("queue", "from"):
            if (mode, source) == ("capture", "from"):
                continue  # there is no report to keep it
            place = folder(f"{mode} {source}")
            args = (*options, "--max-attempts", "1", "sh", "-c", script, "x", "{}")
            if source == "queue":
                fill(f"file:{place}/minion-queue", *PARAMS)
                ran = runner(place)(*args)
            else:
                ran = runner(place)("--from", "-", *args, input="\n".join(PARAMS))
            found = files(place)
            sizes = {one: len(data) for one, data in found.items()}
            assert sizes == {one: len(data) for one, data in wanted.files.items()}, ran.stderr
            assert found == wanted.files
            if "failed" not in name:
                assert "3 done in" in ran.stderr, ran.stderr
            assert lines_of(place, mode, ran) == wanted.lines


def lines_of(place: Path, mode: str, ran: Ran) -> list[bytes]:
    """All that the programs printed."""
    if mode == "stdout":
        return sorted(
            line for path in place.glob("stdout.*") for line in path.read_bytes().splitlines()
        )
    if mode != "capture":
        return sorted(ran.stdout.encode().splitlines())
    shown = runner(place)("results", "--output", "--format", "jsonl", module="minion")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    return sorted(line.encode() for row in rows for line in row["_stdout"].splitlines())


def test_daemons_that_end_while_their_run_goes_on_are_reaped(tmp_path: Path) -> None:
    script = (
        "for i in 1 2 3 4 5; do (setsid true &); done; sleep 3;"
        " grep -l '^State:.Z' /proc/[0-9]*/status | while read -r f; do"
        ' grep "^PPid:.*[^0-9]$PPID$" "$f"; done 2>/dev/null; echo end'
    )
    for slots in ("1", "2"):
        ran = runner(tmp_path)("--from", "-", "-j", slots, "sh", "-c", script, "x", input="1\n")
        assert ran.stdout == "end\n", ran.stdout


def test_a_daemon_that_goes_on_is_said_and_ends_with_the_minion(tmp_path: Path) -> None:
    script = "setsid sh -c 'echo $$ >pid.'$1'; exec sleep 600' & until test -s pid.$1; do :; done"
    args = ("--from", "-", "--grace", "0.5", "sh", "-c", script, "x", "{}")
    ran = runner(tmp_path)(*args, input="1\n2\n")
    assert "2 done (2 with processes that went on for too long)" in ran.stderr
    assert "what left its process group goes on: sleep" in ran.stderr
    for path in tmp_path.glob("pid.*"):
        until(lambda path=path: not Path(f"/proc/{path.read_text().strip()}").exists())  # type: ignore[misc]


@pytest.mark.parametrize("daemon", ["setsid", "env -i setsid"])
@pytest.mark.parametrize("options", [(), ("--capture",)])
def test_what_a_daemon_prints_after_its_run_is_no_output_of_another_param(
    tmp_path: Path, daemon: str, options: tuple[str, ...]
) -> None:
    inner = "until test -e go; do sleep 0.01; done; echo late; echo late >&2; touch told"
    script = (
        f"case $1 in 1) {daemon} sh -c '{inner}' & ;;"
        " *) touch go; until test -e told; do sleep 0.01; done; echo mine ;; esac"
    )
    fill(f"file:{tmp_path}/minion-queue", "1", "2")
    ran = runner(tmp_path)("--grace", "0.5", *options, "sh", "-c", script, "x", "{}")
    assert "2 done" in ran.stderr
    shown = runner(tmp_path)("results", "--output", "--format", "jsonl", module="minion")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [row["_stdout"] or "" for row in rows] == ["", "mine\n"]
    assert ran.stdout == ("" if options else "mine\n")


def _in_memory(pid: int) -> int:
    """How many files in memory a process has open."""
    fds = Path(f"/proc/{pid}/fd")
    return sum("memfd:minion" in os.readlink(fd) for fd in fds.iterdir())


@pytest.mark.parametrize("options", [(), ("-j", "2")])
@pytest.mark.parametrize("when", ["it waits for its reader", "it is out"])
def test_what_a_daemon_prints_after_its_run_takes_no_memory(
    tmp_path: Path, when: str, options: tuple[str, ...]
) -> None:
    """Where the reader of the minion is slow, so that the run's own output is passed on later."""
    flood = "echo $$ >pid; until test -e go; do sleep 0.01; done; head -c 50000000 /dev/zero"
    script = (
        f"case $1 in 1) setsid sh -c '{flood}; touch flooded; exec sleep 600' & seq 40000 ;;"
        " *) until test -e stop; do sleep 0.01; done ;; esac"
    )
    printed = "".join(f"{n}\n" for n in range(1, 40001)).encode()
    fill(f"file:{tmp_path}/minion-queue", "1", "2")
    minion = subprocess.Popen(
        command("-q", "minion-queue", "--grace", "0.5", *options, "sh", "-c", script, "x", "{}"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert minion.stdout is not None
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        stdout = f"/proc/{(tmp_path / 'pid').read_text().strip()}/fd/1"
        # The run is over when its slot has other files.
        usual = 4 if options else 2
        until(lambda: _in_memory(minion.pid) > usual)
        if when == "it is out":
            assert minion.stdout.read(len(printed)) == printed
        (tmp_path / "go").touch()
        until((tmp_path / "flooded").exists)
        rest = b"" if when == "it is out" else printed
        until(lambda: os.stat(stdout).st_size == len(rest))
        (tmp_path / "stop").touch()
        assert minion.stdout.read() == rest
        assert minion.wait(60) == 0
    finally:
        minion.kill()
        minion.communicate()
