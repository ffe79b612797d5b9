"""`minion launch local`: minions forked from this process, which has imported what they need."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from importlib import import_module

from minionize.beneath import open_plain
from minionize.cli.ending import die_of, finish, one_line, say
from minionize.cli.launch_plan import Plan
from minionize.cli.opening import opened_queue
from minionize.engines.registry import BUILT_IN
from minionize.errors import EngineUnavailable, UsageError
from minionize.launch import local, records
from minionize.launch.crew import Crew
from minionize.launch.decisions import Progress, missing
from minionize.launch.script import last
from minionize.launch.severity import worst
from minionize.values import Stats

NAME = "minion launch"
_WARM = ("minionize.cli.minionize", "minionize.assembly", "minionize.callbacks.command",
         "minionize.callbacks.process", "minionize.reporters.json_lines", "minionize.worker.loop",
         "minionize.worker.programs", "ctypes", "resource")  # fmt: skip
"""What a minion would import by itself, each for its own."""
STILL_LEFT = 75
_LONGEST = 4096
"""Bytes of why a function can't be called; a pipe takes them at once."""
_FINAL = frozenset({0, 1, 2, 70, 126, 127})
"""Statuses after which another minion would do no better."""


def run_here(plan: Plan, *, resubmit: bool) -> int:
    """Be the N minions' parent until they ended; returns the worst of their exit statuses."""
    launch = plan.launch
    local.check(launch)
    output = (last(launch, "output") or "prefix").lower()
    # What would keep each of them from beginning is said once, and not N times.
    _stats(plan)
    if plan.settings.checkpoint_root is not None:
        from minionize.worker.checkpoints import check_root

        check_root(plan.settings.checkpoint_root)
    if _are_forked(plan):
        if plan.settings.call:
            _check_function(plan)
        else:
            _check_program(plan)
    if output == "files":
        os.makedirs(os.path.join(launch.folder or plan.records, "logs"), exist_ok=True)
    minions = _Minions(plan, output)
    progress = Progress(launch.minions)

    def again(status: int) -> bool:
        if not resubmit or status in _FINAL:
            return False
        try:
            stats = _stats(plan)
        except EngineUnavailable as error:
            # The others wait for it, each as long as it was told to.
            say(f"{NAME}: {one_line(str(error))}; a minion that ended is not replaced")
            return False
        return bool(missing(stats, 0, 1)) and progress.worth_it(stats, time.monotonic())

    crew = Crew(minions.start, _written if output == "plain" else _prefixed, again)
    minions.crew = crew
    crew.run(launch.minions, minions.record)
    minions.forget()
    stats = _stats(plan)
    if not plan.settings.quiet and launch.minions > 1:
        say(f"{NAME}: {_counts(stats)}")
    if signal.SIGINT in crew.told:
        die_of(signal.SIGINT)
    # One that died of what it was told had not begun yet.
    return worst(STILL_LEFT if status - 128 in crew.told else status for status in crew.statuses)


