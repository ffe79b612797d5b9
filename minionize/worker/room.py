"""Room for what runs write: whose fault it is that there is none."""

from __future__ import annotations

import errno

NO_ROOM = "no room for its output"
NO_ROOM_IN_TMPDIR = "no room for its output in TMPDIR"
"""Reasons why a run is given back: the disk is full, or a quota is used up."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_no_room(error: OSError) -> bool:
    """Whether a disk is full, a quota used up, or a limit of this process in the way."""
    return error.errno in _NO_ROOM
