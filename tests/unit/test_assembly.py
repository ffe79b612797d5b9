"""From settings to a minion: what is opened, what is waited for, what is closed again."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from minionize.assembly import make_minion
from minionize.callbacks.command import CommandCallback
from minionize.callbacks.func import FuncCallback
from minionize.callbacks.process import ProcessCallback
from minionize.contracts.engine import EngineOptions
from minionize.engines import registry
from minionize.errors import CommandNotFound, EngineUnavailable, NoSuchQueue, UsageError
from minionize.settings import Settings
from minionize.worker.summary import Summary


def fill(url: str, *params: Any) -> None:
    queue = registry.open_queue(url, EngineOptions(minion_id="filler"))
    queue.put(params)
    queue.close()


def told(**more: Any) -> Settings:
    return Settings(env=dict(os.environ), **more)


def work(settings: Settings, *cmd: str) -> tuple[Summary, list[str]]:
    lines: list[str] = []
    minion = make_minion(settings, CommandCallback(settings, cmd), lines=lines.append)
    return minion.run(), lines


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    """Other tests of this process may have some of their own."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_minion_from_python(tmp_path: Path) -> None:
    class Write(ProcessCallback):
        def to_cmd(self, param: Any) -> list[str]:
            return ["touch", str(tmp_path / param["name"])]

    fill(f"file:{tmp_path}/q", {"name": "a"}, {"name": "b"})
    lines: list[str] = []
    summary = make_minion(told(queue=f"{tmp_path}/q"), Write(), lines=lines.append).run()
    assert (summary.done, summary.exit_status) == (2, 0)
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()
    assert lines[-1].startswith("2 done")


def test_all_is_closed_afterwards(tmp_path: Path) -> None:
    before, others = open_files(), children()
    fill(f"file:{tmp_path}/q", 1)
    work(told(queue=f"file:{tmp_path}/q"), "true")
    assert open_files() == before
    assert children() <= others


@pytest.mark.parametrize(
    ("settings", "cmd", "error"),
    [
        (told(queue="file:none"), "true", NoSuchQueue),
        (told(queue="file:q"), "nonesuch-program", CommandNotFound),
        (told(queue="file:q", reporter="nonesuch"), "true", UsageError),
        (told(queue="file:q", slots=100_000), "true", UsageError),
        (told(from_file="none"), "true", UsageError),
        (told(queue="nonesuch:q"), "true", UsageError),
    ],
)
def test_all_is_closed_where_it_cant_begin(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    cmd: str,
    error: type[Exception],
) -> None:
    monkeypatch.chdir(tmp_path)
    fill("file:q", 1)
    before, others = open_files(), children()
    with pytest.raises(error):
        work(settings, cmd)
    assert open_files() == before
    assert children() <= others


def test_reports_go_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").write_text("1\n")
    fill("file:q", 1)
    work(told(queue="file:q"), "true")
    assert os.listdir("q/report")
    work(told(from_file="jobs"), "true")
    assert sorted(os.listdir()) == ["jobs", "q"]
    work(told(from_file="jobs", reporter="json"), "true")
    assert os.listdir("minion-report")
    work(told(from_file="jobs", reporter="json", report_dir="mine"), "true")
    assert os.listdir("mine")


def test_the_stdout_reporter_writes_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("1\n")
    shown: list[str] = []
    settings = told(from_file=str(tmp_path / "jobs"), reporter="stdout")
    callback = CommandCallback(settings, ["true"])
    make_minion(settings, callback, lines=lambda line: None, write=shown.append).run()
    assert "ack" in "".join(shown)


def test_checkpoints_live_in_the_queues_folder(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", 1)
    script = 'mkdir -p "$MINION_CHECKPOINT_DIR"; echo "$MINION_CHECKPOINT_DIR $MINION_ID" >> "$0"'
    settings = told(queue=f"file:{tmp_path}/q", stdin=True)
    work(settings, "sh", "-c", script, str(tmp_path / "out"))
    folder, minion_id = (tmp_path / "out").read_text().split()
    assert folder == f"{tmp_path}/q/checkpoints/1"
    assert re.fullmatch(rf"[A-Za-z0-9._-]+-{os.getpid()}-[0-9a-f]{{6}}", minion_id)
    assert not os.path.exists(folder)


FLAKY = """
from minionize.engines import memory
from minionize.errors import EngineUnavailable

failures = 0

def open_engine(address, options):
    global failures
    if failures:
        failures -= 1
        raise EngineUnavailable("flaky: not there; look at the broker")
    return memory.open_engine(address, options)

open_queue = memory.open_queue
"""


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine that can't be reached for as often as `failures` says."""
    (tmp_path / "flaky_engine.py").write_text(FLAKY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.BUILT_IN, "flaky", registry.BuiltIn("flaky_engine"))
    import flaky_engine  # type: ignore[import-not-found]

    monkeypatch.setattr(flaky_engine, "failures", 0)
    return flaky_engine


def test_a_queue_that_is_reached_at_last(flaky: Any) -> None:
    fill("flaky:reached", 1)
    flaky.failures = 3
    summary, lines = work(told(queue="flaky:reached"), "true")
    assert (summary.done, summary.exit_status) == (1, 0)
    assert sum("trying again for 300 s" in line for line in lines) == 1


def test_a_queue_that_is_never_reached(flaky: Any) -> None:
    flaky.failures = 1_000_000
    with pytest.raises(EngineUnavailable) as caught:
        work(told(queue="flaky:never", reconnect_s=0.3), "true")
    assert caught.value.exit_status == 69
    assert 1_000_000 - flaky.failures < 50


def test_waiting_for_a_queue_has_an_end(tmp_path: Path) -> None:
    settings = told(queue=f"file:{tmp_path}/none", wait=True, max_time_s=0.3)
    with pytest.raises(NoSuchQueue):
        work(settings, "true")


def test_params_poured_in_stay_few(tmp_path: Path) -> None:
    """The reader waits for the work: what is read ahead is bounded."""
    (tmp_path / "jobs").write_text("".join(f"{n}\n" for n in range(200_000)))
    before = open_files()
    settings = told(from_file=str(tmp_path / "jobs"), max_params=3)
    summary, _ = work(settings, "true")
    assert summary.done == 3
    summary, _ = work(settings._replace(max_params=5), "true")
    assert summary.done == 5
    deadline = time.monotonic() + 180
    while open_files() != before:
        assert time.monotonic() < deadline, "a reader goes on for nobody"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr", "chdir", "tty"])
def test_what_is_for_programs_is_refused_for_functions(name: str) -> None:
    value: Any = True if name in ("stdin", "tty") else "out"
    settings = told(queue="memory:x", **{name: value})
    minion = make_minion(settings, FuncCallback(print), lines=print)
    with pytest.raises(UsageError, match=f"--{name} is for programs"):
        minion.run()


def test_one_terminal_is_not_shared_by_slots() -> None:
    settings = told(queue="memory:x", tty=True, slots=2)
    with pytest.raises(UsageError, match="--tty"):
        work(settings, "true")
