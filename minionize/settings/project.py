"""What `.minionize.yml` says, a project's file in the current folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from minionize.errors import UsageError
from minionize.nearest import nearest
from minionize.settings import parsing

DOTENV = ".env"
YAML = ".minionize.yml"
SCHEDULERS = ("local", "oar", "slurm", "kubernetes")
"""Where `minion launch` can start minions; the sections that `launch:` may have."""

LAUNCH: Mapping[str, parsing.Parse] = {
    "n": parsing.minions,
    "minions": parsing.minions,
    "wall-time": parsing.seconds_above_0,
    "cpus": parsing.whole_from(1),
    "memory": parsing.size_mib,
    "gpus": parsing.whole_from(1),
    "name": parsing.job_name,
    "dry-run": parsing.flag,
    "wait": parsing.flag,
    "resubmit": parsing.flag,
}
"""The options of `minion launch` that take one value, and are the same for all schedulers."""

Told: TypeAlias = "str | list[str] | dict[str, str]"
"""What stands behind a key of a launch section."""
_NOTHING: Mapping[str, Any] = {}


class Project(NamedTuple):
    """The file, read and sorted; texts are not parsed yet."""

    settings: Mapping[str, Any] = _NOTHING
    """Keys as they are written, with their texts: settings as far as this module knows."""
    command: str | tuple[str, ...] | None = None
    """One text is a command line, several are its words."""
    launch: Mapping[str, Mapping[str, Told]] = _NOTHING
    """Scheduler to the keys of its section, with dashes."""
    notes: tuple[str, ...] = ()
    """A line for the person, where what has the file's name is no file that can be read."""

    def words(self, shell: bool) -> tuple[str, ...]:
        """CMD with its arguments; for a shell a command line stays one word."""
        command = self.command
        if command is None:
            return ()
        if not isinstance(command, str):
            return command
        if shell:
            return (command,)
        import shlex  # slow, and most folders have no such file

        try:
            return tuple(shlex.split(command))
        except ValueError as error:
            raise UsageError(
                f"{YAML}: command can't be split into words: {error}; close the quotes, or write "
                "a list of words"
            ) from None


class LaunchSection(NamedTuple):
    """What `.minionize.yml` says to `minion launch`."""

    scheduler: str
    values: Mapping[str, Told]
    """Option with dashes and without those before it (`wall-time`, `n`, `O`, `slots`) to its
    text, a list of texts, or a table of texts. Yes/no options have the text that was written:
    `settings.parsing.flag` reads it. What is left empty in the file is left out."""
    origins: Mapping[str, str]
    """The same options to where they stand: `.minionize.yml: launch.slurm.wall-time`."""


def read_project() -> Project:
    """The project's file, empty where there is none, or no file that this user can read: a note
    says so. UsageError, in one line, where what stands in the file can't be used."""
    if not os.path.lexists(YAML):
        return Project()
    # Not needed where there is no file, as for most minions: they start sooner.
    from minionize.settings.own_files import LeftOut, read_own_file

    try:
        read = read_own_file(YAML)
    except LeftOut as left_out:
        return Project(notes=(str(left_out),))
    if read is None:
        return Project()
    # PyYAML takes longer to import than all the rest of a minion: only where it is needed.
    from minionize.settings.yaml_file import table_of

    told = dict(table_of(read, YAML))
    return Project(
        command=_command(told.pop("command", None)),
        launch=_sections(told.pop("launch", None)),
        settings=told,
    )


