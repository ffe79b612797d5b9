"""A minion over Redis, without a server: what it asks, in which order, and what it makes of
answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import minion as module
from minionize.engines.redis.messages import Counts
from minionize.engines.redis.minion import RedisEngine, _fitting, _portions
from minionize.engines.redis.place import place_of
from minionize.errors import EngineUnavailable
from minionize.values import Failure, Lease, SystemClock

PLACE = place_of("redis://host/0?stream=q", {})
NOTHING = [b"ok", b"", b"", b"", b"", [], b"", 1, 0]


def lease(token: str, text: str = "1", **more: Any) -> Lease:
    return Lease(token.lstrip("bs"), text, token=token, **more)


class FakeWire:
    """Answers as the scripts do, from lists; keeps what it was asked."""

    def __init__(self, place: object, timeout_s: float) -> None:
        self.place = PLACE
        self.broken = False
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, deque[Any]] = {}
        self.waits: list[tuple[int, int]] = []
        self.delivers: deque[Any] = deque()
        self.hears = True
        self.fails = 0

    def answer(self, name: str, *said: Any) -> None:
        self.answers.setdefault(name, deque()).extend(said)

    def run(self, name: str, *words: Any) -> Any:
        if self.fails:
            self.fails -= 1
            raise EngineUnavailable("away")
        self.asked.append((name, words))
        queued = self.answers.get(name)
        if queued:
            return queued.popleft()
        return {
            "join": [b"ok", b"me:1", b"", b"", b"noeviction", b"0"],
            "lease": NOTHING,
            "extend": [b"ok", b"", b""],
            "admit": [b"ok", b"", b""],
            "nack": [],
            "lost": [],
            "leave": 0,
        }.get(name, b"ok")

    checked = run

    def tell(self, name: str, *words: Any) -> None:
        self.asked.append((f"tell {name}", words))

    def hear(self) -> bool:
        return self.hears

    def blocking(self, consumer: bytes, count: int, wait_ms: int) -> list[Any]:
        self.waits.append((count, wait_ms))
        return self.delivers.popleft() if self.delivers else []

    def drop(self) -> None:
        self.broken = True

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    def last(self, name: str) -> tuple[Any, ...]:
        return [words for asked, words in self.asked if asked == name][-1]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWire]:
    wire = FakeWire(PLACE, 1.0)
    monkeypatch.setattr(module, "Wire", lambda place, timeout_s: wire)
    yield wire


def engine_of(**options: Any) -> RedisEngine:
    return RedisEngine(PLACE, EngineOptions(minion_id="me", **options))


class Clock:
    """Stands still, but for who sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds


class Ticking(Clock, SystemClock):
    """A clock that counts as the system's, so that a minion waits inside the server."""

    monotonic = Clock.monotonic
    time = Clock.monotonic
    sleep = Clock.sleep  # type: ignore[assignment]


def some(*tokens: str, texts: Sequence[str] = ()) -> list[Any]:
    """What lease.lua says of fresh params."""
    lines = "\n".join(texts or ["1"] * len(tokens))
    return [b"ok", b"", b"", "\n".join(tokens).encode(), lines.encode(), [], b"", 0, 0]


# ---- leasing


def test_fresh_params_become_leases(wire: FakeWire) -> None:
    engine = engine_of()
    wire.answer("lease", some("5-0", "5-1", texts=['{"a":1}', '"\\u00e9"']))
    leases = engine.lease(2, 0)
    assert [(each.id, each.param, each.token) for each in leases] == [
        ("5-0", {"a": 1}, "5-0"),
        ("5-1", "é", "5-1"),
    ]
    assert [(each.attempt, each.crashes, each.laters, each.suspect) for each in leases] == [
        (1, 0, 0, False)
    ] * 2
    assert wire.last("lease") == (b"me:1", 2, "", "", "")


