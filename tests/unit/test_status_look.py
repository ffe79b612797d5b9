"""Failures by reason, the history of one param, listings, and the line that runs it here."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minionize.callbacks.quoting import command_line
from minionize.contracts.engine import EngineOptions, Queue
from minionize.engines import memory
from minionize.errors import NotSupported
from minionize.events import Event, Kind
from minionize.reporters.json_lines import JsonReporter
from minionize.reporters.record import Source
from minionize.settings import Settings
from minionize.status.failures import Group, failure_lines, failures
from minionize.status.history import history, show_json, show_lines
from minionize.status.listing import listed, listed_line
from minionize.status.read import Faults
from minionize.status.replay import run_here, split_words
from minionize.values import Entry, Failure, State, SystemClock

BEGAN = 1_700_000_000.0
HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m\x00"


def say(folder: Path, host: str, *events: Event) -> None:
    reporter = JsonReporter(
        str(folder),
        Source(f"{host}-1-a", host, 1, 1, "a.out {}", BEGAN),
        clock=SystemClock(),
        warn=pytest.fail,
    )
    reporter.report(events)
    reporter.close()


def failed(id_: str, at_s: float, reason: str, detail: str = "", dead: bool = False) -> Event:
    return Event(
        Kind.DEAD if dead else Kind.GIVE_BACK,
        BEGAN + at_s,
        id_,
        1,
        0,
        0.5,
        3,
        reason=reason,
        detail=detail,
        charged=not dead,
    )


def dead_entry(id_: str, reason: str, detail: str = "") -> Entry:
    return Entry(id_, "1", State.DEAD, failure=Failure(reason, detail))


def assert_tame(lines: list[str]) -> None:
    assert all(line.replace("\t", "").isprintable() for line in lines)


def test_failures_are_grouped_with_the_tail_of_the_last(tmp_path: Path) -> None:
    say(
        tmp_path,
        "a",
        failed("1", 5, "exit 3", "newest"),
        failed("2", 1, "exit 3", "old"),
        Event(Kind.GIVE_BACK, BEGAN, "9", reason="stopped"),
        Event(Kind.ACK, BEGAN, "8"),
    )
    say(tmp_path, "b", failed("1", 2, "exit 3"), failed("1", 6, "exit 9", dead=True))
    entries = [dead_entry("1", "exit 9"), dead_entry("7", "5 minions died", "poison")]
    groups = failures(tmp_path, entries, Faults())
    assert [(g.reason, g.dead, g.attempts, list(g.ids)) for g in groups] == [
        ("exit 9", 1, 1, ["1"]),
        ("5 minions died", 1, 0, ["7"]),
        ("exit 3", 0, 3, ["1", "2"]),
    ]
    assert (groups[2].last_id, groups[2].tail) == ("1", "newest")
    text = "\n".join(failure_lines(groups))
    assert "5 minions died: 1 dead\n  ids: 7\n  last of param 7:\n    poison" in text
    assert "exit 3: 3 failed attempts\n  ids: 1 2\n  last of param 1 on a:\n    newest" in text
    assert json.loads(json.dumps(groups[2].to_json()))["ids"] == ["1", "2"]


def test_what_was_retried_and_is_done_is_not_dead(tmp_path: Path) -> None:
    say(tmp_path, "a", Event(Kind.ACK, BEGAN + 9, "1"), Event(Kind.ACK, BEGAN + 1, "2"))
    say(tmp_path, "b", *[failed(n, 5, "exit 3", dead=True) for n in ("1", "2", "3", "3")])
    (group,) = failures(tmp_path, None, Faults())
    assert (group.dead, group.attempts) == (2, 4)
    # A queue that lists its dead letters knows better.
    (group,) = failures(tmp_path, [], Faults())
    assert group.dead == 0
    assert failure_lines([Group("exit 1")])[0] == "exit 1: not dead any more"


def test_ids_are_bounded_unless_all_are_wanted(tmp_path: Path) -> None:
    say(tmp_path, "a", *[failed(str(n), n, "exit 3", dead=True) for n in range(1, 3000)])
    (group,) = failures(tmp_path, None, Faults())
    assert (len(group.ids), group.dead) == (1000, 2999)
    lines = failure_lines([group], width=80)
    assert lines[1].endswith("... (--all)")
    assert len(lines[1]) <= 80
    (group,) = failures(tmp_path, None, Faults(), keep=None)
    assert len(group.ids) == 2999
    assert failure_lines([group], all_ids=True)[1].split()[-1] == "2999"


def test_hostile_failures_are_escaped(tmp_path: Path) -> None:
    say(tmp_path, HOSTILE.replace("/", "") and "h", failed("1", 1, HOSTILE, HOSTILE + "\nx\n"))
    assert_tame(failure_lines(failures(tmp_path, [dead_entry("2", HOSTILE, HOSTILE)], Faults())))


def test_history_of_one_param(tmp_path: Path) -> None:
    plain = Event(Kind.ACK, BEGAN + 9, "12", 2, 1, 0.5, 0, 0.25, 2048, True)
    say(
        tmp_path,
        "a",
        failed("12", 1, "exit 3", "boo"),
        failed("1", 1, "exit 3"),
        Event(Kind.ACK, BEGAN, "112", 1, 0, 0.1),
        Event(Kind.ACK, BEGAN, "5", stdout=',"12",', result='"12"'),
    )
    say(tmp_path, "b", plain, Event(Kind.LOST, BEGAN + 20, "12"))
    told = history(tmp_path, "12", Faults())
    assert [(source.host, event.kind) for source, event in told] == [
        ("a", Kind.GIVE_BACK),
        ("b", Kind.ACK),
        ("b", Kind.LOST),
    ]
    lines = show_lines("12", Entry("12", '{"x":1}', State.DONE), told, "a.out 1")
    assert lines[:2] == ["param 12: done", '  {"x":1}']
    text = "\n".join(lines)
    assert "failed: exit 3" in text
    assert "below 2.0 MiB" in text
    assert "lease lost" in text
    assert text.endswith("to run it here:\n  a.out 1")
    value = json.loads(show_json("12", None, told, None))
    assert [event["kind"] for event in value["events"]] == ["give_back", "ack", "lost"]


def test_outputs_and_states_are_shown_escaped() -> None:
    source = Source("m-1-a", HOSTILE, 1, 1, "", BEGAN)
    event = Event(
        Kind.DEAD,
        BEGAN,
        "1",
        3,
        0,
        0.5,
        -11,
        reason=HOSTILE,
        detail=HOSTILE,
        stdout=HOSTILE,
        stderr=f"a\n{HOSTILE}",
        result=json.dumps(HOSTILE),
    )
    from minionize.status.history import Told

    entry = Entry("1", f'"{HOSTILE}"', State.DEAD, 3, 2, HOSTILE, 7.0, Failure(HOSTILE, "x"))
    lines = show_lines("1", entry, [Told(source, event)], None)
    assert_tame(lines)
    text = "\n".join(lines)
    assert "minions died under it 2 times" in text
    assert "due in 7 s" in text
    assert "stdout:" in text
    assert "stderr:\n  a" in text


def test_a_param_that_only_the_report_knows() -> None:
    from minionize.status.history import Told

    told = [Told(Source("m"), Event(Kind.ACK, BEGAN, "x", param="[1]"))]
    assert show_lines("x", None, told, None)[:2] == ["param x: done, by the report", "  [1]"]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = memory.open_queue(tmp_path.name, EngineOptions())
    yield queue
    queue.close()
    memory.drop(tmp_path.name)


def test_listing(queue: Queue, tmp_path: Path) -> None:
    queue.put([{"x": 1}, HOSTILE, 3])
    entries = list(listed(queue, State.WAITING, tmp_path, Faults()))
    assert [entry.id for entry in entries] == ["1", "2", "3"]
    lines = [listed_line(entry, as_json=False, width=60) for entry in entries]
    assert lines[0] == '1         waiting    1  {"x":1}'
    assert_tame(lines)
    assert json.loads(listed_line(entries[1], as_json=True))["param"] == HOSTILE
    assert listed_line(entries[1], as_json=True).isprintable()


def test_a_long_param_leaves_room_for_its_reason() -> None:
    entry = Entry("1", '"' + "x" * 10**6 + '"', State.DEAD, failure=Failure("exit 3"))
    line = listed_line(entry, as_json=False, width=80)
    assert len(line) <= 80
    assert line.endswith("…  exit 3")


def test_done_ones_come_from_the_report_where_the_queue_drops_them(tmp_path: Path) -> None:
    queue = memory.open_queue(f"{tmp_path.name}?keep=0", EngineOptions())
    queue.put([1])
    say(
        tmp_path,
        "a",
        Event(Kind.ACK, BEGAN, "7", 2, param='"p"'),
        Event(Kind.ACK, BEGAN, "7", 2, param='"p"'),
        Event(Kind.ACK, BEGAN, "8"),
        failed("9", 1, "exit 1"),
    )
    entries = list(listed(queue, State.DONE, tmp_path, Faults()))
    assert [(entry.id, entry.text, entry.attempt) for entry in entries] == [
        ("7", '"p"', 2),
        ("8", "", 0),
    ]
    queue.close()
    memory.drop(tmp_path.name)


class Unlisted:
    """A queue that can't list its params."""

    def __init__(self, queue: Queue) -> None:
        self.traits = queue.traits._replace(scans=False, keeps_done=False)
        self.url = queue.url
        self.inner = queue

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def scan(self, state: State) -> Iterator[Entry]:
        """As a generator, which raises when it is asked for the first one."""
        if state is not State.DEAD:
            raise NotSupported("no")
        yield Entry("1", "1", state)


