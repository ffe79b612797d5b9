"""How a batch of params travels to a child: this header, their JSON array, attempts and ids."""

from __future__ import annotations

import struct

HEADER = struct.Struct("<QIII")
"""The batch's first entry on the board, how many params, bytes of the array (one param per
line), bytes of what else there is to know: a line with the attempts (only one if that is the
same for all), then a line with each id."""
