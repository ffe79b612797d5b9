"""`minion doctor`: on a folder that is fit, and on ones that are not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minionize.cli import doctor_checks, doctor_hosts, doctor_space
from minionize.cli.doctor_finding import FAIL, OK, WARN
from minionize.contracts.engine import EngineOptions
from minionize.engines.file.calls import Calls
from minionize.engines.registry import open_engine, open_queue

ROOT = Path(__file__).parents[2]
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
DEADLINE_S = 180.0


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    return {**clean, "PYTHONPATH": str(ROOT)}


def doctor(folder: Path, *args: str, status: int | None = 0) -> dict[str, tuple[str, str]]:
    """The table of `minion doctor ARGS`: by topic its level and what is said, with the remedy."""
    ran = subprocess.run(  # noqa: PLW1510
        [*MINION, "doctor", *args], cwd=folder, env=environment(), capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=DEADLINE_S,
    )  # fmt: skip
    assert "Traceback" not in ran.stderr
    assert status is None or ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
    return parsed(ran.stdout)


def parsed(table: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    topic = ""
    for line in table.splitlines():
        if line.startswith(" "):
            level, said = found[topic]
            found[topic] = level, f"{said}; {line.strip()}"
        else:
            level, topic, said = re.split(r"  +", line, maxsplit=2)
            found[topic] = level.strip(), said
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a queue of three params in two files."""
    queue = open_queue(str(tmp_path / "minion-queue"), EngineOptions())
    queue.put_texts(["1", "2"])
    queue.put_texts(["3"])
    queue.close()
    return tmp_path