def test_a_queue_that_can_not_list_says_so(queue: Queue, tmp_path: Path) -> None:
    unlisted: Queue = Unlisted(queue)  # type: ignore[assignment]
    with pytest.raises(NotSupported, match="can't list its waiting params: minion status"):
        listed(unlisted, State.WAITING, tmp_path, Faults())
    assert [*listed(unlisted, State.DEAD, tmp_path, Faults())] == [Entry("1", "1", State.DEAD)]


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)
)
def test_words_come_back_from_a_command_line(words: list[str]) -> None:
    assert split_words(command_line(words)) == words


@pytest.mark.parametrize("line", ["'open", "a `b`\\", "$HOME", '"'])
def test_what_is_no_command_line_of_ours(line: str) -> None:
    assert split_words(line) is None


def here(command: str, text: str, **more: object) -> str | None:
    return run_here(Settings(**more), command, "17", text, 2)  # type: ignore[arg-type]


def test_lines_that_run_it_here() -> None:
    assert here("a.out {lr} {seed}", '{"lr":0.1,"seed":3}') == "a.out 0.1 3"
    assert here("echo hello", '"a b; rm"') == "echo hello 'a b; rm'"
    assert here("echo {id} {attempt}", "1") == "echo 17 2"
    assert here("", "1") is None
    # Said by minions that were made in Python.
    assert here("Train", "1") is None
    assert here("<function run at 0x7f00>", "1") is None
    assert here("sleep", "1") == "sleep 1"
    # By --shell, one word is the line.
    told = here("'echo {} | wc -c'", '"x y"')
    assert told is not None
    assert shlex.split(told)[:2] == ["/bin/sh", "-c"]
    # A function has no line of its own; a name that this param lacks is told by minionize.
    assert here("train:run", "[1]") == (
        "printf '%s\\n' '[1]' | minionize --from - --format jsonl --call train:run"
    )
    assert here("a.out {nope}", "{}") == (
        "printf '%s\\n' '{}' | minionize --from - --format jsonl a.out '{nope}'"
    )


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_the_line_gives_the_program_the_very_param(param: str) -> None:
    line = here("printf %s. x", json.dumps(param))
    assert line is not None
    assert line.isprintable()
    ended = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=180)
    assert ended.stdout.decode() == f"x.{param}."
