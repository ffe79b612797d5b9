"""A child: calls the function on batches of params until the minion hangs up.

Before each call it looks how far it may go, so that what waits behind a long call can be taken
back by the minion and is never started by both (board.py).
"""

from __future__ import annotations

import json
import operator
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from minionize.callbacks import current
from minionize.errors import Reject
from minionize.worker.functions import results
from minionize.worker.functions.board import ENTRIES, may_begin, views
from minionize.worker.functions.records import LONG_S, Fields, encode, encode_result
from minionize.worker.functions.streams import Streams
from minionize.worker.functions.wire import HEADER


class _Broken:
    """A text of a queue that is no JSON after all."""


class Ends:
    """The child's ends of what it shares with the minion."""

    def __init__(self, link: int, board: int, records: int, out: int, err: int) -> None:
        self.link = socket.socket(fileno=link)
        self.limit, self.entries = views(board)
        os.close(board)
        self.records = records
        self.out = out
        self.err = err
        self.forked = False
        # A process that the function forks must neither answer for us nor keep these open.
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        self.forked = True
        self.link.close()
        os.close(self.records)

    def written(self) -> tuple[int, int]:
        """Bytes in the two files of output."""
        return os.lseek(self.out, 0, os.SEEK_END), os.lseek(self.err, 0, os.SEEK_END)

    def restore(self) -> None:
        """Point 1 and 2 at our files again, should the function have closed or moved them."""
        _restore(1, self.out)
        _restore(2, self.err)


class Call(NamedTuple):
    """What a child does with a param."""

    func: Callable[..., Any]
    whole: bool
    """The param is the one argument."""
    keep: Callable[[Any], str | Fields]
    """As of results.Keeper."""


def serve(ends: Ends, call: Call, streams: Streams, exact: bool) -> None:
    """Run batches until the minion hangs up. `exact`: note for each run what it wrote, however
    short it was, and not only for several together."""
    while True:
        header = _receive(ends.link, HEADER.size)
        if header is None:
            return
        first, count, size, meta_size = HEADER.unpack(header)
        texts = _receive(ends.link, size)
        meta = _receive(ends.link, meta_size)
        if texts is None or meta is None:
            return
        params = _parse(texts, count)
        ends.restore()
        if isinstance(params, _Broken):
            params = _parse_each(texts)
            careful = Call(_careful(call.func, call.whole), True, call.keep)
            _run(ends, careful, first, params, meta, streams, exact)
        else:
            _run(ends, call, first, params, meta, streams, exact)
        try:
            ends.link.send(b".")
        except OSError:
            return  # the minion is gone


def _run(
    ends: Ends,
    call: Call,
    first: int,
    params: list[Any],
    meta: bytes,
    streams: Streams,
    exact: bool,
) -> None:
    # Everything in this loop is paid for by each param: local names, and no call without need.
    limit, entries, records, now = ends.limit, ends.entries, ends.records, time.monotonic
    (func, whole, keep), unflushed = call, streams.unflushed
    out, err = ends.written()
    watched = first if exact else first + len(params)
    remaining = iter(params)
    current.tell = lambda: _told(meta, len(params) - operator.length_hint(remaining) - 1)
    used: tuple[float, int] | None = _used()
    if not may_begin(limit, first + 1):
        return
    entry = first
    start = now()
    entries[entry % ENTRIES] = start
    for param in remaining:
        entry += 1
        if limit[0] <= entry and not may_begin(limit, entry):
            if entry == first + 1:
                entries[first % ENTRIES] = 0.0
            break  # the minion took the others back
        fields: Any = None
        result: Any = None
        value: Any = None
        try:
            if whole:
                value = func(param)
            elif type(param) is dict:
                value = func(**param)
            elif type(param) is list:
                value = func(*param)
            else:
                value = func(param)
            if value is not None:
                result = keep(value)
                if type(result) is not str:
                    fields, result = result, None
        except BaseException as error:
            if ends.forked:
                _leave_fork(error)
            fields = results.failed(error)
            del error
        if ends.forked:
            leave(0)  # the function forked, and both came back
        if unflushed:
            streams.flush(ends.restore)
        end = now()
        if end - start >= LONG_S:
            fields, used = _with_usage(fields or Fields(result=result), used)
        else:
            used = None
        if fields is not None or entry >= watched:
            before, (out, err) = (out, err), ends.written()
            if fields is None and (out, err) != before:
                fields = Fields(result=result)
        # The record first: with its entry the run is over, whatever happens to us.
        if fields is not None:
            os.write(records, encode(out, err, fields))
            entries[entry % ENTRIES] = -end
        elif result is not None:
            os.write(records, encode_result(result))
            entries[entry % ENTRIES] = -end
        else:
            entries[entry % ENTRIES] = end
        start = end


def _used() -> tuple[float, int]:
    """CPU seconds and the largest resident set (KiB), of us and the children waited for."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return cpu_s, max(own.ru_maxrss, others.ru_maxrss)


def _with_usage(
    fields: Fields, before: tuple[float, int] | None
) -> tuple[Fields, tuple[float, int]]:
    """`fields` with what the run used since `before` (unknown after a short run)."""
    used = _used()
    if before is None:
        return fields._replace(peak_kib=used[1], peak_below=True), used
    # The peak is of the whole process: this run's own only if it raised it.
    return (
        fields._replace(
            cpu_s=round(used[0] - before[0], 6),
            peak_kib=used[1],
            peak_below=used[1] == before[1],
        ),
        used,
    )


def _parse(texts: bytes, count: int) -> list[Any] | _Broken:
    """The params; `_Broken` if one of the texts is no JSON after all (a queue edited by hand)."""
    try:
        params: list[Any] = json.loads(texts)
    except ValueError:
        return _Broken()
    return params if len(params) == count else _Broken()


def _parse_each(texts: bytes) -> list[Any]:
    """One by one, so that those that are no JSON can't shift the others."""
    params: list[Any] = []
    for text in texts[1:-1].split(b",\n"):
        try:
            params.append(json.loads(text))
        except ValueError:
            params.append(_Broken())
    return params


def _careful(func: Callable[..., Any], whole: bool) -> Callable[[Any], Any]:
    """`func` for a batch that holds a `_Broken`."""

    def call(param: Any) -> Any:
        if isinstance(param, _Broken):
            raise Reject("param is no JSON")
        if whole or not isinstance(param, (dict, list)):
            return func(param)
        return func(**param) if isinstance(param, dict) else func(*param)

    return call


def _told(meta: bytes, index: int) -> tuple[str, int]:
    """Id and attempt of the run with this index."""
    attempts, *ids = meta.decode().split("\n")
    each = attempts.split(" ")
    return ids[index], int(each[index if len(each) > 1 else 0])


def _receive(link: socket.socket, size: int) -> bytes | None:
    """Exactly `size` bytes, or None when the minion hung up."""
    parts = []
    while size:
        try:
            part = link.recv(min(size, 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _leave_fork(error: BaseException) -> NoReturn:
    """End a process that the function forked, and that came back with this."""
    status = results.exit_status(error)
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif status == 1 and not isinstance(error.code, int):
        print(error.code, file=sys.stderr)
    leave(status)


def _restore(fd: int, saved: int) -> None:
    try:
        if os.path.sameopenfile(fd, saved):
            return
    except OSError:
        os.dup2(saved, fd)
    else:
        os.dup2(saved, fd)


def leave(status: int) -> NoReturn:
    """End without what the clean interpreter registered to be done at its own end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the function may have put anything there, None too
            status = status or 1
    os._exit(status)
