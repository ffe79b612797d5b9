"""`minion cp`: params arrive in a queue of another kind, all of them or none, and none is lost."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from services import mute
from services.command_line import copied

from minionize.contracts.engine import EngineOptions, Queue
from minionize.engines import memory
from minionize.engines.file.people import FileQueue
from minionize.engines.registry import open_engine, open_queue
from minionize.errors import EngineUnavailable, MinionizeError, UsageError
from minionize.values import Failure, State

PARAMS = [{"x": number, "s": "é\n"} for number in range(1200)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINION_IDLE", "0.3")
    mute.install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "mute_engine", raising=False)
    yield tmp_path
    memory.drop("here")
    memory.drop("there")


def queue(url: str) -> Queue:
    return open_queue(url, EngineOptions(minion_id=f"test-{uuid.uuid4().hex}"))


def held(url: str, state: State = State.WAITING) -> list[str]:
    """The params in `state`, in any order, as texts that compare."""
    opened = queue(url.replace("mute:", "file:"))
    try:
        return sorted(json.dumps(entry.param, sort_keys=True) for entry in opened.scan(state))
    finally:
        opened.close()


def as_texts(params: Iterable[object]) -> list[str]:
    return sorted(json.dumps(param, sort_keys=True) for param in params)


KINDS = ["file:here", "memory:here", "execo:here", "mute:here"]


@pytest.mark.parametrize("target", ["file:there", "memory:there", "execo:there", "mute:there"])
@pytest.mark.parametrize("source", KINDS)
def test_from_any_kind_to_any_kind(source: str, target: str) -> None:
    queue(source).put(PARAMS)
    if source.startswith("mute:"):
        with pytest.raises(UsageError, match="can't list its waiting params: --move takes out"):
            copied(source, target)
        with pytest.raises(MinionizeError, match="no "):
            held(target)
    else:
        assert f"1,200 params copied: {source} to {target}" in copied(source, target)
        assert held(source) == held(target) == as_texts(PARAMS)
        queue(target.replace("mute:", "file:")).purge()
    copied("--move", source, target)
    assert held(target) == as_texts(PARAMS)
    assert not held(source)


@pytest.mark.parametrize("source", ["file:here", "memory:here", "execo:here"])
def test_what_was_moved_is_not_run_again_in_the_source(source: str) -> None:
    queue(source).put(PARAMS)
    engine = open_engine(source, EngineOptions(minion_id="m"))
    engine.ack(engine.lease(2, 1.0))
    engine.close()
    copied("--move", source, "memory:there")
    stats = queue(source).stats()
    assert (stats.put, stats.done, stats.purged, stats.drained) == (1200, 2, 1198, True)
    assert queue(source).requeue(None, State.DONE) == 2
    assert len(held(source)) == 2
    assert len(held("memory:there")) == 1198


def test_what_is_delayed_or_dead_is_copied_where_that_is_asked_for() -> None:
    queue("here").put(range(6))
    minion = open_engine("here", EngineOptions(minion_id="m"))
    leases = minion.lease(4, 0)
    minion.nack(leases[:2], delay_s=300)
    minion.bury(leases[2:], Failure("exit 3"))
    minion.close()
    copied("here", "there")
    copied("--state", "dead", "--state", "delayed", "--state", "dead", "here", "memory:there")
    assert held("there") == ["4", "5"]
    assert held("memory:there") == ["0", "1", "2", "3"]
    assert [entry.attempt for entry in queue("memory:there").scan(State.WAITING)] == [1] * 4
    assert held("here", State.DEAD) == ["2", "3"]


def test_a_copy_that_fails_has_put_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queue("here").put(PARAMS)
    queue("there").put([0])
    scan = FileQueue.scan

    def breaks(self: FileQueue, state: State) -> Iterator[object]:
        for number, entry in enumerate(scan(self, state)):
            if number == 1100:
                raise EngineUnavailable("the cable was cut")
            yield entry

    with monkeypatch.context() as patched, pytest.raises(EngineUnavailable):
        patched.setattr(FileQueue, "scan", breaks)
        copied("here", "there")
    assert held("there") == ["0"]


def test_a_move_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queue("here").put(PARAMS)
    put = memory.MemoryQueue.put_texts
    batches = []

    def breaks(self: memory.MemoryQueue, texts: list[str]) -> int:
        batches.append(len(texts))
        if len(batches) == 2:
            raise EngineUnavailable("full")
        return put(self, texts)

    monkeypatch.setattr(memory.MemoryQueue, "put_texts", breaks)
    with pytest.raises(EngineUnavailable):
        copied("--move", "here", "memory:there")
    assert batches[0] == 1000
    assert len(held("memory:there")) == 1000
    assert sorted(held("here") + held("memory:there")) == as_texts(PARAMS)
    stats = queue("here").stats()
    assert (stats.waiting, stats.purged, stats.minions) == (200, 1000, 0)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["here", "file:here"], "FROM and TO are the same queue"),
        (["here", "./here/"], "FROM and TO are the same queue"),
        (["--move", "here", "link"], "FROM and TO are the same queue"),
        (["--move", "--state", "dead", "here", "there"], "no --state with it"),
        (["nowhere", "there"], "no queue in"),
        (["--no-create", "here", "there"], "no queue in"),
        (["--move", "--no-create", "here", "there"], "no queue in"),
        (["--move", "paused", "there"], "is paused: minion resume"),
    ],
)
def test_what_cant_be_copied_leaves_all_as_it_was(args: list[str], said: str) -> None:
    queue("here").put([1, 2])
    Path("link").symlink_to("here")
    queue("paused").put([1])
    queue("paused").steer(paused=True)
    with pytest.raises(UsageError, match=said):
        copied(*args)
    assert held("here") == ["1", "2"]
    assert not Path("there").exists() or not held("there")


def test_a_password_in_an_argument_is_warned_about() -> None:
    queue("here").put([1])
    shown = copied("here", "mute://ada:secret@host/q")
    assert "TO shows its password to everybody on this host (ps)" in shown
    assert "secret" not in shown
