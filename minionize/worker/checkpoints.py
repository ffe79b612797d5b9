"""The folders that runs keep their checkpoints in: where they are, and when they go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from minionize.beneath import LINK, Each, is_link
from minionize.errors import UsageError
from minionize.values import Lease


class Checkpoints:
    """The checkpoint folders of one queue, each named as its param: made by the program that wants
    one, removed when its param is acked. Others, and those of dead letters, are left alone."""

    def __init__(self, folder: str, *, ours: bool) -> None:
        """`ours`: only the worker removes them; otherwise the engine does."""
        self.folder = folder
        self._ours = ours
        self._place = Each(folder, follow=False)

    def check(self) -> bool:
        """Whether the folder is there. UsageError if a link stands in its place: what programs
        keep in it would be written, and removed, elsewhere."""
        if is_link(self.folder):
            raise UsageError(f"{self.folder}: {LINK}")
        return os.path.isdir(self.folder)

    def begin(self, leases: Iterable[Lease]) -> None:
        """These will run: where a link stands in the place of one's folder, the link goes, since
        its program would write where that leads. UsageError as `check`."""
        if not self.check():
            return
        for lease in leases:
            if is_link(os.path.join(self.folder, lease.id)):
                with contextlib.suppress(OSError):
                    self._place.unlink(lease.id)

    def settled(self, leases: Iterable[Lease]) -> None:
        """These are acked: their folders are of no use any more."""
        if not self._ours or not os.path.isdir(self.folder):
            return
        for lease in leases:
            if os.sep not in lease.id:
                self._place.remove_tree(lease.id)


def checkpoints_of(url: str, queue_folder: str | None, root: str | None) -> Checkpoints | None:
    """Where the params of the queue `url` have their checkpoints: under `root`, in a folder named
    after the queue; without one in the queue's own folder; None if it has none.

    The name is the same on every host that reaches the queue by the same URL (or folder).
    """
    if root is None:
        if queue_folder is None:
            return None
        return Checkpoints(os.path.join(os.path.abspath(queue_folder), "checkpoints"), ours=False)
    if queue_folder is not None:
        url = os.path.abspath(queue_folder)
    else:
        scheme, _, address = url.partition(":")
        if address and os.path.exists(address):
            # A sweep of execo in a folder: others may have one of that name elsewhere.
            url = f"{scheme}:{os.path.abspath(address)}"
    return Checkpoints(os.path.join(os.path.abspath(root), _name(url)), ours=True)


def check_root(root: str) -> None:
    """Make the folder of `--checkpoint-root`, if it is missing. UsageError where runs could not
    write there: told at the start, it costs no param an attempt."""
    try:
        os.makedirs(root, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"--checkpoint-root {root} is no folder: name another") from None
    except OSError as error:
        raise UsageError(
            f"--checkpoint-root {root} can't be made: {error.strerror}; make it, or name another"
        ) from error
    check_writable(root)


def check_writable(folder: str) -> None:
    """UsageError if runs can make no folder in `folder`, which is there."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"--checkpoint-root: {folder} can't be written from here: get the right to, or name "
            "another folder"
        )


def _name(url: str) -> str:
    """A folder's name for `url`: readable, and another one for each."""
    import zlib

    plain = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in url)
    return f"{plain.strip('-.')[-60:]}-{zlib.crc32(url.encode()):08x}"
