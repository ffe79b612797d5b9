"""A queue in Google's Pub/Sub emulator, beside a plain client that pulls and acks."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timed import Figure, against_a_plain_client, fresh_folder

_ROOT = Path(__file__).parents[1]
# The driver of an engine is where this runs, not in the installation that peers has of us.
_MINIONIZE = [sys.executable, "-c", "from minionize.cli.minionize import main; main()"]
_MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
_RAW = """
import sys
from google.cloud import pubsub_v1
subscription, count = sys.argv[1], int(sys.argv[2])
client = pubsub_v1.SubscriberClient()
while count > 0:
    pulled = client.pull(request={"subscription": subscription, "max_messages": 1000}, timeout=10)
    ids = [message.ack_id for message in pulled.received_messages]
    if ids:
        client.acknowledge(request={"subscription": subscription, "ack_ids": ids})
    count -= len(ids)
"""


def _service() -> Any:
    sys.path.insert(0, str(_ROOT / "tests"))
    from services import pubsub

    return pubsub


def in_pubsub(rounds: int, scale: float) -> Iterator[Figure]:
    """a queue in Pub/Sub's emulator: a no-op function against a plain client's loop"""
    service = _service()
    if service.emulator_jar() is None:
        yield Figure("Pub/Sub", service.why_no_emulator(), "")
        return
    with (
        fresh_folder() as folder,
        service.running(service.start_emulator(folder, heap="2g")) as emulator,
    ):
        yield from _against_a_loop(emulator, rounds, int(50_000 * scale))


def _against_a_loop(emulator: Any, rounds: int, count: int) -> Iterator[Figure]:
    def filled() -> str:
        """A new queue of `count` numbers; its name."""
        name = f"q{uuid.uuid4().hex}"
        feed = [*_MINION, "feed", "-q", f"pubsub://bench/{name}", "--grid", f"n=0:{count}"]
        env = {**os.environ, **emulator.env}
        subprocess.run(feed, check=True, capture_output=True, cwd=_ROOT, env=env)
        return name

    env = ["env", f"PYTHONPATH={_ROOT}", *(f"{key}={value}" for key, value in emulator.env.items())]

    def raw(folder: Path) -> Sequence[Sequence[str]]:
        subscription = f"projects/bench/subscriptions/{filled()}"
        return [[*env, sys.executable, "-c", _RAW, subscription, str(count)]]

    def minion(folder: Path) -> Sequence[Sequence[str]]:
        queue = ("-q", f"pubsub://bench/{filled()}", "--max-params", str(count))
        call = ("--reporter", "null", "--call", "benchmarks.noop:noop")
        return [[*env, *_MINIONIZE, "--quiet", *queue, *call]]

    yield from against_a_plain_client(raw, minion, count, rounds)
