#!/usr/bin/env python3
"""Fills a queue from Python: python fill.py"""

from __future__ import annotations

import itertools

from minionize import open_queue

with open_queue("trains") as queue:
    # Any iterable, read as it comes; all of it is in the queue or, if it fails, nothing.
    count = queue.put(
        {"lr": lr, "layers": layers, "seed": seed}
        for lr, layers in itertools.product((0.1, 0.01), (2, 4))
        if not (lr == 0.1 and layers == 4)  # what no grid can say
        for seed in range(3)
    )
    print(f"{count} params put; {queue.stats().waiting} wait")
