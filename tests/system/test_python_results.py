"""Results of functions through everything that keeps them: whole, at any size, or said."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from services.processes import until
from services.redis import RedisServer, lacking

from minionize import (
    FuncCallback,
    ProcessCallback,
    Reject,
    RetryLater,
    minionize,
    minionizer,
    open_queue,
)
from minionize.cli.minion import main as minion_main

pytestmark = pytest.mark.usefixtures("empty_folder")

SIZES = [1, 1000, 64 * 1024 - 3, 64 * 1024, 1 << 20, 17 << 20, 64 << 20]
"""Bytes; the limit of a line, one above, that of a line that is read, and far above."""


def text(size: int) -> str:
    return ("0123456789abcdef" * (size // 16 + 1))[:size]


def _check(rows: list[dict[str, Any]]) -> None:
    assert [row["_status"] for row in rows] == ["done"] * len(rows)
    assert sorted(row["param"] for row in rows) == SIZES
    for row in rows:
        assert row["result"] == text(row["param"]), row["param"]


def test_each_size_through_map() -> None:
    _check(minionize(text).map(SIZES, slots=2))


@pytest.mark.parametrize("inline", [False, True])
def test_each_size_through_work(inline: bool) -> None:
    work = minionize(text)
    work.put(SIZES)
    work.work(inline=inline)
    _check(list(work.results()))
    folder = Path("minion-queue/report/results")
    assert len(list(folder.iterdir())) == 4  # and no drafts


def test_each_size_through_minions_on_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sizes.py").write_text(
        "def text(size):\n    return ('0123456789abcdef' * (size // 16 + 1))[:size]\n"
    )
    with open_queue() as queue:
        queue.put(SIZES)
        command = "from minionize.cli.minionize import main; main(['--call', 'sizes:text'])"
        minions = [subprocess.Popen([sys.executable, "-c", command]) for _ in range(2)]
        assert [each.wait(120) for each in minions] == [0, 0]
        _check(list(queue.results()))


def test_each_size_through_redis(
    tmp_path: Path,
    needs_server: Callable[[str], NoReturn],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if lacking("valkey"):
        needs_server(lacking("valkey"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with RedisServer(tmp_path, "valkey") as server:
        work = minionize(queue=server.url("runs"), reporter="redis")(text)
        work.put(SIZES)
        work.work(slots=2)
        _check(list(work.results()))
        assert not list(scratch.iterdir())
        client = server.client()
        (hash_key,) = [key for key in client.scan_iter() if key.endswith(b":results")]
        assert client.hlen(hash_key) == 4
        client.hdel(hash_key, *client.hkeys(hash_key))
        lost = [row for row in work.results() if "_lost" in row]
        assert [row["_lost"] for row in lost] == ["its file is not kept any more"] * 4
        said = "\n".join(caplog.messages)
        assert re.search(
            r"param (\S+): its result results/\S+\.json is not kept any more: to compute it again, "
            r"put the param back to work \(minion retry --done \1; .*; 3 more are like this", said,
        ), said  # fmt: skip
        client.close()


def test_a_large_result_on_its_way_goes_with_a_minion_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    (tmp_path / "large.py").write_text(
        "import pathlib, time\n"
        "def text(size):\n"
        "    pathlib.Path('began').touch()\n"
        "    while not pathlib.Path('go').exists():\n"
        "        time.sleep(0.01)\n"
        "    return 'x' * size\n"
    )
    with open_queue() as queue:
        queue.put([100_000])
    command = "from minionize.cli.minionize import main; main(['--call', 'large:text'])"
    env = {**os.environ, "MINION_REPORTER": "stdout"}
    minion = subprocess.Popen([sys.executable, "-c", command], env=env, stdout=subprocess.DEVNULL)
    until(Path("began").exists)
    # Stopped, it can't take in the result that the function's process writes.
    minion.send_signal(signal.SIGSTOP)
    Path("go").touch()
    until(lambda: list(scratch.glob("minion-results-*/*.json")))
    minion.kill()
    minion.wait()
    until(lambda: not list(scratch.iterdir()), lambda: list(scratch.rglob("*")), timeout_s=30.0)


def test_a_large_result_that_is_gone_is_told_from_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = minionize(text)
    work.put([5, 100_000, 100_001])
    work.work()
    kept = sorted(Path("minion-queue/report/results").iterdir())
    kept[0].unlink()
    os.truncate(kept[1], 1000)
    rows = {row["param"]: row for row in work.results()}
    lost = [row for row in rows.values() if "_lost" in row]
    assert [row["_lost"] for row in lost] == ["its file is gone"]
    assert "result" not in lost[0] and rows[5]["result"] == "01234"
    with pytest.raises(SystemExit):
        minion_main(["results", "--format", "jsonl"])
    out, err = capsys.readouterr()
    assert kept[0].name in err and "is gone" in err
    assert sum("_lost" in json.loads(line) for line in out.splitlines()) == 1


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "..", "link.json"])
def test_a_result_leads_nowhere_else(name: str) -> None:
    """Whoever may write into a shared report can't make others read their own files."""
    Path("secret").write_text('"secret"')
    work = minionize(text)
    work.put([100_000])
    work.work()
    report = Path("minion-queue/report")
    os.symlink(os.path.abspath("secret"), report / "results" / "link.json")
    (part,) = report.glob("*.jsonl")
    (kept,) = [path for path in (report / "results").iterdir() if not path.is_symlink()]
    part.write_text(part.read_text().replace(kept.name, name))
    (row,) = work.results()
    assert "result" not in row and row["_lost"].startswith("its file ")


