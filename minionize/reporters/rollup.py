"""Roll-ups: what a minion's events add up to, in a few KiB however many there were.

`minion status` reads only these. Roll-ups of several minions merge into one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from minionize.errors import ForeignVersion
from minionize.events import Event, Kind

VERSION = 1
ROLL_KEY = "minionize-roll"

PER_DECADE = 16
"""Buckets for each power of ten: the durations of one differ by 15.5 % at most."""
_HAIR = 1e-9
_SHIFT = 6 * PER_DECADE
MAX_REASONS = 64
OTHER_REASONS = "(other reasons)"
MAX_POINTS = 120


def bucket_of(seconds: float) -> int:
    """The bucket of a duration: 0 for a microsecond, 16 more for each power of ten."""
    return int(PER_DECADE * log10(seconds + 1e-6) + _SHIFT) if seconds > 0 else 0


def bucket_seconds(bucket: int) -> float:
    """The duration in the middle of a bucket."""
    return max(0.0, float(10.0 ** ((bucket + 0.5 - _SHIFT) / PER_DECADE)) - 1e-6)


def bucket_bounds(bucket: int) -> tuple[float, float]:
    """Between which durations those of a bucket are, in seconds; a hair wider, for what rounding
    does at the edges."""
    if bucket <= 0:
        low = 0.0
    else:
        low = 10.0 ** ((bucket - _SHIFT) / PER_DECADE) * (1 - _HAIR) - 1e-6
    high = 10.0 ** ((bucket + 1 - _SHIFT) / PER_DECADE) * (1 + _HAIR) - 1e-6
    return max(0.0, float(low)), float(high)


# No dataclasses here: each minion would wait for the import of that.
class RollUp:
    """Counts of everything that one minion reported, or several together."""

    def __init__(
        self,
        *,
        done: int = 0,
        failed: int = 0,
        given_back: int = 0,
        dead: int = 0,
        lost: int = 0,
        unwritten: int = 0,
        reasons: dict[str, int] | None = None,
        back_reasons: dict[str, int] | None = None,
        buckets: dict[int, int] | None = None,
        seconds_sum: float = 0.0,
        seconds_max: float = 0.0,
        cpu_sum: float = 0.0,
        cpu_max: float = 0.0,
        peak_kib: int = 0,
        peak_below_kib: int = 0,
    ) -> None:
        self.done = done
        self.failed = failed
        """Failed attempts that were given back for another one."""
        self.given_back = given_back
        """Given back uncharged."""
        self.dead = dead
        self.lost = lost
        self.unwritten = unwritten
        """Events that could not be written to the report (full disk, vanished folder)."""
        self.reasons = {} if reasons is None else reasons
        """Why attempts failed or params died."""
        self.back_reasons = {} if back_reasons is None else back_reasons
        """Why params were given back uncharged, or leases lost."""
        self.buckets = {} if buckets is None else buckets
        """Durations of the runs that ended well, by `bucket_of`."""
        self.seconds_sum = seconds_sum
        self.seconds_max = seconds_max
        self.cpu_sum = cpu_sum
        self.cpu_max = cpu_max
        self.peak_kib = peak_kib
        """The largest peak that was measured; 0: none was."""
        self.peak_below_kib = peak_below_kib
        """The largest of those peaks that are only known to be below this; 0: none."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RollUp) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RollUp({vars(self)})"

    def add(self, event: Event) -> None:
        """Count one event; a batch of plain acks is counted in json_lines.py."""
        kind = event.kind
        if kind is Kind.ACK:
            self.done += 1
            if event.seconds is not None:
                self.add_seconds((event.seconds,))
        elif kind is Kind.GIVE_BACK and event.charged:
            self.failed += 1
            _count(self.reasons, event.reason or "unknown")
        elif kind is Kind.GIVE_BACK:
            self.given_back += 1
            _count(self.back_reasons, event.reason or "unknown")
        elif kind is Kind.DEAD:
            self.dead += 1
            _count(self.reasons, event.reason or "unknown")
        elif kind is Kind.LOST:
            self.lost += 1
            _count(self.back_reasons, event.reason or "lease lost")
        if event.cpu_s is not None:
            self.add_cpu(event.cpu_s, event.cpu_s)
        if event.peak_kib is not None:
            self.add_peak(event.peak_kib, event.peak_below)

    def add_seconds(self, seconds: Sequence[float]) -> None:
        """Count the durations of some runs (at least one) that ended well."""
        buckets = self.buckets
        for value in seconds:
            # `bucket_of`, without the cost of a call.
            bucket = int(PER_DECADE * log10(value + 1e-6) + _SHIFT) if value > 0.0 else 0
            buckets[bucket] = buckets.get(bucket, 0) + 1
        largest = max(seconds)
        self.seconds_sum += sum(seconds)
        self.seconds_max = max(self.seconds_max, largest)

    def add_cpu(self, total_s: float, largest_s: float) -> None:
        """CPU seconds of some runs, and of the largest of them."""
        self.cpu_sum += total_s
        self.cpu_max = max(self.cpu_max, largest_s)

    def add_peak(self, peak_kib: int, below: bool) -> None:
        """Peak memory of a run."""
        if below:
            self.peak_below_kib = max(self.peak_below_kib, peak_kib)
        else:
            self.peak_kib = max(self.peak_kib, peak_kib)

    def merge(self, other: RollUp) -> None:
        """Add another minion's."""
        for name in ("done", "failed", "given_back", "dead", "lost", "unwritten"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in (
            (self.reasons, other.reasons),
            (self.back_reasons, other.back_reasons),
        ):
            for reason, count in theirs.items():
                _count(mine, reason, count)
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.seconds_sum += other.seconds_sum
        self.seconds_max = max(self.seconds_max, other.seconds_max)
        self.add_cpu(other.cpu_sum, other.cpu_max)
        self.peak_kib = max(self.peak_kib, other.peak_kib)
        self.peak_below_kib = max(self.peak_below_kib, other.peak_below_kib)

    def between(self, share: float) -> tuple[float, float] | None:
        """Two durations in seconds between which the quantile of `share` lies for sure; None
        without runs. Definitions differ where it falls between two runs: what the modules numpy
        and statistics call it lies between them, too."""
        total = sum(self.buckets.values())
        if not total:
            return None
        if total == 1:
            return self.seconds_max, self.seconds_max
        # Places in order of duration, from 1: as numpy has them, and, wider, statistics.
        inner, outer = (total - 1) * share + 1, (total + 1) * share
        first = max(1, floor(min(inner, outer)))
        last = min(total, ceil(max(inner, outer)))
        low, _ = bucket_bounds(self._bucket_at(first))
        _, high = bucket_bounds(self._bucket_at(last))
        return min(low, self.seconds_max), min(high, self.seconds_max)

    def quantile(self, share: float) -> float | None:
        """About the duration that `share` of the runs stay below, in seconds: near the middle of
        `between`; None without runs."""
        total = sum(self.buckets.values())
        if not total:
            return None
        bounds = self.between(share)
        assert bounds is not None
        middle = bucket_seconds(self._bucket_at(max(1, ceil(total * share))))
        return max(bounds[0], min(middle, bounds[1]))

    def _bucket_at(self, place: int) -> int:
        """The bucket of the run at this place, from 1, in order of duration."""
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= place:
                return bucket
        return max(self.buckets)


class Timeline:
    """How many were done and failed at some moments: at most 120, thinned out as time goes on."""

    def __init__(self, points: list[tuple[float, int, int]] | None = None) -> None:
        self.points = [] if points is None else points
        """(Seconds since the minion began, done, failed and dead), each since the beginning."""
        self.spacing_s = 0.0

    def add(self, at_s: float, done: int, failed: int) -> None:
        """The state now. The last point is always the newest."""
        points = self.points
        if len(points) > 1 and points[-1][0] - points[-2][0] < self.spacing_s:
            points[-1] = (at_s, done, failed)
            return
        points.append((at_s, done, failed))
        if len(points) > MAX_POINTS:
            # Keep the oldest and the newest.
            self.points = [*points[:-1:2], points[-1]]
            self.spacing_s = max(2 * self.spacing_s, 2 * at_s / MAX_POINTS)


class MinionRoll:
    """The roll-up of one minion, with what is worth knowing of it."""

    def __init__(
        self,
        minion: str,
        host: str = "",
        pid: int = 0,
        slots: int = 0,
        command: str = "",
        began: float = 0.0,
        at_s: float = 0.0,
        running: int = 0,
        ended: str | None = None,
        roll: RollUp | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        self.minion = minion
        self.host = host
        self.pid = pid
        self.slots = slots
        self.command = command
        self.began = began
        """Unix time."""
        self.at_s = at_s
        """Unix time of this roll-up: the minion's last beat."""
        self.running = running
        self.ended = ended
        """Why it ended; None while it runs, and for one that was killed."""
        self.roll = RollUp() if roll is None else roll
        self.timeline = Timeline() if timeline is None else timeline

    def to_line(self) -> str:
        """One line of JSON."""
        roll = self.roll
        value = {
            ROLL_KEY: VERSION,
            "minion": self.minion,
            "host": self.host,
            "pid": self.pid,
            "slots": self.slots,
            "command": self.command[:4096],
            "began": round(self.began, 3),
            "at": round(self.at_s, 3),
            "running": self.running,
            "ended": self.ended,
            "done": roll.done,
            "failed": roll.failed,
            "given_back": roll.given_back,
            "dead": roll.dead,
            "lost": roll.lost,
            "unwritten": roll.unwritten,
            "reasons": roll.reasons,
            "back_reasons": roll.back_reasons,
            "seconds": {
                "sum": round(roll.seconds_sum, 6),
                "max": round(roll.seconds_max, 6),
                "buckets": {str(bucket): roll.buckets[bucket] for bucket in sorted(roll.buckets)},
            },
            "cpu": {"sum": round(roll.cpu_sum, 4), "max": round(roll.cpu_max, 4)},
            "peak_kib": roll.peak_kib,
            "peak_below_kib": roll.peak_below_kib,
            "points": [[round(at_s, 1), done, bad] for at_s, done, bad in self.timeline.points],
        }
        return json.dumps(value, separators=(",", ":")) + "\n"


def parse_roll(line: str | bytes) -> MinionRoll:
    """A roll-up from its line. ForeignVersion, or ValueError where it is none."""
    value = json.loads(line)
    if not isinstance(value, dict) or not isinstance(value.get(ROLL_KEY), int):
        raise ValueError("no roll-up of a minion")
    if value[ROLL_KEY] != VERSION:
        raise ForeignVersion(
            f"roll-up of version {value[ROLL_KEY]}, this minionize reads version {VERSION}: "
            "use the minionize that wrote it"
        )
    try:
        return _parse_roll(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged roll-up: {error!r}") from error


def _parse_roll(value: Mapping[str, Any]) -> MinionRoll:
    seconds = value["seconds"]
    roll = RollUp(
        done=int(value["done"]),
        failed=int(value["failed"]),
        given_back=int(value["given_back"]),
        dead=int(value["dead"]),
        lost=int(value["lost"]),
        unwritten=int(value["unwritten"]),
        reasons={str(reason): int(count) for reason, count in value["reasons"].items()},
        back_reasons={str(reason): int(count) for reason, count in value["back_reasons"].items()},
        buckets={int(bucket): int(count) for bucket, count in seconds["buckets"].items()},
        seconds_sum=float(seconds["sum"]),
        seconds_max=float(seconds["max"]),
        cpu_sum=float(value["cpu"]["sum"]),
        cpu_max=float(value["cpu"]["max"]),
        peak_kib=int(value["peak_kib"]),
        peak_below_kib=int(value["peak_below_kib"]),
    )
    points = [(float(at_s), int(done), int(bad)) for at_s, done, bad in value["points"]]
    ended = value["ended"]
    return MinionRoll(
        minion=str(value["minion"]),
        host=str(value["host"]),
        pid=int(value["pid"]),
        slots=int(value["slots"]),
        command=str(value["command"]),
        began=float(value["began"]),
        at_s=float(value["at"]),
        running=int(value["running"]),
        ended=None if ended is None else str(ended),
        roll=roll,
        timeline=Timeline(points),
    )


def _count(counts: dict[str, int], reason: str, by: int = 1) -> None:
    reason = reason[:200]
    if reason not in counts and len(counts) >= MAX_REASONS:
        reason = OTHER_REASONS
    counts[reason] = counts.get(reason, 0) + by
