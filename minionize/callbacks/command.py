"""CommandCallback: CMD of the command line, with each param in its arguments."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from minionize.callbacks.quoting import command_line, pasteable, quoted
from minionize.callbacks.template import LacksName, Template, check_sizes, sound
from minionize.contracts.callback import Invocation
from minionize.errors import CommandNotExecutable, CommandNotFound, UsageError
from minionize.settings import Settings
from minionize.values import Lease

_SHOWN = 60
"""Characters of a param that a message shows."""


class CommandCallback:
    """Starts CMD for each param. UsageError at once where CMD can't be used as it stands."""

    def __init__(self, settings: Settings, cmd: Sequence[str]) -> None:
        if not cmd or not cmd[0]:
            raise UsageError("there is no CMD to run: see minionize --help")
        self._settings = settings
        self.cmd = list(cmd)
        self.command = command_line(cmd)
        """What this minion runs, quoted for a shell."""
        self._met_param = False
        appends = not settings.stdin
        room = _room_for_arguments(settings)
        # One text for the shell, several words without.
        words = [" ".join(cmd)] if settings.shell else list(cmd)
        self._args = Template(words, braces=settings.template, appends=appends, max_bytes=room)
        if settings.shell or self._args.names:
            # Slow to import, and not needed where nothing is replaced.
            from minionize.callbacks.shell_lines import refuse_quoted, refuse_scripts

            if settings.shell:
                refuse_quoted(self._args.words[0], appends=self._args.appends)
            else:
                refuse_scripts(cmd, self._args.words)
        self._folder = self._place(settings.chdir)
        self._stdout = self._place(settings.stdout)
        self._stderr = self._place(settings.stderr)
        places = (settings.chdir, settings.stdout, settings.stderr)
        self._only_args = places == (None, None, None) and not (settings.shell or settings.stdin)
        """Whether runs differ in nothing but their arguments, as most do."""

    def check_program(self) -> None:
        """Look for the program before anything is leased: CommandNotFound (127) or
        CommandNotExecutable (126). A path counts from the current folder, whatever --chdir
        says. What the param names is not looked for. UsageError for a --chdir that is no
        folder."""
        self._check_folder()
        first = self.cmd[0]
        path = self._settings.env.get("PATH", os.defpath)
        if self._settings.shell:
            return
        if not isinstance(self._args.words[0], str):
            word, blank, _ = first.partition(" ")
            if len(self.cmd) == 1 and blank and "{" not in word and find_program(word, path):
                raise CommandNotFound(_looks_like_a_shell_line(first))
            return
        program = find_program(self._args.words[0], path)
        if program is None:
            if len(self.cmd) == 1 and len(first.split()) > 1:
                raise CommandNotFound(_looks_like_a_shell_line(first))
            where = "is not there" if "/" in first else "is not on PATH"
            raise CommandNotFound(f"program {pasteable(first)} {where}: mend CMD, or its path")
        if os.path.isdir(program):
            raise CommandNotExecutable(f"{pasteable(first)} is a folder: name a program in it")
        if not os.access(program, os.X_OK):
            raise CommandNotExecutable(
                f"program {pasteable(first)} may not be executed: chmod +x {pasteable(program)}"
            )

    @property
    def program(self) -> str | None:
        """The program of every run; None where the param names it."""
        if self._settings.shell:
            return "/bin/sh"
        word = self._args.words[0]
        return word if isinstance(word, str) else None

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        """What to start for this param.

        UsageError where the very first param lacks a name of CMD, LacksName where a later
        one does; Reject for what can never be an argument.
        """
        if self._only_args and self._met_param:
            return Invocation(self._args.expand(lease.text, lease.id, lease.attempt, slot))
        try:
            argv = self._argv(lease, slot)
            folder = self._expanded(self._folder, lease, slot)
            stdout = self._expanded(self._stdout, lease, slot)
            stderr = self._expanded(self._stderr, lease, slot)
        except LacksName as error:
            if self._met_param:
                raise
            shown = lease.text if len(lease.text) <= _SHOWN else lease.text[:_SHOWN] + "..."
            raise UsageError(
                f"{error}; the first one is {pasteable(shown)}: mend the name, or double its "
                "braces (or give --no-template) to have it as it is"
            ) from error
        self._met_param = True
        stdin = lease.text.encode() + b"\n" if self._settings.stdin else None
        return Invocation(argv, folder, stdout, stderr, stdin)

    def output_files(self, lease: Lease) -> list[str]:
        """The files that --stdout and --stderr name for this param; each once."""
        places = (self._expanded(place, lease, 0) for place in (self._stdout, self._stderr))
        return list(dict.fromkeys(os.path.abspath(place) for place in places if place is not None))

    def shown(self, lease: Lease, slot: int = 0) -> str:
        """The run of this param as a line to paste into a shell."""
        return as_line(self.invocation(lease, slot), lease)

    def _argv(self, lease: Lease, slot: int) -> list[str]:
        args = self._args
        if not self._settings.shell:
            return args.expand(lease.text, lease.id, lease.attempt, slot)
        line = " ".join(args.expand(lease.text, lease.id, lease.attempt, slot, quote=quoted))
        argv = ["/bin/sh", "-c", line]
        if len(line) > 30_000:
            check_sizes(argv)
        return argv

    def _check_folder(self) -> None:
        """One that is missing is made by each run."""
        folder = self._folder.words[0] if self._folder is not None else None
        if isinstance(folder, str) and os.path.exists(folder) and not os.path.isdir(folder):
            raise UsageError(f"--chdir {pasteable(folder)} is no folder: name another")

    def _place(self, text: str | None) -> Template | None:
        if text is None:
            return None
        return Template([text], braces=self._settings.template, appends=False)

    @staticmethod
    def _expanded(place: Template | None, lease: Lease, slot: int) -> str | None:
        if place is None:
            return None
        return sound(place.expand(lease.text, lease.id, lease.attempt, slot)[0])


