"""What `minion launch` was told, made into a Launch."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minionize import settings
from minionize.beneath import can_be_replaced
from minionize.cli.ending import one_line
from minionize.cli.launch_words import command_words, name_and_value, read_option
from minionize.engines.registry import normalise
from minionize.errors import UsageError
from minionize.launch.contract import Launcher
from minionize.launch.records import folder_of
from minionize.launch.values import Launch
from minionize.settings import Settings, parsing
from minionize.settings.table import BY_FIELD, OPTIONS

_NOT_PASSED_ON = frozenset({"queue", "dry_run", "tty", "from_file", "null", "format", "sep",
                            "header", "typed", "skip_bad"})  # fmt: skip
_FOLDERS = frozenset({"report_dir", "checkpoint_root"})
"""Settings that name a folder that is no template: made absolute."""
_STARTS_AGAIN = {"oar": "idempotent", "slurm": "requeue"}
"""The key of `-O` by which a scheduler is told that it may start a job again; yes by default."""
_OF_ONE_HOST = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/")


class Plan(NamedTuple):
    """What to submit, and what is needed around it."""

    launch: Launch
    settings: Settings
    queue: str
    """Its URL as this machine sees it."""
    records: str
    """The folder in which launches on this queue are recorded."""
    notes: tuple[str, ...]
    by_command: bool = False
    """Whether --minionize says how a minion is started."""


def plan(
    scheduler: str,
    module: Launcher,
    cmd: Sequence[str],
    given: Mapping[str, Any],
    ours: Mapping[str, Any],
) -> Plan:
    """The plan for `cmd`; `given`: settings of minionize, `ours`: options of launch."""
    loaded = settings.load(given)
    told, origins = loaded.settings, loaded.origins
    if told.from_file:
        raise UsageError(
            f"{origins['from_file']}: minions that are launched share a queue: minion feed "
            f"{told.from_file}, then launch"
        )
    if cmd and told.call and origins["call"] == "--call":
        raise UsageError("--call MODULE:FUNCTION takes the place of CMD: give one of them")
    if not cmd and not told.call:
        cmd = loaded.command
    if not cmd and not told.call:
        why = "".join(f" ({note})" for note in loaded.project.notes)
        raise UsageError(f"there is no CMD to run{why}: minion launch {scheduler} [OPTIONS] -- CMD")
    queue = absolute(told.queue)
    if queue.startswith("memory:"):
        raise UsageError(f"{queue} ends with its process: launch on a queue in a folder, -q FOLDER")
    folder = folder_of(_folder(queue), told.env)
    scripts = _for_scripts(folder, told.env)
    seen_as = ours["minion_queue"] or queue
    options = _options(scheduler, module, ours["options"])
    launch = Launch(
        minions=_parsed("-n", ours["minions"], parsing.minions),
        queue=seen_as,
        command=tuple(cmd),
        minionize=_minionize(ours["minionize"], module),
        minionize_options=(
            *_passed_on(told, origins, bool(cmd), module),
            *_brought_back(scheduler, options, origins),
        ),
        name=_parsed("--name", ours["name"], parsing.job_name),
        wall_time_s=_parsed("--wall-time", ours["wall_time"], parsing.seconds_above_0),
        cpus=_parsed("--cpus", ours["cpus"], parsing.whole_from(1)),
        memory_mib=_parsed("--memory", ours["memory"], parsing.size_mib),
        gpus=_parsed("--gpus", ours["gpus"], parsing.whole_from(1)),
        workdir=_here() if module.SHARES_FILES else None,
        folder=scripts if module.SHARES_FILES else None,
        grace_s=told.grace_s,
        env=_env(ours["env"], told.env),
        secret_env=dict(name_and_value("--secret-env", word) for word in ours["secret_env"]),
        options=options,
    )
    if module.SHARES_FILES:
        _check_paths(launch)
    if scheduler != "local" and re.match(r"[a-z0-9+.-]+://[^/@]*:[^/@]*@", seen_as):
        raise UsageError(
            "the queue's URL has a password in it, which would stand in the script: leave it out, "
            "and give it with --secret-env"
        )
    notes = (*loaded.notes, *_notes(scheduler, module, launch))
    if (
        scripts != folder
        and launch.folder is not None
        and (scheduler != "local" or _files(options))
    ):
        where = f"{scripts}, since others may write {os.path.dirname(folder)}"
        notes = (*notes, f"the script and what minions write go to {where}")
    return Plan(launch, told, queue, folder, notes, ours["minionize"] is not None)


def absolute(url: str) -> str:
    """The queue's URL, with an absolute path where it names a folder."""
    scheme, _, address = normalise(url).partition(":")
    if scheme in ("file", "execo"):
        address = os.path.join(_here(), address)
    return f"{scheme}:{address}"


