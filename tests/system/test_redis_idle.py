"""Idle minions of a queue in Redis give their nodes back, as those of one in a folder do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from redis_field import RedisField, at_work, until

LONG = 'touch began; until test -e go; do sleep 0.05; done; echo "$MINION_ID" >>ran'


@pytest.fixture
def field(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[RedisField]:
    with (
        at_work(tmp_path, needs_server) as server,
        closing(RedisField(tmp_path, server)) as field,
    ):
        field.env.pop("KUBERNETES_SERVICE_HOST", None)
        yield field


def test_all_but_one_leave_and_that_one_takes_over(field: RedisField) -> None:
    field.put(["x"])
    busy = field.minion("--lease", "2", run=LONG)
    until((field.folder / "began").exists)
    idle = [field.minion("--lease", "2", "--idle", "1", run=LONG) for _ in range(4)]
    until(lambda: sum(one.poll() is None for one in idle) == 1)
    left = [one for one in idle if one.poll() is not None]
    assert [one.returncode for one in left] == [0, 0, 0]
    assert all("idle, others have the rest" in field.said(one) for one in left)
    (stays,) = (one for one in idle if one.poll() is None)
    # That is what it stays for.
    busy.kill()
    until(lambda: (field.stats().minions or 0) == 1)
    (field.folder / "go").touch()
    assert field.ended(stays) == 0, field.said(stays)
    assert str(stays.pid) in (field.folder / "ran").read_text()
    assert field.stats().done == 1


def test_more_may_be_kept(field: RedisField) -> None:
    field.put(["x"])
    field.minion("--lease", "2", run=LONG)
    until((field.folder / "began").exists)
    args = ("--lease", "2", "--idle", "1", "--keep-idle", "2")
    idle = [field.minion(*args, run=LONG) for _ in range(4)]
    until(lambda: sum(one.poll() is None for one in idle) == 2)
    time.sleep(2)
    assert sum(one.poll() is None for one in idle) == 2
    (field.folder / "go").touch()
    assert [field.ended(one) for one in field.processes] == [0] * 5


def test_nobody_leaves_while_something_is_given_back_for_later(field: RedisField) -> None:
    """A delayed param is nobody's: whoever is here when its time comes takes it."""
    field.put(["x"])
    fails = "test -e go && exit 0; date >>began; exit 1"
    args = ("--idle", "2", "--max-attempts", "9")
    (field.folder / "began").touch()
    minions = [field.minion(*args, run=fails) for _ in range(3)]
    until(lambda: len(field.lines("began")) >= 3)
    time.sleep(3)  # of the 4 s until its next time
    assert [one.poll() for one in minions] == [None] * 3
    (field.folder / "go").touch()
    assert [field.ended(one) for one in minions] == [0] * 3
    assert not any("idle, others" in field.said(one) for one in minions)