def as_line(run: Invocation, lease: Lease) -> str:
    """A run as a line to paste into a shell."""
    program, *arguments = run.argv
    if run.chdir is not None and "/" in program:
        # A program's path, as those of the files below, counts from here.
        program = os.path.abspath(program)
    line = command_line([program, *arguments])
    if run.chdir is not None:
        line = f"(cd {pasteable(run.chdir)} && {line})"
    if run.stdin is not None:
        line = f"printf '%s\\n' {pasteable(lease.text)} | {line}"
    for sign, file in ((">", run.stdout), ("2>", run.stderr)):
        if file is not None:
            line += f" {sign} {pasteable(file)}"
    return line


def find_program(name: str, path: str) -> str | None:
    """The file that `name` means: itself where it has a slash, else the first on `path` that
    can be executed, or failing that the first that is there at all; None where none is."""
    if "/" in name:
        return name if os.path.exists(name) else None
    there = None
    for folder in path.split(":"):
        file = os.path.join(folder or ".", name)
        try:
            regular = stat.S_ISREG(os.stat(file).st_mode)
        except (OSError, ValueError):
            continue
        if regular and os.access(file, os.X_OK):
            return file
        if regular and there is None:
            there = file
    return there


def _looks_like_a_shell_line(line: str) -> str:
    return f"{pasteable(line)} is no program; it looks like a shell line: --shell runs it"


def _room_for_arguments(settings: Settings) -> int:
    """Bytes that are left for arguments beside the environment of a run."""
    environment = sum(len(name) + len(value) + 10 for name, value in settings.env.items())
    # The run's own MINION_ variables, of which the param may take 100 KiB; and Linux's own.
    return max(65_536, os.sysconf("SC_ARG_MAX") - 4 * environment // 3 - 131_072)
