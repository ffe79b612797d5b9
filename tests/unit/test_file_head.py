"""The head as bytes: whatever is torn, the last whole copy is found."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.engines.file import head as layout
from minionize.engines.file.calls import Calls
from minionize.engines.file.head import Head, choose, decode_copy, encode_copy
from minionize.engines.file.head_file import HeadFile, write_new
from minionize.engines.file.slot import Claim, Slot, decode, open_pieces
from minionize.errors import EngineUnavailable, ForeignVersion, NoSuchQueue, QueueDamaged


def made(tmp_path: Path) -> HeadFile:
    path = str(tmp_path / "head")
    assert write_new(Calls(), path, path + ".draft")
    return HeadFile(Calls(), path, shared=True, patience_s=0.05)


def copy(head: Head) -> bytes:
    content = encode_copy(head, with_redo=True)
    assert content is not None
    return content


numbers = st.integers(0, 10**12)
folders = st.lists(numbers, min_size=5, max_size=5)


@st.composite
def heads(draw: st.DrawFn) -> Head:
    head = Head()
    head.sequence = draw(numbers)
    for name in ("put", "cursor", "hint", "segments", "settled", "purged", "purges", "size"):
        setattr(head, name, draw(numbers))
    head.sweeper = (draw(st.integers(-1, 5000)), draw(numbers))
    head.dead = draw(folders)
    head.back = draw(st.dictionaries(st.sampled_from([0, 1, 2, 300]), folders))
    head.redo = {
        index: Slot(draw(numbers), owner=draw(st.text("abc-._9", max_size=40))).encode()
        for index in draw(st.sets(st.integers(0, 5000), max_size=9))
    }
    return head


@given(heads())
def test_a_copy_comes_back_as_it_was(head: Head) -> None:
    found = decode_copy(copy(head).ljust(layout.COPY_BYTES, b"\0"))
    assert found is not None
    for name in Head.__slots__:
        assert getattr(found, name) == getattr(head, name), name


@given(heads(), st.data())
def test_a_torn_or_noisy_copy_is_none(head: Head, data: st.DataObject) -> None:
    content = copy(head)
    at = data.draw(st.integers(0, len(content) - 1))
    torn = content[:at].ljust(layout.COPY_BYTES, b"\0")
    assert decode_copy(torn) is None
    noise = bytes([content[at] ^ data.draw(st.integers(1, 127))])
    try:
        found = decode_copy(content[:at] + noise + content[at + 1 :])
    except ForeignVersion:
        return  # the noise hit the version: named, and nothing is done
    # The checksum is written in hexadecimal: only the case of its digits may change.
    assert found is None or found.encode_state() == head.encode_state()


@given(st.binary(max_size=200))
def test_noise_is_no_copy(noise: bytes) -> None:
    assert decode_copy(noise) is None


def test_the_newer_whole_copy_counts_and_the_other_is_overwritten() -> None:
    old, new = Head(), Head()
    old.sequence, new.sequence = 7, 8
    size = layout.COPY_BYTES
    first, second = copy(old).ljust(size, b"\0"), copy(new).ljust(size, b"\0")
    for content, sequence, target in [
        (first + second, 8, 0),
        (second + first, 8, 1),
        (first + b"\0" * size, 7, 1),
        ((b"noise" * 4000)[:size] + second, 8, 0),
    ]:
        found, overwrite = choose(content)
        assert found is not None
        assert (found.sequence, overwrite) == (sequence, target)
    assert choose(b"")[0] is None


def test_a_newer_format_is_named() -> None:
    with pytest.raises(ForeignVersion, match="format 2"):
        decode_copy(copy(Head()).replace(b"head 1 ", b"head 2 "))


def test_what_one_visit_writes_the_next_one_reads(tmp_path: Path) -> None:
    file = made(tmp_path)
    for put in range(1, 6):
        with file as head:
            assert head.put == put - 1
            head.put = put
            head.changed[3] = Slot(put, owner="m").encode()
            file.write()
        with file:
            assert decode(file.slot(3)).generation == put
            assert file.slot(4) == ""


def test_a_torn_write_leaves_what_was(tmp_path: Path) -> None:
    file = made(tmp_path)
    with file as head:
        head.put = 1
        head.changed[0] = Slot(1, owner="old").encode()
        file.write()
    whole = (tmp_path / "head").read_bytes()
    with file as head:
        head.put = 2
        head.changed[0] = Slot(2, owner="new").encode()
        file.write()
    after = (tmp_path / "head").read_bytes()
    differing = [at for at in range(len(whole)) if whole[at] != after[at]]
    middle = (differing[0] + differing[-1]) // 2
    (tmp_path / "head").write_bytes(after[:middle] + whole[middle:])
    with file as head:
        assert head.put == 1
        assert decode(file.slot(0)).owner == "old"


def test_more_slots_than_a_copy_holds_are_written_in_place(tmp_path: Path) -> None:
    file = made(tmp_path)
    with file as head:
        while head.size < 1000:
            file.grow(head)
        file.write()
    owners = {}
    for index in range(1000):
        with file as head:
            owners[index] = f"minion-of-a-host-with-a-long-name-{index}"
            head.changed[index] = Slot(index + 1, owner=owners[index]).encode()
            file.write()
    with file as head:
        assert len(head.redo) < 200
        assert head.placed > 500
        records = file.slots()
        for index, owner in owners.items():
            assert decode(records[index]).owner == owner
            assert decode(file.slot(index)).owner == owner
        assert head.size == len(records)


def test_slots_in_place_that_were_torn_are_in_the_redo_list(tmp_path: Path) -> None:
    file = made(tmp_path)
    big = "x" * 3500
    for index in range(4):
        with file as head:
            head.changed[index] = Slot(1, owner=f"{index}{big}").encode()
            file.write()
    before = (tmp_path / "head").read_bytes()
    with file as head:
        assert (len(head.redo), head.placed) == (4, 0)
        head.changed[4] = Slot(1, owner=f"4{big}").encode()
        file.write()
    with file as head:
        assert (len(head.redo), head.placed) == (1, 4)
        assert [decode(file.slot(index)).owner[0] for index in range(5)] == list("01234")
    # The same, stopped while it wrote the second slot in place: the old copies still count.
    after = (tmp_path / "head").read_bytes()
    cut = layout.SLOTS_AT + layout.SLOT_BYTES + 700
    (tmp_path / "head").write_bytes(
        before[: layout.SLOTS_AT] + after[layout.SLOTS_AT : cut] + before[cut:]
    )
    with file as head:
        assert [decode(file.slot(index)).owner[0] for index in range(4)] == list("0123")
        head.changed[4] = Slot(1, owner=f"4{big}").encode()
        file.write()
    with file:
        assert [decode(file.slot(index)).owner[0] for index in range(5)] == list("01234")


def test_damage_is_named(tmp_path: Path) -> None:
    file = made(tmp_path)
    (tmp_path / "head").write_bytes(b"\x07noise" * 9000)
    with pytest.raises(QueueDamaged, match=f"{tmp_path}/head is damaged"), file:
        pass
    (tmp_path / "head").write_bytes(b"")
    with pytest.raises(QueueDamaged, match="head is damaged"), file:
        pass
    missing = HeadFile(Calls(), str(tmp_path / "other"), shared=False)
    with pytest.raises(NoSuchQueue, match="is missing"), missing:
        pass


def test_who_finds_the_lock_taken_waits_and_says_so(tmp_path: Path) -> None:
    one = made(tmp_path)
    two = HeadFile(Calls(), one.path, shared=False, patience_s=0.05)
    with one, pytest.raises(EngineUnavailable, match="cannot lock"), two:
        pass
    with two as head:
        assert head.put == 0


def test_a_lock_held_for_too_long_writes_nothing(tmp_path: Path) -> None:
    class SlowCalls(Calls):
        late_s = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.late_s

    made(tmp_path)
    calls = SlowCalls()
    file = HeadFile(calls, str(tmp_path / "head"), shared=False)
    with file as head:
        head.put = 5
        calls.late_s = 11.0
        with pytest.raises(EngineUnavailable, match="nothing was written"):
            file.write()
    with file as head:
        assert head.put == 0


pieces = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=6)


@given(
    st.integers(0, 99),
    st.sampled_from(["free", "live", "gone"]),
    st.lists(st.tuples(st.sampled_from(["p", "h", "4"]), numbers, numbers, pieces), max_size=4),
)
def test_a_slot_comes_back_as_it_was(
    generation: int, state: str, flat: list[tuple[str, int, int, list[tuple[int, int]]]]
) -> None:
    claims = []
    for source, batch, serial, steps in flat:
        at = 0
        places = []
        for skip, length in steps:
            places.append((at + skip, at + skip + length))
            at += skip + length
        claims.append(Claim(source, batch, serial, tuple(places)))
    slot = Slot(generation, 3, state, "m.1-x", True, "h", 7, 8, 60.0, "b", tuple(claims))
    assert decode(slot.encode()) == slot


@pytest.mark.parametrize(
    "record", ["{}", "[]", "[1,2]", "noise", '[1,2,"live",3,4,5,6,7,8,9,[[1]]]']
)
def test_what_is_no_slot_is_no_slot(record: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(record)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 1000))
def test_open_pieces_are_the_runs(flags: list[bool], start: int) -> None:
    found = open_pieces(bytearray(flags), start)
    positions = [position for begin, end in found for position in range(begin, end)]
    assert positions == [start + at for at, flag in enumerate(flags) if flag]
    assert all(before[1] < after[0] for before, after in pairwise(found))


def test_a_slot_that_was_never_used_is_older_than_every_life() -> None:
    assert decode("").generation == 0 < Head().lives + 1


def test_a_queue_that_is_removed_while_it_is_in_use(tmp_path: Path) -> None:
    head_file = made(tmp_path)
    with head_file:
        pass
    (tmp_path / "head").unlink()
    deadline = time.monotonic() + 180
    with pytest.raises(NoSuchQueue, match=r"head was removed while it was in use|is missing"):
        while time.monotonic() < deadline:
            with head_file:
                pass
            time.sleep(0.05)


def test_a_queue_that_is_renamed_while_it_is_in_use(tmp_path: Path) -> None:
    head_file = made(tmp_path)
    with head_file:
        pass
    (tmp_path / "head").rename(tmp_path / "other")
    head_file._there_until = 0.0
    with head_file as head:
        assert head.sequence == 1
