"""How a batch of params travels to a child: this header, their JSON array, ids and attempts."""

from __future__ import annotations

import struct

HEADER = struct.Struct("<III")
"""How many params, bytes of the array (one param per line), bytes of `id attempt` lines."""
