"""Draws an overview as a page of text. Everything from a param or a program is escaped."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

from minionize.reporters.rollup import RollUp
from minionize.status.escape import short
from minionize.status.overview import Minion, Overview

CHART_HEIGHT = 8
_LABEL = 11
_SHORT_S = 1.0
"""A campaign shorter than this has no rate over time worth drawing."""


def page(view: Overview, *, width: int = 100, minions: int | None = 20, failures: int = 10) -> str:
    """The page that `minion status` shows, without a line break at its end.

    `minions`: how many are listed; None: all.
    """
    blocks = [
        list(_head(view, width)),
        list(_figures(view)),
        list(_chart(view, width)),
        list(_failures(view.roll.reasons, width, failures)),
        list(_minions(view, width, minions)),
        [short(f"note: {note}", width) for note in view.notes],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def chart_columns(width: int) -> int:
    """How many points of a chart fit into `width` characters."""
    return max(10, min(120, width - 14))


def _head(view: Overview, width: int) -> Iterator[str]:
    stats = view.stats
    yield short(view.url, width - 21) + "  " + _clock_time(view.at_s, date=True)
    states = {
        "waiting": stats.waiting,
        "delayed": stats.delayed,
        "running": stats.running,
        "done": view.done,
        "dead": view.dead,
    }
    yield "   ".join(f"{name} {_count(number)}" for name, number in states.items())
    put = (stats.put or 0) - (stats.purged or 0)
    if put > 0:
        share = min(1.0, ((stats.done or 0) + (stats.dead or 0)) / put)
        bar = max(10, min(50, width - 30))
        filled = int(share * bar)
        # 100 % is said only when it is true.
        percent = math.floor(100 * share)
        yield f"{'█' * filled}{'░' * (bar - filled)} {percent} % of {_count(put)}"
    if stats.paused:
        yield "paused: minion resume lets it go on"
    # Where put and purged are counted, what was lost is among what was purged.
    dropped = (stats.purged or 0) - (stats.lost or 0)
    if dropped > 0:
        yield f"{_count(dropped)} purged or moved"
    if stats.lost:
        yield f"{_count(stats.lost)} lost: the broker dropped them, or another program did"
    if stats.feeders:
        yield f"{_plural(stats.feeders, 'feeder')} at work"
    if stats.delayed and stats.due_in_s is not None:
        yield f"next delayed one in {seconds(max(0.0, stats.due_in_s))}"


def _figures(view: Overview) -> Iterator[str]:
    roll = view.roll
    if view.rate_now is not None or view.rate_mean is not None:
        told = []
        if view.rate_now is not None and any(m.state == "working" for m in view.minions):
            told.append(f"{_rate(view.rate_now)} now")
        if view.rate_mean is not None:
            told.append(f"{_rate(view.rate_mean)} on average")
        if told:
            yield _row("rate", ", ".join(told))
    if view.left:
        if view.remaining_s is not None:
            yield _row("time left", f"about {seconds(view.remaining_s)}")
        elif view.stats.minions == 0:
            yield _row("time left", "no minion is at work")
    if roll.done and roll.buckets:
        yield _row("durations", _durations(roll))
    if roll.cpu_sum:
        yield _row("CPU", f"{duration(roll.cpu_sum)} in all, {duration(roll.cpu_max)} at most")
    if roll.peak_kib:
        yield _row("memory", f"{memory(roll.peak_kib)} at most")
    elif roll.peak_below_kib:
        yield _row("memory", f"below {memory(roll.peak_below_kib)}")
    if roll.lost:
        yield _row("lost", f"{_plural(roll.lost, 'lease')} lost while the param ran")
    if roll.given_back:
        yield _row("given back", f"{_count(roll.given_back)} uncharged")
    if roll.unwritten:
        yield _row("report", f"{_plural(roll.unwritten, 'event')} could not be written")


def _durations(roll: RollUp) -> str:
    """Bounds, since the roll-up has counts of similar durations and not the durations."""
    median, most = roll.between(0.5), roll.between(0.95)
    longest = duration(roll.seconds_max)
    if median is None or most is None:
        return f"longest {longest}"
    # Rounded away from what lies between; the longest is known as it is.
    low = duration(_rounded(median[0], up=False))
    high, within = (
        longest if bound >= roll.seconds_max else duration(_rounded(bound, up=True))
        for bound in (median[1], most[1])
    )
    said = f"median {high}" if low == high else f"median {low} to {high}"
    return f"{said}, 95 % within {within}, longest {longest}"


def _rounded(value: float, *, up: bool) -> float:
    """The next duration that `duration` shows as it is."""
    if value < 1e-9:
        return 1e-9 if up and value > 0 else 0.0
    if value >= 100:
        size = 3600.0 if value >= 86400 else 60.0 if value >= 3600 else 1.0
    else:
        size = 10.0 ** (math.floor(math.log10(value)) - 2)
    return (math.ceil(value / size) if up else math.floor(value / size)) * size


def _chart(view: Overview, width: int) -> Iterator[str]:
    if not any(view.rates) or view.began_s is None or view.ended_s is None:
        return
    if view.ended_s - view.began_s < _SHORT_S:
        return
    import asciichartpy

    yield "done per second"
    rates = view.rates
    top = max(rates)
    digits = 0 if top >= 100 else 1 if top >= 10 else 2 if top >= 0.1 else 5
    # A chart of one height only has no scale: begin at 0.
    lines = asciichartpy.plot(
        rates, {"height": CHART_HEIGHT, "min": 0.0, "format": f"{{:{_LABEL - 1}.{digits}f}} "}
    )
    yield from (line.rstrip() for line in lines.split("\n"))
    same_day = time.localtime(view.began_s)[:3] == time.localtime(view.ended_s)[:3]
    begin = _clock_time(view.began_s, date=not same_day)
    end = _clock_time(view.ended_s, date=not same_day)
    gap = max(1, min(width - _LABEL - 2, len(rates)) - len(begin) - len(end))
    yield " " * (_LABEL + 1) + begin + " " * gap + end


def _failures(reasons: Mapping[str, int], width: int, limit: int) -> Iterator[str]:
    if not reasons:
        return
    yield "failures   (minion failures shows more)"
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    for reason, count in ranked[:limit]:
        yield f"{_count(count):>9}  {short(reason, width - 11)}"
    if len(ranked) > limit:
        yield f"{'':9}  and {len(ranked) - limit} other reasons"


def _minions(view: Overview, width: int, limit: int | None) -> Iterator[str]:
    if not view.minions:
        return
    listed = view.minions if limit is None else view.minions[:limit]
    rows: list[tuple[str, ...]] = [
        ("minion", "host", "slots", "running", "done", "failed", "beat", "")
    ]
    rows.extend(_minion_row(minion) for minion in listed)
    widths = [max(len(row[column]) for row in rows) for column in range(8)]
    for row in rows:
        cells = [
            cell.ljust(size) if column in (0, 1, 7) else cell.rjust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells)[: max(width, 40)].rstrip()
    if len(listed) < len(view.minions):
        yield f"and {_count(len(view.minions) - len(listed))} more: --all lists them"


def _minion_row(minion: Minion) -> tuple[str, ...]:
    age = minion.beat_age_s
    return (
        short(minion.id, 40),
        short(minion.host, 30),
        "" if minion.state == "feeding" else str(minion.slots),
        str(minion.running) if minion.state == "working" else "",
        "" if minion.done is None else _count(minion.done),
        "" if minion.failed is None else _count(minion.failed),
        "" if age is None else f"{seconds(age)} ago",
        short(minion.state, 30),
    )


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _count(number: int | None) -> str:
    if number is None:
        return "?"
    import humanize

    return str(humanize.intcomma(number))


def _plural(number: int, noun: str) -> str:
    return f"{_count(number)} {noun}{'' if number == 1 else 's'}"


def _rate(per_second: float) -> str:
    if per_second >= 100:
        return f"{_count(round(per_second))}/s"
    if per_second >= 0.1 or per_second == 0:
        return f"{per_second:.1f}/s"
    return f"{per_second * 3600:.1f}/h"


def duration(value: float | None) -> str:
    """The duration of a run, with three digits."""
    if value is None:
        return "?"
    # The unit is that of what is shown: 0.9999 s are 1 s, and not 1e+03 ms.
    shown = float(f"{value:.3g}")
    if shown >= 100:
        return seconds(value)
    if shown >= 1:
        return f"{value:.3g} s"
    if shown >= 0.001:
        return f"{value * 1000:.3g} ms"
    return f"{value * 1e6:.3g} µs"


def seconds(value: float) -> str:
    """A time as people say it, with its two largest units: `2 d 3 h`, `5 min 2 s`, `12 s`."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    said: list[str] = []
    for name, size in units:
        amount, whole = divmod(whole, size)
        if amount or said:
            said.append(f"{amount} {name}" if amount else "")
        if len(said) == 2:
            break
    return " ".join(filter(None, said))


def memory(kib: int) -> str:
    """An amount of memory as people say it."""
    import humanize

    return str(humanize.naturalsize(kib * 1024, binary=True))


def _clock_time(at_s: float, *, date: bool) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", time.localtime(at_s))
