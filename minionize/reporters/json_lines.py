"""Reporters of lines: a short line of JSON per event, and a roll-up of them at each beat. Where
they go is a store's matter: the json reporter's is a folder.

Written for 50,000 events a second from the minion's one thread: a batch becomes one string and
one write, and full files are packed a piece at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from os.path import basename
from typing import Protocol

from minionize.events import Event, Kind
from minionize.reporters.parts import ROTATE_BYTES, FolderStore
from minionize.reporters.record import PACK_FROM, RESULT_LIMIT, Source, event_line, header_line
from minionize.reporters.rollup import MinionRoll
from minionize.values import Clock

PACK_BYTES = 64 * 1024
"""After so many more, the next piece of a full file is packed."""
KEEP_BYTES = 4 * 1024 * 1024
"""What is kept in memory while the report can't be written; beyond, events are dropped."""


class Store(Protocol):
    """Where one minion's lines go. All methods but `gone` raise OSError."""

    place: str
    """For messages: `in FOLDER`."""
    results_folder: str | None
    """As of Reporter."""

    def remedy(self, error: OSError) -> str:
        """What to do where it can't be written because of `error`."""

    def keep(self, path: str) -> None:
        """Keep this file of the results folder, under its name, and let go of the file itself.
        Doing that twice is doing it once."""

    def append(self, lines: bytes) -> None:
        """Keep whole lines. After an error none of them are kept, as far as that is possible:
        the next call has them again, before others."""

    def write_roll(self, line: str) -> None:
        """Put this roll-up in the place of the last one."""

    def pack_piece(self) -> bool:
        """Do a small part of what makes old lines smaller; False when there is nothing to do."""

    def gone(self) -> bool:
        """Whether what was appended to was removed."""

    def forget(self) -> None:
        """Begin anew at the next `append`."""

    def ending(self) -> None:
        """What comes now comes last: put off nothing."""

    def close(self) -> None:
        """Let go of it."""


