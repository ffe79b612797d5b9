"""Every format: what was written comes out, and what is wrong is named with file and line."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.errors import BadParam, UsageError
from minionize.filling.faults import MOST_BYTES, Faults
from minionize.filling.guess import format_by_look
from minionize.filling.reading import read_batches, read_params
from minionize.filling.sources import BLOCK, PACKED, open_source

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LINE = ANY_TEXT.filter(lambda text: text.strip() and not set(text) & set("\n\r\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


class Drip(io.RawIOBase):
    """A stream that gives a few bytes at a time, so that every boundary is met."""

    def __init__(self, data: bytes, size: int) -> None:
        self._left, self._size = data, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        got, self._left = self._left[: self._size], self._left[self._size :]
        return got


def params(data: bytes, size: int = BLOCK, **how: Any) -> list[Any]:
    """What is read from `data`, parsed; each text must be fit for a queue."""
    texts = list(read_params(Drip(data, size), **how))  # type: ignore[arg-type]
    for text in texts:
        assert text.isascii()
        assert "\n" not in text and "\r" not in text
    return [json.loads(text) for text in texts]


def bad(data: bytes, **how: Any) -> str:
    with pytest.raises(BadParam) as caught:
        params(data, **how)
    return str(caught.value)


sizes = st.sampled_from([1, 2, 3, 7, BLOCK])


@given(st.lists(LINE), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), sizes)
def test_lines_come_out_as_they_were_written(
    lines: list[str], end: str, last: bool, bom: bool, size: int
) -> None:
    data = ("\ufeff" * bom + end.join(lines) + end * last).encode()
    assert params(data, size, format="lines") == lines


NAMES = st.lists(st.binary(max_size=12).map(lambda name: name.replace(b"\0", b"\n")))


@given(NAMES, st.booleans(), sizes)
def test_what_ends_with_nul_comes_out_byte_for_byte(
    names: list[bytes], last: bool, size: int
) -> None:
    """Also names that begin as gzip, a byte order mark, UTF-16, JSON or an archive do."""
    data = b"\0".join(names) + b"\0" * (last or names[-1:] == [b""])
    expected = names if last or names[-1:] == [b""] or any(names) else []
    found = params(data if names else b"", size, null=True)
    assert [os.fsencode(name) for name in found] == (expected if names else [])


@pytest.mark.parametrize(
    "head", [b"\x1f\x8b\x08", b"\xef\xbb\xbfa", b"\xff\xfe", b"PK\x03\x04", b"BZh91AY&SY", b'["a",']
)
def test_a_first_name_is_never_taken_for_a_format(head: bytes) -> None:
    assert [os.fsencode(name) for name in params(head + b"\0b\0", null=True)] == [head, b"b"]


def test_names_in_a_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "names.gz"
    path.write_bytes(gzip.compress(b"a\n\xff\0\0b"))
    assert [json.loads(text) for text in read_params(path, null=True)] == ["a\n\udcff", "", "b"]


def test_values_that_end_with_nul() -> None:
    assert params(b"1\0 true\0[1,\n2]\0x\xff\0", null=True, typed=True) == [
        1,
        True,
        [1, 2],
        "x\udcff",
    ]


@pytest.mark.parametrize(
    ("how", "option"),
    [
        ({"format": "csv"}, "--format csv"),
        ({"format": "jsonl"}, "--format jsonl"),
        ({"sep": ";"}, "--sep"),
        ({"header": False}, "--no-header"),
    ],
)
def test_what_ends_with_nul_has_no_other_format(how: dict[str, Any], option: str) -> None:
    with pytest.raises(UsageError, match=f"^{option} with --null"):
        params(b"a\0", null=True, **how)
    assert params(b"a\0", null=True, format="lines") == ["a"]


def test_a_file_without_nuls_is_one_param_or_too_long() -> None:
    assert params(b"a\nb\n", null=True) == ["a\nb\n"]
    with pytest.raises(BadParam, match="param 2 is longer than 16 MiB: does each end with a NUL"):
        params(b"a\0" + b"x" * (MOST_BYTES + 1), null=True)


@given(st.lists(JSON), st.booleans(), sizes, st.booleans())
def test_json_lines_come_out_as_they_were_written(
    values: list[Any], ascii_only: bool, size: int, pack: bool
) -> None:
    lines = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    data = "\n".join(lines).encode(errors="surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return  # Raw surrogates are no UTF-8.
    assert params(gzip.compress(data) if pack else data, size, format="jsonl") == values


@given(st.lists(JSON), st.sampled_from([None, 1, "\t"]), sizes, st.booleans())
def test_arrays_come_out_as_they_were_written(
    values: list[Any], indent: Any, size: int, bom: bool
) -> None:
    data = ("\ufeff" * bom + json.dumps(values, indent=indent)).encode()
    assert params(data, size, format="json") == values


@given(
    st.lists(ANY_TEXT.filter(str.strip), min_size=1, max_size=4, unique_by=str.strip),
    st.data(), st.sampled_from(["\n", "\r\n"]), st.sampled_from([",", ";", "\t"]), sizes,
)  # fmt: skip
def test_csv_comes_out_as_it_was_written(
    names: list[str], draw: st.DataObject, end: str, sep: str, size: int
) -> None:
    names = [name.replace("\0", "") or "x" for name in names]
    if len({name.strip() for name in names}) < len(names) or "" in [n.strip() for n in names]:
        return
    cells = ANY_TEXT.map(lambda text: text.replace("\0", ""))
    rows = draw.draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names))))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sep, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(names)
    writer.writerows(rows)
    data = out.getvalue().encode()
    keys = [name.strip() for name in names]
    assert params(data, size, format="csv", sep=sep) == [dict(zip(keys, row)) for row in rows]  # noqa: B905
    assert params(data, size, format="csv", sep=sep, header=False) == [names, *rows]


@given(st.binary(max_size=200), st.sampled_from([None, "lines", "csv", "jsonl", "json"]), sizes)
def test_noise_is_read_or_named_never_a_traceback(noise: bytes, format: Any, size: int) -> None:
    try:
        params(noise, size, format=format)
    except UsageError as error:
        assert "\n" not in str(error)


def _blank(line: bytes, format: str) -> bool:
    """Plain text knows Unicode's blanks; JSON has three of its own."""
    if format == "jsonl":
        return not line.strip(b" \t\r")
    return not line.decode(errors="replace").strip()


