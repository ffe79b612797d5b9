"""What the pods of a Job write, as it comes: of those there are, and of those to come."""

from __future__ import annotations

import calendar
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator

from minionize.errors import LaunchRefused
from minionize.launch.kubernetes.cluster import Cluster, Gone, Unreachable
from minionize.launch.kubernetes.seen import PodSeen
from minionize.launch.values import LogLine

_OVER = ("Succeeded", "Failed")
_LOOK_S = 1.0
"""How often the Job is looked at while none of its pods writes."""
_RECONNECT_S = 300.0
"""For so long a server may be silent."""


def written(cluster: Cluster, job: str) -> Iterator[LogLine]:
    """What they have written so far, pod by pod."""
    for pod in sorted(cluster.pods([job]), key=lambda pod: (pod.number, pod.created)):
        for _, text in cluster.output(pod.name, follow=False):
            yield LogLine(pod.name, text)


def followed(cluster: Cluster, job: str) -> Iterator[LogLine]:
    """The same as it comes, of replacements too, until the Job has ended or is gone."""
    return _Following(cluster, job).lines()


class _Following:
    """One thread watches for pods, and one reads each pod."""

    def __init__(self, cluster: Cluster, job: str) -> None:
        self._cluster = cluster
        self._job = job
        self._news: queue.Queue[LogLine | PodSeen | BaseException | None] = queue.Queue()
        """Lines; pods; a fault; None when a reader is through."""
        self._stop = threading.Event()
        self._read: set[str] = set()
        self._reading = 0

    def lines(self) -> Iterator[LogLine]:
        try:
            self._start(self._watch)
            while True:
                yield from self._until_quiet()
                job = self._cluster.job(self._job)
                if job is None or job.ended:
                    break
            for pod in self._cluster.pods([self._job]):
                self._take(pod)
            while self._reading:
                yield from self._until_quiet()
        finally:
            self._stop.set()

    def _until_quiet(self) -> Iterator[LogLine]:
        """Lines, until nothing came for a while and no pod is being read."""
        while True:
            try:
                news = self._news.get(timeout=_LOOK_S)
            except queue.Empty:
                if not self._reading:
                    return
                continue
            if isinstance(news, LogLine):
                yield news
            elif isinstance(news, PodSeen):
                self._take(news)
            elif news is None:
                self._reading -= 1
            else:
                raise news

    def _take(self, pod: PodSeen) -> None:
        if pod.started and pod.uid not in self._read:
            self._read.add(pod.uid)
            self._reading += 1
            self._start(lambda: self._read_pod(pod.name))

    def _start(self, target: Callable[[], None]) -> None:
        def run() -> None:
            try:
                target()
            except LaunchRefused as error:
                self._news.put(error)

        threading.Thread(target=run, daemon=True).start()

    def _watch(self) -> None:
        for pod in watched(self._cluster, self._job, self._stop):
            self._news.put(pod)

    def _read_pod(self, name: str) -> None:
        last_ns = 0
        silence = _Silence(self._stop)
        while not self._stop.is_set():
            try:
                # Asked before: what had ended by then is read to its end now.
                pod = self._cluster.pod(name)
                silence.over()
                # Seconds are all that a server takes; what is known already is left out.
                since_s = int((time.time_ns() - last_ns) / 1e9) + 5 if last_ns else None
                for at, text in self._cluster.output(name, follow=True, since_s=since_s):
                    at_ns = stamp_ns(at)
                    if at_ns > last_ns:
                        last_ns = at_ns
                        self._news.put(LogLine(name, text))
                if pod is None or pod.phase in _OVER:
                    break
                self._stop.wait(0.2)
            except Unreachable as error:
                silence.bear(error)
        self._news.put(None)


def watched(
    cluster: Cluster, job: str, stop: threading.Event, version: str = ""
) -> Iterator[PodSeen]:
    """Each pod of the Job at each of its changes, until `stop`. Lists anew, and so tells some
    again, when the server no longer knows what changed since (410 Gone)."""
    silence = _Silence(stop)
    while not stop.is_set():
        try:
            if not version:
                pods, version = cluster.listed([job])
                yield from pods
            for pod, at in cluster.changes(job, version):
                version = at
                silence.over()
                if pod is not None:
                    yield pod
        except Gone:
            version = ""
        except Unreachable as error:
            silence.bear(error)


class _Silence:
    """How long a server has not answered."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._since: float | None = None

    def over(self) -> None:
        """It has."""
        self._since = None

    def bear(self, error: Unreachable) -> None:
        """Wait a little; the error again if it takes too long."""
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > _RECONNECT_S:
            raise error
        self._stop.wait(1.0)


def stamp_ns(text: str) -> int:
    """Unix time in ns of what a kubelet puts before a line: RFC 3339, up to nine digits."""
    match = re.fullmatch(r"(.{19})(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", text)
    if match is None:
        return time.time_ns()
    seconds = calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
    if match[3]:
        seconds -= int(f"{match[3]}1") * (int(match[4]) * 3600 + int(match[5]) * 60)
    return seconds * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