def test_what_came_back_goes_before_what_is_fresh(wire: FakeWire) -> None:
    engine = engine_of()
    said = some("7-0")
    said[5] = [[b"b6-0", [b"@id", b"3-0", b"@n", b"2 1 4 0", b"minionize", b"[3]"]]]
    wire.answer("lease", said)
    back, fresh = engine.lease(5, 0)
    assert (back.id, back.text, back.token) == ("3-0", "[3]", "b6-0")
    assert (back.attempt, back.crashes, back.laters, back.suspect) == (2, 1, 4, False)
    assert fresh.token == "7-0"


def test_nothing_is_asked_for_nothing_and_never_too_much(wire: FakeWire) -> None:
    engine = engine_of()
    assert engine.lease(0, 5.0) == [] and engine.lease(-1, 5.0) == []
    assert "lease" not in wire.names()
    engine.lease(1_000_000, 0)
    assert wire.last("lease")[1] == 4096


def test_without_a_wait_it_asks_once(wire: FakeWire) -> None:
    engine = engine_of()
    assert engine.lease(1, 0) == []
    assert wire.names().count("lease") == 1 and wire.waits == []


def test_it_waits_in_the_server_and_looks_now_and_then(wire: FakeWire) -> None:
    clock = Ticking()
    engine = engine_of(clock=clock)

    def blocking(consumer: bytes, count: int, wait_ms: int) -> list[Any]:
        assert (consumer, count) == (b"me:1", 3)
        wire.waits.append((count, wait_ms))
        clock.now += wait_ms / 1000
        return []

    wire.blocking = blocking  # type: ignore[method-assign]
    assert engine.lease(3, 1.0) == []
    assert clock.now >= 101.0
    asked = [words for name, words in wire.asked if name == "lease"]
    assert len(asked) >= 4, "of one minion, each quarter of a second"
    assert all(words[2:] == ("", "", "") for words in asked), "no answer was lost"
    assert sum(ms for _, ms in wire.waits) / 1000 + sum(clock.slept) == pytest.approx(1.0, abs=0.2)


def test_what_is_put_while_it_waits_is_leased(wire: FakeWire) -> None:
    engine = engine_of(clock=Ticking())
    wire.delivers.append([[b"q", [[b"9-0", [b"minionize", b"7"]]]]])
    (found,) = engine.lease(1, 60.0)
    assert (found.id, found.text) == ("9-0", "7")
    assert wire.names()[-1] == "admit" and "seen" not in wire.names()


def test_a_message_of_others_that_woke_it_is_counted(wire: FakeWire) -> None:
    engine = engine_of(clock=Ticking())
    wire.delivers.append([[b"q", [[b"9-0", [b"word", b"hello"]]]]])
    (found,) = engine.lease(1, 60.0)
    assert found.param == "hello"
    assert wire.last("seen") == (1,)


def test_a_delay_that_is_nearly_over_is_slept_in_steps(wire: FakeWire) -> None:
    """An idle server may let who waits oversleep: so it asks, a little later, again and again."""
    clock = Ticking()
    engine = engine_of(clock=clock)
    due = [*NOTHING[:6], b"60", 1, 0]
    wire.answer("lease", due, due, due, some("1-0"))
    assert [each.token for each in engine.lease(1, 5.0)] == ["1-0"]
    assert clock.slept and max(clock.slept) <= 0.02
    assert wire.waits == []


def test_before_a_delay_is_over_it_waits_shorter(wire: FakeWire) -> None:
    clock = Ticking()
    engine = engine_of(clock=clock)
    wire.answer("lease", [*NOTHING[:6], b"200", 1, 0])
    wire.delivers.append([[b"q", [[b"9-0", [b"minionize", b"7"]]]]])
    engine.lease(1, 5.0)
    ((_, wait_ms),) = wire.waits
    assert 60 <= wait_ms <= 90, "the 0.2 s less what a server may oversleep"


def test_paused_it_sleeps_and_takes_nothing(wire: FakeWire) -> None:
    clock = Ticking()
    engine = engine_of(clock=clock)
    paused = [b"ok", b"1", b"2", b"", b"", [], b"", 1, 0]
    wire.answer("lease", *[paused] * 50)
    assert engine.lease(1, 0.6) == []
    assert engine.orders().paused and engine.orders().stops == 2
    assert wire.waits == [] and sum(clock.slept) == pytest.approx(0.6)