NOISE = st.binary(max_size=200) | st.text('1a"[]{} \t\r\n\v\f\0\x1c\x85\xa0\u2028').map(str.encode)


@given(NOISE, st.sampled_from(["lines", "jsonl"]), sizes)
def test_noise_never_stops_who_skips_bad_lines(noise: bytes, format: str, size: int) -> None:
    if noise.startswith((b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", *PACKED)):
        return  # named as a whole: another encoding, or packed
    faults = Faults(skip=True)
    got = params(noise, size, format=format, faults=faults)
    lines = noise.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert len(got) + faults.count == sum(not _blank(line, format) for line in lines)


@given(
    NOISE | NOISE.map(lambda noise: b"[" + noise),
    st.sampled_from([None, "lines", "csv", "jsonl", "json"]), st.booleans(), sizes,
)  # fmt: skip
def test_what_comes_out_does_not_hang_on_what_was_read_with_it(
    noise: bytes, format: Any, typed: bool, size: int
) -> None:
    def read(size: int) -> tuple[object, ...]:
        faults = Faults(skip=True)
        try:
            got = params(noise, size, format=format, typed=typed, faults=faults)
        except UsageError as error:
            return (str(error),)
        return got, faults.count, faults.first

    assert read(size) == read(BLOCK)


@pytest.mark.parametrize(
    ("format", "data", "said"),
    [
        ("lines", b"a\n\xff\n", "line 2: not UTF-8"),
        ("lines", b"a\nb\0c\n", "line 2: holds a NUL"),
        ("lines", b"\xff\xfea\0", "UTF-16"),
        ("jsonl", b'{"a":1}\n\n{"a":\n', "line 3: no JSON"),
        ("jsonl", b"1\nNaN\n", "line 2: NaN is no JSON"),
        ("jsonl", b"1\n1e999\n", "line 2: no number that fits: 1e999"),
        ("json", b"[1, -1e400]", "no number that fits: -1e400"),
        ("jsonl", b"-Infinity\n", "line 1: -Infinity is no JSON"),
        ("jsonl", b"1 2\n", "line 1: no JSON: more text after the value at column 2"),
        ("jsonl", b"hello\n", "--format lines"),
        ("jsonl", b"[1,\n2]\n", "--format json"),
        ("jsonl", b"[" * 200_000, "nested too deeply"),
        ("json", b"[1,\n2,\n,3]", "line 3: an element is missing"),
        ("json", b"[1,\n2", "never closed"),
        ("json", b'[1,\n"abc', "never closed"),
        ("json", b'{"a":1}\n', "--format jsonl"),
        ("json", b"[1]\n[2]\n", "line 2: more text"),
        ("json", b"[1 2]", "line 1: no comma"),
        ("json", b"[1,]", "line 1: an element is missing"),
        ("json", b"[NaN]", "NaN is no JSON"),
        ("json", b'["a",\n"\xff"]', "line 2: not UTF-8"),
        ("json", b"[hello]", "line 1: no JSON: 'hello]'"),
        ("csv", b"a,b\n1,2\n3\n", "line 3: 1 cell where the header has 2"),
        ("csv", b"a,b\n1,2\n3,4,5\n", "line 3: 3 cells where the header has 2"),
        ("csv", b"a,a\n1,2\n", "two columns are named 'a'"),
        ("csv", b"a,\n1,2\n", "column 2 has no name"),
        ("csv", b'a,b\n1,"2\n3,4\n', "line 2: a quote that begins here is never closed"),
        ("csv", b'a,b\n1,"2"x\n3,4\n', "line 2: text after a closing quote"),
        ("csv", b"a;b\n1;2\n", "--sep ';'"),
        ("csv", b"a,b\n1,\xff\n", "line 2: not UTF-8"),
        ("csv", b"a,b\n1,\0\n", "line 2: holds a NUL"),
        ("csv", b"a\r1\r2\r", "bare CR"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(format: str, data: bytes, said: str) -> None:
    assert said in bad(data, format=format)


def test_bad_lines_are_counted_and_the_rest_is_kept() -> None:
    faults = Faults(skip=True)
    data = b"a,b\n1,2\n3\n4,5\n6,\xff\n7,8\n"
    assert [p["a"] for p in params(data, format="csv", faults=faults)] == ["1", "4", "7"]
    assert faults.count == 2
    assert "line 3" in faults.first


def test_rows_are_skipped_only_where_the_next_one_surely_begins() -> None:
    faults = Faults(skip=True)
    assert params(b'a,b\n"x"y,"p"\n1,2\n', format="csv", faults=faults) == [{"a": "1", "b": "2"}]
    assert params(b'a,b\n"x\n"y,1\n1,2\n', format="csv", faults=faults) == [{"a": "1", "b": "2"}]
    assert faults.count == 2
    for rest in (b'"x"y,"p\nq,r"\n1,2\n', b'"x\n"y,"p\nq,r"\n1,2\n'):
        with pytest.raises(BadParam, match="line 2: text after a closing quote"):
            params(b"a,b\n" + rest, format="csv", faults=faults)
    with pytest.raises(BadParam, match=r"line 1 \(the header\): text after"):
        params(b'"a"x,b\n1,2\n', format="csv", faults=faults)


@pytest.mark.parametrize("size", [1, 3, 400, BLOCK])
def test_arrays_do_not_hang_on_what_was_read_at_a_time(size: int) -> None:
    number = b"1" * 400 + b"." + b"2" * 200 + b"e-300"
    assert params(b"[" + number + b", [" + number + b"]]", size) == [(n := float(number)), [n]]
    assert "no number that fits" in bad(b"[1, " + b"1" * 400 + b".5]", size=size)
    got: list[str] = []
    with pytest.raises(BadParam, match="line 3: not UTF-8"):
        for text in read_params(Drip(b'["a","b",\n{},\n"\xff\n"]', size), format="json"):  # type: ignore[arg-type]
            got.append(text)
    assert got == ['"a"', '"b"', "{}"]
    assert "line 1: not" in bad('["😀'.encode() + b'\xff\n\n\n"]', size=size, format="json")


@pytest.mark.parametrize("size", [3, 40_000, BLOCK, 10 * BLOCK])
def test_the_look_does_not_hang_on_what_was_read_at_a_time(size: int) -> None:
    long = {"a": "x" * 70_000}
    assert params(json.dumps(long).encode() + b'\n{"b": 1}\n', size) == [long, {"b": 1}]
    assert "more text after the array" in bad(b"[1]" + b"\n" * BLOCK + b"[2]\n", size=size)
    assert params(b"[1]" + b"\n" * (BLOCK - 10) + b"[2]\n", size) == [[1], [2]]


@pytest.mark.parametrize("size", [1, 3, 1000, BLOCK])
def test_gzip_goes_on_behind_padding(size: int) -> None:
    a, b = gzip.compress(b"a\n"), gzip.compress(b"b\n")
    for padding in (b"", b"\0" * 5, b"\0" * 3000):
        assert params(a + padding + b + padding, size) == ["a", "b"]
        assert "broken gzip" in bad(a + padding + b"trash", size=size)


def test_a_line_may_begin_as_bzip2_does() -> None:
    for size in (1, BLOCK):
        assert params(b"BZhang\nBZh1\n", size) == ["BZhang", "BZh1"]
        for data in (b"", b"a\n"):
            assert "packed with bzip2" in bad(bz2.compress(data), size=size)


def test_a_bad_line_changes_nothing_of_its_neighbours() -> None:
    faults = Faults(skip=True)
    data = b"1\nx\n\xff\n[2]\n"
    assert params(data, format="lines", typed=True, faults=faults) == [1, "x", [2]]
    assert faults.count == 1


def test_json_with_a_cr_between_its_tokens_is_one_line() -> None:
    assert params(b"[1,\r2]\r\n", format="jsonl") == [[1, 2]]


def test_an_open_quote_is_never_skipped_with_all_that_follows() -> None:
    with pytest.raises(BadParam, match="never closed"):
        params(b'a\n1\n"2\n3\n', format="csv", faults=Faults(skip=True))


def test_broken_and_foreign_packings_are_named() -> None:
    packed = gzip.compress(b"a\nb\n" * 1000)
    assert "ends in the middle" in bad(packed[:-9])
    assert "broken gzip" in bad(packed[:10] + b"\xff" * 30)
    assert "broken gzip" in bad(packed + b"tail")
    for size in (1, BLOCK):
        assert "zip archive" in bad(b"PK\x03\x04....", size=size)
        assert "UTF-16" in bad(b"\xfe\xff\0a", size=size)
    assert params(packed + packed) == ["a", "b"] * 2000


def test_names_are_escaped() -> None:
    stream = io.BytesIO(b"\xff")
    stream.name = "a\x1b[31m\n"
    with pytest.raises(BadParam, match=r"a\\x1b\[31m\\n, line 1"):
        list(read_params(stream))


def test_sources_that_cannot_be_opened(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(UsageError, match=said):
            list(read_params(path))
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_params("a\0b"))


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b'{"a": 1}\n', "jsonl"),
        (b'\n\n{"a": 1}', "jsonl"),
        (b"[1, 2]\n[3, 4]\n", "jsonl"),
        (b"[1, 2]\n", "json"),
        (b"[\n1, 2]\n", "json"),
        (b'[{"a": 1},\n', "json"),
        (b"[draft] one\n", "lines"),
        (b"{x} y\n", "lines"),
        (b"1\n2\n", "lines"),
        (b"a,b\n1,2\n", "lines"),
        (b"", "lines"),
    ],
)
def test_the_format_by_a_look(head: bytes, format: str) -> None:
    assert format_by_look(head, all_of_it=True) == format


def test_the_name_comes_before_the_look_and_the_option_before_both(tmp_path: Path) -> None:
    for name, data, values in (
        ("a.csv", b"x\n1\n", [{"x": "1"}]),
        ("a.tsv.gz", gzip.compress(b"x\ty\n1\t2\n"), [{"x": "1", "y": "2"}]),
        ("a.txt", b"[1]\n", ["[1]"]),
        ("a.JSONL", b"1\n", [1]),
        ("a", b"1\n", ["1"]),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        assert [json.loads(text) for text in read_params(path)] == values
    assert list(read_params(tmp_path / "a", format="jsonl")) == ["1"]
    with pytest.raises(UsageError, match="--sep is for"):
        list(read_params(tmp_path / "a", sep=";"))
    with pytest.raises(UsageError, match="--no-header is for"):
        list(read_params(tmp_path / "a", header=False))
    with pytest.raises(UsageError, match="there are lines, csv"):
        list(read_params(tmp_path / "a", format="xml"))
    with pytest.raises(UsageError, match="--sep"):
        list(read_params(tmp_path / "a.csv", sep="ab"))


def test_typed_makes_values_of_what_reads_as_json() -> None:
    cells = ["1", "0.1", "1e5", "true", "null", "[1, 2]", '{"a": 1}', '"x"', " 3 "]
    strings = ["", "007", ".5", "+1", "NaN", "yes", "True", "[1", "1 2", "0x10", "-", " "]
    data = json.dumps(cells + strings)
    out = io.StringIO()
    csv.writer(out).writerow(json.loads(data))
    [row] = params(out.getvalue().encode(), format="csv", header=False, typed=True)
    assert row[: len(cells)] == [json.loads(cell) for cell in cells]
    assert row[len(cells) :] == strings
    assert params(b"1\nx\n[1]\n", format="lines", typed=True) == [1, "x", [1]]
    assert params(b"1\nx\n", format="lines") == ["1", "x"]


def test_blank_lines_are_no_params_but_blanks_are_kept() -> None:
    assert params(b"\n a \n \n\t\n\r\nb\n\n") == [" a ", "b"]
    assert params(b"", format="json") == []


def test_a_param_may_be_long_but_a_file_without_line_ends_is_refused() -> None:
    long = "x" * (1 << 20)
    assert params(long.encode()) == [long]
    assert params(json.dumps([long, 1]).encode(), format="json") == [long, 1]
    assert params(b'a,b\n"' + long.encode() + b'",2\n', format="csv") == [{"a": long, "b": "2"}]
    assert "longer than 16 MiB" in bad(b"x" * (MOST_BYTES + 2))
    assert "line 1" in bad(b'["' + b"x" * (2 * MOST_BYTES) + b'"]', format="json")


class Endless(io.RawIOBase):
    """A large file that is made as it is read."""

    def __init__(self, head: bytes, piece: Callable[[int], bytes], pieces: int) -> None:
        self._pieces: Iterator[bytes] = iter([head, *()])
        self._make, self._left = piece, pieces

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        head = next(self._pieces, None)
        if head:
            return head
        if not self._left:
            return b""
        self._left -= 1
        return self._make(self._left)


@pytest.mark.parametrize(
    ("format", "head", "line"),
    [
        ("lines", b"\n", b"some line\n"),
        ("csv", b"a,b\n", b'1,"2\n3 and some more text"\n'),
        ("jsonl", b"\n", b'{"a": 1}\n'),
        ("json", b"[0", b',{"a":\n1}'),
    ],
)
def test_memory_is_bounded(format: str, head: bytes, line: bytes) -> None:
    block = line * (BLOCK // len(line))
    source = Endless(head, lambda left: b"" if left == 0 and format == "json" else block, 40)
    if format == "json":
        source = Endless(head, lambda left: b"]" if left == 0 else block, 40)
    tracemalloc.start()
    try:
        count = sum(bool(text) for text in read_params(source, format=format))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 38 * (BLOCK // len(line))
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("format", "pieces"),
    [
        ("lines", [b"a\nb", b"c\n", b"d\n"]),
        ("jsonl", [b'"a"\n"b', b'c"\n', b'"d"\n']),
        ("csv", [b"x\na\nb", b"c\n", b"d\n"]),
        ("json", [b'["a","b', b'c"  ', b',\n"d"\n']),
    ],
)
def test_what_a_slow_producer_wrote_is_there_at_once(format: str, pieces: list[bytes]) -> None:
    """The producer waits until its piece was seen, so a reader that reads ahead hangs."""
    reading, writing = os.pipe()
    seen: list[str] = []
    wanted = [["a"], ["a", "bc"], ["a", "bc", "d"]]
    failed: list[str] = []
    arrived = threading.Condition()

    def produce() -> None:
        for piece, want in zip(pieces, wanted, strict=True):
            os.write(writing, piece)
            with arrived:
                if not arrived.wait_for(lambda want=want: len(seen) >= len(want), timeout=180):  # type: ignore[misc]
                    failed.append(f"{seen} is all that came of {want}")
                    break
        if format == "json":
            os.write(writing, b"]")
        os.close(writing)

    producer = threading.Thread(target=produce)
    producer.start()
    with open(reading, "rb", buffering=0) as stream:
        source = open_source(f"/proc/self/fd/{stream.fileno()}")
        assert not source.is_file
        for batch in read_batches(source, Faults(), format=format):
            with arrived:
                for text in batch:
                    value = json.loads(text)
                    seen.append(value["x"] if format == "csv" else value)
                arrived.notify()
        source.close()
    producer.join()
    assert not failed
    assert seen == ["a", "bc", "d"]


def test_an_idle_source_says_so_about_each_second() -> None:
    reading, writing = os.pipe()
    idle = 0

    def on_idle() -> None:
        nonlocal idle
        idle += 1
        if idle == 2:
            os.write(writing, b"a\n")
            os.close(writing)

    source = open_source(f"/proc/self/fd/{reading}")
    source.on_idle = on_idle
    assert [text for batch in read_batches(source, Faults()) for text in batch] == ['"a"']
    assert idle == 2
    source.close()
    os.close(reading)
