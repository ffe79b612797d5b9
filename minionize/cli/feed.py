"""`minion feed`: params into a queue, from files, a pipe or a grid."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from minionize.cli.ending import one_line, say
from minionize.cli.opening import number, opened_queue, queue_option, say_made, say_policies
from minionize.cli.progress import Progress, is_terminal
from minionize.contracts.engine import Queue
from minionize.errors import EngineUnavailable, NoSuchQueue, QueueRefused, UsageError
from minionize.filling.faults import Faults
from minionize.filling.fed import Fingerprint, fed_before, remember_fed
from minionize.filling.reading import read_batches
from minionize.filling.sources import STDIN, Source, open_source
from minionize.filling.streaming import PERIOD_S, Stream

if TYPE_CHECKING:
    from minionize.filling.dedupe import Deduper
    from minionize.settings import Settings

NAME = "minion feed"

HELP = """Put params into the queue, which is made if it is missing.

\b
  seq 10 | minion feed                        each line is a param
  minion feed params.csv                      each row, an object
  minion feed runs.jsonl more.json.gz         each JSON value, each element
  minion feed --grid lr=0.1,0.01 seed=0:1000  each combination
  find . -name '*.log' -print0 | minion feed -0   each name, whatever bytes are in it

The format is known by the file's name (.csv .tsv .jsonl .ndjson .json .txt, and .gz behind
it), else by a look: JSON objects or arrays on each line, one JSON array, otherwise lines. CSV is
never guessed. Lines, and cells of CSV, are strings unless --typed. Blank lines are no params.

All FILEs are fed or, if one has a bad line, none of them. A pipe is fed as it comes, each second;
while it is, no minion calls the queue drained. --shuffle reads it to its end first.

