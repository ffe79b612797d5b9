"""What a minion's run came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Summary:
    """What `Worker.run` returns, and `minionizer(...).run()` after it."""

    done: int = 0
    """Params acked by this minion."""
    failed: int = 0
    """Failed attempts that this minion saw, those that made a dead letter included."""
    dead: int = 0
    """Params that this minion made dead letters of."""
    given_back: int = 0
    """Params given back uncharged: asked for by the program, stopped, or never started."""
    lost: int = 0
    """Leases lost while held."""
    seconds: float = 0.0
    exit_status: int = 0
    why: str = ""
    """Why the minion ended, in a few words."""
    died_of: int | None = None
    """The signal that the process should now die of (SIGINT after Ctrl-C), or None."""
