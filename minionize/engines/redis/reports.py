"""The server that a report in Redis is kept on: where it is, and a way to ask it.

The report itself is a matter of `reporters` and `status`; they are given one of these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from minionize.engines.address import without_credentials
from minionize.engines.redis.driver import exceptions
from minionize.engines.redis.faults import translated
from minionize.engines.redis.keys import prefix
from minionize.engines.redis.place import place_of
from minionize.errors import UsageError

KEEP = 1_000_000
"""Events that a report keeps, where its URL does not say ?keep=N."""
TIMEOUT_S = 5.0

_KEEP = re.compile(r"(?<=[?&])keep=([^&]*)&?")


class ReportServer:
    """A connection that is made when it is needed, and again after it was lost."""

    def __init__(self, url: str, env: Mapping[str, str]) -> None:
        """`url`: that of a queue in Redis, of this queue or of any; and ?keep=N."""
        said = _KEEP.search(url)
        self.keep = _number(said[1], url) if said else KEEP
        """Events to keep."""
        place = place_of(_KEEP.sub("", url).rstrip("?&"), env)
        self.url = place.url
        """Without credentials."""
        self.prefix = f"{prefix(place.stream)}report"
        """What the keys of the report begin with; all in one slot."""
        self._connection = place.connection(TIMEOUT_S)
        self._used = False

    def ask(self, *commands: Sequence[str | bytes | int]) -> list[Any]:
        """The answer to each command, in one round trip. Only MinionizeErrors escape; then each
        of them may or may not have been done. They must be such that doing them twice is doing
        them once: a connection that the server closed meanwhile is only noticed here."""
        stale = self._used
        while True:
            try:
                return self._ask(commands)
            except exceptions.ResponseError as error:
                raise translated(error, self.url) from error
            except (exceptions.RedisError, OSError) as error:
                self.close()
                if not stale or isinstance(error, exceptions.TimeoutError):
                    raise translated(error, self.url) from error
                stale = False

    def _ask(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        connection = self._connection
        connection.send_packed_command(connection.pack_commands(commands))
        self._used = True
        answers: list[Any] = []
        failed: exceptions.ResponseError | None = None
        for _ in commands:
            try:
                answers.append(connection.read_response())
            except exceptions.ResponseError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return answers

    def close(self) -> None:
        """Let go of the connection. May be repeated."""
        self._used = False
        self._connection.disconnect()


def _number(text: str, url: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 53:
        return int(text)
    raise UsageError(
        f"reporter {without_credentials(url)!r}: keep={text!r} is no number of events from 1 on"
    )
