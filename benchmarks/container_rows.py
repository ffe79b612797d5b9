"""What a container per param costs: over a bare process, and beside `podman run` in a loop.

The image is CONTAINER_IMAGE, or else localhost/base.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import Contestant, ratio, run_rounds
from benchmarks.timed import Figure

_NO_NETWORK = ("--container-option", "network=none")


def lacking(image: str) -> str:
    """Why there is nothing to measure; empty if there is."""
    if shutil.which("podman") is None:
        return "podman is not here"
    exists = ["podman", "image", "exists", image]
    if subprocess.run(exists, check=False).returncode:
        return f"no image {image}: CONTAINER_IMAGE names another"
    return ""


def containers(rounds: int, scale: float) -> Iterator[Figure]:
    """a container per param, podman, one after the other, against podman run in a loop"""
    image = os.environ.get("CONTAINER_IMAGE", "localhost/base")
    if lacks := lacking(image):
        yield Figure("podman", lacks, "")
        return
    count = max(5, int(50 * scale))

    def minion(*options: str) -> Sequence[Sequence[str]]:
        return [[peers.minionize_bin(), "--quiet", *options, "true"]]

    def filled(folder: Path) -> None:
        feed = [peers.minionize_bin("minion"), "feed", "--grid", f"n=0:{count}"]
        subprocess.run(feed, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def bare(folder: Path) -> Sequence[Sequence[str]]:
        filled(folder)
        return minion()

    def contained(folder: Path) -> Sequence[Sequence[str]]:
        filled(folder)
        return minion("--runtime", "podman", "--image", image, *_NO_NETWORK)

    def loop(folder: Path) -> Sequence[Sequence[str]]:
        run = f"podman run --rm --network=none -v $PWD:$PWD -w $PWD {image} true"
        return [
            ["sh", "-c", f"n=0; while [ $n -lt {count} ]; do {run} $n || exit; n=$((n+1)); done"]
        ]

    def verify(folder: Path) -> None:
        from minionize import open_queue

        with open_queue(f"file:{folder}/minion-queue") as queue:
            done = queue.stats().done
        if done != count:
            raise RuntimeError(f"{done} of {count} params are done")

    contestants = [
        Contestant("podman run, in a loop", loop),
        Contestant("minionize --image", contained, verify=verify),
        Contestant("minionize, bare", bare, verify=verify),
    ]
    figures = run_rounds(contestants, rounds)
    base = figures["podman run, in a loop"]
    for name, mine in figures.items():
        each = f"{mine.median_wall_s() / count * 1000:.1f} ms a param, {ratio(mine, base):.3g}x"
        yield Figure(name, each, "<= 1.1x" if name == "minionize --image" else "")