In a grid, values are JSON where they parse, a:b and a:b:step are ranges without their end; the
last name changes fastest.
"""


@click.command("feed", help=HELP, short_help="Put params into the queue.")
@click.argument("words", nargs=-1, metavar="[FILE|-]...")
@queue_option
@click.option("-0", "--null", is_flag=True, default=None, help="Params end with a NUL each, as "
              "find -print0 writes them: any bytes, also line breaks.")  # fmt: skip
@click.option(
    "--format",
    type=click.Choice(["lines", "csv", "jsonl", "json"]),
    help="How the files are read.",
)
@click.option("--typed", is_flag=True, default=None, help="Lines and cells that are JSON values "
              "(3, 0.1, true, null, [1]) are these.")  # fmt: skip
@click.option("--no-header", "no_header", is_flag=True, help="The first row of csv holds no names: "
              "rows are lists.")  # fmt: skip
@click.option("--sep", metavar="CHAR", help="What separates cells of csv; tab for a tab.")
@click.option("--skip-bad", is_flag=True, default=None, help="Count bad lines instead of stopping.")
@click.option("--grid", is_flag=True, help="Arguments are NAME=VALUES: feed every combination.")
@click.option("--shuffle", is_flag=True, help="In random order (memory bounded, through "
              "temporary files).")  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="For --shuffle: the same order each time.")
@click.option("--dedupe", is_flag=True, help="Leave out what was ever put into this queue; keys "
              "in any order, 1 and 1.0 are the same.")  # fmt: skip
@click.option("--create/--no-create", default=True, help="Make what is missing of the queue, and "
              "say so (as it is); or end with 2 instead.")  # fmt: skip
def feed(
    words: tuple[str, ...],
    queue: str | None,
    no_header: bool,
    grid: bool,
    shuffle: bool,
    seed: int | None,
    dedupe: bool,
    create: bool,
    **reading: Any,
) -> int:
    """The command."""
    if seed is not None and not shuffle:
        raise UsageError("--seed is for --shuffle: give both")
    if grid:
        given = [name for name in ("null", "format", "sep", "typed", "skip_bad") if reading[name]]
        if given or no_header:
            option = "--no-header" if no_header else f"--{given[0].replace('_', '-')}"
            raise UsageError(f"{option} is for files, not for --grid")
    given_settings = {**reading, "queue": queue, "header": False if no_header else None}
    with ExitStack() as stack:
        if grid:
            feeding: _Feeding = _GridFeeding(words)
        else:
            sources = _opened(words, stack)
            feeding = _FileFeeding(sources)
        opened = opened_queue(NAME, given_settings, feeding=True, create=create)
        opened_as, settings = stack.enter_context(opened)
        feeding.settle(opened_as, settings, dedupe, shuffle, seed)
        with opened_as.feeding():
            say_made(NAME, opened_as)
            say_policies(NAME, opened_as)
            feeding.run()
        feeding.tell()
    return 0


def _opened(words: Sequence[str], stack: ExitStack) -> list[Source]:
    """The sources that the arguments name."""
    if not words and is_terminal(0):
        raise UsageError(
            "nothing to read: name a FILE, pipe params in (seq 10 | minion feed), or see --grid"
        )
    if len([word for word in words if word == STDIN]) > 1:
        raise UsageError("standard input can be read once: give - once")
    sources: list[Source] = []
    for word in words or (STDIN,):
        source = open_source(word)
        stack.callback(source.close)
        sources.append(source)
    if len(sources) > 1:
        for source in sources:
            if not source.is_file:
                raise UsageError(
                    f"{one_line(source.name)} is fed as it comes, and files as a whole: "
                    "feed it by itself"
                )
    return sources


class _Feeding(ABC):
    """One run of `minion feed`. Subclasses know where params come from."""

    queue: Queue
    settings: Settings

    def __init__(self) -> None:
        self.put = 0
        self.faults = Faults()
        self.deduper: Deduper | None = None
        self.shuffle = False
        self.seed: int | None = None
        self.fed: list[tuple[str, str, int]] = []
        """Fingerprint, name and number of params of what was fed."""
        self.progress = Progress(NAME, None)

    def settle(
        self, queue: Queue, settings: Settings, dedupe: bool, shuffle: bool, seed: int | None
    ) -> None:
        """Take the options in."""
        self.queue, self.settings = queue, settings
        self.faults = Faults(skip=settings.skip_bad)
        self.shuffle, self.seed = shuffle, seed
        if dedupe:
            from minionize.filling.dedupe import Deduper

            self.deduper = Deduper(queue)

    def on_wait(self) -> None:
        """A sign of life while nothing can be put."""
        self.queue.put_texts(())

    def alive(self, batches: Iterable[list[str]]) -> Iterator[list[str]]:
        """Passes on what is read for long before anything is put."""
        due_s = time.monotonic() + PERIOD_S
        for batch in batches:
            yield batch
            if time.monotonic() >= due_s:
                self.on_wait()
                due_s = time.monotonic() + PERIOD_S

    def put_texts(self, texts: Iterable[str]) -> int:
        """Put these, all or nothing."""
        if self.deduper is not None:
            return self.deduper.put(texts)
        return self.queue.put_texts(texts)

    def put_whole(self, batches: Iterable[list[str]]) -> None:
        """Put all of these, all or nothing."""
        if self.shuffle:
            from minionize.filling.shuffle import shuffled

            batches = shuffled(self.alive(batches), seed=self.seed)
        try:
            # Outside of a put: shuffling reads all first, and beats while a pipe is slow.
            rest = iter(batches)
            first = next(rest, [])
            self.put = self.put_texts(chain(first, chain.from_iterable(rest)))
        except OSError as error:
            raise EngineUnavailable(
                f"nothing was put: no room for temporary files ({error.strerror}): set TMPDIR to "
                "a folder with space"
            ) from error

    @abstractmethod
    def run(self) -> None:
        """Put them."""

    def tell(self) -> None:
        """Say what was done."""
        self.progress.end()
        lost = None
        try:
            stats = self.queue.stats()
            waiting, lost = stats.waiting, stats.lost
        except NoSuchQueue:
            waiting = 0
        except QueueRefused:
            waiting = None  # to put does not take the right to look
        line = f"{number(self.put, 'param')} put: {self.queue.url}"
        click.echo(one_line(line if waiting is None else f"{line}, {waiting:,} waiting"))
        if lost:
            say(
                f"{NAME}: {number(lost, 'param')} of this queue were lost so far: see minion doctor"
            )
        if self.deduper is not None and self.deduper.skipped:
            say(f"{NAME}: {number(self.deduper.skipped, 'param')} left out: put before")
        if self.deduper is not None and self.deduper.unknown:
            say(
                f"{NAME}: not compared with the first {number(self.deduper.unknown, 'param')}: "
                "minion purge --done dropped those that were done"
            )
        if self.faults.count:
            say(
                f"{NAME}: {number(self.faults.count, 'bad line')} left out, the first: "
                f"{one_line(self.faults.first)}"
            )
        folder = self.queue.traits.folder
        if folder is None:
            return
        for fingerprint, name, params in self.fed:
            before = fed_before(folder, fingerprint)
            if before is not None and self.deduper is None:
                when = time.strftime("%Y-%m-%d %H:%M", time.localtime(before["at_s"]))
                says = "was fed before" if before["name"] == name else "has the contents of"
                other = "" if before["name"] == name else f" {before['name']}, fed"
                say(
                    one_line(
                        f"{NAME}: {name} {says}{other} on {when} "
                        f"({number(before['params'], 'param')}): its params are in the queue twice "
                        "now; --dedupe leaves out what was put before"
                    )
                )
            remember_fed(folder, fingerprint, name, params)


class _GridFeeding(_Feeding):
    """Every combination of some values."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        from minionize.filling.grid import grid_size, parse_grid

        self._words = words
        self._axes = parse_grid(words)
        self.progress = Progress(NAME, grid_size(self._axes))

    def run(self) -> None:
        from minionize.filling.grid import grid_batches

        def batches() -> Iterator[list[str]]:
            for batch in grid_batches(self._axes):
                count[0] += len(batch)
                yield batch
                self.progress.show(count[0], count[0])

        count = [0]
        self.put_whole(batches())
        fingerprint = Fingerprint()
        fingerprint.update(" ".join(self._words).encode(errors="surrogateescape"))
        self.fed.append((f"grid-{fingerprint}", "--grid " + " ".join(self._words), count[0]))


