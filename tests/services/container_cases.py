"""What holds for containers of any runtime, each over a `Bench`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess

from minionize.callbacks.container_host import owner
from minionize.callbacks.container_runtime import OWNER
from services.container_bench import Bench
from services.podman import BASE
from services.processes import until

NASTY = ["a b", "$(id)", "'\"`id`\\", "x\ny", "-n", "--rm", ";ls", "{{.Id}}", "é"]
STUBBORN = "trap '' TERM; echo up >>up; while :; do sleep 0.05; done"
SHOW = """
import json, os, sys
seen = {name: value for name, value in os.environ.items() if name.startswith("MINION_")}
print(json.dumps([sys.argv[1:], os.getcwd(), os.getuid(), os.getpid(), seen]))
"""


def saw(bench: Bench) -> None:
    """What a run sees is what it would see without a container."""
    bench.put(*NASTY, "x" * 120_000)
    lines = bench.run("-j", "2", "python3", "-c", SHOW, "{id}", "{}").splitlines()
    seen = {arguments[0]: rest for arguments, *rest in map(json.loads, lines)}
    arguments = {row[0][0]: row[0][1] for row in map(json.loads, lines)}
    for number, param in enumerate(NASTY, 1):
        assert arguments[str(number)] == param
        cwd, uid, pid, env = seen[str(number)]
        assert (cwd, uid) == (str(bench.folder), bench.uid)
        assert json.loads(env["MINION_PARAM"]) == param
        assert env["MINION_PARAM_ID"] == str(number) and env["MINION_ATTEMPT"] == "1"
        assert env["MINION_CHECKPOINT_DIR"] == f"{bench.folder}/q/checkpoints/{number}"
        assert pid != 1, "a program as process 1 is sent no TERM"
    assert bench.stats().done == len(NASTY) + 1
    assert not bench.containers()


def limits(bench: Bench) -> None:
    """Time and memory."""
    timed_out(bench)
    bench.put("large")
    command = ["python3", "-c", "x = bytearray(10**9)"]
    options = ["--container-option", "memory=50m", "--max-attempts", "1"]
    bench.run(*options, *command, status=1)
    assert bench.dead()["large"] == "out of memory"
    assert not bench.containers()


def timed_out(bench: Bench) -> None:
    """A run that takes too long ends, with its container."""
    bench.put("slow", "stubborn")
    script = f'if [ "$1" = slow ]; then exec sleep 100; else {STUBBORN}; fi'
    options = ["--timeout", "3", "--max-attempts", "1"]
    bench.run(*options, "-j", "2", "sh", "-c", script, "x", "{}", status=1)
    assert bench.dead() == {"slow": "timeout", "stubborn": "timeout"}
    assert not bench.containers()


def stopped(bench: Bench) -> None:
    """TERM reaches the programs; who doesn't listen is killed after the grace."""
    bench.put("gentle", "stubborn")
    gentle = "trap 'echo ended >>up; exit 0' TERM; echo up >>up; while :; do sleep 0.05; done"
    for script, grace in ((gentle, "60"), (STUBBORN, "1")):
        minion = bench.start("--grace", grace, "sh", "-c", script, "x", "{}")
        bench.wait_for_lines("up", 1 if script == gentle else 3)
        minion.send_signal(signal.SIGTERM)
        _, said = minion.communicate(timeout=180)
        assert minion.returncode == 75, said
        assert (bench.folder / "up").read_text().split()[:2] == ["up", "ended"]
        stats = bench.stats()
        assert (stats.done, stats.waiting) == (1, 1), said
        until(lambda: not bench.containers(), bench.containers)


def killed(bench: Bench) -> None:
    """kill -9 of the minion: its guard ends the containers."""
    bench.put(1, 2)
    minion = bench.start("-j", "2", "sh", "-c", STUBBORN)
    bench.wait_for_lines("up", 2)
    assert len(bench.containers()) == 2
    minion.kill()
    minion.communicate()
    until(lambda: not bench.containers(), bench.containers)


def _seen_to_run(bench: Bench) -> None:
    """Podman writes down that a container runs a little later than it does."""
    until(lambda: bench.containers("--filter=status=running"), "a container that runs")


SEVEN = """\
trap 'echo told >>up; sleep 1; exit 7' TERM
echo up >>up
while :; do sleep 0.05; done
"""


def told_by_the_minion(bench: Bench) -> None:
    """A program that fails when it is told to end is not done."""
    bench.put(1)
    minion = bench.start("--grace", "60", "sh", "-c", SEVEN)
    bench.wait_for_lines("up")
    _seen_to_run(bench)
    minion.send_signal(signal.SIGTERM)
    _, said = minion.communicate(timeout=100)
    assert minion.returncode == 75, said
    stats = bench.stats()
    assert (stats.done, stats.waiting, stats.dead) == (0, 1, 0), said
    assert not bench.containers()


def told_by_another(bench: Bench) -> None:
    """The same when TERM is sent to the command of the runtime, or to all that there is of a
    job, as schedulers do: what counts is how the program ended."""
    for number, everything in enumerate((False, True), 1):
        bench.put(1)
        (bench.folder / "up").unlink(missing_ok=True)
        minion = bench.start("--grace", "60", "--max-attempts", "1", "sh", "-c", SEVEN)
        bench.wait_for_lines("up")
        _seen_to_run(bench)
        pids = bench.clients()
        assert pids
        for pid in [minion.pid, *bench.clients(whole=True)] if everything else pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        _, said = minion.communicate(timeout=100)
        stats = bench.stats()
        assert (stats.put, stats.running, stats.done) == (number, 0, 0), said
        assert not bench.containers()
    assert "exit 7" in bench.dead().values()


LATE = """\
#!/bin/sh
# Says how `podman run` ended when nothing is there any more that watched its container.
trap : TERM
podman "$@"
status=$?
for word; do
    case $word in
    --conmon-pidfile=*)
        while kill -0 "$(cat "${word#*=}")"; do sleep 0.05; done 2>/dev/null
        ;;
    esac
done
exit $status
"""


def told_and_not_looked_at(bench: Bench) -> None:
    """The same on a machine where the minion comes to look when the container is gone."""
    runtime = bench.folder / "bin/podman"
    runtime.parent.mkdir()
    runtime.write_text(LATE)
    runtime.chmod(0o755)
    bench.runtime = str(runtime)
    told_by_the_minion(bench)


def done(bench: Bench) -> None:
    """A 0 of the program's own is done, also after TERM."""
    bench.put(1, 2)
    script = """\
trap 'exit 0' TERM
echo up >>up
test "$1" = 1 && exit 0
while :; do sleep 0.05; done
"""
    minion = bench.start("--grace", "60", "sh", "-c", script, "x", "{}")
    bench.wait_for_lines("up", 2)
    _seen_to_run(bench)
    for pid in bench.clients():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    _, said = minion.communicate(timeout=100)
    assert minion.returncode == 0, said
    assert bench.stats().done == 2
    assert not bench.containers()


def left(bench: Bench) -> None:
    """A container that has ended, of a minion that died before it could remove it."""
    fields = owner().split(":")
    ended = subprocess.Popen(["true"])
    ended.wait()
    fields[0], fields[-2:] = str(bench.uid), [str(ended.pid), "1"]
    made = bench.ask(
        "run", "--network=none", f"--label={OWNER}={':'.join(fields)}",
        f"--volume={bench.folder}:/x", BASE, "true",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert len(bench.containers()) == 1
    bench.put(1)
    bench.run("true")
    assert not bench.containers()