def levels(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    """What is not `ok`, but for what depends on the machine that runs this test."""
    machine = ("space", "inodes", "file system", "sync", "clock")
    return {
        topic: level for topic, (level, _) in found.items() if level != OK and topic not in machine
    }


def test_a_fit_folder_with_a_whole_queue(folder: Path) -> None:
    before = sorted(path.name for path in (folder / "minion-queue").iterdir())
    found = doctor(folder, "--full", status=None)
    assert levels(found) == {}
    assert found["queue"][1].startswith("3 put, 3 waiting")
    assert "2 files, none missing; every line checked" in found["params"][1]
    assert {"lock", "fresh reads", "link", "sync", "rights", "clock"} <= set(found)
    assert sorted(path.name for path in (folder / "minion-queue").iterdir()) == before


def test_a_folder_that_is_not_there_yet_and_stays_so(tmp_path: Path) -> None:
    found = doctor(tmp_path, "-q", "runs/a", status=None)
    assert "is not there yet" in found["folder"][1]
    assert levels(found) == {}
    assert list(tmp_path.iterdir()) == []


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert doctor(tmp_path, "-q", "file", status=2)["folder"][0] == FAIL


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert doctor(tmp_path, status=2)["rights"][0] == FAIL
    tmp_path.chmod(0o700)


def test_damage_is_named(folder: Path) -> None:
    params = folder / "minion-queue" / "params"
    first, second = sorted(params.glob("*.jsonl"))
    whole = first.read_bytes()
    second.rename(folder / "aside")
    level, said = doctor(folder, status=2)["params"]
    assert level == FAIL
    assert second.name in said
    (folder / "aside").rename(second)
    first.write_bytes(whole[:-1])
    level, said = doctor(folder, status=2)["params"]
    assert level == FAIL
    assert first.name in said
    # Noise in a line is seen only by who reads it.
    first.write_bytes(whole[:-2] + b"7\n")
    assert levels(doctor(folder, status=None)) == {}
    assert doctor(folder, "--full", status=2)["params"][0] == FAIL
    first.write_bytes(whole)
    (folder / "minion-queue" / "head").write_bytes(b"noise" * 10_000)
    assert doctor(folder, status=2)["queue"][0] == FAIL
    (folder / "minion-queue" / "head").unlink()
    assert doctor(folder, status=2)["queue"][0] == FAIL


def test_a_link_that_keeps_minions_from_beginning_is_found(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "minion-queue" / "checkpoints").symlink_to(folder / "elsewhere")
    level, said = doctor(folder, status=2)["checkpoints"]
    assert level == FAIL and "symbolic link" in said


def test_what_a_crashed_minion_left_is_told(folder: Path) -> None:
    pid = os.fork()
    if not pid:
        engine = open_engine(
            str(folder / "minion-queue"), EngineOptions(minion_id="gone", pid=os.getpid())
        )
        while not engine.lease(2, 1.0):
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (folder / "minion-queue" / "params" / "draft.77.1.0").write_text("x")
    found = doctor(folder, status=1)
    level, said = found["minions"]
    assert level == WARN
    assert "1 of them silent (gone), holding 2 params" in said or "holding 1 param" in said
    level, said = found["leftovers"]
    assert level == WARN
    assert "1 draft" in said


def test_options(tmp_path: Path) -> None:
    for args, said in (
        (["--hosts", "0"], "--hosts"),
        (["--timeout", "never"], "is no time"),
        (["--hosts", "2", "-q", "memory:x"], "is none"),
    ):
        ran = subprocess.run(  # noqa: PLW1510
            [*MINION, "doctor", *args], cwd=tmp_path, env=environment(), capture_output=True,
            text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert ran.returncode == 2
        assert said in ran.stderr


# ---- judgement of what can't be mounted here
@pytest.mark.parametrize(
    ("kind", "options", "shared", "level", "said"),
    [
        ("fuse.sshfs", "rw", False, FAIL, "not shared"),
        ("lustre", "rw,flock", True, OK, "lustre"),
        ("lustre", "rw,localflock", True, WARN, "localflock"),
        ("nfs4", "rw,vers=4.2,local_lock=none", True, OK, "nfs4"),
        ("nfs", "rw,nolock", True, WARN, "local locks"),
        ("nfs", "rw,local_lock=all", True, WARN, "local locks"),
        ("ext4", "rw", False, OK, "this host"),
        ("ext4", "rw", True, WARN, "alone"),
        ("fuse.glusterfs", "rw", True, OK, "glusterfs"),
        ("beegfs", "rw", True, WARN, "--hosts 2"),
        ("", "", False, WARN, "unknown"),
    ],
)
def test_file_systems(kind: str, options: str, shared: bool, level: str, said: str) -> None:
    found = doctor_checks.check_file_system(kind, options, shared=shared)
    assert found.level == level
    assert said in f"{found.said}; {found.remedy}"


def test_lost_locks_of_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = tmp_path / "recover_lost_locks"
    monkeypatch.setattr(doctor_checks, "_RECOVER_LOST_LOCKS", str(parameter))
    for value, level in (("Y", WARN), ("1", WARN), ("N", OK)):
        parameter.write_text(value + "\n")
        assert doctor_checks.check_file_system("nfs4", "rw", shared=True).level == level


@pytest.mark.parametrize(
    ("mode", "umask", "level"),
    [(0o755, 0o022, OK), (0o775, 0o002, WARN), (0o2775, 0o022, WARN), (0o2775, 0o002, OK)],
)
def test_rights_of_a_group(tmp_path: Path, mode: int, umask: int, level: str) -> None:
    tmp_path.chmod(mode)
    assert doctor_checks.check_rights(str(tmp_path), umask, os.geteuid()).level == level
    tmp_path.chmod(0o755)


def test_space_is_judged() -> None:
    def there(free: int, files: int, inodes: int) -> list[str]:
        fields = (4096, 4096, 1 << 30, free, free, inodes, files, files, 0, 255)
        return [one.level for one in doctor_space.check_space(os.statvfs_result(fields))]

    assert there(1 << 20, 1 << 20, 1 << 21) == [OK, OK]
    assert there(1 << 10, 100, 1 << 21) == [WARN, WARN]
    assert there(1, 0, 0) == [FAIL]


class NoExclusion(Calls):
    """Locks that bind nobody, as on sshfs."""

    def lock(self, fd: int) -> bool:
        return True

    def unlock(self, fd: int) -> None:
        return


class Stale(Calls):
    """Reads that this host answers from its cache, once it has read."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[int, bytes] = {}

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if size < 1 << 16:
            return self._kept.setdefault(fd, super().pread(fd, size, offset))
        return super().pread(fd, size, offset)

    def pwrite(self, fd: int, content: bytes, offset: int) -> None:
        super().pwrite(fd, content, offset)
        self._kept[fd] = content


class Replacing(Calls):
    """A link() that replaces what is there."""

    def link(self, source: str, target: str) -> None:
        self.rename(source, target)


class SlowClock(Calls):
    """A host whose clock is an hour behind."""

    def time(self) -> float:
        return super().time() - 3600


def test_locks_reads_and_links_that_do_not_hold_are_found(tmp_path: Path) -> None:
    place = str(tmp_path)
    assert doctor_checks.check_lock(Calls(), place).level == OK
    assert doctor_checks.check_lock(NoExclusion(), place).level == FAIL
    assert doctor_checks.check_reads(Calls(), place).level == OK
    assert doctor_checks.check_reads(Stale(), place).level == FAIL
    assert doctor_checks.check_link(Calls(), place).level == OK
    assert doctor_checks.check_clock(SlowClock(), place).level == WARN


def test_a_link_that_replaces_is_found(tmp_path: Path) -> None:
    assert doctor_checks.check_link(Replacing(), str(tmp_path)).level == FAIL


# ---- two at once
def meet(folder: Path, calls: tuple[Calls, ...], hosts: int, timeout_s: float) -> list[str]:
    """Instances of the test at once, one for each of `calls`; all that they say."""
    children = []
    for number, these in enumerate(calls):
        told = folder / f"told-{number}"
        pid = os.fork()
        if not pid:
            try:
                meeting = doctor_hosts.Meeting(
                    these, str(folder), hosts, timeout_s, lambda _line: None
                )
                told.write_text(
                    "\n".join(f"{f.level} {f.what} {f.said}" for f in meeting.findings())
                )
            finally:
                os._exit(0)
        children.append((pid, told))
    for pid, _ in children:
        os.waitpid(pid, 0)
    return [told.read_text() for _, told in children]


def test_two_instances_find_each_other_and_agree(tmp_path: Path) -> None:
    for said in meet(tmp_path, (Calls(), Calls()), 2, DEADLINE_S):
        assert "warn hosts several are on one host" in said
        assert "ok coherence" in said
    assert not (tmp_path / "doctor").exists()


def test_three_instances(tmp_path: Path) -> None:
    for said in meet(tmp_path, (Calls(), Calls(), Calls()), 3, DEADLINE_S):
        assert "ok coherence" in said


def test_locks_that_bind_nobody_are_found(tmp_path: Path) -> None:
    told = meet(tmp_path, (NoExclusion(), NoExclusion()), 2, 30.0)
    assert any("FAIL coherence" in said for said in told)
    assert any("at the same time" in said or "are there" in said or "stale" in said
               or "half of a write" in said for said in told)  # fmt: skip


def test_stale_reads_are_found(tmp_path: Path) -> None:
    told = meet(tmp_path, (Calls(), Stale()), 2, 5.0)
    assert any("FAIL coherence" in said for said in told)
    assert not any("ok coherence" in said for said in told)


def test_nobody_comes(tmp_path: Path) -> None:
    # A test that was killed left its beat: nobody takes it for somebody.
    (tmp_path / "doctor").mkdir()
    (tmp_path / "doctor" / "gone-1-00.beat").write_text('{"beat": 7, "host": "gone", "mount": "x"}')
    [said] = meet(tmp_path, (Calls(),), 2, 1.0)
    assert "FAIL hosts 1 of 2 came within 1 s" in said


def test_the_command_with_hosts(folder: Path) -> None:
    with subprocess.Popen(
        [*MINION, "doctor", "--hosts", "2"], cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as other:  # fmt: skip
        found = doctor(folder, "--hosts", "2", status=1)
        out, err = other.communicate(timeout=DEADLINE_S)
        assert other.returncode == 1, err
    assert found["coherence"][0] == OK
    assert parsed(out)["coherence"][0] == OK
