"""Messages of the server as leases and entries, from minionize or other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from minionize.engines.envelope import Undecodable, from_message
from minionize.engines.redis.place import Place
from minionize.values import Entry, Failure, Lease, State

OURS = b"minionize"
"""The only field of a message that `put` makes; its value is the param's JSON text."""
_HEAD = 4
_DEAD_HEAD = 10


class Counts(NamedTuple):
    """As a message carries them."""

    attempt: int = 1
    crashes: int = 0
    laters: int = 0
    suspect: bool = False

    @classmethod
    def read(cls, text: bytes) -> Counts:
        """From `1 0 0 0`."""
        attempt, crashes, laters, suspect = text.split()
        return cls(int(attempt), int(crashes), int(laters), suspect == b"1")

    @classmethod
    def after(cls, lease: Lease, charge: bool, later: bool) -> Counts:
        """Those of `lease` when it is given back like this."""
        attempt, laters = lease.attempt, lease.laters
        if charge:
            attempt, laters = attempt + 1, 0
        elif later:
            laters += 1
        return cls(attempt, lease.crashes, laters, lease.suspect and not charge and not later)

    def written(self) -> str:
        """For `read`."""
        return f"{self.attempt} {self.crashes} {self.laters} {int(self.suspect)}"


def text_of(place: Place, raw: Sequence[bytes], own_id: str) -> str:
    """The param's JSON text, from the fields of a message as they were put. Raises Undecodable."""
    if len(raw) == 2 and raw[0] == OURS:
        text = raw[1].decode("utf-8", "surrogatepass")
        if "\n" not in text:
            return text
        return from_message(raw[1], {}, decoder="json", own_id=own_id).text
    body = _body(place, raw)
    return from_message(body, {}, decoder=place.decoder, own_id=own_id).text


def lease_of(place: Place, token: str, fields: Sequence[bytes]) -> Lease:
    """A message that was delivered. Raises Undecodable; `counts_of` still works then."""
    id_, counts, raw = _taken_apart(token, fields)
    return Lease(id_, text_of(place, raw, id_), *counts, token)


def unread_lease(token: str, fields: Sequence[bytes], text: str) -> Lease:
    """The lease of a message that can't be decoded, with a text that shows it."""
    id_, counts, _ = _taken_apart(token, fields)
    return Lease(id_, text, *counts, token)


def entry_of(
    place: Place, stream: str, message: str, fields: Sequence[bytes], state: State, extra: str
) -> Entry:
    """A message as people see it. `stream` as in list.lua; `extra` is the holder of a running one,
    the milliseconds that a delayed one has to wait."""
    failure = None
    if stream == "main":
        id_, counts, raw = message, Counts(), fields
    else:
        id_, counts = fields[1].decode(), Counts.read(fields[3])
        raw = fields[_HEAD:]
    if stream == "dead":
        failure = Failure(_utf8(fields[5]), _utf8(fields[7]))
        raw = fields[_DEAD_HEAD:]
    try:
        text = text_of(place, raw, id_) if raw else "null"
    except Undecodable as error:
        text = error.text
    return Entry(
        id_,
        text,
        state,
        counts.attempt,
        counts.crashes,
        holder=extra.rpartition(":")[0] if state is State.RUNNING else "",
        due_in_s=int(extra) / 1000 if state is State.DELAYED else None,
        failure=failure,
    )


def _taken_apart(token: str, fields: Sequence[bytes]) -> tuple[str, Counts, Sequence[bytes]]:
    if token[0] in "bs":
        return fields[1].decode(), Counts.read(fields[3]), fields[_HEAD:]
    return token, Counts(), fields


def _body(place: Place, raw: Sequence[bytes]) -> bytes:
    """The value of the field that is the param, in a message of another program."""
    names = raw[::2]
    if place.field:
        wanted = place.field.encode()
        if wanted in names:
            return raw[2 * names.index(wanted) + 1]
        why = f"it has no field {place.field!r}"
    elif len(names) == 1:
        return raw[1]
    else:
        why = "it has several fields: say field=NAME in the queue's URL"
    shown = b", ".join(names)[:500]
    raise Undecodable("message has no such field", f"{why}; its fields: {_utf8(shown)}", shown)


def _utf8(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass" if b"\xed" in text else "replace")
