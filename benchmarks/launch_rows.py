"""What starting minions costs."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator

from benchmarks import peers
from benchmarks.timed import Figure, feed_texts, fresh_folder

MINIONS = 8


def launch_overhead(rounds: int, scale: float) -> Iterator[Figure]:
    """minion launch local -n 8: from its start until params run"""
    first_s: list[float] = []
    all_s: list[float] = []
    script = f"date +%s.%N >>starts; while [ $(wc -l <starts) -lt {MINIONS} ]; do sleep 0.01; done"
    for _ in range(max(3, 4 * rounds)):
        with fresh_folder() as folder:
            feed_texts(folder, [str(number) for number in range(MINIONS)])
            minion = peers.minionize_bin("minion")
            begin = time.time()
            subprocess.run(
                [minion, "launch", "local", "-n", str(MINIONS), "--", "sh", "-c", script],
                cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
                timeout=60,
            )  # fmt: skip
            starts = sorted(float(line) for line in (folder / "starts").read_text().split())
            first_s.append(starts[0] - begin)
            all_s.append(starts[MINIONS - 1] - begin)
    yield Figure("the first param starts", _told(first_s), "<= 0.3 s")
    yield Figure("all 8 minions run one", _told(all_s))


def _told(found_s: list[float]) -> str:
    return f"median {statistics.median(found_s):.3f} s, worst {max(found_s):.3f} s"