class _FileFeeding(_Feeding):
    """Files as a whole, or one pipe as it comes."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__()
        self._sources = sources
        sizes = [source.size for source in sources]
        total = sum(size for size in sizes if size) if None not in sizes else None
        self.progress = Progress(NAME, total)

    def run(self) -> None:
        prints = [Fingerprint() for _ in self._sources]
        counts = [0] * len(prints)

        def batches() -> Iterator[list[str]]:
            for place, source in enumerate(self._sources):
                source.on_bytes = prints[place].update
                if not source.is_file and source.on_idle is None:
                    source.on_idle = self.on_wait
                told = self.settings
                for batch in read_batches(
                    source,
                    self.faults,
                    null=told.null,
                    format=told.format,
                    typed=told.typed,
                    sep=told.sep,
                    header=told.header,
                ):
                    counts[place] += len(batch)
                    yield batch
                    self.progress.show(sum(one.taken for one in self._sources), sum(counts))

        if self.shuffle or self._sources[0].is_file:
            self.put_whole(batches())
        else:
            self._run_stream(batches())
        for source, fingerprint, count in zip(self._sources, prints, counts, strict=True):
            if count:
                path = source.name if source.name.startswith("standard") else None
                name = path or os.path.abspath(source.name)
                self.fed.append((str(fingerprint), name, count))

    def _run_stream(self, batches: Iterator[list[str]]) -> None:
        def put(texts: list[str]) -> int:
            return self.put_texts(texts) if texts else self.queue.put_texts(())

        stream = Stream(self._sources[0], put)
        try:
            self.put = stream.feed(batches)
        except BaseException as error:  # Ctrl-C as well
            if stream.count or not isinstance(error, UsageError):
                say(f"{NAME}: {number(stream.count, 'param')} put before it ended")
            raise
