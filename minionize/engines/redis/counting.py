"""Counts of a queue, and who is at work on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from minionize.values import MinionInfo, Stats


def stats_from(answer: Sequence[Any]) -> tuple[Stats, int]:
    """What stats.lua said, and how many params were lost when the stream was trimmed.

    `put` is the sum of all others, so that what others put is counted too. What was lost counts
    as purged.
    """
    numbers = [int(word) for word in answer[1:10]]
    waiting, delayed, running, done, dead, purged, put, feeders, minions = numbers
    paused, _stops, due = answer[10:13]
    total = waiting + delayed + running + done + dead + purged
    lost = max(0, put - total)
    stats = Stats(
        put=total + lost,
        waiting=waiting,
        delayed=delayed,
        running=running,
        done=done,
        dead=dead,
        purged=purged + lost,
        feeders=feeders,
        minions=minions,
        paused=paused == b"1",
        due_in_s=int(due) / 1000 if due else None,
        lost=lost,
    )
    return stats, lost


def crew_from(rows: Sequence[Any]) -> list[MinionInfo]:
    """What crew.lua said."""
    found: list[MinionInfo] = []
    for feeder, name, left_ms, who in rows:
        try:
            said = json.loads(who or b"{}")
        except ValueError:
            said = {}
        lease_ms = int(said.get("lease_ms", 0))
        found.append(
            MinionInfo(
                name.decode().rpartition(":")[0],
                str(said.get("host", "")),
                int(said.get("pid", 0)),
                int(said.get("slots", 0)),
                int(said.get("running", 0)),
                max(0, lease_ms - int(left_ms)) / 1000 if lease_ms else None,
                bool(feeder),
            )
        )
    return found
