"""A queue in Pulsar, beside a plain client that receives and acks."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
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
import sys, pulsar
url, topic, count = sys.argv[1:]
client = pulsar.Client(url, logger=pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null"))
consumer = client.subscribe(topic, "minions", pulsar.ConsumerType.Shared, receiver_queue_size=1000)
for _ in range(int(count)):
    consumer.acknowledge(consumer.receive())
client.close()
"""


def _service() -> Any:
    sys.path.insert(0, str(_ROOT / "tests"))
    from services import pulsar

    return pulsar


def in_pulsar(rounds: int, scale: float) -> Iterator[Figure]:
    """a queue in Pulsar: a no-op function against a plain client's loop, and put to start"""
    service = _service()
    if lacks := service.lacking():
        yield Figure("Pulsar", lacks, "")
        return
    with fresh_folder() as folder:
        broker = service.Broker(folder / "broker")
        broker.start()
        try:
            yield from _against_a_loop(broker, rounds, int(100_000 * scale))
            yield _put_to_start(broker, folder, rounds)
        finally:
            broker.stop()


def _against_a_loop(broker: Any, rounds: int, count: int) -> Iterator[Figure]:
    def filled() -> str:
        """A new queue of `count` numbers."""
        topic = uuid.uuid4().hex
        feed = [*_MINION, "feed", "-q", _url(broker, topic)]
        subprocess.run(
            [*feed, "--grid", f"n=0:{count}"], check=True, capture_output=True, cwd=_ROOT
        )
        return topic

    def raw(folder: Path) -> Sequence[Sequence[str]]:
        return [[sys.executable, "-c", _RAW, broker.url, filled(), str(count)]]

    def minion(folder: Path) -> Sequence[Sequence[str]]:
        queue = ("-q", _url(broker, filled()))
        call = ("--reporter", "null", "--call", "benchmarks.noop:noop")
        return [["env", f"PYTHONPATH={_ROOT}", *_MINIONIZE, "--quiet", *queue, *call]]

    yield from against_a_plain_client(raw, minion, count, rounds)


def _put_to_start(broker: Any, folder: Path, rounds: int) -> Figure:
    from minionize import open_queue

    url = _url(broker, uuid.uuid4().hex)
    starts = folder / "starts"
    starts.touch()
    waits: list[float] = []
    with open_queue(url) as queue:
        queue.put([0])
        command = [*_MINIONIZE, "-q", url, "--quiet", "--until", "forever"]
        minion = subprocess.Popen([*command, "sh", "-c", "date +%s.%N >> starts"], cwd=folder)
        try:
            for number in range(4 * rounds):
                while len(starts.read_text().splitlines()) <= number:
                    time.sleep(0.001)
                time.sleep(1.0 + 0.037 * number)
                begin = time.time()
                queue.put([number])
                while len(starts.read_text().splitlines()) <= number + 1:
                    time.sleep(0.001)
                waits.append(float(starts.read_text().split()[-1]) - begin)
        finally:
            minion.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                minion.wait(30)
    value = f"{1000 * statistics.median(waits):.0f} ms, at most {1000 * max(waits):.0f} ms"
    return Figure("put on an idle queue, starts after", value, "<= 50 ms")


def _url(broker: Any, topic: str) -> str:
    return f"{broker.url}/public/default/{topic}?admin={broker.admin}"
