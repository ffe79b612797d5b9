"""minion status --watch: it looks again and again, and waits for a queue that is not there yet."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from services import redis
from services.processes import until

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue

LIMIT_S = 180
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]


class Watch:
    """`minion status --watch --json` in a folder."""

    def __init__(self, folder: Path, queue: str) -> None:
        self.queue = queue
        self.said = folder / "said"
        with self.said.open("w") as stderr:
            self.process = subprocess.Popen(
                [*MINION, "status", "--watch", "--json", "--interval", "0.1", "-q", queue],
                cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=subprocess.PIPE, stderr=stderr, encoding="utf-8",
            )  # fmt: skip

    def look(self) -> dict[str, Any]:
        """What it sees next."""
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert self.process.wait(LIMIT_S) in (-signal.SIGINT, 130)

    def put(self) -> None:
        queue = open_queue(self.queue, EngineOptions())
        queue.put([1, 2])
        queue.close()


@pytest.fixture(params=["file", "redis"])
def watch(
    request: pytest.FixtureRequest, tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> Iterator[Watch]:
    with contextlib.ExitStack() as stack:
        url = f"file:{tmp_path}/q"
        if request.param == "redis":
            if lacks := redis.lacking("valkey"):
                needs_server(lacks)
            server = stack.enter_context(redis.RedisServer(tmp_path / "redis", "valkey"))
            url = server.url("q")
        made = Watch(tmp_path, url)
        yield made
        made.process.kill()
        made.process.wait()


def test_it_looks_again_until_interrupted(watch: Watch) -> None:
    watch.put()
    looks = [watch.look() for _ in range(3)]
    assert looks[0]["at"] < looks[1]["at"] < looks[2]["at"]
    watch.interrupt()


def test_a_queue_that_is_not_there_yet_is_waited_for(watch: Watch) -> None:
    until(lambda: "waiting for it" in watch.said.read_text(), "it says nothing")
    watch.put()
    while (waiting := watch.look()["waiting"]) != 2:
        assert waiting == 0, "made, and nothing in it yet"
    assert len(watch.said.read_text().splitlines()) == 1
    watch.interrupt()


def test_it_can_be_interrupted_while_it_waits(watch: Watch) -> None:
    until(lambda: "waiting for it" in watch.said.read_text(), "it says nothing")
    watch.interrupt()