def _for_scripts(records: str, env: Mapping[str, str]) -> str:
    """Where scripts and logs go: beside the records, or to this person's own state where others
    could put a script of theirs, or a link, in the place of ours."""
    return folder_of(None, env) if can_be_replaced(records) else records


def _files(options: Mapping[str, Sequence[str]]) -> bool:
    """Whether minions of this machine write into files."""
    return [word.lower() for word in options.get("output", ())[-1:]] == ["files"]


def _folder(queue: str) -> str | None:
    scheme, _, address = queue.partition(":")
    return address if scheme == "file" else None


def _here() -> str:
    """The current folder under the name that the person used, which may be the shared one."""
    told = os.environ.get("PWD", "")
    try:
        if os.path.isabs(told) and os.path.samefile(told, "."):
            return os.path.normpath(told)
    except OSError:
        pass
    return os.getcwd()


def _minionize(text: str | None, module: Launcher) -> tuple[str, ...]:
    if text is not None:
        words = command_words(text)
        if os.path.isfile(words[0]) and not os.access(words[0], os.X_OK):
            raise UsageError(
                f"--minionize: {words[0]} is no program: chmod +x it, or name the one that runs it"
            )
        return words
    if not module.SHARES_FILES:
        return ("minionize",)
    beside = os.path.join(os.path.dirname(sys.executable), "minionize")
    if os.access(beside, os.X_OK):
        return (beside,)
    return (sys.executable, "-m", "minionize.cli.minionize")


def _passed_on(
    told: Settings, origins: Mapping[str, str], has_cmd: bool, module: Launcher
) -> tuple[str, ...]:
    """The options that make a minion elsewhere see the settings that hold here."""
    words: list[str] = []
    for option in OPTIONS:
        field = option.field
        origin = origins[field]
        if origin == "default" or field in _NOT_PASSED_ON or (field == "call" and has_cmd):
            continue
        value = getattr(told, field)
        if field == "slots" and origin.endswith("(auto)"):
            value = "auto"  # the CPUs are counted where the minion is
        if field in _FOLDERS and module.SHARES_FILES and value is not None:
            value = os.path.join(_here(), value)
        words += option_words(field, value)
    return tuple(words)


def _brought_back(
    scheduler: str, options: Mapping[str, Sequence[str]], origins: Mapping[str, str]
) -> tuple[str, ...]:
    """Minions whose jobs may be started again are told so: they have no sure way to find out."""
    key = _STARTS_AGAIN.get(scheduler)
    if key is None or origins["requeue"] != "default":
        return ()
    try:
        again = all(parsing.flag(word) for word in options.get(key, ())[-1:])
    except ValueError:
        return ()  # told in better words when the script is made
    return ("--requeue",) if again else ()


def option_words(field: str, value: Any) -> list[str]:
    """`value` of a setting as its option is typed."""
    option = BY_FIELD[field]
    if not option.metavar:
        return [f"--{option.key}" if value else f"--no-{option.key}"]
    if isinstance(value, tuple):
        return [word for each in value for word in option_words(field, each)]
    if value is None:
        return [option.flag, "0"]  # --timeout: never
    if isinstance(value, Mapping):
        value = ",".join(f"{status}={end}" for status, end in sorted(value.items()))
    if isinstance(value, float):
        value = f"{value:.15g}"
    text = str(value)
    # A value that begins with a dash belongs to its option all the same.
    return [f"{option.flag}={text}"] if text.startswith("-") else [option.flag, text]


def _parsed(flag: str, text: str | None, parse: parsing.Parse) -> Any:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _env(words: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, given, value = word.partition("=")
        if not name:
            raise UsageError(f"--env {word}: it names no variable: write --env NAME=VALUE")
        if not given and name not in env:
            raise UsageError(f"--env {name}: it is not set here: write --env {name}=VALUE")
        found[name] = value if given else env[name]
    return found


def _options(scheduler: str, module: Launcher, words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, value = read_option(scheduler, module.KEYS, word)
        found[key] = (*found.get(key, ()), value) if module.KEYS[key].many else (value,)
    return found


def _check_paths(launch: Launch) -> None:
    for path in (launch.workdir, launch.folder, launch.queue):
        if path is not None and not path.isprintable():
            raise UsageError(
                f"{one_line(path)} has a line break or the like in its name, which no scheduler's "
                "files can: rename it"
            )


def _notes(scheduler: str, module: Launcher, launch: Launch) -> list[str]:
    notes: list[str] = []
    folder = _folder(launch.queue)
    if scheduler == "local" or not module.SHARES_FILES:
        return notes
    if folder is not None and f"{folder}/".startswith(_OF_ONE_HOST):
        notes.append(
            f"{folder} is likely a folder of this machine alone: minions on others need a queue "
            "that they all see (your home, a shared disk)"
        )
    return notes
