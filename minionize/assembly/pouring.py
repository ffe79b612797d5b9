"""`--from`: params of a file or a pipe flow through a queue in memory, as they are read."""

from __future__ import annotations

import os
import threading

from minionize.contracts.engine import EngineOptions
from minionize.engines.memory import drop
from minionize.engines.registry import open_queue
from minionize.errors import BadParam, EngineUnavailable, UsageError
from minionize.filling.faults import Faults
from minionize.filling.reading import read_batches
from minionize.filling.sources import open_source
from minionize.settings import Settings

_MOST_WAITING = 10_000
"""Params read ahead of the work; so memory stays bounded whatever is poured in."""
_CHUNK = 1_000


class Pouring:
    """A thread that reads params and puts them; the queue is drained when it came to the end.

    Made before the engine is opened, since it makes the queue; `start` after all that forks.
    """

    def __init__(self, settings: Settings, options: EngineOptions) -> None:
        """UsageError for a source that can't be opened."""
        assert settings.from_file is not None
        self.error: Exception | None = None
        """What ended the reading before its end, once it did."""
        self.faults = Faults(skip=settings.skip_bad)
        self._settings = settings
        self._source = open_source(settings.from_file)
        self._name = f"from-{os.getpid()}-{id(self)}"
        self.url = f"memory:{self._name}?keep=0&most={_MOST_WAITING}"
        name = f"{options.minion_id}-feeder"
        self._queue = open_queue(self.url, options._replace(create=True, minion_id=name))
        # From here on the queue exists, and no minion takes it for drained.
        self._feeding = self._queue.feeding()
        self._feeding.__enter__()
        self._closed = False
        self._thread = threading.Thread(target=self._pour, name="minionize-from", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no further. May be repeated. Does not wait for a source that is silent."""
        if not self._closed:
            self._closed = True
            self._queue.close()
            drop(self._name)
            if self._thread.ident is None:
                self._feeding.__exit__(None, None, None)
                self._source.close()

    def _pour(self) -> None:
        settings, queue = self._settings, self._queue
        self._source.on_idle = self._still_here
        try:
            for texts in read_batches(
                self._source,
                self.faults,
                null=settings.null,
                format=settings.format,
                typed=settings.typed,
                sep=settings.sep,
                header=settings.header,
            ):
                for start in range(0, len(texts), _CHUNK):
                    queue.put_texts(texts[start : start + _CHUNK])
                    if self._closed:
                        return
        except EngineUnavailable as error:
            # Closed while it waited for room: the minion has ended.
            self.error = None if self._closed else error
        except (BadParam, UsageError) as error:
            self.error = error
        except Exception as error:
            # Reported by the thread that waits for the minion; this one can't report it.
            self.error = error
        finally:
            self._feeding.__exit__(None, None, None)
            self._source.close()

    def _still_here(self) -> None:
        """A feeder that is silent for a lease would be taken for dead."""
        self._queue.put_texts(())
