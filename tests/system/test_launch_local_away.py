"""minion launch local while its queue can't be reached."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from redis_field import RedisField, at_work, until
from services.proxy import Proxy

LONG = 'echo "$PPID" >>runs; until test -e go; do sleep 0.05; done; echo "$1" >>ends'


@pytest.fixture
def field(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[RedisField]:
    with (
        at_work(tmp_path, needs_server) as server,
        closing(RedisField(tmp_path, server)) as field,
    ):
        yield field


def test_who_dies_meanwhile_takes_no_other_minion_with_it(field: RedisField) -> None:
    """Whether there is work for another one can't be asked then; the rest waits for the queue."""
    field.put(range(2))
    with Proxy("127.0.0.1", field.server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0?stream=q"
        options = ("--lease", "5", "--reconnect", "600", "--resubmit")
        launch = field.command(
            "launch", "local", "-n", "2", *options, "--", "sh", "-c", LONG, "x", url=url
        )
        until(lambda: len(field.lines("runs")) == 2, lambda: field.said(launch))
        proxy.cut()
        os.kill(int(field.lines("runs")[0]), signal.SIGKILL)
        until(lambda: "a minion that ended is not replaced" in field.said(launch),
              lambda: field.said(launch))  # fmt: skip
        (field.folder / "go").touch()
        proxy.mend()
        assert field.ended(launch) == 137, field.said(launch)
    field.assert_all_done(2)
