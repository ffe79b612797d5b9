"""`minion purge --done`: a queue that is worked on for years sheds what was done long ago."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from services.command_line import Ran, command, environment
from services.processes import until

from minionize.contracts.engine import EngineOptions, Queue
from minionize.engines.registry import open_queue
from minionize.values import State

DAY_S = 86400.0


class Service:
    """A queue in a folder, and the commands of those who run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, module: str = "minion", input: str = "", status: int = 0) -> Ran:
        ran = subprocess.run(
            command(*words, module=module), cwd=self.folder, input=input, env=environment(),
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        assert ran.returncode == status, ran
        assert "Traceback" not in ran.stderr
        return ran

    def work(self, *numbers: int) -> None:
        """Feed these, and have them done."""
        self.run("feed", "--typed", input="".join(f"{number}\n" for number in numbers))
        self.run("--capture", "expr", "{}", "*", "10", module="minionize")

    def age(self, days: float) -> None:
        """As if all that is there were this much older: also what the report says inside."""
        old_s = time.time() - days * DAY_S
        queue = self.folder / "minion-queue"
        for path in [*(queue / "params").glob("*.jsonl"), *(queue / "report").iterdir()]:
            if path.stat().st_mtime > time.time() - DAY_S / 2:
                if path.parent.name == "report":
                    head, *rest = path.read_text().splitlines()
                    value = json.loads(head)
                    value["began"] -= days * DAY_S
                    if "at" in value:
                        value["at"] -= days * DAY_S
                    path.write_text("\n".join([json.dumps(value), *rest]) + "\n")
                os.utime(path, (old_s, old_s))

    def results(self) -> list[tuple[int, int]]:
        rows = self.run("results", "--parse", "json", "--format", "jsonl").stdout.splitlines()
        return sorted((row["param"], row["result"]) for row in map(json.loads, rows))

    def queue(self) -> Queue:
        return open_queue(f"file:{self.folder}/minion-queue", EngineOptions(minion_id="looks"))

    def bytes(self) -> int:
        return sum(
            path.stat().st_size
            for name in ("params", "report")
            for path in (self.folder / "minion-queue" / name).iterdir()
        )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    yield Service(tmp_path)


def test_what_is_older_goes_and_the_rest_is_whole(service: Service) -> None:
    service.work(1, 2, 3)
    service.work(4, 5)
    service.age(10)
    service.work(6, 7)
    ran = service.run("purge", "--done", "--older-than", "7d", "--yes")
    assert ran.stdout.startswith("5 finished params dropped, 4 files of the report removed: file:")
    assert service.results() == [(6, 60), (7, 70)]
    status = json.loads(service.run("status", "--json").stdout)
    assert (status["put"], status["done"], status["drained"]) == (7, 7, True)
    assert (
        "0 finished params dropped: file:"
        in service.run("purge", "--done", "--older-than", "7d", "--yes").stdout
    )
    service.work(8)
    assert service.results() == [(6, 60), (7, 70), (8, 80)]
    assert service.run("doctor", "--full").stdout.count("FAIL") == 0


def test_all_of_it(service: Service) -> None:
    service.work(*range(1, 51))
    before = service.bytes()
    service.run("purge", "--done", "--yes")
    assert service.bytes() == 0 < before
    assert service.results() == []
    assert json.loads(service.run("status", "--json").stdout)["done"] == 50
    service.work(51)
    assert service.results() == [(51, 510)]


def test_it_asks(service: Service) -> None:
    service.work(1)
    ran = service.run("purge", "--done", status=2)
    assert "nobody is there to be asked: give --yes" in ran.stderr
    for words, said in (
        (("--done", "--dead"), "two commands"),
        (("--older-than", "7d"), "give --done with it"),
        (("--done", "--older-than", "a week"), "--older-than a week"),
    ):
        assert said in service.run("purge", *words, "--yes", status=2).stderr
    assert service.results() == [(1, 10)]


def test_a_param_that_was_done_lately_keeps_itself_and_what_follows(service: Service) -> None:
    """Put long ago, and run again just now."""
    for number in range(1, 7):
        service.work(number)
    service.age(10)
    service.run("retry", "--done", "3")
    service.run("--capture", "expr", "{}", "*", "10", module="minionize")
    ran = service.run("purge", "--done", "--older-than", "7d", "--yes")
    assert ran.stdout.startswith("2 finished params dropped")
    # The old files of the report are gone; what they told of those that stay goes with them.
    assert service.results() == [(3, 30)]
    queue = service.queue()
    assert sorted(entry.text for entry in queue.scan(State.DONE)) == ["3", "4", "5", "6"]
    queue.close()


def test_dead_letters_and_what_waits_lose_nothing(service: Service) -> None:
    service.work(1, 2, 3)
    service.run("feed", "--typed", input="4\n5\n")
    service.run("--max-attempts", "1", "sh", "-c", "exit $(($1 == 4))", "x", module="minionize",
                status=1)  # fmt: skip
    service.run("feed", "--typed", input="6\n")
    service.age(10)
    service.run("purge", "--done", "--older-than", "7d", "--yes")
    service.run("retry")
    service.run("--capture", "expr", "{}", "*", "10", module="minionize")
    # The queue has forgotten the place of 4, so the report holds the param itself.
    assert service.results() == [(4, 40), (6, 60)]
    status = json.loads(service.run("status", "--json").stdout)
    assert (status["done"], status["dead"], status["put"]) == (6, 0, 6)


def test_retry_says_what_is_gone(service: Service) -> None:
    service.work(1, 2)
    service.age(10)
    service.work(3)
    service.run("purge", "--done", "--older-than", "7d", "--yes")
    ran = service.run("retry", "--done", "1", "3", status=2)
    assert ran.stdout.startswith("1 finished param back to work")
    assert "left alone: 1 dropped" in ran.stderr
    service.run("true", module="minionize")
    ran = service.run("retry", "--done")
    assert ran.stdout.startswith("1 finished param back to work")
    assert "2 finished params left out: minion purge --done dropped what they were" in ran.stderr


def test_dedupe_remembers_what_was_dropped(service: Service) -> None:
    service.run("feed", "--dedupe", input="a\nb\n")
    service.run("feed", input="c\n")
    service.run("true", module="minionize")
    service.run("purge", "--done", "--yes")
    ran = service.run("feed", "--dedupe", input="a\nc\nd\n")
    assert ran.stdout.startswith("1 param put")
    assert "2 params left out: put before" in ran.stderr
    # Without its index it can't know, and says so.
    (service.folder / "minion-queue" / "dedupe.sqlite").unlink()
    ran = service.run("feed", "--dedupe", input="a\nd\n")
    assert ran.stdout.startswith("1 param put")
    assert "not compared with the first 3 params" in ran.stderr


def test_a_minion_at_work_is_left_alone(service: Service) -> None:
    service.work(1, 2)
    service.run("feed", "--typed", input="3\n4\n")
    script = "echo $1; test $1 != 4 || while [ ! -e go ]; do sleep 0.05; done"
    minion = subprocess.Popen(
        command("--capture", "sh", "-c", script, "x"), cwd=service.folder, env=environment()
    )
    try:
        queue = service.queue()
        until(lambda: queue.stats().done == 3)
        service.age(10)
        ran = service.run("purge", "--done", "--older-than", "7d", "--yes")
        assert ran.stdout.startswith("2 finished params dropped, 2 files")
        (service.folder / "go").touch()
        assert minion.wait(timeout=180) == 0
    finally:
        minion.kill()
        minion.wait()
    assert service.results() == [(3, 3), (4, 4)]
    queue.close()


def test_killed_at_any_moment_it_loses_nothing(service: Service) -> None:
    """Again and again with less time; what is left is dropped by the next one."""
    for number in range(1, 13):
        service.work(number)
    service.age(10)
    service.work(13)
    for delay_s in (0.05, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        purge = subprocess.Popen(
            command("purge", "--done", "--older-than", "7d", "--yes", module="minion"),
            cwd=service.folder, env=environment(), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(delay_s)
        purge.send_signal(signal.SIGKILL)
        purge.wait(timeout=180)
        status = json.loads(service.run("status", "--json").stdout)
        assert (status["put"], status["done"], status["purged"]) == (13, 13, 0)
    service.run("purge", "--done", "--older-than", "7d", "--yes")
    assert service.results() == [(13, 130)]
    names = [path.name for path in (service.folder / "minion-queue" / "params").iterdir()]
    assert names == ["00000013.jsonl"]


def test_what_keeps_nothing_says_so(service: Service) -> None:
    (service.folder / ".env").write_text("MINION_QUEUE=memory:x\n")
    ran = service.run("purge", "--done", "--yes", status=2)
    assert "no queue memory:x" in ran.stderr


def test_files_of_a_report_behind_a_link_stay(service: Service) -> None:
    service.work(1)
    service.age(10)
    report = service.folder / "minion-queue" / "report"
    elsewhere = service.folder / "elsewhere"
    report.rename(elsewhere)
    report.symlink_to(elsewhere)
    ran = service.run("purge", "--done", "--older-than", "7d", "--yes")
    assert "its old files stay" in ran.stderr
    assert len(list(elsewhere.iterdir())) == 2