def load_launch(
    scheduler: str | None = None, known: Collection[str] | None = None
) -> LaunchSection | None:
    """The launch section of `scheduler` in `.minionize.yml`; None if it has none.

    Without a scheduler: the only section that stands there; UsageError if there are several
    (say which) or none. `known`: the options that `minion launch SCHEDULER` takes, those of
    minionize included, as `wall-time`; a key that is none of them is a UsageError with one that
    is near. None: any key will do.

    The command itself (`command: ...`) and settings for all minions are in `settings.load()`:
    `Loaded.command`. The command line counts more than what is said here, this more than the
    environment (it speaks of this launch only).
    """
    sections = read_project().launch
    if scheduler is None:
        if not sections:
            raise UsageError(
                f"launch where? minion launch {'|'.join(SCHEDULERS)}, or write a section "
                f"`launch: {{slurm: {{n: 8}}}}` in {YAML}"
            )
        if len(sections) > 1:
            raise UsageError(
                f"{YAML} has launch sections for {', '.join(sections)}: "
                f"say which, as minion launch {next(iter(sections))}"
            )
        (scheduler,) = sections
    if scheduler not in sections:
        return None
    values = sections[scheduler]
    for key in values:
        if known is not None and key not in known:
            raise UsageError(
                f"{YAML} sets launch.{scheduler}.{key}, no option: "
                + meant(key, known, f"minion launch {scheduler} --help has those that there are")
            )
    origins = {key: f"{YAML}: launch.{scheduler}.{key}" for key in values}
    return LaunchSection(scheduler, values, origins)


def meant(name: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean ...?`, or, where none of the known names is near, what to do `otherwise`."""
    near = nearest(name, known)
    return otherwise if near is None else f"did you mean {near}?"


def _command(told: Any) -> str | tuple[str, ...] | None:
    if told is None:
        return None
    if isinstance(told, str) and told.strip():
        return told
    if isinstance(told, list) and told and all(isinstance(word, str) for word in told) and told[0]:
        return tuple(told)
    raise UsageError(
        f"{YAML}: command is neither a command line nor a list of words: "
        "write `command: ./a.out --lr {lr}`"
    )


def _sections(told: Any) -> dict[str, dict[str, Told]]:
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise UsageError(f"{YAML}: launch is no table: write `launch: {{slurm: {{n: 8}}}}`")
    sections: dict[str, dict[str, Told]] = {}
    for name, section in told.items():
        if name not in SCHEDULERS:
            raise UsageError(
                f"{YAML} sets launch.{_shown(name)}, no scheduler: "
                + meant(_shown(name), SCHEDULERS, f"there are {', '.join(SCHEDULERS)}")
            )
        if not isinstance(section, (dict, type(None))):
            raise UsageError(
                f"{YAML}: launch.{name} is no table: write `launch: {{{name}: {{n: 8}}}}`"
            )
        sections[name] = _section(name, section or {})
    return sections


def _section(scheduler: str, section: Mapping[Any, Any]) -> dict[str, Told]:
    told: dict[str, Told] = {}
    for key, value in section.items():
        name = _shown(key).replace("_", "-")
        if name in told:
            raise UsageError(f"{YAML}: launch.{scheduler}.{name} stands twice: keep one of them")
        if value is not None:
            told[name] = _told(f"launch.{scheduler}.{name}", value)
            if name in LAUNCH:
                check_value(f"{YAML}: launch.{scheduler}.{name}", told[name], LAUNCH[name])
    return told


def check_value(origin: str, told: Told, parse: parsing.Parse) -> None:
    """UsageError, with where it stands, for what is not the one value that `parse` takes."""
    if not isinstance(told, str):
        raise UsageError(f"{origin} holds several values, and takes one: keep one of them")
    try:
        parse(told)
    except ValueError as error:
        raise UsageError(f"{origin}: {error}") from None


def _told(key: str, value: Any) -> Told:
    """A text, a list of texts or a table of texts, and nothing deeper."""
    if isinstance(value, str):
        return value
    for name, each in value.items() if isinstance(value, dict) else ():
        where = f"{YAML}: {key}.{_shown(name)}"
        if each is None:
            raise UsageError(
                f"{where} is left empty: write its value ('' for none), or leave it out"
            )
        if not (isinstance(name, str) and isinstance(each, str)):
            raise UsageError(f"{where} holds more than one text: write one")
    if isinstance(value, list) and None in value:
        raise UsageError(f"{YAML}: {key} has an item that is left empty: write it, or leave it out")
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return list(value)
    if isinstance(value, dict):
        return dict(value)
    raise UsageError(
        f"{YAML}: {key} holds more than a text, a list of texts or a table of texts: "
        "write its option's value"
    )


def _shown(key: Any) -> str:
    """A key for a message; one that is no text is shown short."""
    return key if isinstance(key, str) else type(key).__name__
