"""Results that are too large for a line of a report: each is a file, or a key, of its own."""

from __future__ import annotations

import os
import re

from minionize.beneath import Beneath
from minionize.errors import MinionizeError
from minionize.reporters.parts import RESULTS
from minionize.reporters.remote import RemoteReport
from minionize.status.read import Faults, Report

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,250}")
_AGAIN = (
    ": to compute it again, put the param back to work (minion retry --done {}; on a broker feed "
    "the param again)"
)
_ASK = ": have its owner give you the right to read it"


class LargeResults:
    """Those of one report."""

    def __init__(self, report: Report, faults: Faults) -> None:
        """`faults` is told what can't be read."""
        self._report = report
        self._faults = faults

    def text(self, name: str, id_: str) -> tuple[str | None, str]:
        """The JSON text of this name, a result of param `id_`; None and the reason where it can't
        be had."""
        if not _NAME.fullmatch(name):
            return None, self._lost(repr(name[:100]), id_, "is no name of a result", "")
        try:
            if isinstance(self._report, RemoteReport):
                data = self._report.result(name)
                if data is None:
                    return None, self._lost(name, id_, "is not kept any more", _AGAIN)
            else:
                data = self._read(os.fspath(self._report), name)
            return data.decode("ascii"), ""
        except FileNotFoundError:
            return None, self._lost(name, id_, "is gone", _AGAIN)
        except PermissionError as error:
            return None, self._lost(name, id_, f"can't be read: {error.strerror}", _ASK)
        except (OSError, MinionizeError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            return None, self._lost(name, id_, f"can't be read: {why}", "")

    @staticmethod
    def _read(report: str, name: str) -> bytes:
        folder = Beneath(report)
        try:
            with open(folder.open(f"{RESULTS}/{name}", os.O_RDONLY), "rb") as file:
                return file.read()
        finally:
            folder.let_go()

    def _lost(self, name: str, id_: str, why: str, remedy: str) -> str:
        known = self._faults.lost.get(why)
        if known is None:
            first = f"param {id_}: its result {RESULTS}/{name} {why}{remedy.format(id_)}"
            self._faults.lost[why] = (first, 0)
        else:
            self._faults.lost[why] = (known[0], known[1] + 1)
        return f"its file {why}"