class LineReporter:
    """One minion's part of a report.

    Never raises for a report that can't be written: `warn` gets one line, each flush tries
    again, and what had to be dropped is counted as `unwritten` in the roll-up. `unkept` and
    `dropped` are as of contracts.reporter.TellsUnkept.
    """

    wants_events = True

    def __init__(
        self, store: Store, source: Source, *, clock: Clock, warn: Callable[[str], None]
    ) -> None:
        self._clock = clock
        self._warn = warn
        self._began = source.began
        self._store = store
        self.results_folder = store.results_folder
        self._files: list[str] = []
        """Large results that the store has still to keep, before the lines that name them."""
        self._roll = MinionRoll(
            source.minion,
            source.host,
            source.pid,
            source.slots,
            source.command,
            source.began,
        )
        self._buffer: list[str] = []
        self._buffered = 0
        self._buffered_events = 0
        self._unpacked = 0
        self._unchecked_events = 0
        self._warned = False
        self._closed = False
        self.unkept = ""
        self.dropped = 0
        self._opened_at = clock.monotonic()
        self._rolled_at = self._opened_at
        self._pointed_at = self._opened_at

    def report(self, events: Sequence[Event]) -> None:
        """Keep these events; they are in the store when this returns.

        The worker reports before it tells the queue that a param is done: so what a killed
        minion had settled has its result here.
        """
        if not events:
            self._flush()
            return
        text = self._lines(events)
        self._buffer.append(text)
        self._buffered += len(text)
        self._buffered_events += len(events)
        self._unpacked += len(text)
        self._flush()
        if self._unpacked >= PACK_BYTES:
            self._unpacked = 0
            self._pack()
        now = self._clock.monotonic()
        age = now - self._opened_at
        if now - self._pointed_at >= max(0.1, age / 100):
            self._add_point(now)
        # Often while young, so that a person who just started it sees it move; ever less
        # often later, so that a thousand minions do not keep a file server busy.
        if now - self._rolled_at >= min(15.0, max(1.0, age / 20)):
            self._flush()
            self._write_roll(now)

    def beat(self, running: int) -> None:
        """Flush and roll up. `running`: params running now."""
        self._roll.running = running
        self._flush()
        self._pack()
        self._write_roll(self._clock.monotonic())

    def close(self) -> None:
        """Flush, roll up, and pack what was rotated. May be repeated."""
        if self._closed:
            return
        self._closed = True
        self._roll.running = 0
        if self._roll.ended is None:
            self._roll.ended = "closed"
        self._store.ending()
        self._flush()
        if self._buffer:
            self._drop()
        while self._pack():
            pass
        self._write_roll(self._clock.monotonic())
        try:
            self._store.close()
        except OSError as error:
            self._complain(error)

    def _lines(self, events: Sequence[Event]) -> str:
        roll = self._roll.roll
        began = self._began
        lines: list[str] = []
        add = lines.append
        durations: list[float] = []
        add_duration = durations.append
        cpu_sum = cpu_max = 0.0
        peak = peak_below = 0
        ack = Kind.ACK
        for event in events:
            (
                kind, at_s, id_, attempt, slot, seconds, exit_status, cpu_s, peak_kib, below,
                reason, detail, _, _, result, stdout, stderr, param, _, result_file,
            ) = event  # fmt: skip
            if (
                kind is not ack
                or seconds is None
                or stderr is not None
                or param is not None
                or reason
                or detail
                or result_file
                or (stdout is not None and not _is_quick(event))
            ):
                if result_file:
                    self._files.append(result_file)
                    event = event._replace(result_file=basename(result_file))
                add(event_line(event, began))
                self._roll.roll.add(event)
                if kind is Kind.END:
                    self._roll.ended = reason or "ended"
                continue
            # What event_line would write, quicker, for the most frequent event by far.
            if cpu_s is not None and peak_kib is not None and result is None:
                add(
                    # Quicker than an f-string by a quarter, on the hottest line of all.
                    '["a",%.3f,"%s",%d,%d,%.6f,%s,%.4f,%d%s]\n'  # noqa: UP031
                    % (
                        at_s - began, id_, attempt, slot, seconds,
                        "null" if exit_status is None else exit_status,
                        cpu_s, -peak_kib if below else peak_kib,
                        "" if stdout is None else f',{{"out":{json.dumps(stdout)}}}',
                    )
                )  # fmt: skip
                cpu_sum += cpu_s
                if cpu_s > cpu_max:
                    cpu_max = cpu_s
                if below:
                    if peak_kib > peak_below:
                        peak_below = peak_kib
                elif peak_kib > peak:
                    peak = peak_kib
            elif (
                result is not None
                and cpu_s is None
                and peak_kib is None
                and exit_status is None
                and len(result) <= RESULT_LIMIT
                and "\n" not in result
                and "\r" not in result
            ):
                add(
                    '["a",%.3f,"%s",%d,%d,%.6f,null,null,null,{"result":%s}]\n'  # noqa: UP031
                    % (at_s - began, id_, attempt, slot, seconds, result)
                )
            elif result is None and cpu_s is None and peak_kib is None and exit_status is None:
                add(
                    '["a",%.3f,"%s",%d,%d,%.6f]\n'  # noqa: UP031
                    % (at_s - began, id_, attempt, slot, seconds)
                )
            else:
                add(event_line(event, began))
                roll.add_cpu(cpu_s or 0.0, cpu_s or 0.0)
                if peak_kib is not None:
                    roll.add_peak(peak_kib, below)
            add_duration(seconds)
        if durations:
            roll.done += len(durations)
            roll.add_seconds(durations)
            roll.add_cpu(cpu_sum, cpu_max)
            roll.add_peak(peak, False)
            roll.add_peak(peak_below, True)
        return "".join(lines)

    def _flush(self) -> None:
        if not self._buffer:
            return
        # A lone surrogate in a pasted result becomes its escape, which is JSON as well.
        lines = "".join(self._buffer).encode("utf-8", "backslashreplace")
        try:
            while self._files:
                self._store.keep(self._files[0])
                del self._files[0]
            self._store.append(lines)
        except OSError as error:
            self._complain(error)
            self.unkept = f"report {self._store.place} can't be written ({_words(error)})"
            if self._buffered > KEEP_BYTES:
                self._drop()
            return
        self.unkept = ""
        self._unchecked_events += self._buffered_events
        self._buffer.clear()
        self._buffered = 0
        self._buffered_events = 0

    def _drop(self) -> None:
        self._roll.roll.unwritten += self._buffered_events
        self.dropped += self._buffered_events
        for path in self._files:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._files.clear()
        self._buffer.clear()
        self._buffered = 0
        self._buffered_events = 0

    def _pack(self) -> bool:
        try:
            return self._store.pack_piece()
        except OSError as error:
            self._complain(error)
            return True

    def _write_roll(self, now: float) -> None:
        self._rolled_at = now
        roll = self._roll
        roll.at_s = self._clock.time()
        counts = roll.roll
        self._add_point(now)
        try:
            if self._store.gone():
                self._store.forget()
                counts.unwritten += self._unchecked_events
                self._unchecked_events = 0
                raise FileNotFoundError(2, "the report was removed")
            self._unchecked_events = 0
            self._store.write_roll(roll.to_line())
        except OSError as error:
            self._complain(error)

    def _add_point(self, now: float) -> None:
        """A point of the rate over time; on disk with the next roll-up."""
        self._pointed_at = now
        roll = self._roll
        counts = roll.roll
        since = self._clock.time() - roll.began
        roll.timeline.add(since, counts.done, counts.failed + counts.dead)

    def _complain(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        self._warn(
            f"report {self._store.place} can't be written ({_words(error)}): work goes on, what "
            "could not be reported is counted, and no run is done without its result; "
            f"{self._store.remedy(error)}"
        )


def _words(error: OSError) -> str:
    return error.strerror or str(error)


class JsonReporter(LineReporter):
    """The json reporter: files in `folder`, docs/report-format.md describes them."""

    def __init__(
        self,
        folder: str,
        source: Source,
        *,
        clock: Clock,
        warn: Callable[[str], None],
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        header = header_line(source).encode()
        store = FolderStore(folder, source.minion, header, rotate_bytes=rotate_bytes)
        super().__init__(store, source, clock=clock, warn=warn)


def _is_quick(event: Event) -> bool:
    """Whether the output of this plain ack is short, and a program's, which has no result."""
    return (
        len(event.stdout or "") < PACK_FROM
        and event.cpu_s is not None
        and event.peak_kib is not None
        and event.result is None
    )
