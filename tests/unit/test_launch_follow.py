"""Staying until the queue is drained, while the scheduler can't always be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from minionize import settings
from minionize.cli import launch_follow
from minionize.cli.launch_plan import Plan
from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_engine, open_queue
from minionize.errors import LaunchRefused
from minionize.launch.contract import Key
from minionize.launch.records import Record
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted

RUNNING = [Job("1", JobState.RUNNING, "a", ""), Job("2", JobState.RUNNING, "b", "")]
ENDED = [Job("1", JobState.ENDED, "a", ""), Job("2", JobState.ENDED, "b", "")]


class Site:
    """A scheduler that says one thing after the other, the last one again and again; it refuses
    where that is None."""

    SHARES_FILES = True
    KEYS: Mapping[str, Key] = {}

    def __init__(self, *says: Callable[[], Sequence[Job]] | None) -> None:
        self.says = list(says)
        self.submitted = 0

    def render(self, launch: Launch) -> str:
        return ""

    def submit(self, launch: Launch) -> Submitted:
        self.submitted += 1
        raise AssertionError("nobody was to be replaced")

    def states(self, submitted: Sequence[Submitted]) -> Sequence[Job]:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if said is None:
            raise LaunchRefused("squeue: Unable to contact slurm controller")
        return said()

    def states_of_each(self, submitted: Sequence[Submitted]) -> Sequence[Sequence[Job]]:
        return [self.states([each]) for each in submitted]

    def logs(self, submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
        return iter(())

    def cancel(self, submitted: Submitted) -> int:
        return 0


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch_follow, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(launch_follow, "_ASK_FIRST_S", 0.01)
    url = f"file:{tmp_path}/q"
    queue = open_queue(url, EngineOptions(minion_id="feeds"))
    queue.put([1, 2, 3])
    queue.close()
    told = settings.load({"queue": url}).settings
    return Plan(Launch(minions=2, queue=url), told, url, str(tmp_path / "launches"), ())


def done(plan: Plan) -> Sequence[Job]:
    """The minions do all there is."""
    engine = open_engine(plan.queue, EngineOptions(minion_id="works"))
    engine.ack(engine.lease(9, 0))
    engine.close()
    return RUNNING


def follow(plan: Plan, site: Site, *, resubmit: bool) -> int:
    record = Record("slurm-1", Submitted("slurm", ("1",), "minions", plan.queue, 2))
    return launch_follow.follow(plan, site, [record], resubmit=resubmit)


def test_who_cannot_be_asked_about_at_first_is_not_taken_for_dead(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(None, lambda: RUNNING, None, lambda: ENDED)
    assert follow(plan, site, resubmit=False) == 75
    assert len(site.says) == 1
    said = capsys.readouterr().err
    assert said.count("Unable to contact slurm controller; asking again") == 2
    assert "all its minions ended, and 3 params are left" in said


def test_nor_replaced(plan: Plan) -> None:
    site = Site(None, lambda: RUNNING, None, lambda: done(plan))
    assert follow(plan, site, resubmit=True) == 0
    assert (site.submitted, len(site.says)) == (0, 1)


UNKNOWN = [Job("1", JobState.UNKNOWN, "", "on another cluster"), Job("2", JobState.UNKNOWN)]
GONE = [job._replace(gone=True) for job in UNKNOWN]


@pytest.mark.parametrize("resubmit", [False, True])
def test_who_is_only_unknown_is_not_taken_for_dead_or_replaced(
    plan: Plan, capsys: pytest.CaptureFixture[str], resubmit: bool
) -> None:
    says: list[Callable[[], Sequence[Job]]] = [lambda: UNKNOWN] * 3
    site = Site(lambda: RUNNING, *says, lambda: done(plan))
    assert follow(plan, site, resubmit=resubmit) == 0
    assert (site.submitted, len(site.says)) == (0, 1)
    said = capsys.readouterr().err
    assert said.count("2 minions not known, and taken for alive: 1 (on another cluster)") == 1


def test_who_is_gone_has_ended(plan: Plan) -> None:
    """The scheduler that had them was asked, and has them no more."""
    assert follow(plan, Site(lambda: RUNNING, lambda: GONE), resubmit=False) == 75


def test_states_that_are_over() -> None:
    over = {state for state in JobState if Job("1", state).over}
    assert over == {JobState.ENDED, JobState.FAILED, JobState.CANCELLED}
    assert all(job.over for job in GONE)
