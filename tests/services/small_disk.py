"""Small disks to be filled: tmpfs, ext4 and xfs in a file, btrfs with a quota."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

KINDS = ("tmpfs", "inodes", "ext4", "xfs", "quota")
"""`inodes`: there is room, but for no file more. `quota`: there is room, but not for us (btrfs)."""
BYTES = 6 << 20
"""So much may be written in all, or a little more."""
_MAKERS = {"ext4": "mkfs.ext4", "xfs": "mkfs.xfs", "quota": "mkfs.btrfs"}


def _done(*argv: str) -> str:
    """Run it; what it said where it failed."""
    ran = subprocess.run(argv, check=False, capture_output=True, text=True)
    return (ran.stderr.strip() or "it failed") if ran.returncode else ""


@contextlib.contextmanager
def small_disk(kind: str, place: Path, lacks: Callable[[str], NoReturn]) -> Iterator[Path]:
    """A folder on a disk of this kind. `lacks` is called with what is missing here."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        lacks("only root can mount a small disk")
    point = place / f"disk-{kind}"
    point.mkdir()
    if kind in ("tmpfs", "inodes"):
        options = f"size={BYTES}" if kind == "tmpfs" else f"size={8 * BYTES},nr_inodes=300"
        said = _done("mount", "-t", "tmpfs", "-o", options, "minionize-test", str(point))
    else:
        image = place / f"image-{kind}"
        maker = shutil.which(_MAKERS[kind], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if maker is None:
            lacks(f"there is no {_MAKERS[kind]}")
        size = {"ext4": BYTES + (4 << 20), "xfs": 310 << 20, "quota": 128 << 20}[kind]
        with open(image, "wb") as file:
            file.truncate(size)
        quiet = ("-q", "-m", "0") if kind == "ext4" else ("-q",)
        said = _done(maker, *quiet, str(image)) or _done(
            "mount", "-o", "loop", str(image), str(point)
        )
    if said:
        lacks(f"a small disk ({kind}) can't be had: {said}")
    folder = point / "files"
    try:
        if kind == "quota":
            said = (
                _done("btrfs", "subvolume", "create", str(folder))
                or _done("btrfs", "quota", "enable", str(point))
                or _done("btrfs", "qgroup", "limit", str(BYTES), str(folder))
            )
            if said:
                lacks(f"a quota of btrfs can't be had: {said}")
        else:
            folder.mkdir()
        folder.chmod(0o777)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def fill(folder: Path, kind: str, left: int) -> None:
    """Leave room for so many bytes, or for a file or two (`inodes`), and no more."""
    if kind == "inodes":
        with contextlib.suppress(OSError):
            for number in range(10_000):
                (folder / f"ballast-{number}").touch()
        for number in range(left // 10_000):
            (folder / f"ballast-{number}").unlink()
        return
    spare = folder / "ballast-spare"
    if left:
        _fill(spare, left)
    _fill(folder / "ballast", 1 << 40)
    if left:
        spare.unlink()
        os.sync()


def _fill(path: Path, most: int) -> None:
    with open(path, "ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.tell() < most and file.write(bytes(min(size, most - file.tell()))):
                    os.fsync(file.fileno())


def empty(folder: Path) -> None:
    """There is room again."""
    for path in folder.glob("ballast*"):
        path.unlink()
    os.sync()
