"""What a queue and its report come to at one moment: pure, for the page, --json and --watch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minionize.reporters.rollup import MinionRoll, RollUp
from minionize.values import MinionInfo, Stats

SILENT_AFTER_S = 60.0
"""A minion whose last beat is older is no longer shown as working."""
_WINDOW_S = 30.0


class Minion(NamedTuple):
    """One minion, as far as queue and report know it."""

    id: str
    host: str
    slots: int
    running: int
    beat_age_s: float | None
    state: str
    """`working`, `feeding`, `silent` (in the queue's books, but without a beat for a minute),
    `gone` (it vanished without a word), or why it ended."""
    done: int | None
    failed: int | None
    rate: float | None
    """Params done per second lately."""


@dataclass
class Overview:
    """What `minion status` shows."""

    url: str
    at_s: float
    stats: Stats
    roll: RollUp = field(default_factory=RollUp)
    minions: list[Minion] = field(default_factory=list)
    rate_now: float | None = None
    """Params done per second in the last half minute or so; None where nothing tells."""
    rate_mean: float | None = None
    """The same from the first beginning to the last beat."""
    remaining_s: float | None = None
    began_s: float | None = None
    ended_s: float | None = None
    """Unix times of the first beginning and the last beat."""
    rates: list[float] = field(default_factory=list)
    """Params done per second in equal pieces of the time between them."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of files that could not be read."""

    has_report: bool = True

    @property
    def done(self) -> int | None:
        """By the queue where it counts, else by the report; None without either."""
        if self.stats.done is not None:
            return self.stats.done
        return self.roll.done if self.has_report else None

    @property
    def dead(self) -> int | None:
        """The same of dead letters."""
        if self.stats.dead is not None:
            return self.stats.dead
        return self.roll.dead if self.has_report else None

    @property
    def left(self) -> int | None:
        """Params that are not done or dead yet; None where the queue can't tell."""
        parts = (self.stats.waiting, self.stats.delayed, self.stats.running)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs. Durations in seconds, memory in KiB. Of `median` and `p95` only
        the bounds beside them are sure."""
        roll = self.roll
        return {
            "queue": self.url,
            "at": round(self.at_s, 3),
            **self.stats._asdict(),
            "drained": self.stats.drained,
            "rate_now": self.rate_now,
            "rate_mean": self.rate_mean,
            "remaining_s": self.remaining_s,
            "began": self.began_s,
            "last_beat": self.ended_s,
            "rates": self.rates,
            "seconds": {
                "median": roll.quantile(0.5),
                "median_between": roll.between(0.5),
                "p95": roll.quantile(0.95),
                "p95_between": roll.between(0.95),
                "max": roll.seconds_max,
                "sum": roll.seconds_sum,
            },
            "cpu_s": {"sum": roll.cpu_sum, "max": roll.cpu_max},
            "peak_kib": roll.peak_kib or None,
            "peak_below_kib": roll.peak_below_kib or None,
            "reported": {
                key: value
                for key, value in vars(roll).items()
                if key in ("done", "failed", "given_back", "dead", "lost", "unwritten")
            },
            "failures": roll.reasons,
            "given_back_because": roll.back_reasons,
            "minions_seen": [minion._asdict() for minion in self.minions],
            "notes": self.notes,
        }


def overview(
    url: str,
    stats: Stats,
    known: Sequence[MinionInfo],
    rolls: Sequence[MinionRoll],
    *,
    now: float,
    samples: Sequence[tuple[float, int]] = (),
    vanished: Collection[str] = (),
    columns: int = 60,
    notes: Sequence[str] = (),
) -> Overview:
    """Puts together what the queue says (`stats`, `known` minions) and what the report says.

    `vanished`: ids of minions whose process is known to be no more.
    `samples`: (Unix time, done) as the caller saw them before, for rates without a report.
    """
    view = Overview(url, now, stats, notes=list(notes), has_report=bool(rolls))
    infos = {info.id: info for info in known if info.id not in vanished}
    # What an engine that knows no minions says nothing about may well be alive.
    tells = stats.minions is not None
    seen = {roll.minion for roll in rolls}
    for roll in sorted(rolls, key=lambda roll: -roll.at_s):
        view.roll.merge(roll.roll)
        alive: bool | None = roll.minion in infos
        if not alive and not tells and roll.minion not in vanished:
            alive = None
        view.minions.append(_minion(roll, infos.get(roll.minion), alive, now))
    for info in known:
        if info.id in seen:
            continue
        state = "feeding" if info.feeder else _at_work(info.beat_age_s)
        if info.id in vanished:
            state = "gone"
        view.minions.append(
            Minion(
                info.id, info.host, info.slots, info.running, info.beat_age_s,
                state, None, None, None,
            )
        )  # fmt: skip
    view.minions.sort(key=lambda minion: minion.state not in ("working", "feeding", "silent"))
    if rolls:
        view.began_s = min(roll.began for roll in rolls)
        view.ended_s = max(roll.at_s for roll in rolls)
        duration = max(view.ended_s - view.began_s, 0.001)
        view.rate_mean = view.roll.done / duration
        view.rates = rates_over_time(rolls, view.began_s, duration, columns)
        view.rate_now = sum(minion.rate or 0.0 for minion in view.minions)
    elif len(samples) > 1:
        (then, before), (last, done) = samples[0], samples[-1]
        if last > then:
            view.rate_now = max(0, done - before) / (last - then)
    if view.left == 0:
        view.remaining_s = 0.0
    elif view.left is not None and view.rate_now:
        view.remaining_s = view.left / view.rate_now
    return view


def rates_over_time(
    rolls: Sequence[MinionRoll], began_s: float, duration_s: float, columns: int
) -> list[float]:
    """Params done per second, by all minions, in `columns` equal pieces of time.

    Between two points of a minion its work is taken as evenly spread.
    """
    counts = [0.0] * columns
    width = duration_s / columns
    for roll in rolls:
        shift = roll.began - began_s
        at_s, done = 0.0, 0
        for next_s, next_done, _ in roll.timeline.points:
            if next_done > done:
                _spread(counts, (shift + at_s) / width, (shift + next_s) / width, next_done - done)
            at_s, done = next_s, next_done
    return [count / width for count in counts]


def _spread(counts: list[float], begin: float, end: float, amount: int) -> None:
    """Add `amount`, evenly from `begin` to `end`, which are measured in columns."""
    last = len(counts) - 1
    first_column = min(max(int(begin), 0), last)
    last_column = min(max(int(end), 0), last)
    if first_column == last_column or end <= begin:
        counts[last_column] += amount
        return
    per_column = amount / (end - begin)
    given = 0.0
    for column in range(first_column, last_column):
        share = (column + 1 - max(begin, column)) * per_column
        counts[column] += share
        given += share
    counts[last_column] += amount - given


def _minion(roll: MinionRoll, info: MinionInfo | None, alive: bool | None, now: float) -> Minion:
    """`alive`: whether the queue has it in its books; None: it keeps none."""
    age = max(0.0, now - roll.at_s)
    if info is not None and info.beat_age_s is not None:
        age = info.beat_age_s
    if roll.ended is not None:
        state = roll.ended
    elif alive:
        state = _at_work(age)
    else:
        state = "working" if alive is None and age < SILENT_AFTER_S else "gone"
    running = roll.running
    if state != "working":
        running = 0
    elif info is not None:
        running = info.running
    return Minion(
        roll.minion,
        roll.host,
        roll.slots,
        running,
        age,
        state,
        roll.roll.done,
        roll.roll.failed + roll.roll.dead,
        _lately(roll) if state == "working" else None,
    )


def _at_work(beat_age_s: float | None) -> str:
    return "silent" if beat_age_s is not None and beat_age_s >= SILENT_AFTER_S else "working"


def _lately(roll: MinionRoll) -> float:
    """Params done per second from some moment at least half a minute back to the last beat."""
    points = roll.timeline.points
    if not points:
        return 0.0
    last_s, done, _ = points[-1]
    then_s, before = 0.0, 0
    for at_s, count, _ in points:
        if at_s > last_s - _WINDOW_S:
            break
        then_s, before = at_s, count
    return (done - before) / max(last_s - then_s, 0.001)
