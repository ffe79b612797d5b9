"""What a minion's run came to."""

from __future__ import annotations

from minionize.contracts.crew import Flaw


class Summary:
    """What `Worker.run` returns, and `minionizer(...).run()` after it."""

    def __init__(
        self,
        exit_status: int = 0,
        why: str = "",
        died_of: int | None = None,
        *,
        cut_short: bool = False,
    ) -> None:
        self.done = 0
        """Params acked by this minion."""
        self.flaws: dict[Flaw, int] = {}
        """Of them, how many have this flaw."""
        self.failed = 0
        """Failed attempts that this minion saw, those that made a dead letter included."""
        self.dead = 0
        """Params that this minion made dead letters of."""
        self.given_back = 0
        """Params given back uncharged: asked for by the program, stopped, or never started."""
        self.lost = 0
        """Leases lost while held."""
        self.seconds = 0.0
        self.exit_status = exit_status
        self.why = why
        """Why the minion ended, in a few words."""
        self.cut_short = cut_short
        """Ended by the scheduler (TERM, USR1, USR2) or because its time is over, not by a person
        and not because all was done: started again, it would go on."""
        self.died_of = died_of
        """The signal that the process should now die of (SIGINT after Ctrl-C), or None."""

    def __repr__(self) -> str:
        return f"Summary({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
