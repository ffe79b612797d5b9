"""Assembly: settings and a callback become a minion that is ready to work."""

from __future__ import annotations

from minionize.assembly.minion import Minion, make_minion

__all__ = ["Minion", "make_minion"]
