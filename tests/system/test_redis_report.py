"""The redis reporter on a real server: the same rows and counts as from a folder, bounded, and no
minion ever waits or ends for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from services.redis import RedisServer, lacking

from minionize.engines.redis.reports import ReportServer
from minionize.errors import EngineUnavailable, MinionizeError, MissingDriver, UsageError
from minionize.events import Event, Kind
from minionize.reporters import is_remote, remote
from minionize.reporters.json_lines import JsonReporter, LineReporter
from minionize.reporters.record import Source, header_line
from minionize.reporters.remote import RemoteReport, RemoteStore
from minionize.settings import Settings
from minionize.status.failures import failures
from minionize.status.history import history
from minionize.status.read import Faults, Report, read_events, read_rolls
from minionize.status.report import report_of, report_server
from minionize.status.rows import Want, result_rows
from minionize.testing import ManualClock

ROOT = Path(__file__).parents[2]
BEGAN = 1_700_000_000.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    if lacking("valkey"):
        yield None
        return
    with RedisServer(tmp_path_factory.mktemp("valkey"), "valkey") as running:
        yield running


@pytest.fixture
def url(server: RedisServer | None, needs_server: Callable[[str], NoReturn]) -> str:
    if server is None:
        needs_server(lacking("valkey"))
    client = server.client()
    client.flushall()
    client.close()
    return server.url("runs")


SERVERS: list[ReportServer] = []
"""What the running test connects to."""


@pytest.fixture(autouse=True)
def connections() -> Iterator[None]:
    """None is left open."""
    yield
    while SERVERS:
        SERVERS.pop().close()


def connected(url: str) -> ReportServer:
    SERVERS.append(ReportServer(url, {}))
    return SERVERS[-1]


class Room:
    """A redis reporter, and the report that it writes."""

    def __init__(self, url: str, minion: str = "m-1-a") -> None:
        self.clock = ManualClock()
        self.warnings: list[str] = []
        self.source = Source(minion, f"host-of-{minion}", 7, 2, "true", BEGAN)
        self.server = connected(url)
        store = RemoteStore(self.server, minion, header_line(self.source), clock=self.clock)
        self.reporter = LineReporter(
            store, self.source, clock=self.clock, warn=self.warnings.append
        )
        self.report = RemoteReport(connected(url))

    def ids(self) -> list[str]:
        return [event.id for _, event in read_events(self.report, Faults())]


def acks(first: int, count: int, **more: Any) -> list[Event]:
    return [
        Event(Kind.ACK, BEGAN + n / 1000, str(n), 1, 0, 0.25, 0, 0.125, 4096, **more)
        for n in range(first, first + count)
    ]


EVENTS = [
    Event(Kind.BEGIN, BEGAN, command="true"),
    *acks(1, 2500),
    *acks(2501, 3, result='{"e":1}', param='{"x":"é"}', stdout="x" * 5000, stderr=""),
    Event(Kind.GIVE_BACK, BEGAN + 1, "9001", 1, 0, 0.5, 3, reason="exit 3", detail="n\nt",
          charged=True, delay_s=1.0),
    Event(Kind.DEAD, BEGAN + 2, "9001", 2, 0, 0.5, 3, reason="exit 3", param="1"),
    Event(Kind.LOST, BEGAN + 3, "9002", 1, 0, 61.0),
    Event(Kind.END, BEGAN + 4, reason="drained"),
]  # fmt: skip


def everything(report: Report) -> dict[str, object]:
    """All that people are shown of a report."""
    faults = Faults()
    shown = {
        "events": [*read_events(report, faults)],
        "rolls": [roll.to_line() for roll in read_rolls(report, faults)],
        "rows": [*result_rows(None, report, Want(dead=True, output=True), faults)],
        "failures": [group.to_json() for group in failures(report, None, faults)],
        "history": history(report, "9001", faults),
    }
    assert faults == Faults(without_output=2500)
    return shown


def test_it_tells_the_same_as_a_folder(url: str, tmp_path: Path) -> None:
    room = Room(url)
    files = JsonReporter(str(tmp_path / "r"), room.source, clock=ManualClock(), warn=pytest.fail)
    for reporter in (room.reporter, files):
        for start in range(0, len(EVENTS), 700):
            reporter.report(EVENTS[start : start + 700])
        reporter.beat(2)
        reporter.close()
        reporter.close()
    assert room.warnings == []
    assert everything(room.report) == everything(tmp_path / "r")


def test_events_are_there_when_report_returns(url: str) -> None:
    room = Room(url)
    room.reporter.report(acks(1, 3))
    assert room.ids() == ["1", "2", "3"]
    assert read_rolls(room.report, Faults()) == []
    room.reporter.beat(2)
    (roll,) = read_rolls(room.report, Faults())
    assert (roll.running, roll.roll.done, roll.ended) == (2, 3, None)


def test_old_events_go_and_counts_stay_exact(url: str) -> None:
    first, second = (
        Room(f"{url}&keep=1000", "m-1-a"),
        Room(url.replace("?", "?keep=1000&"), "m-2-b"),
    )
    for start in range(0, 5000, 500):
        first.reporter.report(acks(start, 250))
        second.reporter.report(acks(start + 250, 250))
    first.reporter.close()
    second.reporter.close()
    faults = Faults()
    ids = [int(event.id) for _, event in read_events(first.report, faults)]
    # Redis lets go of whole nodes of 100.
    assert 1000 <= len(ids) <= 1100 and sorted(ids) == list(range(5000 - len(ids), 5000))
    assert faults.lines() == [
        f"{url}: let go of its {5000 - len(ids):,} oldest events, which are missing here: "
        "?keep=N keeps more"
    ]
    rolls = read_rolls(first.report, Faults())
    assert [roll.roll.done for roll in rolls] == [2500, 2500]


def test_minions_that_are_silent_longest_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_MINIONS", 3)
    rooms = [Room(url, f"m-{number}") for number in range(5)]
    for number, room in enumerate(rooms):
        room.clock.advance(number)
        room.reporter.report(acks(number, 1))
        room.reporter.beat(1)
    rooms[2].clock.advance(10)
    rooms[2].reporter.beat(1)
    faults = Faults()
    assert [roll.minion for roll in read_rolls(room.report, faults)] == ["m-2", "m-3", "m-4"]
    assert faults.lines() == [f"{url}: let go of the 2 minions that were silent longest"]


def test_the_rights_that_the_page_names_suffice(url: str, server: RedisServer) -> None:
    page = (ROOT / "docs/brokers.md").read_text()
    client = server.client()
    for role in ("minions", "watchers"):
        (rights,) = re.findall(rf"^    {role} +(~.*)$", page, re.MULTILINE)
        words = rights.replace("{ising}", "{runs}").split()
        client.execute_command("ACL", "SETUSER", role, "reset", "on", ">pw", "-@all", *words)
    client.close()
    room = Room(url.replace("//", "//minions:pw@"))
    watched = RemoteReport(connected(url.replace("//", "//watchers:pw@")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "MOST_MINIONS", 0)  # the oldest one goes: every command is used
        room.reporter.report(acks(1, 3))
        room.reporter.beat(1)
    room.reporter.report(acks(4, 1))
    room.reporter.close()
    assert room.warnings == []
    assert len([*read_events(watched, Faults())]) == 4
    assert [roll.roll.done for roll in read_rolls(watched, Faults())] == [4]
    with pytest.raises(MinionizeError, match="this user may not do that"):
        room.report = RemoteReport(room.server)
        room.ids()
    other = Room(url.replace("//", "//minions:pw@").replace("runs", "others"))
    other.reporter.report(acks(1, 1))
    assert len(other.warnings) == 1 and "this user may not do that" in other.warnings[0]


def test_a_server_that_comes_back_has_everything_once(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    if why := lacking("valkey"):
        needs_server(why)
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with RedisServer(tmp_path, "valkey", *options) as server:
        room = Room(server.url("runs"))
        room.reporter.report(acks(1, 10))
        server.kill()
        room.reporter.report(acks(11, 10))
        room.reporter.report(acks(21, 10))
        room.reporter.beat(1)
        assert len(room.warnings) == 1 and "can't be written (" in room.warnings[0]
        assert "work goes on" in room.warnings[0] and "127.0.0.1" in room.warnings[0]
        server.start()
        room.reporter.report(acks(31, 10))  # not before the pause is over
        assert room.ids() == [str(n) for n in range(1, 11)]
        room.clock.advance(60)
        room.reporter.report(acks(41, 10))
        assert room.ids() == [str(n) for n in range(1, 51)]
        server.kill()
        room.reporter.report(acks(51, 10))
        server.start()
        room.reporter.close()
        assert room.ids() == [str(n) for n in range(1, 61)]
        (roll,) = read_rolls(room.report, Faults())
        assert (roll.roll.done, roll.roll.unwritten, len(room.warnings)) == (60, 0, 1)


def test_an_answer_that_got_lost_makes_no_event_twice(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(url)
    ask = room.server.ask

    def lost(*commands: Sequence[str | bytes | int]) -> list[Any]:
        ask(*commands)
        raise EngineUnavailable("the answer got lost")

    with monkeypatch.context() as patched:
        patched.setattr(room.server, "ask", lost)
        room.reporter.report(acks(1, 5000))  # several pieces
    room.clock.advance(60)
    room.reporter.report(acks(5001, 5))
    assert room.ids() == [str(n) for n in range(1, 5006)]


def test_what_is_dropped_is_counted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(url)

    def down(*_: Sequence[str | bytes | int]) -> list[Any]:
        raise EngineUnavailable("down")

    with monkeypatch.context() as patched:
        patched.setattr(room.server, "ask", down)
        for start in range(0, 120_000, 20_000):
            room.reporter.report(acks(start, 20_000))
    room.clock.advance(60)
    room.reporter.report(acks(1_000_000, 1))
    room.reporter.close()
    (roll,) = read_rolls(room.report, Faults())
    assert roll.roll.done == 120_001 and roll.roll.unwritten > 0
    assert len(room.ids()) == 120_001 - roll.roll.unwritten


def test_a_server_that_cant_be_reached_shows_no_report_but_the_queue(tmp_path: Path) -> None:
    room = Room("redis://127.0.0.1:1/0?stream=runs")
    faults = Faults()
    assert read_rolls(room.report, faults) == []
    assert "can't be reached" in faults.lines()[0]
    with pytest.raises(EngineUnavailable):
        room.ids()


@pytest.mark.parametrize(
    ("reporter", "queue", "said"),
    [
        (
            "redis://h/0?stream=a&keep=0",
            "q",
            "'redis://h/0?stream=a&keep=0': keep='0' is no number",
        ),
        ("redis://u:secret@h/0?keep=x&stream=a", "q", "keep='x' is no number of events"),
        ("redis://u:secret@h/0?kep=1&stream=a", "q", "has no parameter 'kep'"),
    ],
)
def test_what_names_no_report(reporter: str, queue: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        report_of(Settings(queue=queue, reporter=reporter), None)
    assert said in str(caught.value) and "secret" not in str(caught.value)


def test_the_queues_own_server_is_for_queues_in_redis() -> None:
    told = Settings(queue="file:q", reporter="redis")
    with pytest.raises(UsageError, match="this queue is none: set MINION_REPORTER to redis://HOST"):
        report_server(told)
    # Who only looks at another queue finds the report of that one.
    assert report_of(told, "q") == "q/report"


def test_names_of_remote_reporters() -> None:
    assert [is_remote(name) for name in ("redis", "Redis://h", "unix:///s", "json", "file:r")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reports", "driver"):
        monkeypatch.delitem(sys.modules, f"minionize.engines.redis.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDriver, match=r"pip install 'minionize\[redis\]'"):
        report_of(Settings(reporter="redis://h/0?stream=a"), None)


MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
MINIONIZE = [sys.executable, "-m", "minionize.cli.minionize"]


def test_minions_without_a_folder_share_a_report(url: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINION_QUEUE": url, "MINION_REPORTER": "redis"}

    def run(program: list[str], *args: str, cwd: str = "here", status: int = 0) -> str:
        (tmp_path / cwd).mkdir(exist_ok=True)
        ran = subprocess.run(
            [*program, *args], cwd=tmp_path / cwd, env=env, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        assert ran.returncode == status and "Traceback" not in ran.stderr, (args, ran)
        return ran.stdout + ran.stderr

    run(MINION, "feed", "--grid", "x=1:9")
    options = ["--max-attempts", "1", "--capture"]
    program = ["sh", "-c", 'test "$1" != 4 && echo "[$1]"', "x", "{x}"]
    run(MINIONIZE, *options, "--max-params", "3", *program, cwd="one")
    run(MINIONIZE, *options, *program, cwd="two", status=1)
    shown = run(MINION, "status", "--all")
    assert "done 7   dead 1" in shown and shown.count("drained") == 1, shown
    rows = run(MINION, "results", "--parse", "json").splitlines()
    assert rows[0].startswith("x,result,_id") and len(rows) == 8
    assert "exit 1: 1 dead, 1 failed attempt" in run(MINION, "failures")
    (dead,) = run(MINION, "list", "--state", "dead").splitlines()
    assert "dead: exit 1" in run(MINION, "show", dead.split()[0])
    env["MINION_REPORTER"] = f"{url}&keep=5000"
    assert len(run(MINION, "results").splitlines()) == 8
    assert not list(tmp_path.glob("*/*"))


def test_minions_go_on_where_the_server_of_the_report_is_away(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env["MINION_REPORTER"] = "redis://127.0.0.1:1/0?stream=a"
    ran = subprocess.run(
        [*MINIONIZE, "--from", "-", "true"], cwd=tmp_path, env=env, input="1\n2\n3\n", text=True,
        capture_output=True, timeout=180, check=False,
    )  # fmt: skip
    assert ran.returncode == 0
    lines = ran.stderr.splitlines()
    assert [line.count("can't be written") for line in lines] == [1, 0], lines
    assert lines[1].startswith("minionize: 3 done")
