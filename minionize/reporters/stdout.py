"""The stdout reporter: a line for each event, for people and for pipes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence

from minionize.beneath import Anywhere
from minionize.events import Event


def readable(event: Event, minion: str) -> str:
    """An event as one line of JSON with named fields; those that do not apply are left out.

    JSON escapes what a terminal would take for a command; so does this for C1 characters,
    since everything beyond ASCII is written as an escape.
    """
    shown: dict[str, object] = {"event": event.kind.value, "minion": minion, "at": event.at_s}
    for name, default in Event._field_defaults.items():
        value = getattr(event, name)
        if value != default and name not in ("result", "param"):
            shown[name] = value
    for name in ("param", "result"):
        text = getattr(event, name)
        if text is not None:
            try:
                shown[name] = json.loads(text)
            except ValueError:
                shown[name] = text
    return json.dumps(shown, ensure_ascii=True).replace("\x7f", "\\u007f")


class StdoutReporter:
    """Writes each event at once, as one line of JSON."""

    wants_events = True

    def __init__(
        self,
        minion: str,
        write: Callable[[str], None],
        warn: Callable[[str], None],
        results_folder: str | None = None,
    ) -> None:
        self._minion = minion
        self._write = write
        self._warn = warn
        self._failed = False
        self.results_folder = results_folder

    def report(self, events: Sequence[Event]) -> None:
        """Write a line for each of them, in one piece. Once that failed, nothing more."""
        if not events:
            return
        if self._failed:
            _forget(events)
            return
        try:
            whole = (taken_in(event) if event.result_file else event for event in events)
            self._write("".join(f"{readable(event, self._minion)}\n" for event in whole))
        except (OSError, ValueError) as error:
            self._failed = True
            why = getattr(error, "strerror", None) or error
            self._warn(
                f"events can't be written to standard output any more ({why}): work goes on; "
                "use --reporter json to keep them"
            )

    def beat(self, running: int) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing is buffered. The folder of large results goes."""
        if self.results_folder is not None:
            # A process of the function that was killed may have left half a result there.
            Anywhere.remove_tree(self.results_folder)


def _forget(events: Sequence[Event]) -> None:
    """Remove the files of their large results."""
    for event in events:
        if event.result_file:
            with contextlib.suppress(OSError):
                os.unlink(event.result_file)


def taken_in(event: Event) -> Event:
    """The event with what is in its file of a large result, which is gone then."""
    try:
        with open(event.result_file, encoding="ascii") as file:
            text = file.read()
    except OSError as error:
        lost = f"result lost: its file can't be read ({error.strerror})"
        return event._replace(detail=lost, result_file="")
    _forget([event])
    return event._replace(result=text, result_file="")
