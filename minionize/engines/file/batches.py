"""Files of JSON lines that never change: segments of params, and batches of what came back.

The first line is a header: number and first id stand at its beginning in fixed width, since
they are known only under the lock; then count, owner, and an index with the offset and the
checksum of every `step` lines, so that a range is read, and checked, without the rest.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minionize.engines.file.calls import Calls
from minionize.engines.file.head_file import unavailable, write_draft
from minionize.errors import BadParam, ForeignVersion, QueueDamaged

VERSION = 1
MAX_LINES = 16384
"""Lines of one file."""
BLOCK_BYTES = 4096
"""About what one checksum covers."""
READ_BYTES = 1 << 20
"""What one call of `lines` reads at most, if more than one block."""
_GUESS_BYTES = 12288
_KEPT = 12
"""Indexes, with open descriptors, that a process keeps."""


class FileMissing(QueueDamaged):
    """A file that the head named is not there, and was waited for."""


def missing(path: str) -> FileMissing:
    """What is said of a file that the head names and that does not appear."""
    return FileMissing(f"{path} is missing: restore it from a backup, or feed a new queue")


def damaged(path: str, what: str) -> QueueDamaged:
    """What is said of a file that can't be read as it should."""
    return QueueDamaged(f"{path} is damaged ({what}): restore it, or feed a new queue")


