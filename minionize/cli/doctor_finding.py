"""What one check of `minion doctor` found."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "FAIL"


class Finding(NamedTuple):
    """One line of the table."""

    level: str
    """`ok`, `warn` or `FAIL`."""
    what: str
    said: str
    remedy: str = ""
