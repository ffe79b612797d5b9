"""Whether the kernel killed a run for lack of memory, as its count tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker.memory import OUT_OF_MEMORY, OomKills


class Kernel:
    """Files as the kernel has them."""

    def __init__(self, folder: Path, version: int) -> None:
        self.root, self.proc = folder / "cgroup", folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.version = version
        if version == 2:
            (self.proc / "self/cgroup").write_text("0::/job/step\n")
            self.folder, self.limit = self.root / "job/step", "memory.max"
        else:
            (self.proc / "self/cgroup").write_text("4:cpu:/job\n3:memory:/far/away\n0::/\n")
            # In a container its own cgroup is at the top of what is mounted.
            self.folder, self.limit = self.root / "memory", "memory.limit_in_bytes"
        self.folder.mkdir(parents=True)
        self.count(3)

    def count(self, kills: int) -> None:
        if self.version == 2:
            text = f"low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n"
            (self.folder / "memory.events").write_text(text)
        else:
            text = f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"
            (self.folder / "memory.oom_control").write_text(text)

    def watch(self) -> OomKills:
        return OomKills(str(self.root), str(self.proc))


def ended(reason: str, verdict: Verdict = Verdict.FAILED, detail: str = "") -> Outcome:
    return Outcome(Lease("1", "1"), verdict, 0, 1.0, -9, reason=reason, detail=detail)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("reason", ["signal SIGKILL", "exit 137"])
def test_a_kill_that_the_kernel_counted(tmp_path: Path, version: int, reason: str) -> None:
    kernel = Kernel(tmp_path, version)
    (kernel.folder / kernel.limit).write_text(f"{3 << 29}\n")
    kills = kernel.watch()
    assert kills.explain(ended(reason)).reason == reason
    kernel.count(4)
    told = kills.explain(ended(reason, detail="computing\n"))
    assert told.reason == OUT_OF_MEMORY
    assert told.detail.splitlines()[0] == "computing"
    assert "which has 1.5 GiB in all" in told.detail.splitlines()[-1]


def test_without_a_limit_none_is_told(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, 2)
    (kernel.folder / "memory.max").write_text("max\n")
    kills = kernel.watch()
    kernel.count(4)
    assert "GiB" not in kills.explain(ended("exit 137")).detail


def test_other_ends_stay_what_they_are(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, 2)
    kills = kernel.watch()
    kernel.count(4)
    for outcome in (
        ended("exit 1"),
        ended("signal SIGSEGV"),
        ended("timeout"),
        ended("", Verdict.DONE),
        ended("stopped", Verdict.ABORTED),
        ended("signal SIGKILL", Verdict.LATER),
    ):
        assert kills.explain(outcome) == outcome


def test_what_another_run_died_of_is_not_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    kernel = Kernel(tmp_path, 2)
    kills = kernel.watch()
    kernel.count(5)
    # Its child was killed, and it failed by itself.
    assert kills.explain(ended("exit 1")).reason == "exit 1"
    now = 101.5
    assert kills.explain(ended("signal SIGKILL")).reason == "signal SIGKILL"


def test_two_that_were_killed_together(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, 2)
    kills = kernel.watch()
    kernel.count(5)
    assert [kills.explain(ended("exit 137")).reason for _ in range(2)] == [OUT_OF_MEMORY] * 2


def test_without_cgroups_the_machine_counts(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 0\n")
    kills = OomKills(str(tmp_path / "none"), str(tmp_path))
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 1\n")
    assert kills.explain(ended("exit 137")).reason == OUT_OF_MEMORY


def test_nothing_is_known(tmp_path: Path) -> None:
    kills = OomKills(str(tmp_path), str(tmp_path))
    assert kills.explain(ended("exit 137")).reason == "exit 137"
