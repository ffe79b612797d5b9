"""A no-op task in another task queue: `redis_peer.py taskiq|huey|dramatiq fill|work PORT COUNT`.
`work` starts a worker and ends when all are done."""

import asyncio
import logging
import sys
import time
from typing import Any

kind, what, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
url = f"redis://127.0.0.1:{port}/1"
done = 0
logging.disable(logging.ERROR)


def count_one() -> None:
    global done
    done += 1


def huey() -> None:
    from huey import RedisHuey

    queue = RedisHuey("bench", url=url, results=False)
    task = queue.task()(count_one)
    if what == "fill":
        for _ in range(count):
            task()
        return
    consumer = queue.create_consumer(workers=4, check_worker_health=False, initial_delay=0.001)
    consumer.start()
    while done < count:
        time.sleep(0.01)
    consumer.stop(graceful=True)


def dramatiq() -> None:
    import dramatiq as library
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url)
    library.set_broker(broker)
    actor = library.actor(count_one)
    if what == "fill":
        for _ in range(count):
            actor.send()
        return
    worker = library.Worker(broker, worker_threads=8)
    worker.start()
    while done < count:
        time.sleep(0.01)
    worker.stop()


async def taskiq() -> None:
    from taskiq.api import run_receiver_task
    from taskiq_redis import ListQueueBroker

    broker = ListQueueBroker(url)

    async def count_it() -> None:
        count_one()

    noop: Any = broker.task(count_it)

    await broker.startup()
    if what == "fill":
        for _ in range(count):
            await noop.kiq()
    else:
        worker = asyncio.create_task(run_receiver_task(broker))
        while done < count:
            await asyncio.sleep(0.01)
        worker.cancel()
    await broker.shutdown()


if kind == "taskiq":
    asyncio.run(taskiq())
else:
    {"huey": huey, "dramatiq": dramatiq}[kind]()
