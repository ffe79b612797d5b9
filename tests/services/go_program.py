"""Programs of Go's modules: built once, then kept under what they were made of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple


class CannotBuild(Exception):
    """Why there is no such program here."""


class GoProgram(NamedTuple):
    """A program that is built from a folder with go.mod and go.sum."""

    name: str
    sources: Path
    files: tuple[str, ...]
    """All that it is made of; the modules stand in go.mod."""
    package: str
    ldflags: str
    needs: str
    """For people: the least version of Go."""

    def cached(self) -> Path:
        """Where the program is, or will be: the name tells what it was made of."""
        made_of = hashlib.sha256()
        for name in self.files:
            made_of.update((self.sources / name).read_bytes())
        made_of.update(f"{self.ldflags} {platform.machine()}".encode())
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minionize-tests"
        return cache / f"{self.name}-{made_of.hexdigest()[:16]}"

    def lacking(self) -> str:
        """Why it is not here; empty if it is, or can be built in `tests/run.sh all`."""
        if self.cached().exists():
            return ""
        if shutil.which("go") is None:
            return f"go is missing, and {self.name} is built with it: install {self.needs}"
        if os.environ.get("MINIONIZE_TESTS") != "all":
            return f"{self.name} takes minutes to build: sh tests/run.sh all does it"
        return ""

    def built(self) -> Path:
        """The program, built if need be; others that want it meanwhile wait. CannotBuild if Go
        is missing or the build fails."""
        path = self.cached()
        if path.exists():
            return path
        if shutil.which("go") is None:
            raise CannotBuild(f"go is missing: install {self.needs}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                self._build(path)
                for old in path.parent.glob(f"{self.name}-*"):
                    if old != path:
                        old.unlink()
        return path

    def _build(self, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=f".{self.name}-build-", dir=path.parent) as folder:
            environment = {
                **os.environ,
                "CGO_ENABLED": "0",
                "GOCACHE": f"{folder}/cache",
                "GOMODCACHE": f"{folder}/modules",
                "GOFLAGS": "-buildvcs=false -mod=readonly -modcacherw",
            }
            draft = f"{folder}/program"
            build = ["go", "build", "-trimpath", f"-ldflags={self.ldflags}", "-o", draft]
            ran = subprocess.run(
                ["nice", "-n", "15", *build, self.package],
                cwd=self.sources, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            if ran.returncode:
                raise CannotBuild(f"go build: {ran.stderr.strip()[-2000:]}")
            os.replace(draft, path)
