"""What a queue holds, from its head."""

from __future__ import annotations

from minionize.engines.file.claiming import Fronts
from minionize.engines.file.head import COUNT, FIRST, OFFSET, Head
from minionize.values import Stats


def stats_of(head: Head, fronts: Fronts) -> Stats:
    """Exact totals; of what was given back, batches known to be due count as waiting."""
    now, wall = fronts._room.calls.monotonic(), fronts._room.head.time()
    delayed = 0
    due_in_s: float | None = None
    for delay, folder in head.back.items():
        if delay == 0 or not folder[COUNT]:
            continue
        left, number, skip = folder[COUNT], folder[FIRST], folder[OFFSET]
        while left > 0:
            front = fronts.known.get((delay, number))
            if front is None:
                break
            wait_s = front.due_in_s(now, wall)
            if wait_s > 0:
                due_in_s = wait_s if due_in_s is None else min(due_in_s, wait_s)
                break
            left -= front.length - skip
            number, skip = number + 1, 0
        else:
            continue
        delayed += left
    dead = head.dead[COUNT]
    return Stats(
        put=head.put,
        waiting=head.fresh + head.returned - delayed,
        delayed=delayed,
        running=head.running,
        done=head.settled - dead - head.purged,
        dead=dead,
        purged=head.purged,
        feeders=head.feeders,
        minions=head.minions,
        paused=bool(head.paused),
        due_in_s=due_in_s,
    )
