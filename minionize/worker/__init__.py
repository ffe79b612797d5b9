"""The worker: the loop of a minion, its crew of programs, its guard, its decisions."""
