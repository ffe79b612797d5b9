"""From settings to a wired minion: queue, reporter, crew and worker, opened in the right order."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from minionize.assembly.containers import in_container
from minionize.assembly.crews import make_crew
from minionize.assembly.joining import join_queue
from minionize.contracts.engine import EngineOptions, TellsPolicies
from minionize.errors import UsageError
from minionize.settings import Settings, left_out
from minionize.values import Clock, Harm, SystemClock
from minionize.worker.blame import unfit
from minionize.worker.checkpoints import check_root, check_writable, checkpoints_of
from minionize.worker.delivery import BACKLOG
from minionize.worker.guard import CAPACITY, Guard
from minionize.worker.limits import limits
from minionize.worker.signals import SCHEDULERS_SIGNALS, Stopping

if TYPE_CHECKING:
    from minionize.assembly.pouring import Pouring
    from minionize.contracts.engine import Engine
    from minionize.contracts.reporter import Reporter
    from minionize.engines.redis.reports import ReportServer
    from minionize.worker.live import Live
    from minionize.worker.summary import Summary


class Minion:
    """A minion that is ready to work. `run` may be called once."""

    def __init__(
        self,
        settings: Settings,
        callback: Any,
        *,
        lines: Callable[[str], None],
        terminal: TextIO | None = None,
        write: Callable[[str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.callback = in_container(settings, callback, lines)
        self._lines = lines
        self._terminal = terminal
        self._write = write
        self._clock = clock or SystemClock()

    def run(self) -> Summary:
        """Work until the end that the settings ask for. What keeps it from beginning is raised
        (UsageError, NoSuchQueue, EngineUnavailable ...); after that the summary tells."""
        summary = self._work()
        if summary.cut_short:
            from minionize.worker.leaving import take_leave

            take_leave(summary, self.settings, self._lines)
        return summary

    def _work(self) -> Summary:
        settings = self.settings
        _check(settings, self.callback)
        if not settings.quiet and (line := left_out()):
            self._lines(line)
        if hasattr(self.callback, "check_program"):
            self.callback.check_program()
        if settings.checkpoint_root is not None:
            check_root(settings.checkpoint_root)
        if settings.slots >= CAPACITY:
            raise UsageError(
                f"-j {settings.slots}: a minion has at most {CAPACITY - 1:,} slots: "
                "write fewer, and start more minions"
            )
        room = limits.adapt(settings.slots, BACKLOG)
        if room.line and not settings.quiet:
            self._lines(room.line)
        # Before threads, and before anything large is imported: it is a copy of us.
        try:
            guard = Guard.start()
        except OSError as error:
            limits.restore()
            raise unfit("a minion can't begin here", error) from error
        opened: list[Any] = [_Limits(), guard]
        pouring: Pouring | None = None
        try:
            settings = self.settings = settings._replace(slots=room.slots)
            options = self._engine_options()
            if settings.from_file is not None:
                from minionize.assembly.pouring import Pouring

                pouring = Pouring(settings, options)
                opened.append(pouring)
                settings = settings._replace(queue=pouring.url)
            stopping = Stopping()
            opened.append(stopping)
            engine = join_queue(
                settings, options, clock=self._clock, stopping=stopping, lines=self._lines
            )
            if engine is None:
                _close(opened)
                return _stopped(stopping)
            opened.append(engine)
            _say_policies(engine, self._lines)
            scratch = self._scratch(engine, options)
            reporter = self._open_reporter(engine, options, scratch)
            opened.append(reporter)
            if scratch is not None:
                # A minion that is killed leaves results there.
                guard.arm("", scratch=scratch)
            checkpoints = checkpoints_of(engine.url, engine.traits.folder, settings.checkpoint_root)
            begun = checkpoints is not None and checkpoints.check()
            if begun and settings.checkpoint_root is not None and checkpoints is not None:
                check_writable(checkpoints.folder)  # another user may have begun this queue
            live = self._live()
            crew = make_crew(
                self.callback,
                settings,
                engine=engine,
                minion_id=options.minion_id,
                stopping=stopping,
                guard=guard,
                before_output=None if live is None else live.clear,
                lines=self._lines,
                checkpoints=checkpoints,
                backlog=room.backlog,
                keep_end=settings.capture is None and self._reporter_name(engine) == "json",
                results=reporter.results_folder,
            )
            opened.append(crew)

            from minionize.worker.loop import Worker

            worker = Worker(
                engine,
                crew,
                reporter,
                settings,
                lines=self._lines,
                clock=self._clock,
                stopping=stopping,
                guard=guard,
                live=live,
                command=_command(self.callback),
                checkpoints=checkpoints,
            )
        except BaseException:  # Ctrl-C as well
            _close(opened)
            raise
        # The worker closes what it was given.
        try:
            if pouring is not None:
                pouring.start()
            summary = worker.run()
        finally:
            limits.restore()
            if pouring is not None:
                pouring.close()
        if pouring is None:
            return summary
        if pouring.faults.count:
            self._lines(
                f"{pouring.faults.count} bad lines were left out, first {pouring.faults.first}"
            )
        if pouring.error is not None and summary.exit_status in (0, 1):
            raise pouring.error
        return summary

    def _engine_options(self) -> EngineOptions:
        host = os.uname().nodename
        plain = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in host)
        pid = os.getpid()
        return EngineOptions(
            lease_s=self.settings.lease_s,
            create=False,
            minion_id=f"{plain or 'host'}-{pid}-{os.urandom(3).hex()}",
            host=host,
            pid=pid,
            slots=self.settings.slots,
            clock=self._clock,
            env=self.settings.env,
        )

    def _open_reporter(
        self, engine: Engine, options: EngineOptions, scratch: str | None
    ) -> Reporter:
        settings = self.settings
        folder = engine.traits.folder
        name = self._reporter_name(engine)
        if settings.capture and name == "null":
            raise UsageError(
                "--capture keeps output in a report, and there is none: leave it out, write files "
                "with --stdout FILE, or give --reporter json, whose folder minion results reads "
                "(REPORTER_JSON_DIRECTORY)"
            )
        from minionize.reporters import open_reporter, report_folder

        return open_reporter(
            name,
            directory=report_folder(settings.report_dir, folder),
            minion_id=options.minion_id,
            host=options.host,
            pid=options.pid,
            slots=options.slots,
            command=_command(self.callback),
            clock=self._clock,
            warn=self._lines,
            write=self._write or _to_stdout,
            server=self._report_server,
            scratch=scratch,
        )

    def _scratch(self, engine: Engine, options: EngineOptions) -> str | None:
        """A folder of this minion's own, for large results on their way to a report that is no
        folder. None where there is no such report."""
        if self._reporter_name(engine) in ("json", "null"):
            return None
        from minionize.worker.output import spool_folder

        return os.path.join(spool_folder(options.env), f"minion-results-{options.minion_id}")

    def _reporter_name(self, engine: Engine) -> str:
        return self.settings.reporter or ("null" if engine.traits.folder is None else "json")

    def _report_server(self) -> ReportServer:
        from minionize.status.report import report_server

        return report_server(self.settings)

    def _live(self) -> Live | None:
        settings, terminal = self.settings, self._terminal
        if terminal is None or settings.quiet or settings.tty or not terminal.isatty():
            return None
        from minionize.worker.live import Live

        try:
            width = os.get_terminal_size(terminal.fileno()).columns - 1
        except OSError:
            width = 0
        return Live(terminal, width if width > 0 else 79)


def make_minion(
    settings: Settings,
    callback: Any,
    *,
    lines: Callable[[str], None],
    terminal: TextIO | None = None,
    write: Callable[[str], None] | None = None,
    clock: Clock | None = None,
) -> Minion:
    """A minion that does `callback` with each param of the queue that `settings` name.

    `callback` starts programs if it has `invocation` (ProcessCallback, CommandCallback), else it
    is a FuncCallback. `lines` gets each line for a person; `terminal` shows a live line if it is
    one; `write` takes the text of the stdout reporter. Nothing is opened before `run`.
    """
    return Minion(settings, callback, lines=lines, terminal=terminal, write=write, clock=clock)


class _Limits:
    """What was done to the limits of this process, to be closed with the rest."""

    def close(self) -> None:
        limits.restore()


def _check(settings: Settings, callback: Any) -> None:
    """UsageError for what can't be had together."""
    if settings.tty and settings.slots > 1:
        raise UsageError("--tty hands over the one terminal: it can't be shared by -j slots")
    if settings.tty and hasattr(callback, "apart"):
        raise UsageError("--tty is for programs of this host, not for containers: leave it out")
    if not hasattr(callback, "invocation"):
        for name in ("stdin", "stdout", "stderr", "chdir", "tty", "image"):
            if getattr(settings, name):
                raise UsageError(
                    f"--{name} is for programs, and a function is called: leave it out "
                    "(--capture keeps what a function prints)"
                )


def _say_policies(engine: Engine, lines: Callable[[str], None]) -> None:
    """Under which policies of its broker this queue loses params."""
    if isinstance(engine, TellsPolicies):
        for policy in engine.policies():
            if policy.harm in (Harm.LOSS, Harm.BLOCK):
                lines(f"warning: {policy.line()}")


def _close(opened: Sequence[Any]) -> None:
    for each in reversed(opened):
        each.close()


def _stopped(stopping: Stopping) -> Summary:
    """Told to stop before there was anything to do."""
    import signal

    from minionize.worker.summary import Summary

    if stopping.by_signal == signal.SIGINT:
        return Summary(exit_status=130, why=stopping.why, died_of=int(signal.SIGINT))
    cut_short = stopping.by_signal in SCHEDULERS_SIGNALS
    return Summary(exit_status=75, why=stopping.why, cut_short=cut_short)


def _to_stdout(text: str) -> None:
    sys.stdout.write(text)


def _command(callback: Any) -> str:
    """What the minion runs, for reports."""
    for name in ("command", "name"):
        said = getattr(callback, name, "")
        if said and isinstance(said, str):
            return str(said)
    return type(callback).__name__
