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


class LargeResults:
    """Those of one report."""

    def __init__(self, report: Report, faults: Faults) -> None:
        """`faults` is told what can't be read."""
        self._report = report
        self._faults = faults

    def text(self, name: str) -> tuple[str | None, str]:
        """The JSON text of this name; None and the reason where it can't be had."""
        if not _NAME.fullmatch(name):
            return None, self._lost(name, "is no name of a result")
        try:
            if isinstance(self._report, RemoteReport):
                data = self._report.result(name)
                if data is None:
                    return None, self._lost(name, "is not kept any more")
            else:
                data = self._read(os.fspath(self._report), name)
            return data.decode("ascii"), ""
        except FileNotFoundError:
            return None, self._lost(name, "is gone")
        except (OSError, MinionizeError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            return None, self._lost(name, f"can't be read: {why}")

    @staticmethod
    def _read(report: str, name: str) -> bytes:
        folder = Beneath(report)
        try:
            with open(folder.open(f"{RESULTS}/{name}", os.O_RDONLY), "rb") as file:
                return file.read()
        finally:
            folder.let_go()

    def _lost(self, name: str, why: str) -> str:
        self._faults.files[f"{RESULTS}/{name[:100]!r}"] = why
        return f"its file {why}"
