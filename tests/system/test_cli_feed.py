"""`minion feed` as people type it: real processes over a queue in a folder."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from services.processes import until

from minionize.contracts.engine import EngineOptions, Queue
from minionize.engines.registry import open_queue
from minionize.values import State

ROOT = Path(__file__).parents[2]
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
DEADLINE_S = 180.0


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    return {**clean, "PYTHONPATH": str(ROOT)}


def minion(
    folder: Path, *args: str, stdin: bytes | None = None, status: int = 0
) -> tuple[str, str]:
    """Run `minion ARGS` in `folder`; (stdout, stderr) of what must end with `status`."""
    ran = subprocess.run(  # noqa: PLW1510
        [*MINION, *args], cwd=folder, env=environment(), capture_output=True, timeout=DEADLINE_S,
        input=b"" if stdin is None else stdin,
    )  # fmt: skip
    out, err = ran.stdout.decode(), ran.stderr.decode()
    assert ran.returncode == status, (ran.returncode, out, err)
    assert "Traceback" not in err
    return out, err


def queue_in(folder: Path) -> Queue:
    return open_queue(str(folder / "minion-queue"), EngineOptions())


def waiting(folder: Path) -> list[object]:
    queue = queue_in(folder)
    try:
        return [entry.param for entry in queue.scan(State.WAITING)]
    finally:
        queue.close()


def test_a_pipe_of_lines(tmp_path: Path) -> None:
    out, err = minion(tmp_path, "feed", stdin=b"1\n2\n\n3")
    assert out == "3 params put: file:minion-queue, 3 waiting\n"
    assert err == ""
    assert waiting(tmp_path) == ["1", "2", "3"]


def test_files_of_each_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("lr,seed\n0.1,1\n")
    (tmp_path / "b.jsonl").write_text('{"é": 1}\n[2]\n')
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b"[\n1,\n null]"))
    (tmp_path / "d").write_text("x y\n")
    out, _ = minion(tmp_path, "feed", "a.csv", "b.jsonl", "c.json.gz", "d")
    assert out == "6 params put: file:minion-queue, 6 waiting\n"
    assert waiting(tmp_path) == [{"lr": "0.1", "seed": "1"}, {"é": 1}, [2], 1, None, "x y"]


def test_options_of_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0.1;x\n2;\n")
    minion(tmp_path, "feed", "a.csv", "--sep", ";", "--no-header", "--typed")
    assert waiting(tmp_path) == [[0.1, "x"], [2, ""]]


def test_a_grid(tmp_path: Path) -> None:
    out, _ = minion(tmp_path, "feed", "--grid", "lr=0.1,a", "seed=0:2")
    assert out.startswith("4 params put")
    wanted = [{"lr": lr, "seed": seed} for lr in (0.1, "a") for seed in (0, 1)]
    assert waiting(tmp_path) == wanted
    _, err = minion(tmp_path, "feed", "--grid", "lr=1", "jobs.txt", status=2)
    assert "'jobs.txt' is no name=values" in err


def test_of_files_all_or_nothing_is_fed(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("1\n2\n")
    (tmp_path / "bad.csv").write_text("a,b\n" + "1,2\n" * 50_000 + "3\n")
    _, err = minion(tmp_path, "feed", "good.txt", "bad.csv", status=2)
    assert err == (
        "minion feed: bad.csv, line 50002: 1 cell where the header has 2 "
        "(--skip-bad leaves such lines out)\n"
    )
    assert waiting(tmp_path) == []
    out, err = minion(tmp_path, "feed", "good.txt", "bad.csv", "--skip-bad")
    assert out.startswith("50,002 params put")
    assert "1 bad line left out, the first: bad.csv, line 50002" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["none.txt"], "none.txt: no such file"),
        (["."], ". is a folder"),
        (["-", "-"], "once"),
        (["a.txt", "-"], "feed it by itself"),
        (["--seed", "3"], "--seed is for --shuffle"),
        (["--grid"], "a grid needs values|needs values"),
        (["--grid", "a=1", "--typed"], "--typed is for files"),
        (["a.txt", "--sep", ";"], "--sep is for --format csv"),
        (["a.txt", "--format", "xml"], "xml"),
        (["a.txt", "-q", "nope:x"], "no engine for 'nope'"),
        (["a.txt", "-q", "a.txt"], "Not a directory: name another folder"),
        (["a.txt", "-q", "a.txt/q"], "Not a directory: name another folder"),
        (["a.txt", "-q", "./" + "q" * 300], "File name too long: name another folder"),
    ],
)
def test_usage_errors_are_one_line_and_make_no_queue(
    tmp_path: Path, args: list[str], said: str
) -> None:
    (tmp_path / "a.txt").write_text("1\n")
    _, err = minion(tmp_path, "feed", *args, stdin=b"1\n", status=2)
    assert any(word in err for word in said.split("|")), err
    assert err.count("\n") == 1
    assert not (tmp_path / "minion-queue" / "params" / "00000001.jsonl").exists()


def test_an_empty_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    assert minion(tmp_path, "feed", "empty.csv")[0].startswith("0 params put")


def test_a_terminal_gets_a_hint(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    ran = subprocess.run(  # noqa: PLW1510
        [*MINION, "feed"], cwd=tmp_path, env=environment(), stdin=theirs, capture_output=True,
        timeout=DEADLINE_S,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert ran.returncode == 2
    assert b"nothing to read: name a FILE" in ran.stderr


def test_feeding_the_same_again_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\n2\n")
    (tmp_path / "b.txt").write_text("1\n2\n")
    assert minion(tmp_path, "feed", "a.txt")[1] == ""
    out, err = minion(tmp_path, "feed", "a.txt")
    assert out.startswith("2 params put")
    assert "a.txt was fed before on 2" in err
    assert "--dedupe" in err
    assert err.count("\n") == 1
    assert f"b.txt has the contents of {tmp_path}/a.txt" in minion(tmp_path, "feed", "b.txt")[1]
    minion(tmp_path, "feed", "--grid", "a=1")
    assert "--grid a=1 was fed before" in minion(tmp_path, "feed", "--grid", "a=1")[1]
    (tmp_path / "a.txt").write_text("1\n3\n")
    assert minion(tmp_path, "feed", "a.txt")[1] == ""


def test_dedupe_compares_with_everything_ever_put(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1, "b": "é"}\n1\n"x"\n')
    minion(tmp_path, "feed", "a.jsonl")
    same = '{"b": "\\u00e9", "a": 1.0}\n1e0\n"\\u0078"\n2\n2\ntrue\n'
    (tmp_path / "b.jsonl").write_text(same)
    out, err = minion(tmp_path, "feed", "--dedupe", "b.jsonl")
    assert out == "2 params put: file:minion-queue, 5 waiting\n"
    assert err == "minion feed: 4 params left out: put before\n"
    assert waiting(tmp_path)[3:] == [2, True]
    assert minion(tmp_path, "feed", "--dedupe", "b.jsonl")[0].startswith("0 params put")
    # Without the index, with noise in its place, and after feeds that knew nothing of it.
    (tmp_path / "minion-queue" / "dedupe.sqlite").write_bytes(b"noise" * 1000)
    assert minion(tmp_path, "feed", "--dedupe", "b.jsonl")[0].startswith("0 params put")
    minion(tmp_path, "feed", stdin=b"new\n")
    out, _ = minion(tmp_path, "feed", "--dedupe", stdin=b"new\nnewer\n")
    assert out.startswith("1 param put")


def test_shuffle_is_a_permutation_that_the_seed_decides(tmp_path: Path) -> None:
    lines = [str(place) for place in range(1000)]
    orders = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        text = "\n".join(lines).encode()
        minion(tmp_path / name, "feed", "--shuffle", "--seed", "7", stdin=text)
        orders.append(waiting(tmp_path / name))
    assert orders[0] == orders[1]
    assert orders[0] != lines
    assert sorted(orders[0], key=str) == sorted(lines)


def test_a_slow_producers_params_are_there_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*MINION, "feed"], cwd=tmp_path, env=environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as feeder:  # fmt: skip
        assert feeder.stdin is not None
        for count in (1, 2, 3):
            feeder.stdin.write(b"%d\n" % count)
            feeder.stdin.flush()
            until(lambda count=count: queue_has(tmp_path, count))  # type: ignore[misc]
        queue = queue_in(tmp_path)
        assert queue.stats().feeders == 1
        assert not queue.stats().drained
        # A bad end: what came before is there, and the line is named.
        _, err = feeder.communicate(b"4\n\xff\n5\n", timeout=DEADLINE_S)
        assert feeder.returncode == 2
        assert b"line 5: not UTF-8" in err
        assert b"4 params put before it ended" in err
    assert waiting(tmp_path) == ["1", "2", "3", "4"]
    assert queue.stats().feeders == 0
    queue.close()


def queue_has(folder: Path, count: int) -> bool:
    if not (folder / "minion-queue" / "head").exists():
        return False
    queue = queue_in(folder)
    try:
        return queue.stats().put == count
    finally:
        queue.close()


@pytest.mark.parametrize("killed_by", [signal.SIGKILL, signal.SIGINT])
def test_a_feed_that_is_killed_put_nothing_and_can_be_repeated(
    tmp_path: Path, killed_by: signal.Signals
) -> None:
    """The file never ends (a pipe into a shuffled feed), so the kill is in its middle."""
    minion(tmp_path, "feed", stdin=b"a\n")
    feed = [*MINION, "feed", "--shuffle", "--dedupe"]
    with subprocess.Popen(
        feed, cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as feeder:  # fmt: skip
        assert feeder.stdin is not None
        feeder.stdin.write(b"a\nb\n")
        feeder.stdin.flush()
        queue = queue_in(tmp_path)
        until(lambda: queue.stats().feeders == 1)
        feeder.send_signal(killed_by)
        feeder.wait(DEADLINE_S)
        assert feeder.returncode == -killed_by
    assert waiting(tmp_path) == ["a"]
    queue.close()
    out, _ = minion(tmp_path, "feed", "--dedupe", stdin=b"a\nb\n")
    assert out.startswith("1 param put")


def test_memory_and_million(tmp_path: Path) -> None:
    """A million lines: bounded memory (generous here; the benchmark has the figure)."""
    (tmp_path / "m.txt").write_text("\n".join(map(str, range(1_000_000))))
    code = (
        "import sys\n"
        "from minionize.cli.minion import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print(open('/proc/self/status').read(), file=sys.stderr)\n"
    )
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", code, "feed", "m.txt"], cwd=tmp_path, env=environment(),
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert ran.stdout == "1,000,000 params put: file:minion-queue, 1,000,000 waiting\n"
    [peak_kib] = re.findall(r"VmHWM:\s+(\d+) kB", ran.stderr)
    assert int(peak_kib) < 60 * 1024


def test_a_bar_on_a_terminal_and_escaped_names(tmp_path: Path) -> None:
    name = "a\x1b[31m.csv"
    (tmp_path / name).write_text("a,b\n1\n")
    _, err = minion(tmp_path, "feed", name, status=2)
    assert "\x1b" not in err
    assert "a\\x1b[31m.csv, line 2" in err


def test_help_names_every_command_and_a_misspelt_one_is_answered(tmp_path: Path) -> None:
    out, _ = minion(tmp_path, "--help")
    for name in ("feed", "status", "list", "show", "results", "failures", "retry", "pause",
                 "resume", "stop", "wait", "purge", "doctor", "config", "run"):  # fmt: skip
        assert f"\n  {name} " in out
    assert "did you mean 'feed'" in minion(tmp_path, "fed", status=2)[1]
    assert "see minion feed --help" in minion(tmp_path, "feed", "--formt", "x", status=2)[1]