def test_who_is_paused_or_taken_for_dead_meanwhile_gives_back(wire: FakeWire) -> None:
    for state in ([b"ok", b"1", b""], [b"gone"]):
        engine = engine_of(clock=Ticking())
        wire.delivers.append([[b"q", [[b"9-0", [b"minionize", b"7"]]]]])
        wire.answer("admit", state)
        assert engine._wait(1, 0.1) == []
        assert wire.last("nack") == (b"me:1", 0, "9-0", "9-0", "1 0 0 0", "")


def test_a_minion_that_is_gone_joins_anew_and_asks_again(wire: FakeWire) -> None:
    engine = engine_of()
    wire.answer("lease", [b"gone"], some("1-0"))
    wire.answer("join", [b"ok", b"me:2", b"", b"", b"noeviction", b"0"])
    assert len(engine.lease(1, 0)) == 1
    assert wire.last("lease")[0] == b"me:2"


def test_what_is_no_param_is_buried_and_the_rest_is_leased(wire: FakeWire) -> None:
    engine = engine_of()
    said = some("7-0")
    said[5] = [[b"6-0", [b"a", b"1", b"b", b"2"]]]
    wire.answer("lease", said)
    assert [each.token for each in engine.lease(5, 0)] == ["7-0"]
    assert wire.last("bury")[1] == b"message has no such field"


def test_an_answer_that_got_lost_is_asked_for_again(wire: FakeWire) -> None:
    engine = engine_of()
    wire.answer("lease", some("5-0", "5-3"))
    engine.lease(2, 0)
    wire.fails = 1
    with pytest.raises(EngineUnavailable):
        engine.lease(2, 0)
    engine.lease(2, 0)
    assert wire.last("lease")[2:] == ("0-0", "0-0", "5-3")
    engine.lease(2, 0)
    assert wire.last("lease")[2:] == ("", "", "")


def test_what_may_have_got_lost_is_asked_for_until_nothing_more_comes(wire: FakeWire) -> None:
    engine = engine_of()
    wire.fails = 1
    with pytest.raises(EngineUnavailable):
        engine.lease(1, 0)
    wire.answer("lease", some("5-4"), NOTHING)
    asked = []
    for _ in range(3):
        engine.lease(1, 0)
        asked.append(wire.last("lease")[4])
    assert asked == ["0-0", "5-4", ""]


def test_after_a_break_while_it_waited_it_asks_before_it_waits(wire: FakeWire) -> None:
    engine = engine_of(clock=Ticking())
    whole = wire.blocking

    def broken(*_: object) -> list[Any]:
        raise EngineUnavailable("away")

    wire.blocking = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(EngineUnavailable):
        engine.lease(1, 5.0)
    wire.blocking = whole  # type: ignore[method-assign]
    wire.answer("lease", some("5-4"))
    assert len(engine.lease(1, 5.0)) == 1
    assert wire.last("lease")[2:] == ("0-0", "0-0", "0-0") and wire.waits == []


# ---- settling


def test_small_texts_stay_and_large_ones_go(wire: FakeWire) -> None:
    engine = engine_of()
    engine.ack([lease("1-0", "x" * 1000), lease("1-1", "x" * 1000)])
    assert wire.last("tell ack") == ("1-0 1-1", "", 0)
    engine.ack([lease("1-2", "x" * 1001)])
    assert wire.last("tell ack") == ("1-2", "", 1)
    engine.ack([lease("1-3", "x" * 2001), lease("1-4", "")])
    assert wire.last("tell ack")[2] == 1, "it is their mean that counts"
    engine.ack([lease("9-12345678901234567890", "x")])
    assert wire.last("tell ack")[2] == 0, "the text, not the token"


