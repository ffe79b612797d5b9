"""A child: calls the function on batches of params until the minion hangs up.

Before each call it takes one token, so that what waits behind a long call can be taken back by
the minion (which reads the tokens itself) and is never started by both.
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
from typing import Any, NoReturn, TextIO

from minionize.callbacks import current
from minionize.errors import Reject
from minionize.worker.functions import results
from minionize.worker.functions.records import LONG_S, Fields, encode, encode_result
from minionize.worker.functions.wire import HEADER


class _Broken:
    """A text of a queue that is no JSON after all."""


class Ends:
    """The child's ends of what it shares with the minion."""

    def __init__(self, link: int, tokens: int, records: int, out: int, err: int) -> None:
        self.link = socket.socket(fileno=link)
        self.tokens = tokens
        self.records = records
        self.out = out
        self.err = err
        self.forked = False
        # A process that the function forks must neither answer for us nor keep these open.
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        self.forked = True
        self.link.close()
        os.close(self.tokens)
        os.close(self.records)


def serve(
    ends: Ends,
    func: Callable[..., Any],
    whole: bool,
    streams: tuple[TextIO, TextIO],
    exact: bool,
) -> None:
    """Run batches until the minion hangs up. `exact`: note for each run what it wrote, however
    short it was, and not only for several together."""
    while True:
        header = _receive(ends.link, HEADER.size)
        if header is None:
            return
        count, size, meta_size = HEADER.unpack(header)
        texts = _receive(ends.link, size)
        meta = _receive(ends.link, meta_size)
        if texts is None or meta is None:
            return
        params = _parse(texts, count)
        _restore(1, ends.out)
        _restore(2, ends.err)
        if any(type(param) is _Broken for param in params):
            _run(ends, _careful(func, whole), True, params, meta, streams, exact)
        else:
            _run(ends, func, whole, params, meta, streams, exact)
        try:
            ends.link.send(b".")
        except OSError:
            return  # the minion is gone


def _run(
    ends: Ends,
    func: Callable[..., Any],
    whole: bool,
    params: list[Any],
    meta: bytes,
    streams: tuple[TextIO, TextIO],
    exact: bool,
) -> None:
    # Everything in this loop is paid for by each param: local names, and no call without need.
    take, write, size, now = os.eventfd_read, os.write, os.lseek, time.monotonic
    tokens, records, out_fd, err_fd = ends.tokens, ends.records, ends.out, ends.err
    text_of = results.text_of
    flush_out, flush_err = streams[0].flush, streams[1].flush
    out = size(out_fd, 0, os.SEEK_END)
    err = size(err_fd, 0, os.SEEK_END)
    remaining = iter(params)
    current.tell = lambda: _told(meta, len(params) - operator.length_hint(remaining) - 1)
    used: tuple[float, int] | None = _used()
    start = 0.0
    for param in remaining:
        try:
            take(tokens)
        except BlockingIOError:
            break  # the minion took the others back
        if not start:
            start = now()
            write(records, b"[%.6f]\n" % start)
        fields = result = value = None
        try:
            if whole:
                value = func(param)
            elif type(param) is dict:
                value = func(**param)
            elif type(param) is list:
                value = func(*param)
            else:
                value = func(param)
            result = None if value is None else text_of(value)
        except results.Lost as lost:
            fields = Fields(detail=f"result lost: {lost}"[:200])
        except BaseException as error:
            if ends.forked:
                os._exit(1)
            fields = results.failed(error)
            del error
        if ends.forked:
            os._exit(0)  # the function forked, and both came back
        try:
            flush_out()
            flush_err()
        except (OSError, ValueError):
            _restore(1, out_fd)
            _restore(2, err_fd)
        end = now()
        if end - start >= LONG_S:
            fields, used = _with_usage(fields or Fields(result=result), used)
        else:
            used = None
        if exact or fields is not None:
            out_now = size(out_fd, 0, os.SEEK_END)
            err_now = size(err_fd, 0, os.SEEK_END)
            if out_now != out or err_now != err:
                fields = fields or Fields(result=result)
                out, err = out_now, err_now
        if fields is not None:
            write(records, encode(end, out, err, fields))
        elif result is None:
            write(records, b"%.6f\n" % end)
        else:
            write(records, encode_result(end, result))
        start = end
    out_now = size(out_fd, 0, os.SEEK_END)
    err_now = size(err_fd, 0, os.SEEK_END)
    if out_now != out or err_now != err:
        write(records, b"[%.6f,%d,%d]\n" % (now(), out_now, err_now))


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


def _parse(texts: bytes, count: int) -> list[Any]:
    """The params. Texts that are no JSON after all (a queue edited by hand) become `_Broken`, one
    by one, so that they can't shift the others."""
    try:
        params = json.loads(texts)
        if len(params) == count:
            return params  # type: ignore[no-any-return]
    except ValueError:
        return _parse_each(texts)
    return _parse_each(texts)


def _parse_each(texts: bytes) -> list[Any]:
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
    run_id, _, attempt = meta.decode().split("\n")[index].partition(" ")
    return run_id, int(attempt)


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


def _restore(fd: int, saved: int) -> None:
    """Point `fd` at our output file again, should the function have closed or moved it."""
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
        except (OSError, ValueError):
            status = status or 1
    os._exit(status)
