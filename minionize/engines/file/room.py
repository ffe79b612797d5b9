"""A queue's folder, opened: its paths, its head, its files, and what kind of disk it is on."""

from __future__ import annotations

import contextlib
import errno
import os

from minionize.contracts.engine import EngineOptions, Traits
from minionize.engines.file.batches import Batches
from minionize.engines.file.calls import Calls
from minionize.engines.file.head_file import HeadFile, unavailable, write_new
from minionize.errors import EngineUnavailable, NoSuchQueue, UsageError

LOCAL = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "tmpfs",
        "overlay",
        "zfs",
        "f2fs",
        "jfs",
        "reiserfs",
        "bcachefs",
        "ramfs",
        "vfat",
        "exfat",
    ]
)
"""File systems of one host: its page cache is the truth."""

UNSHARED = {
    "fuse.sshfs": "sshfs",
    "sshfs": "sshfs",
    "fuse.s3fs": "s3fs",
    "fuse.rclone": "rclone",
    "fuse.gcsfuse": "gcsfuse",
}
"""File systems whose locks bind one host only, or no process at all."""

DELAYS_S = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 600, 1800, 3600, 14400, 86400)
"""One folder of returned batches for each: what has the same delay comes due in order."""


def delay_class(delay_s: float) -> int:
    """The folder for a delay: the first that is at least as long, or the longest."""
    for delay in DELAYS_S:
        if delay_s <= delay:
            return delay
    return DELAYS_S[-1]


def file_system(calls: Calls, path: str) -> tuple[str, str]:
    """Type and mount options of the file system that holds `path`; empty where unknown."""
    try:
        wanted = calls.device(path)
        mounts = calls.read_whole("/proc/self/mountinfo").decode(errors="replace")
    except OSError:
        return "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 6 and fields[2] == wanted and "-" in fields:
            dash = fields.index("-")
            return fields[dash + 1], ",".join(fields[dash + 3 :])
    return "", ""


def no_queue(calls: Calls, path: str) -> NoSuchQueue | UsageError:
    """Why no head is seen at `path`: it is missing, or hidden from this user."""
    try:
        calls.device(f"{path}/head")
    except OSError as error:
        if error.errno == errno.EACCES:
            return UsageError(
                f"{path}: {error.strerror}: you need the right to enter it and write there "
                "(for a group, a setgid folder and umask 002)"
            )
    return NoSuchQueue(f"no queue in {path}: make one with minion feed")


