"""What must be true when nothing moves, and at the end.

Exact, since they are promised: the sum of the counts; what `status` says was put and purged,
against what feeds and purges said; that each param put is done, dead or purged, and only one of
these; that `results` and `list` have as many rows as `status` says, each param once; that no param
is charged for what befell its minion.

Not exact, since work is repeated where a minion died or lost its lease: how often a param was run.
And where a queue does not know what is done (Pulsar, Pub/Sub), what was purged is known only to be
no more than purges said; there a param whose ack was lost may be purged though it ran, and one
whose minion was killed in the wrong moment may be there twice (docs/pulsar.md, docs/pubsub.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from histories.crowd import INNOCENT, MAX_ATTEMPTS, MAX_CRASHES, Crowd
from histories.history import History
from histories.ledger import Put

STATES = ("waiting", "delayed", "running", "done", "dead")
Row = dict[str, Any]


def sums_up(history: History, status: Row) -> None:
    """All parts together are what was put."""
    parts = {name: status[name] for name in (*STATES, "purged")}
    assert None not in parts.values(), history.about(status)
    assert sum(parts.values()) == status["put"], history.about(parts | {"put": status["put"]})


def assert_steady(history: History) -> Row:
    """With no minion alive and no command under way: each command changes the counts by as much
    as it says."""
    desk, chance, ledger = history.desk, history.chance, history.ledger
    before = _counts(history)
    _listed(history, before)
    for what in chance.choices(("feed", "retry", "purge --dead", "retry --done", "cp", "purge"),
                               (4, 3, 2, 1, 2, 1), k=4):  # fmt: skip
        if what not in history.place.can and what != "cp":
            continue
        if what == "feed":
            batch = ledger.batch(chance.choices(("ok", "fail"), k=chance.randint(1, 40)))
            count = desk.ask("feed", history.file_of(batch.numbers)).number
            assert count == len(batch.numbers)
            batch.put = Put.WHOLE
            change = {"put": count, "open": count}
        elif what == "cp":
            target = f"file:{history.folder}/steady-{desk.count}"
            states = ["--state", "waiting", "--state", "delayed"]
            count = desk.ask("cp", *states, history.place.url, target, elsewhere=True).number
            assert count == before["open"], history.about(f"cp: {count} of {before}")
            change = {}
        else:
            words = what.split()
            said = desk.ask(*words, *(["--yes"] if words[0] == "purge" else []))
            count = said.number
            if words[0] == "purge":
                ledger.dropped(count)
            expected = {
                "retry": before["dead"],
                "retry --done": before["done"],
                "purge --dead": before["dead"],
                "purge": before["open"] + before["dead"],
            }[what]
            assert count == expected, history.about(f"{what}: {said} of {before}")
            change = {
                "retry": {"dead": -count, "open": count},
                "retry --done": {"done": -count, "open": count},
                "purge --dead": {"dead": -count, "purged": count},
                "purge": {"dead": -before["dead"], "open": -before["open"], "purged": count},
            }[what]
        history.did(f"steady: {what}: {count}")
        after = _counts(history)
        wanted = {name: before[name] + change.get(name, 0) for name in before}
        assert after == wanted, history.about(f"{what} of {count}: {before} became {after}")
        before = after
    return before


def _counts(history: History) -> dict[str, int]:
    """What `status` says; waiting and delayed in one, since delays end meanwhile."""
    status = history.desk.status()
    sums_up(history, status)
    found = {name: status[name] for name in ("put", "running", "done", "dead", "purged")}
    return {**found, "open": status["waiting"] + status["delayed"]}


def _listed(history: History, counts: dict[str, int]) -> None:
    """`list` has as many of each state."""
    listed: dict[str, int] = {}
    # It looks at one state after the other: a delay that ends in between is seen twice, or never.
    for _ in range(10):
        rows = Counter(row["state"] for row in history.desk.rows("list", "--json"))
        open_ = rows["waiting"] + rows["delayed"]
        listed = {"running": rows["running"], "dead": rows["dead"], "open": open_}
        if listed == {name: counts[name] for name in listed}:
            return
    raise AssertionError(history.about(f"list has {listed}, status {counts}"))


def assert_ended_well(history: History) -> None:
    """After `History.finish`."""
    crowd = history.crowd
    for minion in crowd.minions:
        said = minion.errors.read_text(errors="replace")
        assert "Traceback" not in said, history.about(said)
    for minion in crowd.minions[-2:]:
        assert minion.process.returncode in (0, 1), history.about(minion.errors.read_text())
    status = history.desk.status()
    left = [status[name] for name in ("waiting", "delayed", "running")]
    assert not any(left), history.about(f"drained, they said, and yet: {status}")
    done, dead = _rows(history, status)
    where = set(done) | set(dead)
    assert set(done).isdisjoint(dead), history.about(sorted(set(done) & set(dead)))
    _nothing_is_lost(history, status, where)
    _nobody_pays_for_others(history, done, dead)
    began, ended = crowd.counts("began"), crowd.counts("ended")
    never = sorted(number for number in done if not ended[number])
    assert not never, history.about(f"done, and never ran to the end: {never}")
    assert set(began) <= set(history.ledger.does)


def _rows(history: History, status: Row) -> tuple[dict[int, Row], dict[int, Row]]:
    """What is done and what is dead, by number; each only once, and as many as `status` says."""
    place, desk = history.place, history.desk
    rows = desk.rows("results", "--all", "--format", "jsonl")
    strange = [row for row in rows if "n" not in row]
    assert not strange, history.about(f"rows without their params: {strange}")
    done = _by_number(history, [row for row in rows if row["_status"] == "done"])
    listed = desk.rows("list", "--state", "dead", "--json")
    dead = _by_number(history, [{**row["param"], "_reason": row["reason"]} for row in listed])
    if status["dead"] is not None:
        assert len(listed) == status["dead"], history.about(f"{len(dead)} dead rows, {status}")
    if not place.keeps:
        # The report alone tells of done ones; it does not know what became of a run whose minion
        # died before the queue was told.
        done = {number: row for number, row in done.items() if number not in dead}
    if place.keeps:
        assert len(rows) == len(done) + len(dead), history.about("results --all and list differ")
        listed = desk.rows("list", "--state", "done", "--json")
        kept = _by_number(history, [{**row["param"], "_attempt": 1} for row in listed])
        assert done.keys() <= kept.keys(), history.about(done.keys() - kept.keys())
        if history.reports_lost:
            # A row needs its line in the report, which was on the full disk.
            done = kept | done
    if place.counts:
        assert len(done) == status["done"], history.about(f"{len(done)} done rows, {status}")
    return done, dead


def _by_number(history: History, rows: list[Row]) -> dict[int, Row]:
    twice = [number for number, count in Counter(row["n"] for row in rows).items() if count > 1]
    assert history.place.copies or not twice, history.about(f"two rows of {twice}")
    return {row["n"]: row for row in rows}


def _nothing_is_lost(history: History, status: Row, where: set[int]) -> None:
    """Every param put is done, dead or purged."""
    ledger, place = history.ledger, history.place
    unknown = ledger.numbers(Put.UNKNOWN)
    surely = ledger.numbers(Put.WHOLE)
    strange = where - surely - unknown
    assert not strange, history.about(f"never put: {sorted(strange)}")
    missing = surely - where
    if not ledger.purged_unsaid:
        assert len(missing) <= ledger.purged, history.about(
            f"lost: {len(missing)} are missing, {ledger.purged} were purged: {sorted(missing)}"
        )
    if not place.counts:
        return
    sums_up(history, status)
    assert ledger.may_be_put(status["put"], whole=place.whole), history.about(
        f"{status['put']} put, of {len(surely)} surely and "
        f"{[len(batch.numbers) for batch in ledger.of(Put.UNKNOWN)]} maybe"
    )
    if ledger.purged_unsaid:
        assert status["purged"] >= ledger.purged, history.about(status)
    else:
        assert status["purged"] == ledger.purged, history.about(
            f"{ledger.purged} were purged, as was said; {status}"
        )


def _nobody_pays_for_others(history: History, done: dict[int, Row], dead: dict[int, Row]) -> None:
    """No attempt is charged but to those that failed by themselves; and only those are dead, or
    those that ran while as many minions were killed."""
    does = history.ledger.does
    for number, row in done.items():
        most = 1 if does[number] in (*INNOCENT, "poison") else MAX_ATTEMPTS
        assert row["_attempt"] <= most, history.about(f"charged: {does[number]} {row}")
    cut_off = _cut_off(history.crowd)
    for number, row in dead.items():
        reason = row["_reason"]
        if reason.startswith("crashed its minion"):
            assert cut_off[number] >= MAX_CRASHES, history.about(
                f"{row}: {cut_off[number]} of its runs did not end"
            )
        else:
            assert does[number] in ("fail", "reject"), history.about(f"{does[number]}: {row}")


def _cut_off(crowd: Crowd) -> Counter[int]:
    """How many runs of each number did not write their last line."""
    began, ended = crowd.counts("began"), crowd.counts("ended")
    return began - ended


def told(history: History, parts: Sequence[str]) -> str:
    """A line of what happened, for people."""
    status = history.desk.status()
    counts = ", ".join(f"{status[name]} {name}" for name in parts if status[name] is not None)
    runs = history.crowd.counts("began").total()
    return f"{counts}; {runs} runs by {len(history.crowd.minions)} minions"
