"""One connection to the server, and the scripts that are run there."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from minionize.engines.redis.driver import exceptions
from minionize.engines.redis.faults import no_queue, translated
from minionize.engines.redis.place import Place
from minionize.errors import ForeignVersion, MinionizeError, UsageError

try:
    # hashlib loads all of OpenSSL, which is of no use here.
    from _sha1 import sha1  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha1

_FOLDER = os.path.join(os.path.dirname(__file__), "lua")

Word = str | bytes | int


class Script:
    """A script's text, and the name that the server knows it by."""

    def __init__(self, name: str) -> None:
        self.text = (head() + _text_of(name)).encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


@cache
def head() -> str:
    """What all scripts begin with."""
    return _text_of("_head")


def _text_of(name: str) -> str:
    with open(os.path.join(_FOLDER, f"{name}.lua"), encoding="utf-8") as file:
        return file.read()


@cache
def script(name: str) -> Script:
    """The script in lua/NAME.lua."""
    return Script(name)


class Wire:
    """Runs scripts on a server, over a connection that is made when it is needed.

    All errors are MinionizeErrors. After an EngineUnavailable the command may or may not have
    been done, and the next one connects anew.
    """

    def __init__(self, place: Place, timeout_s: float) -> None:
        """`timeout_s`: an answer that takes longer does not come."""
        self.place = place
        self.timeout_s = timeout_s
        self._group = place.group.encode()
        self._connection = place.connection(timeout_s)
        self.broken = False
        """The last command failed since the connection did: it may have been done."""

    def run(self, name: str, *words: Word, keys: tuple[bytes, ...] = ()) -> Any:
        """What the script says. Its first word may be a state, which is checked with `checked`."""
        self.broken = False
        try:
            return self._run(name, words, keys)
        except exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise translated(error, self.place.url) from error
        except (exceptions.RedisError, OSError) as error:
            self.drop()
            raise translated(error, self.place.url) from error
        return self._run_after_mending(name, words, keys)

    def checked(self, name: str, *words: Word, keys: tuple[bytes, ...] = ()) -> list[Any]:
        """`run` for scripts whose answer begins with a state; what follows `ok` or `gone`."""
        answer: list[Any] = self.run(name, *words, keys=keys)
        state = answer[0]
        if state == b"none":
            raise no_queue(self.place.url)
        if state == b"foreign":
            raise self._foreign(answer[1].decode(errors="replace"))
        return answer

    def tell(self, name: str, *words: Word) -> None:
        """Start the script and go on; `hear` must be called before anything else."""
        self.broken = False
        try:
            self._send(self._packed(name, words, (), known=True))
        except (exceptions.RedisError, OSError) as error:
            self.drop()
            raise translated(error, self.place.url) from error

    def hear(self) -> bool:
        """Wait for what `tell` started. False if it has to be run again."""
        try:
            self._connection.read_response()
        except exceptions.ResponseError:
            return False
        except (exceptions.RedisError, OSError) as error:
            self.drop()
            raise translated(error, self.place.url) from error
        return True

    def blocking(self, consumer: bytes, count: int, wait_ms: int) -> list[Any]:
        """XREADGROUP from all three streams, waiting."""
        main, back, suspects = self.place.keys[:3]
        read = ("XREADGROUP", "GROUP", self._group, consumer, "COUNT", count, "BLOCK", wait_ms,
                "STREAMS", suspects, back, main, ">", ">", ">")  # fmt: skip
        self.broken = False
        try:
            found: list[Any] | None = self._ask(self._connection.pack_command(*read))
        except exceptions.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise translated(error, self.place.url) from error
            self.run("mend")
            found = None
        except (exceptions.RedisError, OSError) as error:
            self.drop()
            raise translated(error, self.place.url) from error
        return found or []

    def drop(self) -> None:
        """Close the connection; the next command makes a new one."""
        self.broken = True
        self._connection.disconnect()

    # ---- how

    def _run(self, name: str, words: tuple[Word, ...], keys: tuple[bytes, ...]) -> Any:
        try:
            return self._ask(self._packed(name, words, keys, known=True))
        except exceptions.NoScriptError:
            # A server that was restarted, or another one: scripts are only cached there.
            return self._ask(self._packed(name, words, keys, known=False))

    def _run_after_mending(
        self, name: str, words: tuple[Word, ...], keys: tuple[bytes, ...]
    ) -> Any:
        """A stream or its group is gone: make it anew, so that what is left goes on."""
        try:
            self._run("mend", (), ())
            return self._run(name, words, keys)
        except (exceptions.RedisError, OSError) as error:
            if not isinstance(error, exceptions.ResponseError):
                self.drop()
            raise translated(error, self.place.url) from error

    def _packed(
        self, name: str, words: tuple[Word, ...], keys: tuple[bytes, ...], *, known: bool
    ) -> list[bytes]:
        what = script(name)
        how = (b"EVALSHA", what.sha) if known else (b"EVAL", what.text)
        all_keys = (*self.place.keys, *keys)
        packed: list[bytes] = self._connection.pack_command(
            *how, len(all_keys), *all_keys, self._group, *words
        )
        return packed

    def _ask(self, packed: list[bytes]) -> Any:
        self._send(packed)
        return self._connection.read_response()

    def _send(self, packed: list[bytes]) -> None:
        self._connection.send_packed_command(packed)

    def _foreign(self, found: str) -> MinionizeError:
        version, _, group = found.partition(" ")
        if version == "1":
            return UsageError(
                f"{self.place.url}: its consumer group is {group!r}: say group={group} in the URL"
            )
        return ForeignVersion(
            f"{self.place.url} was made by another minionize (format {version}): use that one"
        )
