"""The json reporter: a file of short lines per minion, and a roll-up of them at each beat.

Written for 50,000 events a second from the minion's one thread: a batch becomes one string and
one write, and full files are packed a piece at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from minionize.events import Event, Kind
from minionize.reporters.parts import ROTATE_BYTES, Parts, roll_name
from minionize.reporters.record import RESULT_LIMIT, Source, event_line, header_line
from minionize.reporters.rollup import MinionRoll
from minionize.values import Clock

PACK_BYTES = 64 * 1024
"""After so many more, the next piece of a full file is packed."""
KEEP_BYTES = 4 * 1024 * 1024
"""What is kept in memory while the report can't be written; beyond, events are dropped."""


class JsonReporter:
    """One minion's part of the report in `folder`.

    Never raises for a report that can't be written: `warn` gets one line, each flush tries
    again, and what had to be dropped is counted as `unwritten` in the roll-up.
    """

    wants_events = True

    def __init__(
        self,
        folder: str,
        source: Source,
        *,
        clock: Clock,
        warn: Callable[[str], None],
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._warn = warn
        self._began = source.began
        self._parts = Parts(
            folder, source.minion, header_line(source).encode(), rotate_bytes=rotate_bytes
        )
        self._roll = MinionRoll(
            source.minion,
            source.host,
            source.pid,
            source.slots,
            source.command,
            source.began,
        )
        name = roll_name(source.minion)
        self._roll_path = os.path.join(folder, name)
        self._roll_draft = os.path.join(folder, f".{name}.tmp")
        self._buffer: list[str] = []
        self._buffered = 0
        self._buffered_events = 0
        self._unpacked = 0
        self._unchecked_events = 0
        self._warned = False
        self._closed = False
        self._opened_at = clock.monotonic()
        self._rolled_at = self._opened_at
        self._pointed_at = self._opened_at

    def report(self, events: Sequence[Event]) -> None:
        """Keep these events; they are in the file when this returns.

        The worker reports before it tells the queue that a param is done: so what a killed
        minion had settled has its result here.
        """
        if not events:
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
        self._flush()
        if self._buffer:
            self._drop()
        while self._pack():
            pass
        self._write_roll(self._clock.monotonic())
        try:
            self._parts.close()
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
                reason, detail, _, _, result, stdout, stderr, param, _,
            ) = event  # fmt: skip
            if (
                kind is not ack
                or seconds is None
                or stdout is not None
                or stderr is not None
                or param is not None
                or reason
                or detail
            ):
                add(event_line(event, began))
                self._roll.roll.add(event)
                if kind is Kind.END:
                    self._roll.ended = reason or "ended"
                continue
            # What event_line would write, quicker, for the most frequent event by far.
            if cpu_s is not None and peak_kib is not None and result is None:
                add(
                    # Quicker than an f-string by a quarter, on the hottest line of all.
                    '["a",%.3f,"%s",%d,%d,%.6f,%s,%.4f,%d]\n'  # noqa: UP031
                    % (
                        at_s - began, id_, attempt, slot, seconds,
                        "null" if exit_status is None else exit_status,
                        cpu_s, -peak_kib if below else peak_kib,
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
            self._parts.append(lines)
        except OSError as error:
            self._complain(error)
            if self._buffered > KEEP_BYTES:
                self._drop()
            return
        self._unchecked_events += self._buffered_events
        self._buffer.clear()
        self._buffered = 0
        self._buffered_events = 0

    def _drop(self) -> None:
        self._roll.roll.unwritten += self._buffered_events
        self._buffer.clear()
        self._buffered = 0
        self._buffered_events = 0

    def _pack(self) -> bool:
        try:
            return self._parts.pack_piece()
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
            if self._parts.gone():
                self._parts.forget()
                counts.unwritten += self._unchecked_events
                self._unchecked_events = 0
                raise FileNotFoundError(2, "the report was removed", self._folder)
            self._unchecked_events = 0
            descriptor = os.open(
                self._roll_draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
            )
            try:
                with open(descriptor, "wb", closefd=False) as file:
                    file.write(roll.to_line().encode())
            finally:
                os.close(descriptor)
            os.rename(self._roll_draft, self._roll_path)
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
            f"report in {self._folder} can't be written ({error.strerror or error}): work goes "
            "on, and what could not be reported is counted; make room there or set "
            "REPORTER_JSON_DIRECTORY"
        )
