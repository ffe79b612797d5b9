"""The rows: what runs against what, and what must be reached."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import (
    container_rows,
    counted,
    launch_rows,
    peers,
    pubsub_rows,
    pulsar_rows,
    redis_rows,
    results_rows,
    throng_rows,
    timed,
)
from benchmarks.line import Line
from benchmarks.measure import Contestant, Figures, ratio, run_once, run_rounds


@dataclass(frozen=True)
class Row:
    """One question, and how it is answered: `run(rounds, scale)` gives its lines."""

    title: str
    run: Callable[[int, float], Iterator[Line]]


def numbers(folder: Path, count: int) -> Path:
    path = folder / "numbers.txt"
    # Line by line: a process is charged the memory of the one that started it.
    with open(path, "w") as out:
        out.writelines(f"{number}\n" for number in range(count))
    return path


def filled(folder: Path, count: int) -> None:
    """A file queue `minion-queue` of `count` numbers."""
    feed = [peers.minionize_bin("minion"), "feed", "--typed", str(numbers(folder, count))]
    subprocess.run(feed, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def all_done(count: int) -> Callable[[Path], None]:
    """Checks that the queue says `count` done: a fast failure is no result."""

    def verify(folder: Path) -> None:
        from minionize import open_queue

        with open_queue(f"file:{folder}/minion-queue") as queue:
            done = queue.stats().done
        if done != count:
            raise RuntimeError(f"{done} of {count} params are done")

    return verify


def minions(
    name: str, count: int, *options: str, command: Sequence[str] = ("/bin/true",), many: int = 1
) -> Contestant:
    """`many` minions on one file queue of `count` params."""

    def prepare(folder: Path) -> Sequence[Sequence[str]]:
        filled(folder, count)
        return [[peers.minionize_bin(), "--quiet", *options, *command]] * many

    return Contestant(name, prepare, verify=all_done(count))


def xargs(count: int) -> Contestant:
    return Contestant(
        "xargs -n1 -P2",
        lambda folder: [["xargs", "-n1", "-P2", "/bin/true"]],
        stdin=lambda folder: numbers(folder, count),
    )


def other_spawners(count: int) -> Iterator[Contestant]:
    """Peers that start programs, as far as they are here."""
    if peers.debian("parallel", "parallel"):
        yield Contestant(
            "GNU parallel -j2",
            lambda folder: [["parallel", "-j2", "/bin/true"]],
            stdin=lambda folder: numbers(folder, count),
        )
    if peers.debian("tsp", "task-spooler"):
        script = (
            "export TS_SOCKET=$PWD/s TS_MAXFINISHED=1 TMPDIR=$PWD; tsp -S 2; i=0;"
            f" while [ $i -lt {count} ]; do tsp -n /bin/true; i=$((i+1)); done >ids; tsp -w; tsp -K"
        )
        yield Contestant("task-spooler -S 2", lambda folder: [["sh", "-c", script]])
    python = str(peers.python_of_peers())
    here = Path(__file__).parent / "scripts"
    yield Contestant(
        "HyperQueue LocalCluster",
        lambda folder: [[python, str(here / "hyperqueue_local.py"), str(count)]],
    )

    tasks = str(here / "task_queue.py")

    def task_queue(folder: Path) -> Sequence[Sequence[str]]:
        fill = [python, tasks, "fill", str(count)]
        subprocess.run(fill, cwd=folder, check=True, capture_output=True)
        return [[python, tasks, "work"]] * 2

    yield Contestant("task-queue, two, files", task_queue)

    def old_minionize(folder: Path) -> Sequence[Sequence[str]]:
        sweep = (
            "from execo_engine.sweep import ParamSweeper;"
            f"ParamSweeper('sweeps', sweeps=range({count}), save_sweeps=True)"
        )
        subprocess.run([python, "-c", sweep], cwd=folder, check=True)
        environment = ["env", "MINION_ENGINE=execo", "MINION_REPORTER=null"]
        old = str(Path(python).parent / "minionize")
        return [[*environment, old, "/bin/true"]] * 2

    yield Contestant("minionize 0.3.4, two, execo", old_minionize)


def against(
    row: str, rounds: int, contestants: Sequence[Contestant], base: str, goals: dict[str, str]
) -> Iterator[Line]:
    """A line a contestant: median wall time, and its ratio to `base`."""
    figures = run_rounds(contestants, rounds)
    for name, mine in figures.items():
        against_base = f"{ratio(mine, figures[base]):.2f}x" if name != base else "1"
        yield Line(row, name, f"{mine.median_wall_s():.2f} s", against_base, goals.get(name, ""))


def spawn(rounds: int, scale: float) -> Iterator[Line]:
    count = int(10_000 * scale)
    contestants = [
        xargs(count),
        minions("minionize -j2", count, "-j2"),
        minions("two minions of one slot", count, many=2),
    ]
    goals = {"minionize -j2": "<= 1.05x", "two minions of one slot": "<= 1.15x"}
    yield from against("spawn", rounds, contestants, "xargs -n1 -P2", goals)


def spawn_peers(rounds: int, scale: float) -> Iterator[Line]:
    count = int(2_000 * scale)
    contestants = [xargs(count), minions("minionize -j2", count, "-j2"), *other_spawners(count)]
    yield from against("peers", min(rounds, 3), contestants, "xargs -n1 -P2", {})


def functions(rounds: int, scale: float) -> Iterator[Line]:
    # So many that the start, 0.2 s, is little of it.
    count = int(4_000_000 * scale)
    noop = ("--call", "benchmarks.noop:noop")
    path = str(Path(__file__).parents[1])
    contestants = [
        _with_path(minions("null reporter", count, "--reporter", "null", *noop, command=()), path),
        _with_path(minions("json reporter", count, "--reporter", "json", *noop, command=()), path),
        _with_path(
            minions("two minions, null", count, "--reporter", "null", *noop, command=(), many=2),
            path,
        ),
    ]
    goals = {
        "null reporter": ">= 100,000/s",
        "json reporter": ">= 50,000/s",
        "two minions, null": ">= 1.6x, or 0.8 of two busy loops",
    }
    figures = run_rounds(contestants, rounds)
    base = figures["null reporter"]
    for name, mine in figures.items():
        rate = f"{count / mine.median_wall_s():,.0f}/s"
        yield Line("functions", name, rate, f"{1 / ratio(mine, base):.2f}x", goals[name])
    gain = timed.two_busy_loops_gain(rounds)
    yield Line("functions", "two independent busy loops", f"{gain:.2f}x of one", "", "")


def _with_path(contestant: Contestant, path: str) -> Contestant:
    """The same, with `path` where Python finds modules."""

    def prepare(folder: Path) -> Sequence[Sequence[str]]:
        return [["env", f"PYTHONPATH={path}", *command] for command in contestant.prepare(folder)]

    return Contestant(contestant.name, prepare, verify=contestant.verify)


def feed(rounds: int, scale: float) -> Iterator[Line]:
    count = int(1_000_000 * scale)

    def prepare(folder: Path) -> Sequence[Sequence[str]]:
        return [[peers.minionize_bin("minion"), "feed", str(numbers(folder, count))]]

    def plain(folder: Path) -> Sequence[Sequence[str]]:
        numbers(folder, count)
        copy = (
            "open('copy','w').writelines('\"%s\"\\n' % line[:-1] for line in open('numbers.txt'))"
        )
        return [[str(peers.python_of_peers()), "-c", copy]]

    def execo(folder: Path) -> Sequence[Sequence[str]]:
        sweep = (
            "from execo_engine.sweep import ParamSweeper;"
            f"ParamSweeper('sweeps', sweeps=range({count}), save_sweeps=True)"
        )
        return [[str(peers.python_of_peers()), "-c", sweep]]

    contestants = [
        Contestant("plain write", plain),
        Contestant("minion feed", prepare),
        Contestant("execo ParamSweeper", execo),
    ]
    figures = run_rounds(contestants, rounds)
    for name, mine in figures.items():
        figure = f"{mine.median_wall_s():.2f} s, {max(mine.peak_mib):.0f} MiB"
        goal = "<= 1.5 s, <= 40 MiB" if name == "minion feed" else ""
        yield Line("feed", name, figure, f"{ratio(mine, figures['plain write']):.1f}x", goal)
    few = max(1, count // 200)
    script = str(Path(__file__).parent / "scripts" / "task_queue.py")
    python = str(peers.python_of_peers())
    fill = Contestant("task-queue", lambda folder: [[python, script, "fill", str(few)]])
    slow = run_rounds([fill], 1)[fill.name].median_wall_s()
    times = slow * count / few / figures["plain write"].median_wall_s()
    name = f"task-queue FileQueue, {few:,}"
    yield Line("feed", name, f"{slow:.2f} s", f"~{times:,.0f}x if all")


def startup(rounds: int, scale: float) -> Iterator[Line]:
    def drained(folder: Path) -> Sequence[Sequence[str]]:
        filled(folder, 1)
        command = [peers.minionize_bin(), "--quiet", "true"]
        subprocess.run(command, cwd=folder, check=True)
        return [command]

    contestants = [
        Contestant(
            "python -c pass", lambda folder: [[peers.minionize_bin("python"), "-c", "pass"]]
        ),
        Contestant("minionize true, drained", drained),
    ]
    figures = run_rounds(contestants, rounds * 4)
    for name, mine in figures.items():
        figure = f"{mine.median_wall_s() * 1000:.0f} ms, {max(mine.peak_mib):.0f} MiB"
        goal = "<= 80 ms, <= 25 MiB" if name.startswith("minionize") else ""
        yield Line("startup", name, figure, f"{ratio(mine, figures['python -c pass']):.1f}x", goal)


def _timed(row: str, measure: Callable[[int, float], Iterator[timed.Figure]]) -> Row:
    def run(rounds: int, scale: float) -> Iterator[Line]:
        for name, value, goal in measure(rounds, scale):
            yield Line(row, name, value, "", goal)

    return Row(measure.__doc__ or row, run)


def _counts(rounds: int, scale: float) -> Iterator[Line]:
    for name, figure in counted.per_param(scale):
        yield Line("calls", name, figure, "", "equal; <= 0.02 lock trips")


ROWS: dict[str, Row] = {
    "spawn": Row("10,000 x /bin/true on 2 slots, file queue, json reporter, against xargs", spawn),
    "peers": Row("2,000 x /bin/true on 2 slots, against the peers", spawn_peers),
    "functions": Row("4 million calls of a no-op function in its child, file queue", functions),
    "calls": Row("system calls, bytes and lock trips per param, by queue size", _counts),
    "feed": Row("minion feed of 1 million lines", feed),
    "startup": Row("minionize true on a drained queue, process start to exit", startup),
    "latency": _timed("latency", timed.put_to_start),
    "idle": _timed("idle", timed.idle_share),
    "many": _timed("many", timed.ten_million),
    "results": _timed("results", results_rows.results),
    "crowd": _timed("crowd", timed.crowd),
    "throng": _timed("throng", throng_rows.throng),
    "containers": _timed("containers", container_rows.containers),
    "launch": _timed("launch", launch_rows.launch_overhead),
    "pubsub": _timed("pubsub", pubsub_rows.in_pubsub),
    **{name: _timed(name, measure) for name, measure in redis_rows.MEASURES.items()},
    "pulsar": _timed("pulsar", pulsar_rows.in_pulsar),
}

__all__ = ["ROWS", "Figures", "Row", "run_once"]