class Room:
    """What both faces of the engine share."""

    def __init__(self, address: str, options: EngineOptions, calls: Calls | None = None) -> None:
        self.options = options
        self.calls = calls or Calls(options.clock)
        self.path = os.path.abspath(os.path.expanduser(address or "minion-queue"))
        self.url = f"file:{address or 'minion-queue'}"
        self.traits = Traits(keeps_done=True, scans=True, folder=self.path)
        self.made: list[str] = []
        self.calls.keep_beneath(self.path)
        self.batches = Batches(self.calls)
        self.checkpoints = f"{self.path}/checkpoints"
        self._head: HeadFile | None = None
        self.shared = True
        """Whether other hosts may see this folder; known once the head was opened."""
        self.patience_s = min(5.0, options.lease_s / 4)
        """How long a visit waits for the lock: not so long that a beat comes too late."""
        self.on_and_on = False
        """Whether it waits on after that while others write."""

    # ---- opening
    @property
    def head(self) -> HeadFile:
        """The head's file. NoSuchQueue if there is none."""
        if self._head is None:
            path = f"{self.path}/head"
            if not self.calls.exists(path):
                self._explain_absence(path)
            kind, _ = file_system(self.calls, self.path)
            if kind in UNSHARED:
                raise UsageError(
                    f"{self.path} is on {UNSHARED[kind]}, whose locks are not shared between "
                    "hosts: use a folder on NFS, Lustre, GlusterFS or a local disk"
                )
            self.shared = kind not in LOCAL
            self._head = HeadFile(
                self.calls,
                path,
                shared=self.shared,
                patience_s=self.patience_s,
                on_and_on=self.on_and_on,
            )
        return self._head

    def _explain_absence(self, path: str) -> None:
        if self.calls.exists(f"{self.path}/params"):
            from minionize.engines.file.batches import missing

            try:
                names = self.calls.names(f"{self.path}/params")
            except OSError as error:
                raise unavailable(error, "cannot list", f"{self.path}/params") from error
            if any(name.endswith(".jsonl") for name in names):
                if self.calls.exists(path):
                    return  # a feeder made it just now
                if file_system(self.calls, self.path)[0] not in LOCAL:
                    # Another host's names appear in any order.
                    raise EngineUnavailable(
                        f"{path} is missing, or not visible on this host yet: try again in a "
                        "minute; if it stays so, restore it from a backup, or feed a new queue"
                    )
                raise missing(path)
        raise no_queue(self.calls, self.path)

    def make(self) -> None:
        """Make an empty queue, unless it is there."""
        calls = self.calls
        if calls.exists(f"{self.path}/head"):
            return
        calls.let_go_of_root(made_anew=True)
        if not self.options.create:
            self._explain_absence(f"{self.path}/head")
        self._refuse_damaged()
        try:
            self._make_parents(self.path)
            calls.mkdir(self.path)
            self._sync_parent(self.path)
            for name in ("params", "returned", "dead", "purged", "minions"):
                calls.mkdir(f"{self.path}/{name}")
            for delay in (*DELAYS_S, "held"):
                calls.mkdir(f"{self.path}/returned/{delay}")
            # Before the head: a power cut must not leave a queue without its folders.
            calls.sync_folder(f"{self.path}/returned")
            calls.sync_folder(self.path)
        except OSError as error:
            raise unavailable(error, "cannot make", self.path) from error
        if write_new(calls, f"{self.path}/head", f"{self.path}/head.{self.options.minion_id}"):
            self.made.append(f"folder {self.url.removeprefix('file:')}")
        try:
            calls.sync_folder(self.path)
        except OSError as error:
            raise unavailable(error, "cannot make", self.path) from error

    def _refuse_damaged(self) -> None:
        if self.calls.exists(f"{self.path}/params"):
            try:
                self._explain_absence(f"{self.path}/head")
            except NoSuchQueue:
                return

    def _make_parents(self, path: str) -> None:
        parent = os.path.dirname(path)
        if parent != path and not self.calls.exists(parent):
            self._make_parents(parent)
            self.calls.mkdir(parent)
            self._sync_parent(parent)

    def _sync_parent(self, path: str) -> None:
        # A parent that may be entered but not read can't be synced.
        with contextlib.suppress(PermissionError):
            self.calls.sync_folder(os.path.dirname(path))

    # ---- paths
    def folder_of(self, source: str) -> str:
        """The folder of a claim's source."""
        if source == "p":
            return f"{self.path}/params"
        if source == "h":
            return f"{self.path}/returned/held"
        if source in ("dead", "purged"):
            return f"{self.path}/{source}"
        return f"{self.path}/returned/{source}"

    def file_of(self, source: str, number: int) -> str:
        """The file of a batch or segment."""
        return f"{self.folder_of(source)}/{number:08d}.jsonl"

    def draft_of(self, source: str, generation: int, number: int) -> str:
        """A draft's name, which no other process ever has: generations are given out once."""
        return f"{self.folder_of(source)}/draft.{generation}.{number}"

    def member_folder(self, name: str) -> str:
        """The folder of a minion's life."""
        return f"{self.path}/minions/{name}"

    # ---- waiting
    @property
    def visibility_s(self) -> float:
        """How long a file that the head names may stay invisible: directories are cached for
        up to a minute on other hosts, not at all on the same one."""
        return 120.0 if self.shared else 1.0

    def close(self) -> None:
        """Let go of all files."""
        self.batches.close()
        self.calls.let_go_of_root()
        if self._head is not None:
            self._head.close()
