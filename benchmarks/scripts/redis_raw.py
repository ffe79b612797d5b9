"""What the client itself can do: `redis_raw.py work PORT` (XREADGROUP COUNT 100, one XACK for each
batch, until nothing is left) or `redis_raw.py feed PORT FILE` (XADD in pipelines of 1,000)."""

import json
import os
import sys
from typing import Any

import redis

what, port = sys.argv[1], int(sys.argv[2])
client: Any = redis.Redis(port=port, protocol=2)
if what == "feed":
    pipe = client.pipeline(transaction=False)
    with open(sys.argv[3]) as lines:
        for number, line in enumerate(lines, 1):
            pipe.xadd("raw", {"param": json.dumps(line[:-1])})
            if number % 1000 == 0:
                pipe.execute()
    pipe.execute()
else:
    me = str(os.getpid())
    while True:
        found = client.xreadgroup("minions", me, {"q": ">"}, count=100)
        if not found:
            break
        client.xack("q", "minions", *[id_ for id_, _ in found[0][1]])