class _Minions:
    """Forks them."""

    def __init__(self, plan: Plan, output: str) -> None:
        self.crew: Crew | None = None
        self._plan = plan
        self._output = output
        self._record: records.Record | None = None
        self._cpus = sorted(os.sched_getaffinity(0))
        self._forked = _are_forked(plan)
        if self._forked:
            for module in _WARM:
                import_module(module)
            built_in = BUILT_IN.get(plan.queue.partition(":")[0])
            if built_in is not None:
                import_module(built_in.module)
                with contextlib.suppress(ModuleNotFoundError):
                    import_module(f"{built_in.module}.minion")
            # What is here now is never garbage, and pages that the collector doesn't touch stay
            # shared.
            gc.freeze()
        self._parent = os.getpid()

    def start(self, index: int, out: int, err: int) -> int:
        """Minion `index`, in a group of its own."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            assert self.crew is not None
            os.setpgid(0, 0)
            self.crew.in_child()
            null = os.open(os.devnull, os.O_RDONLY)
            for fd, wanted in ((null, 0), (out, 1), (err, 2)):
                os.dup2(fd, wanted)
                os.close(fd)
            finish(lambda: self._be(index), "minionize")
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else status
        finally:
            # What the parent has to clean up is not the child's.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)

    def record(self, pids: tuple[int, ...]) -> None:
        """For `minion jobs`, while they live."""
        started = {str(pid): local.began(pid) for pid in pids}
        submitted = local.remembered(self._plan.launch, started)
        try:
            self._record = records.remember(self._plan.records, submitted)
        except UsageError as error:
            say(f"{NAME}: {one_line(str(error))}")  # they work all the same

    def forget(self) -> None:
        """Processes that ended matter no more, unless their output is kept."""
        if self._record is not None and self._output != "files":
            records.forget(self._plan.records, self._record)

    def _be(self, index: int) -> int:
        launch = self._plan.launch
        if self._output == "files":
            folder = os.path.join(launch.folder or self._plan.records, "logs")
            path = os.path.join(folder, local.log_name(launch, os.getpid()))
            fd = open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.close(fd)
        cpus = local.cpus_of(launch, index, self._cpus)
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
        os.environ.update(local.share_of(launch, index))
        if launch.wall_time_s is not None:
            os.environ["MINION_DEADLINE"] = f"{time.time() + launch.wall_time_s:.0f}"
        local.die_with(self._parent)
        if not self._forked:
            os.execv("/bin/bash", ["bash", "-c", local.render(launch)])
        os.environ.update(launch.env)
        for name, path in launch.secret_env.items():
            os.environ[name] = local.secret(path)
        from minionize.cli.minionize import run

        return run(launch.minionize_argv[len(launch.minionize) :])


def _are_forked(plan: Plan) -> bool:
    """Whether minions are copies of this process, and so find what it finds."""
    return not plan.launch.options.get("setup") and not plan.by_command


def _check_program(plan: Plan) -> None:
    """Raises what a minion would for its program; an image that is missing is pulled, once."""
    from minionize.assembly.containers import in_container
    from minionize.callbacks.command import CommandCallback

    env = {**plan.settings.env, **plan.launch.env}
    settings = plan.settings._replace(env=env)
    callback = CommandCallback(settings, plan.launch.command)
    in_container(settings, callback, lambda line: say(f"{NAME}: {one_line(line)}")).check_program()


def _check_function(plan: Plan) -> None:
    """Raises what a minion would for its function. It is imported in a process of its own: what
    an import leaves behind (threads, a GPU's context) would not survive the forks to come."""
    from minionize.callbacks.func import FuncCallback

    callback = FuncCallback.from_spec(str(plan.settings.call))
    sys.stdout.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            local.die_with(parent)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)  # what it prints is printed by each minion
            os.environ.update(plan.launch.env)
            for name, path in plan.launch.secret_env.items():
                os.environ[name] = local.secret(path)
            callback.function()
        except UsageError as error:
            os.write(writing, str(error).encode(errors="replace")[:_LONGEST])
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    # A process that the import started may hold the pipe open: its end is not waited for.
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb") as said:
        why = (said.read(_LONGEST) or b"").decode(errors="replace")
    if why:
        raise UsageError(why)


def _stats(plan: Plan) -> Stats:
    with opened_queue(NAME, {"queue": plan.queue}) as (queue, _settings):
        return queue.stats()


def _counts(stats: Stats) -> str:
    counts = {
        "done": stats.done, "dead": stats.dead, "waiting": stats.waiting,
        "delayed": stats.delayed, "running": stats.running,
    }  # fmt: skip
    return ", ".join(f"{n:,} {word}" for word, n in counts.items() if n) or "nothing was done"


def _prefixed(index: int, stream: int, lines: bytes) -> None:
    prefix = b"%d: " % (index + 1)
    _written(index, stream, b"".join(prefix + line for line in lines.splitlines(keepends=True)))


def _written(_index: int, stream: int, lines: bytes) -> None:
    """Write them whole; where they have no reader any more they are lost."""
    while lines:
        try:
            lines = lines[os.write(stream, lines) :]
        except BlockingIOError:
            time.sleep(0.01)
        except BrokenPipeError:
            return
