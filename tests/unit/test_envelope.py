"""What travels with a param through a broker, and messages that others put there."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.engines import envelope
from minionize.engines.envelope import Envelope, Undecodable, from_message, to_properties
from minionize.errors import UsageError
from minionize.values import to_text

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
COUNTS = st.integers(0, 10**9 - 1)
ENVELOPES = st.builds(
    Envelope,
    id=st.from_regex(r"[A-Za-z0-9._-]{1,60}", fullmatch=True),
    text=JSON.map(to_text),
    attempt=st.integers(1, 10**9 - 1),
    crashes=COUNTS,
    laters=COUNTS,
    suspect=st.booleans(),
    not_before=st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000),
)


@given(ENVELOPES, st.sampled_from(envelope.DECODERS))
def test_what_is_put_comes_back(put: Envelope, decoder: str) -> None:
    properties = to_properties(put)
    assert from_message(put.text.encode(), properties, decoder=decoder, own_id="own") == put
    assert all(len(name) <= 12 and name.startswith("mz_") for name in properties)


def test_a_new_param_carries_next_to_nothing_and_is_named_by_its_message() -> None:
    properties = to_properties(Envelope("", "7"))
    assert properties == {"mz_v": "1"}
    assert from_message(b"7", properties, decoder="identity", own_id="m1") == Envelope("m1", "7")


@given(st.text())
def test_a_text_of_somebody_else_is_a_string(said: str) -> None:
    body = said.encode("utf-8", "surrogatepass")
    try:
        found = from_message(body, {"their": "own"}, decoder="identity", own_id="m1")
    except Undecodable:
        assert not said.isprintable()  # a lone surrogate is no UTF-8
    else:
        assert found.id == "m1" and json.loads(found.text) == said
        assert found.text.isascii() and found.text.isprintable()


@given(JSON, st.sampled_from([None, 1]))
def test_json_of_somebody_else_is_that_value(value: Any, indent: int | None) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=indent is None)
    found = from_message(body.encode("utf-8", "surrogatepass"), {}, decoder="json", own_id="m1")
    assert json.loads(found.text) == value
    assert found.text.isascii() and "\n" not in found.text


@given(st.binary(), st.dictionaries(st.sampled_from(
    [envelope.MARK, envelope.ID, envelope.ATTEMPT, envelope.CRASHES, envelope.LATERS,
     envelope.SUSPECT, envelope.NOT_BEFORE, "other"]
), st.sampled_from(["1", "", "-1", "x y", "1e400", "nan", "9" * 30]) | st.text()),
    st.sampled_from(envelope.DECODERS))  # fmt: skip
def test_anything_is_a_param_or_a_dead_letter_with_a_reason(
    body: bytes, properties: dict[str, str], decoder: str
) -> None:
    try:
        found = from_message(body, properties, decoder=decoder, own_id="m1")
    except Undecodable as error:
        assert error.reason and error.detail
        assert json.loads(error.text) == body.decode("utf-8", "backslashreplace")
    else:
        assert "\n" not in found.text and "\r" not in found.text
        assert found.attempt >= 1 and found.crashes >= 0 and found.laters >= 0
        assert math.isfinite(found.not_before)


@pytest.mark.parametrize(
    ("body", "properties", "decoder", "reason", "detail"),
    [
        (b"\xff7", {}, "identity", "message is not UTF-8", "byte 0xff at offset 0"),
        (b"\xff7", {"mz_v": "1"}, "identity", "message is not UTF-8", "byte 0xff"),
        (b"{", {}, "json", "message is no JSON", "line 1 column 2"),
        (b"", {}, "json", "message is no JSON", "Expecting value"),
        (b"NaN", {}, "json", "message is no JSON", "NaN is no JSON"),
        (b"1e999", {}, "json", "message is no JSON", "1e999 is no number that fits"),
        (b"[" * 100_000, {}, "json", "message is no JSON", "nested too deeply"),
        (b"1", {"mz_v": "2"}, "json", "put by another minionize", "reads version 1"),
        (b"1", {"mz_v": "1", "mz_id": "a b"}, "json", "damaged property", "mz_id is 'a b'"),
        (b"1", {"mz_v": "1", "mz_crashes": "-1"}, "json", "damaged property", "mz_crashes"),
        (b"1", {"mz_v": "1", "mz_due": "nan"}, "json", "damaged property", "mz_due is 'nan'"),
    ],
)
def test_why_a_message_is_no_param(
    body: bytes, properties: dict[str, str], decoder: str, reason: str, detail: str
) -> None:
    with pytest.raises(Undecodable) as caught:
        from_message(body, properties, decoder=decoder, own_id="m1")
    assert reason in caught.value.reason and detail in caught.value.detail


def test_decoders_have_names() -> None:
    assert envelope.checked_decoder("", "x") == "identity"
    assert envelope.checked_decoder(" JSON ", "x") == "json"
    with pytest.raises(UsageError, match="PULSAR_DECODER: there is no decoder 'yaml': use"):
        envelope.checked_decoder("yaml", "PULSAR_DECODER")


def test_what_is_no_envelope_is_told_with_its_reason_and_detail() -> None:
    assert str(Undecodable("no JSON", "at 3", b"{")) == "no JSON (at 3)"
