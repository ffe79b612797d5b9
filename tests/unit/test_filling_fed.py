"""The record of what was fed, and streams that are put by time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minionize.errors import BadParam
from minionize.filling.fed import NAME, Fingerprint, fed_before, remember_fed
from minionize.filling.sources import open_source
from minionize.filling.streaming import Stream


def of(*blocks: bytes) -> str:
    fingerprint = Fingerprint()
    for block in blocks:
        fingerprint.update(block)
    return str(fingerprint)


def test_a_fingerprint_is_of_the_contents() -> None:
    assert of(b"ab", b"c") == of(b"abc")
    assert of(b"abc") != of(b"abd")
    assert of() != of(b"\0")


def test_the_newest_feed_of_the_same_is_found(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert fed_before(folder, of(b"a")) is None
    remember_fed(folder, of(b"a"), "one", 1)
    remember_fed(folder, of(b"b"), "other", 2)
    remember_fed(folder, of(b"a"), "two", 3)
    found = fed_before(folder, of(b"a"))
    assert found is not None
    assert (found["name"], found["params"]) == ("two", 3)
    assert abs(found["at_s"] - time.time()) < 600


def test_torn_and_foreign_lines_are_passed(tmp_path: Path) -> None:
    remember_fed(str(tmp_path), of(b"a"), "one\n\x1b", 1)
    with open(tmp_path / NAME, "ab") as file:
        file.write(b'[1]\n7\n{"of": 3}\n\xff\n{"of": "' + of(b"a").encode()[:9])
    found = fed_before(str(tmp_path), of(b"a"))
    assert found is not None
    assert found["name"] == "one\n\x1b"


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    remember_fed(str(tmp_path / "none"), of(b"a"), "one", 1)
    assert fed_before(str(tmp_path / "none"), of(b"a")) is None


def test_batches_of_a_fast_producer_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    source = open_source(path)
    puts: list[int] = []

    def put(texts: list[str]) -> int:
        puts.append(len(texts))
        return len(texts)

    assert Stream(source, put).feed(iter([["1"]] * 1000)) == 1000
    # The first at once, the others each second: this took less than a minute.
    assert puts[0] == 1
    assert len(puts) < 60
    source.close()


def test_what_came_before_an_error_is_put(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    source = open_source(path)
    puts: list[str] = []

    def batches() -> Iterator[list[str]]:
        yield ["1"]
        yield ["2", "3"]
        raise BadParam("line 4")

    def put(texts: list[str]) -> int:
        puts.extend(texts)
        return len(texts)

    stream = Stream(source, put)
    with pytest.raises(BadParam, match="line 4"):
        stream.feed(batches())
    assert puts == ["1", "2", "3"]
    assert stream.count == 3
    source.close()


def test_an_idle_producers_last_params_do_not_wait_for_the_next() -> None:
    """The second batch comes within the period of the first, and then nothing: it is put when
    its second is over, not with a third."""
    reading, writing = os.pipe()
    source = open_source(f"/proc/self/fd/{reading}")
    puts: list[str] = []
    there = threading.Event()

    def put(texts: list[str]) -> int:
        puts.extend(texts)
        if "2" in puts:
            there.set()
        return len(texts)

    def batches() -> Iterator[list[str]]:
        yield ["1"]
        yield ["2"]
        for _block in source.blocks():
            yield ["3"]

    def produce() -> None:
        there.wait(180)
        os.write(writing, b"x")
        os.close(writing)

    producer = threading.Thread(target=produce)
    producer.start()
    Stream(source, put).feed(batches())
    producer.join()
    assert there.is_set()
    assert puts == ["1", "2", "3"]
    source.close()
    os.close(reading)