def test_an_ack_is_heard_before_anything_else(wire: FakeWire) -> None:
    engine = engine_of()
    engine.ack([lease("1-0")])
    assert wire.names()[-1] == "tell ack"
    wire.hears = False
    engine.extend([])
    assert wire.names()[-2:] == ["ack", "extend"], "what was not heard is said again"


def test_an_ack_that_was_heard_is_not_said_again(wire: FakeWire) -> None:
    engine = engine_of()
    engine.ack([lease("1-0")])
    engine.extend([])
    engine.extend([])
    assert wire.names()[-3:] == ["tell ack", "extend", "extend"]


def test_an_ack_of_what_is_marked_is_heard_at_once(wire: FakeWire) -> None:
    engine = engine_of()
    marked = lease("1-0")
    engine.started([marked])
    engine.ack([marked, lease("1-1")])
    tokens, marks, _ = wire.last("tell ack")
    assert (tokens, marks) == ("1-0 1-1", "1-0")
    assert engine._told is None
    engine.ack([marked])
    assert wire.last("tell ack")[1] == "", "it is marked no more"


def test_acks_go_in_portions(wire: FakeWire) -> None:
    engine = engine_of()
    engine.ack([lease(f"1-{number}") for number in range(10_001)])
    portions = [words[0].count(" ") + 1 for name, words in wire.asked if name == "tell ack"]
    assert portions == [5000, 5000, 1]


@pytest.mark.parametrize(
    ("delay_s", "said"), [(0.0, 0), (-3.0, 0), (1.5, 1500), (0.0001, 1), (0.0019, 1)]
)
def test_delays_are_milliseconds_and_no_delay_is_forgotten(
    wire: FakeWire, delay_s: float, said: int
) -> None:
    engine = engine_of()
    engine.nack([lease("1-0")], delay_s=delay_s)
    assert wire.last("nack")[1] == said


def test_a_text_that_is_gone_from_the_stream_is_said(wire: FakeWire) -> None:
    engine = engine_of()
    wire.answer("nack", [b"1-1"])
    engine.nack([lease("1-0", "[0]"), lease("1-1", "[1]", attempt=2)])
    first, second = [words for name, words in wire.asked if name == "nack"]
    assert first[2:] == ("1-0", "1-0", "2 0 0 0", "", "1-1", "1-1", "3 0 0 0", "")
    assert second[2:] == ("1-1", "1-1", "3 0 0 0", "[1]")


def test_dead_letters_carry_reason_counts_and_text(wire: FakeWire) -> None:
    engine = engine_of()
    engine.bury([lease("b1-0", '"x"', attempt=3, laters=1)], Failure("exit 1", "é\ud800"))
    assert wire.last("bury") == (
        b"me:1", b"exit 1", b"\xc3\xa9\xed\xa0\x80", "b1-0", "1-0", "3 0 1 0", b'"x"',
    )  # fmt: skip


def test_it_looks_at_once_after_it_gave_something_back(wire: FakeWire) -> None:
    clock = Ticking()
    engine = engine_of(clock=clock)
    engine.lease(1, 0)
    assert engine._look_at > clock.now
    engine.nack([lease("1-0")], delay_s=5.0)
    assert engine._look_at == 0.0


# ---- staying alive


def test_only_who_joined_anew_asks_what_it_lost(wire: FakeWire) -> None:
    engine = engine_of()
    held = [lease("1-0"), lease("1-1")]
    assert engine.extend(held) == []
    assert "lost" not in wire.names()
    wire.answer("extend", [b"gone"])
    wire.answer("lost", [b"1-0"])
    assert engine.extend(held) == held[:1]
    assert wire.last("lost")[1] == "1-0 1-1"


def test_what_was_lost_is_marked_no_more(wire: FakeWire) -> None:
    engine = engine_of()
    held = [lease("1-0"), lease("1-1")]
    engine.started(held)
    wire.answer("extend", [b"gone"])
    wire.answer("lost", [b"1-0"])
    engine.extend(held)
    engine.ack(held)
    assert wire.last("tell ack")[1] == "1-1"


