"""What a queue holds, from the broker's admin API, where the URL names one."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from minionize.engines.pulsar.connection import tls_context, token
from minionize.engines.pulsar.place import Place
from minionize.engines.pulsar.topics import KINDS, short
from minionize.errors import EngineUnavailable, MinionizeError, QueueRefused
from minionize.values import MinionInfo, Stats

FEEDER = "minionize-feeder-"
"""Producers of this name feed the queue: while there is one, it is not drained."""
_TIMEOUT_S = 5.0
_KNOWN_S = 60.0
"""For so long minions go by the last counts, while none are to be had."""
_WORK = ("", "back", "held")
_PARTS = "partitioned-stats?perPartition=true"


class Counter:
    """Asks the admin API. Without one, nothing is known."""

    def __init__(self, place: Place, env: Mapping[str, str]) -> None:
        self._place = place
        self._env = env
        self._last: tuple[float, Stats] | None = None
        """When was asked what is known."""
        self._split: set[str] = set()
        """Topics that turned out to have partitions, whose stats stand elsewhere."""

    def stats(self) -> Stats:
        """Counts, as of now: exact, save that acks take a moment, and that a batch which another
        program put counts as one. EngineUnavailable, QueueRefused."""
        if not self._place.admin:
            return Stats()
        first = self._look()
        stats = self._stats(first)
        left = stats.waiting or stats.delayed or stats.running
        # A param may have moved behind our back, from a topic we had not looked at into one that
        # we had: then more came into that one since.
        if not left and self._came(first) != self._came(self._look()):
            return stats._replace(running=1)
        return stats

    def stats_lately(self) -> Stats:
        """`stats` for a minion, whose work goes on without the admin API: nothing is known then,
        and drained is idle for long enough. But one answer that gets lost makes not drained what
        held something a moment ago."""
        now_s = time.monotonic()
        try:
            stats = self.stats()
        except MinionizeError:
            if self._last is None or now_s - self._last[0] > _KNOWN_S:
                return Stats()
            stats = self._last[1]
            return stats._replace(running=max(1, stats.running or 0))
        if self._place.admin:
            self._last = now_s, stats
        return stats

    def missing(self) -> list[str] | None:
        """What is not there of the queue, in the broker's words; None where that is not known."""
        place = self._place
        if not place.admin:
            return None
        missing = []
        try:
            for topic in (place.topic, *map(place.beside, KINDS)):
                found = self._ask(topic, "stats") or merged(self._ask(topic, _PARTS))
                if not found:
                    missing.append(f"topic {short(topic)}")
                elif not _subscription(found, place):
                    missing.append(f"subscription {place.subscription} of {short(topic)}")
        except MinionizeError:
            return None
        return missing

    def minions(self) -> list[MinionInfo]:
        """Minions connected, and feeders."""
        if not self._place.admin:
            return []
        main = self._topic("")
        found = []
        for consumer in _minions(_subscription(self._topic("held"), self._place)):
            said = consumer.get("metadata", {})
            found.append(
                MinionInfo(
                    str(consumer.get("consumerName", "")),
                    str(said.get("host", "")),
                    _whole(said.get("pid")),
                    _whole(said.get("slots")),
                )
            )
        for producer in main.get("publishers", ()):
            name = str(producer.get("producerName", ""))
            if name.startswith(FEEDER):
                found.append(MinionInfo(name.removeprefix(FEEDER), feeder=True))
        return found

    def _stats(self, topics: Mapping[str, Any]) -> Stats:
        counts = {kind: _subscription(topics[kind], self._place) for kind in topics}
        open_ = {kind: _whole(said.get("msgBacklog")) for kind, said in counts.items()}
        delayed = min(open_["back"], _whole(counts["back"].get("msgDelayed")))
        taken = sum(max(0, _whole(counts[kind].get("unackedMessages"))) for kind in ("", "back"))
        both = open_[""] + open_["back"]
        taken = min(taken, both - delayed)
        names = [str(each.get("producerName", "")) for each in topics[""].get("publishers", ())]
        return Stats(
            waiting=both - delayed - taken,
            delayed=delayed,
            running=open_["held"] + taken,
            dead=open_["dead"],
            feeders=sum(name.startswith(FEEDER) for name in names),
            minions=len(_minions(counts["held"])),
            # What expires in `held` is a copy: its param may be at work, and end well.
            lost=sum(_whole(counts[kind].get("totalMsgExpired")) for kind in ("", "back", "dead")),
        )

    def _look(self) -> dict[str, Any]:
        return {kind: self._topic(kind) for kind in (*_WORK, "dead")}

    def _came(self, topics: Mapping[str, Any]) -> list[int]:
        """How many messages ever came into each."""
        return [_whole(topics[kind].get("msgInCounter")) for kind in _WORK]

    def _topic(self, kind: str) -> dict[str, Any]:
        """The admin API's stats of a topic; empty if it is not there yet."""
        topic = self._place.beside(kind) if kind else self._place.topic
        found = {} if topic in self._split else self._ask(topic, "stats")
        if not found and not kind:  # those beside it have none
            found = merged(self._ask(topic, _PARTS))
            if found:
                self._split.add(topic)
        return found

    def _ask(self, topic: str, what: str) -> dict[str, Any]:
        """An answer about a topic; empty if the topic is not there."""
        found = self.answer(f"{self._place.path(topic)}/{what}")
        return found if isinstance(found, dict) else {}

    def answer(self, path: str) -> object:
        """The admin API's answer at `path`; None if it knows of none. EngineUnavailable,
        QueueRefused."""
        place = self._place
        request = urllib.request.Request(f"{place.admin}/admin/v2/{path}")
        mine = token(self._env)
        if mine:
            request.add_header("Authorization", f"Bearer {mine}")
        context = tls_context(self._env) if place.admin.startswith("https:") else None
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as answer:
                said = answer.read()
                found: object = json.loads(said) if said else None
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            if error.code in (401, 403):
                raise QueueRefused(
                    f"{place.url}: the admin API at {place.admin} refuses to tell counts "
                    f"({error.code}): give this role the rights that docs/pulsar.md lists, or "
                    "leave out admin="
                ) from error
            raise self._unavailable(f"answers {error.code}") from error
        except (OSError, ValueError) as error:
            raise self._unavailable(f"can't be asked ({_reason(error)})") from error
        return found

    def _unavailable(self, what: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"{self._place.url}: the admin API at {self._place.admin} {what}: "
            "mend admin= or leave it out"
        )


