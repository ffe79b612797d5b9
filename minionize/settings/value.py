"""The settings themselves: one frozen value that is handed down to the code that needs it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_ON_EXIT: Mapping[int, str] = MappingProxyType({0: "done", 65: "dead", 75: "later"})
_NOTHING: Mapping[str, str] = MappingProxyType({})


# No dataclass: the import of that takes longer than anything else in the start of a minion.
class Settings(NamedTuple):
    """What `minionizer(...)`, the command line and the environment all set."""

    queue: str = "file:minion-queue"
    slots: int = 1
    timeout_s: float | None = None
    """A run that takes longer is a failed attempt."""
    reporter: str | None = None
    """`null`, `json`, `stdout`, `redis` or a URL; None: json where the queue has a folder,
    else null."""
    report_dir: str | None = None
    from_file: str | None = None
    """Params are read from this file (`-`: standard input) instead of a queue."""
    null: bool = False
    """Of `from_file`: params end with a NUL each, and nothing in them is changed."""
    format: str | None = None
    """Of `from_file`: lines, csv, jsonl or json; None: by its name, else lines."""
    sep: str | None = None
    header: bool = True
    typed: bool = False
    skip_bad: bool = False
    call: str | None = None
    until: str = "drained"
    """`drained`, `empty` or `forever`."""
    max_params: int | None = None
    max_time_s: float | None = None
    deadline: float | None = None
    """Unix time at which the scheduler ends this minion."""
    min_left_s: float | None = None
    """With less time than this until its runs are told to stop, a minion takes nothing more."""
    keep_idle: int = 1
    """So many idle minions stay when everything left is leased by others."""
    requeue: bool | None = None
    """Cut short while params remain: have the scheduler start this job again. None: in idempotent
    jobs of OAR."""
    checkpoint_root: str | None = None
    """The folder of all checkpoint folders; None: in the queue's own folder, if it has one."""
    max_attempts: int = 3
    max_crashes: int = 5
    max_failures_in_a_row: int = 20
    """0: never give up."""
    on_exit: Mapping[int, str] = _ON_EXIT
    """Exit status to `done`, `later`, `dead` or `failed`."""
    lease_s: float = 60.0
    reconnect_s: float = 300.0
    grace_s: float = 10.0
    idle_s: float = 30.0
    wait: bool = False
    """Wait for the queue to exist."""
    inline: bool = False
    capture: bool | None = None
    """None: output is passed on, and a report keeps the end of it."""
    tty: bool = False
    stdin: bool = False
    """Give the param's JSON on standard input."""
    template: bool = True
    shell: bool = False
    chdir: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    image: str | None = None
    """Programs run in containers of it."""
    runtime: str | None = None
    """Name or path of what runs containers; None: the first that is there."""
    container_options: tuple[str, ...] = ()
    """As `memory=2g`: options of the runtime's `run`, without dashes."""
    beat_file: str | None = None
    """Touched while the minion is well."""
    dry_run: bool = False
    quiet: bool = False
    env: Mapping[str, str] = _NOTHING
    """The process's environment with `.env` in it: for drivers, and for the program."""
