"""Two users of one group and a folder that both may write to: what one can do to the other."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from services import account
from services.account import Account, Ran
from services.processes import missing, run


class TwoUsers(NamedTuple):
    """Both are members of the group `lab`; nothing in `shared` is secret to either."""

    ann: Account
    """Whom the other means harm."""
    bob: Account
    shared: Path
    """A setgid folder of bob's, which the group may write to."""

    def sh(self, who: Account, script: str, cwd: Path | None = None) -> Ran:
        """Run a shell script as one of them, with files for the group."""
        return who.run("sh", "-c", f"umask 002; {script}", cwd=cwd or self.shared, timeout_s=60)

    def folder(self, name: str) -> Path:
        """A folder of bob's in the shared one, for the group, too."""
        path = self.shared / name
        made = self.sh(self.bob, f"mkdir {name}")
        assert made.status == 0, made.err
        return path

    def start(self, who: Account, *argv: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command as one of them; its own pid is the program's."""
        return subprocess.Popen(
            [*who.words, *argv],
            cwd=cwd or self.shared,
            env=who.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def lacking() -> str:
    """What it lacks here; empty if nothing."""
    if os.geteuid():
        return "only root makes users"
    needed = [("useradd", "passwd"), ("groupadd", "passwd"), ("setpriv", "util-linux")]
    return missing(needed) or (
        "" if account.python() else "no Python that other users can execute: install one"
    )


@contextlib.contextmanager
def two_users() -> Iterator[TwoUsers]:
    """Made anew, and removed with all their files."""
    mark = os.getpid()
    lab, place = f"mzlab{mark}", Path(f"/var/lib/mzlab{mark}")
    run("groupadd", "--force", lab)
    try:
        with Account(f"mzann{mark}") as ann, Account(f"mzbob{mark}") as bob:
            gid = grp.getgrnam(lab).gr_gid
            ann.groups = bob.groups = (gid,)
            shared = place / "shared"
            shared.mkdir(parents=True)
            os.chown(shared, bob.uid, gid)
            shared.chmod(0o2775)
            yield TwoUsers(ann, bob, shared)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        run("groupdel", lab)