def merged(said: Mapping[str, Any]) -> dict[str, Any]:
    """The stats of a topic with partitions, as if it had none; empty if there is none."""
    parts = [part for part in said.get("partitions", {}).values() if isinstance(part, dict)]
    if not parts:
        return {}
    subscriptions: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, one in part.get("subscriptions", {}).items():
            all_ = subscriptions.setdefault(name, {"consumers": []})
            for count in ("msgBacklog", "msgDelayed", "unackedMessages", "totalMsgExpired"):
                all_[count] = _whole(all_.get(count)) + _whole(one.get(count))
            all_["consumers"] += one.get("consumers", ())
    for all_ in subscriptions.values():
        # Each minion is at all of them.
        all_["consumers"] = _each_once(all_["consumers"], "consumerName")
    return {
        "msgInCounter": sum(_whole(part.get("msgInCounter")) for part in parts),
        "publishers": _each_once(
            [each for part in parts for each in part.get("publishers", ())], "producerName"
        ),
        "subscriptions": subscriptions,
    }


def _minions(held: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each is there all the time, once or, while it tells something, twice."""
    return _each_once(held.get("consumers", ()), "consumerName")


def _each_once(some: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return list({str(each.get(name)): each for each in some}.values())


def _subscription(topic: Mapping[str, Any], place: Place) -> dict[str, Any]:
    found = topic.get("subscriptions", {}).get(place.subscription, {})
    return found if isinstance(found, dict) else {}


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error)


def _whole(said: object) -> int:
    try:
        return int(str(said))
    except ValueError:
        return 0
