"""`minionize --image`: each param in a container of its own, with podman and with docker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from services.container_bench import Bench
from services.container_cases import STUBBORN, killed, limits, saw, stopped
from services.podman import BASE
from services.processes import until

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.events import Kind
from minionize.values import State


def test_params_are_data_and_runs_see_what_they_would_outside(bench: Bench) -> None:
    saw(bench)


def test_a_large_param_is_read_from_its_file_and_output_goes_where_it_should(bench: Bench) -> None:
    bench.put("y" * 300_000)
    script = 'wc -c <"$MINION_PARAM_FILE"; pwd; mkdir -p "$MINION_CHECKPOINT_DIR"; wc -c'
    bench.run("--stdin", "--chdir", "runs/{id}", "--stdout", "out/{id}", "sh", "-c", script)
    words = (bench.folder / "out/1").read_text().split()
    assert words == ["300002", f"{bench.folder}/runs/1", "300003"]


def test_exit_statuses_mean_what_they_do_outside(bench: Bench) -> None:
    bench.put(0, 3, 65, 125, 127)
    script = 'echo "said $1" >&2; exit $1'
    bench.run("--max-attempts", "1", "-j", "3", "sh", "-c", script, "x", "{}", status=1)
    assert bench.stats().done == 1
    assert bench.dead() == {3: "exit 3", 65: "exit 65", 125: "exit 125", 127: "exit 127"}
    (event,) = [e for e in bench.events(Kind.DEAD) if e.reason == "exit 3"]
    assert event.detail.strip() == "said 3"
    assert event.cpu_s is None, "that of the client says nothing"


def test_a_time_out_and_a_memory_limit_end_the_container(bench: Bench) -> None:
    limits(bench)


@pytest.mark.parametrize("pause_s", [0.0, 0.1, 0.2, 0.3])
def test_told_to_stop_at_any_moment_nothing_is_lost_or_left(bench: Bench, pause_s: float) -> None:
    # Podman ends with 0 when it gets TERM before its container has started.
    bench.put(1, 2)
    minion = bench.start("-j", "2", "sh", "-c", "echo up >>up; exec sleep 100")
    until(lambda: bench.containers() or minion.poll() is not None, "a container")
    try:
        minion.wait(pause_s)
    except subprocess.TimeoutExpired:
        minion.send_signal(signal.SIGTERM)
    _, said = minion.communicate(timeout=180)
    assert minion.returncode == 75, said
    stats = bench.stats()
    assert (stats.done, stats.waiting, stats.dead) == (0, 2, 0), said
    assert not bench.containers()


def test_a_stop_reaches_the_program_and_kills_what_does_not_listen(bench: Bench) -> None:
    stopped(bench)


def test_nothing_outlives_a_minion_that_is_killed(bench: Bench) -> None:
    killed(bench)


def test_what_outlived_minion_and_guard_is_removed_by_the_next_minion(bench: Bench) -> None:
    bench.put(1)
    minion = bench.start("sh", "-c", STUBBORN)
    bench.wait_for_lines("up")
    (left,) = bench.containers()
    # As when a scheduler kills everything of a job at once; the container is nobody's child.
    minion.send_signal(signal.SIGSTOP)
    for child in Path(f"/proc/{minion.pid}/task/{minion.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    minion.kill()
    minion.communicate()
    assert bench.containers() == [left]
    bench.run("--timeout", "1", "--max-attempts", "1", "true")
    assert "removed a container that a killed minion had left on this host" in bench.said
    assert not bench.containers()


def test_the_containers_of_a_minion_that_hangs_are_ended_and_nobody_is_charged(
    bench: Bench,
) -> None:
    bench.put(1)
    minion = bench.start("--lease", "2", "sh", "-c", STUBBORN)
    bench.wait_for_lines("up")
    minion.send_signal(signal.SIGSTOP)
    until(lambda: not bench.containers(), bench.containers)
    minion.send_signal(signal.SIGCONT)
    bench.wait_for_lines("up", 2)
    minion.send_signal(signal.SIGTERM)
    _, said = minion.communicate(timeout=180)
    assert minion.returncode == 75, said
    queue = open_queue(f"file:{bench.folder}/q", EngineOptions())
    assert [(entry.attempt, entry.state) for entry in queue.scan(State.WAITING)] == [
        (1, State.WAITING)
    ], said
    queue.close()
    assert not bench.containers()


def test_docker_does_all_of_it_too(docked: Bench) -> None:
    saw(docked)


def test_docker_ends_containers_in_time(docked: Bench) -> None:
    limits(docked)
    stopped(Bench(_sub(docked, "stop"), docked.env, "docker"))
    killed(Bench(_sub(docked, "kill"), docked.env, "docker"))


def _sub(bench: Bench, name: str) -> Path:
    folder = bench.folder / name
    folder.mkdir()
    return folder


def test_python_code_brings_its_containers(bench: Bench) -> None:
    (bench.folder / "sweep.py").write_text(
        "from minionize import ContainerCallback, minionizer, open_queue\n"
        "class Train(ContainerCallback):\n"
        f"    image = {BASE!r}\n"
        "    runtime = 'podman'\n"
        "    options = ['network=none']\n"
        "    def to_cmd(self, param):\n"
        "        return ['python3', '-c', 'print(6 * 7)', param]\n"
        "with open_queue('q') as queue:\n"
        "    queue.put(['$(x)'])\n"
        "print(minionizer(Train(), queue='q').run().done, 'done')\n"
    )
    ran = subprocess.run(
        [sys.executable, "sweep.py"], cwd=bench.folder, env=bench.env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert ran.stdout.split() == ["42", "1", "done"], ran.stderr
