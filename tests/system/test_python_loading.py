"""A function that can't be loaded: the machine is to blame, or the module is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driven import Driven, leases, made
from launches import counts
from services.command_line import Ran, fill, runner

from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Verdict
from minionize.errors import HostUnfit

NO_MEMORY = "bytearray(1 << 62)"
NO_DESCRIPTOR = (
    "import os, resource\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(7)[1]))\n"
    "os.dup(0)"
)
NO_THREAD = (
    "import threading\n"
    "threading.stack_size(1 << 46)\n"
    "threading.Thread(target=print, daemon=True).start()"
)
STALE = f"raise OSError({errno.ESTALE}, 'Stale file handle', '/nfs/table')"
FULL = "with open('/dev/full', 'w') as file: file.write('cache')"
WRAPPED = (
    "try:\n    bytearray(1 << 62)\nexcept MemoryError as e:\n    raise RuntimeError('x') from e"
)
EXIT = "import sys\ntry:\n    bytearray(1 << 62)\nexcept MemoryError:\n    sys.exit('no room')"
LIBRARY = "raise ImportError('libx.so.1: cannot open shared object file: Too many open files')"


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    with made() as make:
        yield make


def _module(folder: Path, text: str) -> None:
    (folder / "work.py").write_text(f"{text}\ndef run(n): return n\n")


def _why(ran: Ran) -> str:
    """The one line that says what can't be had."""
    assert "Traceback" not in ran.stderr
    (why,) = (
        line
        for line in ran.stderr.splitlines()
        if "be imported" in line or "be loaded" in line or "no module" in line
    )
    return why


@pytest.mark.parametrize("options", [("-j", "2"), ("--inline",)])
@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        (NO_MEMORY, "MemoryError", "ulimit -v"),
        (NO_DESCRIPTOR, "Too many open files", "ulimit -n"),
        (NO_THREAD, "can't start new thread", "ulimit -u"),
        (STALE, "Stale file handle: '/nfs/table'", "mend this host, or use another"),
        (FULL, "No space left on device", "make room there"),
        (WRAPPED, "RuntimeError: x", "ulimit -v"),
        (EXIT, "SystemExit: no room", "ulimit -v"),
        (LIBRARY, "libx.so.1", "ulimit -n"),
    ],
)
def test_the_machine_keeps_the_function_from_being_loaded(
    tmp_path: Path, text: str, says: str, remedy: str, options: tuple[str, ...]
) -> None:
    if options == ("--inline",) and text in (NO_DESCRIPTOR, NO_THREAD):
        pytest.skip("the minion itself has these")
    _module(tmp_path, text)
    fill(f"file:{tmp_path}/minion-queue", 1, 2)
    ran = runner(tmp_path)(*options, "--call", "work:run")
    line = _why(ran)
    assert line.startswith("minionize: work:run can't be loaded here (") and says in line
    assert remedy in line
    assert ran.returncode == 70
    stats = counts(tmp_path)
    assert (stats.waiting, stats.done, stats.dead) == (2, 0, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import gibbon", "No module named 'gibbon'"),
        ("open('/no/such/file')", "FileNotFoundError"),
        ("raise RuntimeError('Cannot allocate memory for a joke')", "RuntimeError"),
        # A mistake in what handles the machine's error is a mistake.
        ("try:\n    bytearray(1 << 62)\nexcept MemoryError:\n    import gibbon", "gibbon"),
        ("try:\n    bytearray(1 << 62)\nexcept MemoryError:\n    oops()", "NameError"),
        ("del run", "NameError"),
    ],
)
def test_what_is_wrong_with_the_module_is_usage(tmp_path: Path, text: str, says: str) -> None:
    _module(tmp_path, text)
    fill(f"file:{tmp_path}/minion-queue", 1, 2)
    ran = runner(tmp_path)("--call", "work:run")
    assert says in _why(ran)
    assert ran.returncode == 2


@pytest.mark.parametrize("text", [NO_MEMORY, STALE])
def test_other_children_do_the_work(tmp_path: Path, text: str) -> None:
    _module(tmp_path, f"import os\nif os.environ['MINION_SLOT'] == '1':\n    {text}")
    fill(f"file:{tmp_path}/minion-queue", *range(50))
    ran = runner(tmp_path)("-j", "2", "--call", "work:run")
    assert ran.returncode == 0, ran.stderr
    assert "50 done" in ran.stderr and "failed" not in ran.stderr


def test_a_machine_that_has_room_again_goes_on(
    drive: Callable[..., Driven], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = tmp_path / "crowded"
    (tmp_path / "work_again.py").write_text(
        f"import os\nif os.path.exists({str(crowded)!r}):\n    {NO_MEMORY}\n"
        "def run(status):\n    if status: os._exit(status)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driven = drive(FuncCallback.from_spec("work_again:run"), patience_s=3600.0).ready()
    crowded.touch()
    driven.crew.start(leases(1))
    driven.until(lambda: len(driven.outcomes) == 1)
    assert driven.outcomes.pop().verdict is Verdict.FAILED
    for _ in range(2):
        driven.until(lambda: driven.crew.room(None))
        driven.crew.start(leases(0))
        driven.until(lambda: driven.outcomes)
        given_back = driven.outcomes.pop()
        assert given_back.verdict is Verdict.CROWDED
        assert "can't be loaded: MemoryError" in given_back.reason
    os.unlink(crowded)
    driven.until(lambda: driven.crew.room(None))
    assert driven.run(leases(0))["1"].verdict is Verdict.DONE


def test_a_machine_that_never_has_room_again_ends_the_minion(
    drive: Callable[..., Driven], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work_once.py").write_text(
        f"import os\nif os.path.exists({str(tmp_path / 'crowded')!r}):\n    {NO_MEMORY}\n"
        f"def run(param):\n    open({str(tmp_path / 'crowded')!r}, 'w').close()\n    os._exit(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driven = drive(FuncCallback.from_spec("work_once:run"), patience_s=0.5).ready()
    driven.crew.start(leases(1))

    def forever() -> bool:
        if driven.crew.room(None):
            driven.crew.start(leases(1))
        return False

    with pytest.raises(HostUnfit, match=r"no process could be started here.*MemoryError"):
        driven.until(forever)
    assert {outcome.verdict for outcome in driven.outcomes} == {Verdict.FAILED, Verdict.CROWDED}