def mixed(n: int) -> Any:
    if n == 2:
        return {"loss": 0.5, "net": object()}
    return {"loss": 0.5, "when": datetime.date(2026, 1, n + 1), "best": float("inf")}


def test_what_can_not_be_kept_fails_its_run_alone(capfd: pytest.CaptureFixture[str]) -> None:
    rows = minionize(mixed).map([0, 1, 2], max_attempts=1)
    assert [row["_status"] for row in rows] == ["done", "done", "dead"]
    assert rows[1]["when"] == "2026-01-02" and rows[1]["best"] == "Infinity"
    assert rows[2]["_reason"] == "no JSON: object"


def test_one_rule_for_nan_of_functions_and_of_programs(capsys: pytest.CaptureFixture[str]) -> None:
    def odd(n: int) -> Any:
        return {"a": float("nan"), "b": float("inf"), "c": -float("inf")}

    printed = '{"a": NaN, "b": Infinity, "c": -1e999}'
    with open_queue("file:functions") as queue:
        queue.put([1])
    minionizer(FuncCallback(odd), queue="file:functions").run()
    with open_queue("file:programs") as queue:
        queue.put([1])
    Path("printed.json").write_text(printed)
    words = ["-q", "programs", "--capture", "sh", "-c", "cat printed.json"]
    command = f"from minionize.cli.minionize import main; main({words!r})"
    subprocess.run([sys.executable, "-c", command], check=True)
    lines = []
    for name in ("functions", "programs"):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            minion_main(["results", "-q", name, "--parse", "json", "--format", "jsonl"])
        lines.append(capsys.readouterr().out)
    both = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    for row in both:
        assert (row["a"], row["b"], row["c"]) == (None, "Infinity", "-Infinity")
    Path("rows.jsonl").write_text("".join(lines))
    with pytest.raises(SystemExit) as ended:
        minion_main(["feed", "-q", "again", "rows.jsonl"])
    assert not ended.value.code
    with open_queue("file:again") as queue:
        assert [entry.param["b"] for entry in queue.scan("waiting")] == ["Infinity"] * 2


def test_params_may_be_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")

    def double(n: float) -> float:
        return 2 * n

    assert [row["result"] for row in minionize(double).map(numpy.arange(3))] == [0, 2, 4]
    assert [row["result"] for row in minionize(double).map(numpy.float32([0.5]))] == [1.0]
    assert [row["n"] for row in minionize(double).map([{"n": numpy.int8(3)}])] == [3]


CASES = {
    "done": ["setup", "ok"],
    "fails": ["setup", "ko"],
    "rejects": ["setup", "ko"],
    "later": ["setup", "ko", "setup", "ok"],
    "setup raises": ["setup", "ko"],
    "setup rejects": ["setup", "ko"],
    "ok raises": ["setup", "ok", "ko"],
}


class Hooks:
    def __init__(self) -> None:
        self.log: list[str] = []

    def setup(self, param: Any, engine: Any) -> None:
        self.log.append("setup")
        if param == "setup raises":
            raise OSError("no")
        if param == "setup rejects":
            raise Reject("no")

    def teardown_ok(self, param: Any, engine: Any) -> None:
        self.log.append("ok")
        if param == "ok raises":
            raise OSError("no")

    def teardown_ko(self, param: Any, engine: Any, exception: BaseException) -> None:
        assert isinstance(exception, BaseException)
        self.log.append("ko")


class Programs(Hooks, ProcessCallback):
    def to_cmd(self, param: Any) -> str:
        ends = {"fails": "3", "rejects": "65"}
        if param == "later":
            return "test -e came || { touch came; exit 75; }"
        return f"exit {ends.get(param, '0')}"


def _function(param: str) -> None:
    if param == "fails":
        raise ValueError
    if param == "rejects":
        raise Reject("no")
    if param == "later" and not os.path.exists("came"):
        Path("came").touch()
        raise RetryLater(0.0)


class Functions(Hooks, FuncCallback):
    def __init__(self) -> None:
        Hooks.__init__(self)
        FuncCallback.__init__(self, _function)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", [Programs, Functions, "inline"])
def test_one_rule_for_hooks(case: str, kind: Any) -> None:
    callback = Functions() if kind == "inline" else kind()
    with open_queue() as queue:
        queue.put([case])
    inline = {"inline": True} if kind == "inline" else {}
    minionizer(callback, max_attempts=1, until="drained", **inline).run()
    assert callback.log == CASES[case]
    with open_queue() as queue:
        dead = [entry.failure.reason for entry in queue.scan("dead") if entry.failure]
    wanted: dict[str, Any] = {
        "setup raises": ["OSError"], "setup rejects": ["no"], "ok raises": ["OSError"],
        "done": [], "later": [],
    }  # fmt: skip
    assert dead == wanted.get(case, dead) and len(dead) == (case not in ("done", "later"))
