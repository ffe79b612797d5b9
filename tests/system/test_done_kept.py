"""What is kept of a run's output, and what is said where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from services.command_line import Run, fill, only_line, runner


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path)


def put(folder: Path, *params: object) -> None:
    fill(f"file:{folder}/minion-queue", *params)


def minion(run: Run, *args: str) -> str:
    ran = run(*args, module="minion")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def rows(run: Run, *args: str) -> tuple[list[dict[str, object]], str]:
    ran = run("results", "--format", "jsonl", *args, module="minion")
    return [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr


# -- the end of output, which a report keeps unless it is told not to -------------------------


def test_a_report_keeps_the_end_of_what_was_passed_on(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1, 2)
    ran = run("sh", "-c", 'echo "text $1"; echo "{\\"loss\\": $1}"', "x", "{}")
    assert "text 1\n" in ran.stdout and '{"loss": 2}\n' in ran.stdout
    found, said = rows(run, "--parse", "json")
    assert sorted(row["loss"] for row in found) == [1, 2] and said == ""  # type: ignore[type-var]
    assert "text 1\n" in minion(run, "show", "1")


def test_of_much_output_the_last_line_is_there(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    ran = run("-j", "2", "sh", "-c", "seq 100000; echo 42", "x", "{}")
    assert len(ran.stdout.splitlines()) == 100_001
    found, _ = rows(run, "--parse", "json")
    assert found[0]["result"] == 42
    (row,), _ = rows(run, "--output")
    assert len(str(row["_stdout"])) < 5000 and "bytes left out" in str(row["_stdout"])


def test_without_output_a_line_of_the_report_is_as_short_as_ever(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    run("true")
    (part,) = (tmp_path / "minion-queue" / "report").glob("*.jsonl")
    (ack,) = [line for line in part.read_text().splitlines() if line.startswith('["a"')]
    assert len(json.loads(ack)) == 9


def test_no_capture_keeps_nothing_and_results_say_so(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1, 2, 3)
    ran = run("--no-capture", "echo", "{}")
    assert sorted(ran.stdout.split()) == ["1", "2", "3"]
    for option in (("--output",), ("--parse", "json")):
        found, said = rows(run, *option)
        assert len(found) == 3
        assert "3 rows have no output" in said and "minionize --capture" in said
    assert rows(run)[1] == "", "nothing was asked for"


def test_output_that_is_no_json_is_said(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    run("echo", "no json")
    assert "1 rows have output that is no JSON" in rows(run, "--parse", "json")[1]


def test_json_of_which_only_a_part_was_kept_is_said(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    run("sh", "-c", "seq 5000 | tr '\\n' ,; echo", "x", "{}")
    found, said = rows(run, "--parse", "json")
    assert len(found) == 1 and "result" not in found[0]
    assert "1 rows have output of which only a part was kept" in said and "--capture" in said


@pytest.mark.parametrize(("option", "digits"), [("--no-quiet", 4200), ("--capture", 66_000)])
def test_the_end_of_a_long_number_is_no_number(
    run: Run, tmp_path: Path, option: str, digits: int
) -> None:
    put(tmp_path, 1)
    run(option, "sh", "-c", f"printf '%0{digits}d\\n' 7 | tr 0 1", "x", "{}")
    (row,), said = rows(run, "--parse", "json")
    assert "result" not in row and "only a part was kept" in said


# -- captured output without a place for it ---------------------------------------------------


def test_capture_without_a_report_is_refused(run: Run, tmp_path: Path) -> None:
    ran = run("--from", "-", "--capture", "sh", "-c", "touch ran", input="1\n2\n3\n")
    assert ran.returncode == 2
    assert "--reporter json" in only_line(ran)
    assert not (tmp_path / "ran").exists()
    put(tmp_path, 1)
    assert run("--capture", "--reporter", "null", "true").returncode == 2


def test_capture_with_a_report_of_its_own_is_kept(run: Run, tmp_path: Path) -> None:
    args = ("--from", "-", "--capture", "--reporter", "json", "--report-dir", "kept")
    ran = run(*args, "echo", "hello {}", input="1\n2\n")
    assert ran.returncode == 0 and ran.stdout == ""
    (part,) = (tmp_path / "kept").glob("*.jsonl")
    assert "hello 1" in part.read_text()


# -- two params that write one file -----------------------------------------------------------


@pytest.mark.parametrize("slots", ["1", "3"])
def test_a_file_of_another_param_is_not_replaced_without_a_word(
    run: Run, tmp_path: Path, slots: str
) -> None:
    put(tmp_path, "a/one.txt", "b/one.txt", "c/two.txt", "d/one.txt")
    ran = run("-j", slots, "--stdout", "html/{/.}.html", "echo", "{}")
    assert sorted(path.name for path in (tmp_path / "html").iterdir()) == ["one.html", "two.html"]
    assert "4 done (2 took the place of another param's file)" in ran.stderr
    lines = [line for line in ran.stderr.splitlines() if "takes the place" in line]
    assert len(lines) == 1 and "one.html" in lines[0] and "{id}" in lines[0]
    found, _ = rows(run)
    assert sum("takes the place of the file of param" in str(row["_reason"]) for row in found) == 2


def test_other_minions_of_the_campaign_know_whose_a_file_is(run: Run, tmp_path: Path) -> None:
    put(tmp_path, "a/one.txt", "b/one.txt")
    args = ("--stdout", "{/.}.html", "echo", "{}")
    run("--max-params", "1", *args)
    assert "1 done (1 took the place" in run(*args).stderr


def test_a_param_that_is_run_again_may_replace_its_own_file(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    script = "echo $MINION_ATTEMPT; test $MINION_ATTEMPT = 2"
    ran = run("--stdout", "out.{}", "sh", "-c", script, "x", "{}")
    assert "took the place" not in ran.stderr
    minion(run, "retry", "--done")
    again = run("--stdout", "out.{}", "echo", "{}")
    assert "1 done in" in again.stderr
    # And another campaign may replace all of them.
    other = run("--from", "-", "--stdout", "out.{}", "echo", "{}", input="1\n")
    assert "1 done in" in other.stderr


def test_a_dry_run_sees_it(run: Run, tmp_path: Path) -> None:
    put(tmp_path, *(f"{n}/{n % 30}.txt" for n in range(40)))
    ran = run("--dry-run", "--stdout", "{/.}.html", "echo", "{}")
    assert len(ran.stdout.splitlines()) == 5
    assert "10 of 40 params write a file that another one writes" in ran.stderr
    assert "0.html (param 31)" in ran.stderr
    assert run("--dry-run", "--stdout", "{id}.html", "echo", "{}").stderr == ""


# -- output of attempts that failed -----------------------------------------------------------


def test_the_last_attempts_output_is_beside_the_file(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    script = "echo attempt $MINION_ATTEMPT; exit 3"
    run("--max-attempts", "2", "--stdout", "out", "sh", "-c", script)
    assert (tmp_path / "out.failed").read_text() == "attempt 2\n"
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_time_out_leaves_what_was_printed_by_then(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    args = ("--timeout", "0.5", "--max-attempts", "1", "--stdout", "out")
    run(*args, "sh", "-c", "echo so far; sleep 600")
    assert (tmp_path / "out.failed").read_text() == "so far\n"


def test_after_a_good_attempt_the_failed_one_is_gone(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    run("--stdout", "out", "sh", "-c", "echo $MINION_ATTEMPT; test $MINION_ATTEMPT = 2")
    assert (tmp_path / "out").read_text() == "2\n"
    assert not (tmp_path / "out.failed").exists()


# -- doctor ------------------------------------------------------------


def test_doctor_looks_at_tmpdir(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 1)
    ran = run("doctor", module="minion", TMPDIR=str(tmp_path))
    (line,) = [line for line in ran.stdout.splitlines() if "TMPDIR" in line]
    assert str(tmp_path) in line and "free" in line