class NotVisible(Exception):
    """The head names the file, and this host does not see it yet."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Index(NamedTuple):
    """The header of a file."""

    path: str
    fd: int
    number: int
    first: int
    """The first id of a segment; 0 elsewhere."""
    length: int
    """Lines."""
    owner: str
    due: float
    """Unix time from which on a batch can be taken."""
    delay_s: float
    suspect: bool
    """Of all entries of a batch."""
    step: int
    body_at: int
    offsets: list[int]
    """Of every block, from the end of the header; one more than there are blocks."""
    checks: list[int]

    def lines_within(self, begin: int, end: int, size: int) -> int:
        """The position up to which one may read from `begin` within `size` bytes: never past
        `end`, and at least to the end of one block."""
        block = begin // self.step
        last = (end - 1) // self.step
        limit = self.offsets[block] + size
        upto = block + 1
        while upto <= last and self.offsets[upto + 1] <= limit:
            upto += 1
        return min(end, upto * self.step)


def step_of(lines: int, size: int) -> int:
    """Lines per block, from the number and the total length of a file's lines."""
    mean = max(1, size // max(1, lines))
    step = 1
    while step < 128 and step * 2 * mean <= BLOCK_BYTES:
        step *= 2
    return step


def encode(
    lines: Sequence[str],
    *,
    kind: str,
    owner: str,
    number: int = 0,
    first: int = 0,
    due: float = 0.0,
    delay_s: float = 0.0,
    suspect: bool = False,
) -> bytes:
    """A whole file. BadParam if a line has a line break or can't be encoded."""
    step = step_of(len(lines), sum(map(len, lines)))
    blocks = []
    offsets = [0]
    checks = []
    at = 0
    for begin in range(0, len(lines), step):
        group = lines[begin : begin + step]
        text = "\n".join(group)
        if text.count("\n") != len(group) - 1:
            raise BadParam("a param's JSON text has a line break in it: write it on one line")
        try:
            block = text.encode() + b"\n"
        except UnicodeEncodeError as error:
            raise BadParam(f"a param's JSON text can't be encoded: {error}: escape it") from error
        blocks.append(block)
        at += len(block)
        offsets.append(at)
        checks.append(zlib.crc32(block))
    header = json.dumps(
        {
            "minionize": VERSION,
            "kind": kind,
            "count": len(lines),
            "owner": owner,
            "due": due,
            "delay_s": delay_s,
            "suspect": suspect,
            "step": step,
            "offsets": offsets,
            "checks": checks,
        },
        separators=(",", ":"),
    )
    return _front(number, first) + header.encode()[1:] + b"\n" + b"".join(blocks)


def _front(number: int, first: int) -> bytes:
    return b'{"number":%12d,"first":%16d,' % (number, first)


class Batches:
    """Reads and drafts files; keeps the indexes of the last few."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._indexes: dict[str, Index] = {}

    # ---- writing
    def draft(self, path: str, content: bytes) -> None:
        """Write a draft and sync it. Nothing names it yet."""
        try:
            write_draft(self._calls, path, content)
        except OSError as error:
            raise unavailable(error, "cannot write", path) from error

    def renumber(self, path: str, number: int, first: int) -> None:
        """Correct the number and the first id of a draft: they are known only under the lock."""
        try:
            fd = self._calls.open(path, write=True)
            try:
                self._calls.pwrite(fd, _front(number, first), 0)
                self._calls.sync(fd)
            finally:
                self._calls.close(fd)
        except OSError as error:
            raise unavailable(error, "cannot write", path) from error

    def link(self, draft: str, path: str) -> None:
        """Give a draft its name, under the lock: what stands there already was never announced."""
        calls = self._calls
        try:
            try:
                calls.link(draft, path)
            except FileExistsError:
                # A dead process's orphan, or our own request, repeated by an NFS client.
                if not calls.same_file(draft, path):
                    self._void(path)
                    calls.rename(draft, path)
        except OSError as error:
            raise unavailable(error, "cannot publish", path) from error

    def _void(self, path: str) -> None:
        # A host that saw the orphan's name goes on seeing it there for a while, and must know.
        fd = self._calls.open(path, write=True)
        try:
            self._calls.pwrite(fd, _front(0, 0), 0)
            self._calls.sync(fd)
        finally:
            self._calls.close(fd)

    def discard(self, paths: Sequence[str]) -> None:
        """Remove drafts, the last first: a later clean-up counts on no gaps."""
        for path in reversed(paths):
            try:
                self._calls.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unavailable(error, "cannot remove", path) from error

    # ---- reading
    def index(self, path: str, number: int) -> Index:
        """The header of a file that the head names. NotVisible while it does not appear;
        QueueDamaged, ForeignVersion if it is not what it should be."""
        found = self._indexes.pop(path, None)
        if found is None:
            found = self._read_index(path, number)
            if len(self._indexes) >= _KEPT:
                oldest = next(iter(self._indexes))
                self._calls.let_go(self._indexes.pop(oldest).fd)
        self._indexes[path] = found
        return found

    def _read_index(self, path: str, number: int) -> Index:
        calls = self._calls
        try:
            fd = calls.open(path)
        except FileNotFoundError as error:
            raise NotVisible(path) from error
        except OSError as error:
            raise unavailable(error, "cannot read", path) from error
        try:
            content = calls.pread(fd, _GUESS_BYTES, 0)
            while b"\n" not in content and len(content) < (1 << 24):
                more = calls.pread(fd, max(len(content), 1), len(content))
                if not more:
                    break
                content += more
            found = _parse(path, fd, content, number)
            size = calls.size(fd)
            if size != found.body_at + found.offsets[-1]:
                raise damaged(path, f"{size} bytes instead of {found.body_at + found.offsets[-1]}")
        except OSError as error:
            calls.let_go(fd)
            raise unavailable(error, "cannot read", path) from error
        except BaseException:  # Ctrl-C as well
            calls.let_go(fd)
            raise
        return found

    def lines(self, index: Index, begin: int, end: int) -> list[str]:
        """The lines at positions `begin` to `end`, checked."""
        first, last = begin // index.step, (end - 1) // index.step
        at = index.offsets[first]
        try:
            content = self._calls.pread(index.fd, index.offsets[last + 1] - at, index.body_at + at)
        except OSError as error:
            self.forget(index.path)
            raise unavailable(error, "cannot read", index.path) from error
        view = memoryview(content)
        for block in range(first, last + 1):
            part = view[index.offsets[block] - at : index.offsets[block + 1] - at]
            if zlib.crc32(part) != index.checks[block]:
                self.forget(index.path)
                raise damaged(index.path, f"lines from {block * index.step + 1} on")
        lines = content.decode().split("\n")
        skip = first * index.step
        return lines[begin - skip : end - skip]

    def forget(self, path: str) -> None:
        """Let go of a file, to be opened anew."""
        found = self._indexes.pop(path, None)
        if found is not None:
            self._calls.let_go(found.fd)

    def close(self) -> None:
        """Let go of all files."""
        for path in list(self._indexes):
            self.forget(path)


def _parse(path: str, fd: int, content: bytes, number: int) -> Index:
    line, end, _ = content.partition(b"\n")
    try:
        header = json.loads(line) if end else None
        if not isinstance(header, dict):
            raise ValueError("no header line")
        if header["minionize"] != VERSION:
            raise ForeignVersion(
                f"{path} has format {header['minionize']}, this minionize reads format "
                f"{VERSION}: use the version of minionize that made it"
            )
        index = Index(
            path=path,
            fd=fd,
            number=header["number"],
            first=header["first"],
            length=header["count"],
            owner=header["owner"],
            due=header["due"],
            delay_s=header["delay_s"],
            suspect=header["suspect"],
            step=header["step"],
            body_at=len(line) + 1,
            offsets=header["offsets"],
            checks=header["checks"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, "its first line is no header") from error
    if index.number == 0:
        raise NotVisible(path)  # an orphan under its old name: the file itself comes into sight
    if index.number != number:
        raise damaged(path, f"it says that it is number {index.number}")
    blocks = -(-index.length // index.step)
    if len(index.offsets) != blocks + 1 or len(index.checks) != blocks:
        raise damaged(path, "its index does not fit its count")
    return index


class Record(NamedTuple):
    """One line of a batch: a param that was taken once."""

    id: int
    text: str
    attempt: int = 1
    crashes: int = 0
    laters: int = 0
    suspect: bool = False

    def line(self) -> str:
        """As it stands in a batch: a JSON array that ends with the param."""
        return (
            f"[{self.id},{self.attempt},{self.crashes},{self.laters},{int(self.suspect)},"
            f"{self.text}]"
        )


def parse_record(line: str) -> Record:
    """The record of a line."""
    number, attempt, crashes, laters, suspect, text = line[1:-1].split(",", 5)
    return Record(int(number), text, int(attempt), int(crashes), int(laters), suspect == "1")


def id_pieces(ids: Iterable[int]) -> list[str]:
    """Lines of a batch of purged ids: ranges, from and to."""
    pieces: list[list[int]] = []
    for number in sorted(ids):
        if pieces and pieces[-1][1] == number:
            pieces[-1][1] += 1
        else:
            pieces.append([number, number + 1])
    return [f"[{begin},{end}]" for begin, end in pieces]


def dead_line(record: Record, why: Sequence[object]) -> str:
    """A line of the dead: as a record's, with an array of reason, detail, Unix time, minion."""
    failure = json.dumps(why, separators=(",", ":"))
    return record._replace(text=f"{failure},{record.text}").line()


def parse_dead(line: str) -> tuple[Record, list[object]]:
    """The record and the failure of a line of the dead."""
    record = parse_record(line)
    failure, end = json.JSONDecoder().raw_decode(record.text)
    return record._replace(text=record.text[end + 1 :]), failure