def test_what_the_minion_runs_is_told_with_its_beat(wire: FakeWire) -> None:
    engine = engine_of(slots=4, host="here", pid=7, lease_s=0.25)
    engine.extend([lease("1-0")])
    _, lease_ms, who = wire.last("extend")
    assert lease_ms == 250
    assert '"running": 1' in who and '"slots": 4' in who and '"lease_ms": 250' in who


def test_whether_the_queue_looks_drained_until_it_is_asked(wire: FakeWire) -> None:
    engine = engine_of()
    assert not engine.looks_drained()
    wire.answer("lease", [*NOTHING[:8], 1])
    engine.lease(1, 0)
    assert engine.looks_drained()
    wire.answer("stats", [b"ok", *[b"0"] * 9, b"", b"", b""])
    engine.stats()
    assert not engine.looks_drained()


def test_what_was_lost_is_noted_once_nothing_runs(wire: FakeWire) -> None:
    def stats(running: int, dead: int) -> list[Any]:
        numbers = (0, 0, running, 2, dead, 0, 5, 0, 1)
        return [b"ok", *[str(number).encode() for number in numbers], b"", b"", b""]

    engine = engine_of()
    wire.answer("stats", stats(1, 0), stats(0, 0), stats(0, 3))
    assert engine.stats().lost == 2 and "note_lost" not in wire.names()
    assert engine.stats().lost == 0 and wire.names()[-2:] == ["note_lost", "stats"]


def test_idle_before_is_a_number_or_unknown(wire: FakeWire) -> None:
    engine = engine_of()
    wire.answer("idle", [b"ok", 3], [b"gone"])
    assert engine.idle_before(5) == 3
    assert engine.idle_before(5) is None


def test_close_leaves_once_and_in_parts(wire: FakeWire) -> None:
    engine = engine_of()
    wire.answer("leave", 1, 1, 0)
    engine.close()
    engine.close()
    assert wire.names().count("leave") == 3 and wire.broken


def test_a_server_that_says_nothing_of_its_policy(wire: FakeWire) -> None:
    for policy, harms in ((b"noeviction", 0), (b"allkeys-lfu", 1), (b"", 1)):
        wire.answer("join", [b"ok", b"me:1", b"", b"", policy, b"1000"])
        assert len(engine_of().policies()) == harms


def test_who_can_not_join_lets_the_connection_go(wire: FakeWire) -> None:
    wire.fails = 1
    with pytest.raises(EngineUnavailable):
        engine_of()
    assert wire.broken


@pytest.mark.parametrize(("lease_s", "timeout_s"), [(0.4, 0.5), (8.0, 2.0), (600.0, 10.0)])
def test_answers_may_take_a_quarter_of_the_lease(
    monkeypatch: pytest.MonkeyPatch, lease_s: float, timeout_s: float
) -> None:
    given: list[float] = []

    def made(place: object, timeout_s: float) -> FakeWire:
        given.append(timeout_s)
        return FakeWire(place, timeout_s)

    monkeypatch.setattr(module, "Wire", made)
    engine_of(lease_s=lease_s)
    assert given == [timeout_s]


# ---- counts


@pytest.mark.parametrize(
    ("charge", "later", "counts"),
    [
        (True, False, "3 1 0 0"),
        (False, True, "2 1 5 0"),
        (False, False, "2 1 4 1"),
        (True, True, "3 1 0 0"),
    ],
)
def test_counts_after_a_give_back(charge: bool, later: bool, counts: str) -> None:
    one = lease("1-0", attempt=2, crashes=1, laters=4, suspect=True)
    assert Counts.after(one, charge, later).written() == counts


def test_suspects_come_alone_and_never_too_many() -> None:
    plain, suspect = lease("1-0"), lease("s1-0", suspect=True)
    assert _fitting([plain, suspect], 5) == [suspect]
    assert _fitting([plain, plain], 1) == [plain]
    assert _fitting([], 1) == []


def test_portions() -> None:
    leases = [lease(f"1-{number}") for number in range(5)]
    assert [len(some) for some in _portions(leases, 2)] == [2, 2, 1]
    assert _portions([], 2) == []
