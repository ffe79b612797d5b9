"""A file system without locks: said at once, with the remedy, by every command that needs them.

The kernel itself answers as such a file system does: Lustre without `-o flock` (ENOSYS), NFS whose
lock service is off (ENOLCK), FUSE (EOPNOTSUPP).
"""

from __future__ import annotations

import errno
import subprocess
import time
from pathlib import Path

import pytest
from services import forbidden
from services.command_line import Ran, command, environment, fill, runner

pytestmark = pytest.mark.skipif(bool(forbidden.lacking()), reason=forbidden.lacking())

ABSENT = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]


def without_locks(folder: Path, error: int, module: str, *args: str, input: str = "") -> Ran:
    return subprocess.run(
        command(*args, module=module), cwd=folder, env=environment(), input=input,
        preexec_fn=forbidden.forbid(forbidden.LOCKS, error), capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("error", ABSENT)
@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("minionize", ("-q", "q", "echo")),
        ("minion", ("feed", "-q", "q", "params")),
        ("minion", ("feed", "--dedupe", "-q", "q", "params")),
        ("minion", ("status", "-q", "q")),
        ("minion", ("retry", "-q", "q")),
    ],
)
def test_it_is_said_at_once(tmp_path: Path, error: int, module: str, args: tuple[str, ...]) -> None:
    fill(f"file:{tmp_path}/q", 1, 2)
    (tmp_path / "params").write_text("3\n")
    began = time.monotonic()
    ran = without_locks(tmp_path, error, module, *args)
    assert time.monotonic() - began < 60  # --reconnect is 300 s
    assert (ran.returncode, ran.stdout) == (69, ""), ran.stderr
    (line,) = ran.stderr.splitlines()
    assert "this file system has no locks: mount it with them (Lustre with -o flock" in line
    again = runner(tmp_path)("-q", "q", "echo")
    assert (again.returncode, again.stdout) == (0, "1\n2\n"), again.stderr


@pytest.mark.parametrize("error", ABSENT)
def test_the_doctor_knows(tmp_path: Path, error: int) -> None:
    fill(f"file:{tmp_path}/q", 1)
    ran = without_locks(tmp_path, error, "minion", "doctor", "-q", "q")
    assert ran.returncode == 2, ran.stderr
    said = " ".join(ran.stdout.split())
    assert "this file system has no locks" in said and "-o flock" in said
    assert "stale locks" not in said


def test_a_new_queue_is_refused(tmp_path: Path) -> None:
    ran = without_locks(tmp_path, errno.ENOSYS, "minion", "feed", "-q", "new", "-", input="1\n")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (69, 1), ran.stderr
    assert "this file system has no locks" in ran.stderr


def test_an_execo_sweep(tmp_path: Path) -> None:
    pytest.importorskip("execo_engine")
    assert runner(tmp_path)("feed", "-q", "execo:sweeps", "-", input="1\n", module="minion")
    ran = without_locks(tmp_path, errno.ENOSYS, "minionize", "-q", "execo:sweeps", "echo")
    assert (ran.returncode, len(ran.stderr.splitlines())) == (69, 1), ran.stderr
    assert "this file system has no locks" in ran.stderr
