"""A user of this machine for a scheduler's jobs, with minionize in its home.

Schedulers run jobs as a real user, who can't read root's files; and OAR deletes what a job's user
has in the folders for temporary files. So there is a user of our own, and its home has copies.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import minionize
from services.processes import ServerFailed, run

_NEEDED = ("click", "dotenv", "humanize", "asciichartpy", "yaml", "cloudpickle")


class Ran(NamedTuple):
    """A command that ended."""

    status: int
    out: str
    err: str


class Account:
    """The user `name`; made anew by `with`, and removed with all its files at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.home = Path("/var/lib") / name
        self.groups: tuple[int, ...] = ()
        """Of others that it is a member of."""

    def __enter__(self) -> Account:
        self._remove()
        run("useradd", "--create-home", "--home-dir", str(self.home), "--shell", "/bin/bash",
            "--system", self.name)  # fmt: skip
        lib = self.home / "lib"
        _copy_packages(lib)
        folder = self.home / "bin"
        folder.mkdir()
        for command, module in (("minionize", "minionize"), ("minion", "minion")):
            script = folder / command
            script.write_text(
                "#!/bin/sh\n"
                f"export PYTHONPATH={lib}\n"
                f"exec {python()} -c 'from minionize.cli.{module} import main; main()' \"$@\"\n"
            )
            script.chmod(0o755)
        run("chown", "-R", f"{self.name}:", str(self.home))
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def run(self, *argv: str, cwd: Path | None = None, timeout_s: float = 180.0) -> Ran:
        """Run it as this user, with its own minionize on the path."""
        entry = pwd.getpwnam(self.name)
        ran = subprocess.run(
            argv,
            cwd=cwd or self.home,
            env={**self.env, "PWD": str(cwd or self.home)},  # oarsub goes by that
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=self.groups,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def ok(self, *argv: str, cwd: Path | None = None, timeout_s: float = 180.0) -> str:
        """The output of a command of this user's; ServerFailed with what it said if it fails."""
        ran = self.run(*argv, cwd=cwd, timeout_s=timeout_s)
        if ran.status:
            raise ServerFailed(f"{' '.join(argv)}: exit {ran.status}: {ran.out}{ran.err}")
        return ran.out

    @property
    def uid(self) -> int:
        """Its number."""
        return pwd.getpwnam(self.name).pw_uid

    @property
    def words(self) -> list[str]:
        """What stands before a command that is started as this user."""
        entry = pwd.getpwnam(self.name)
        groups = ",".join(map(str, self.groups))
        others = f"--groups={groups}" if groups else "--clear-groups"
        return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", others]

    def own(self, path: Path) -> None:
        """Make `path` this user's."""
        shutil.chown(path, self.name, self.name)

    @property
    def env(self) -> dict[str, str]:
        """What a shell of this user has."""
        return {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PATH": f"{self.home}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        }

    def _remove(self) -> None:
        try:
            pwd.getpwnam(self.name)
        except KeyError:
            pass
        else:
            run("userdel", "--force", self.name)
        shutil.rmtree(self.home, ignore_errors=True)


def python() -> str:
    """A Python that any user can execute: ours, or the system's."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if _for_all(path) and subprocess.run(
            [path, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"], check=False
        ).returncode == 0:  # fmt: skip
            return path
    return ""


def _for_all(path: str) -> bool:
    """Whether every user can execute it, through all the folders above."""
    return all(
        os.path.exists(each) and os.stat(each).st_mode & 0o001
        for each in (path, *map(str, Path(path).parents))
    )


def _copy_packages(lib: Path) -> None:
    no_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(minionize.__file__).parent, lib / "minionize", ignore=no_caches)
    for name in _NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None, name
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            # Compiled parts are of our Python, which may be another: all can do without.
            ignore = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(origin.parent, lib / name, ignore=ignore)
        else:
            shutil.copy(origin, lib / origin.name)
