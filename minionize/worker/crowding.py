"""Running fewer at once where the machine has no room for one more process.

A limit on processes (`ulimit -u`, a cgroup's), on memory or on open files is met by the next
start. What runs goes on; so many as ran then run from now on. A while later one more is tried, and
if it starts, another: what took the room may be gone.
"""

from __future__ import annotations

from minionize.errors import HostUnfit

_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0


class Crowding:
    """How many may run at once. Times are monotonic seconds."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s`: for so long no process at all can be started before that is an error."""
        self._patience_s = patience_s
        self.most: int | None = None
        """So many ran when a start was refused last; None where there is room for all."""
        self._retry_at = 0.0
        self._pause_s = 0.0
        self._none_since: float | None = None
        self._why = ""

    def refused(self, running: int, why: str, now: float) -> None:
        """One more than `running` could not be started, because of `why`."""
        self.most = running
        self._why = why
        if now >= self._retry_at:  # of several at once, each tells the same
            self._pause_s = min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self._pause_s))
            self._retry_at = now + self._pause_s
        if running:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now

    def started(self, running: int, slots: int, now: float) -> None:
        """One was started, so that `running` run now, in `slots` slots."""
        self._none_since = None
        if self.most is None or running <= self.most:
            return
        self.most = running
        self._pause_s /= 2
        self._retry_at = now + self._pause_s
        if running >= slots:
            self.most = None

    def room(self, running: int, now: float) -> int:
        """How many more may be started."""
        if self.most is None:
            return 1 << 30
        return max(self.most - running, int(now >= self._retry_at))

    def check(self, now: float) -> None:
        """HostUnfit once it has lasted for too long that none could be started."""
        if self._none_since is not None and now - self._none_since >= self._patience_s:
            raise HostUnfit(
                f"no process could be started here for {self._patience_s:g} s ({self._why}): look "
                "at ulimit -u, ulimit -v, the memory and the limits of this job, or use another "
                "host"
            )
