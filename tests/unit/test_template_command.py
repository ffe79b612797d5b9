"""CommandCallback: what is started for a param, and what is said before anything starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minionize.callbacks.command import CommandCallback, find_program
from minionize.callbacks.template import LacksName
from minionize.errors import CommandNotExecutable, CommandNotFound, Reject, UsageError
from minionize.settings import Settings
from minionize.values import Lease


def callback(*cmd: str, **options: Any) -> CommandCallback:
    return CommandCallback(Settings(env=dict(os.environ), **options), list(cmd))


def test_a_run() -> None:
    run = callback("prog", "-x").invocation(Lease("7", '{"a":1}'), 0)
    assert run.argv == ["prog", "-x", '{"a":1}']
    assert (run.chdir, run.stdout, run.stderr, run.stdin) == (None, None, None, None)


def test_places_are_templates_too() -> None:
    told = callback("prog", chdir="runs/{id}", stdout="{a}.{attempt}", stderr="{slot}")
    run = told.invocation(Lease("7", '{"a":"x"}', attempt=2), 3)
    assert run.argv == ["prog", '{"a":"x"}']
    assert (run.chdir, run.stdout, run.stderr) == ("runs/7", "x.2", "3")


def test_places_without_templates() -> None:
    run = callback("prog", stdout="{id}", template=False).invocation(Lease("7", "1"), 0)
    assert run.stdout == "{id}"


def test_stdin_takes_the_place_of_an_argument() -> None:
    run = callback("prog", stdin=True).invocation(Lease("7", '"a\\u0000"'), 0)
    assert (run.argv, run.stdin) == (["prog"], b'"a\\u0000"\n')
    run = callback("prog", "{}", stdin=True).invocation(Lease("7", "5"), 0)
    assert (run.argv, run.stdin) == (["prog", "5"], b"5\n")


def test_a_name_that_the_first_param_lacks_is_a_usage_error() -> None:
    told = callback("prog", "{lr}")
    with pytest.raises(UsageError, match=r"no \{lr\}.*seed.*mend the name"):
        told.invocation(Lease("1", '{"seed":1}'), 0)
    # Still: nothing ran yet.
    with pytest.raises(UsageError):
        told.invocation(Lease("1", '{"seed":1}'), 0)
    told.invocation(Lease("2", '{"lr":1}'), 0)
    with pytest.raises(LacksName):
        told.invocation(Lease("1", '{"seed":1}'), 0)


def test_names_of_places_count_as_well() -> None:
    with pytest.raises(UsageError, match=r"\{where\}"):
        callback("prog", stdout="{where}/x").invocation(Lease("1", "5"), 0)


def test_the_message_shows_nothing_that_a_terminal_obeys() -> None:
    with pytest.raises(UsageError) as caught:
        callback("prog", "{lr}").invocation(Lease("1", '"\x9b2J' + "x" * 200 + '"'), 0)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_what_cant_be_a_file_name() -> None:
    with pytest.raises(Reject, match="NUL"):
        callback("prog", stdin=True, stdout="{}").invocation(Lease("1", '"\\u0000"'), 0)


def test_a_shell_line_that_gets_too_long() -> None:
    with pytest.raises(Reject, match="--stdin"):
        callback("echo {} {}", shell=True).invocation(Lease("1", '"' + "'" * 20_000 + '"'), 0)


def test_no_command() -> None:
    for cmd in ([], [""]):
        with pytest.raises(UsageError, match="no CMD"):
            callback(*cmd)


@pytest.mark.parametrize("cmd", [("nonesuch-program",), ("./nonesuch",), ("/none/such", "{}")])
def test_programs_that_are_not_there(cmd: tuple[str, ...]) -> None:
    with pytest.raises(CommandNotFound, match="mend CMD"):
        callback(*cmd).check_program()


@pytest.mark.parametrize("line", ["echo hello | wc -l", "echo {}", "gzip {} > {}.gz"])
def test_shell_lines_are_recognised(line: str) -> None:
    with pytest.raises(CommandNotFound, match="looks like a shell line: --shell"):
        callback(line).check_program()
    callback(line, shell=True).check_program()


def test_programs_with_blanks_are_programs(tmp_path: Path) -> None:
    program = tmp_path / "my program"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(CommandNotExecutable, match="chmod"):
        callback(str(program)).check_program()
    program.chmod(0o755)
    callback(str(program)).check_program()


def test_a_folder_that_is_a_file_is_told_before_any_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for shell in (False, True):
        with pytest.raises(UsageError, match="is no folder: name another"):
            callback("true", chdir=str(tmp_path / "file"), shell=shell).check_program()
        for folder in (tmp_path, tmp_path / "missing", tmp_path / "file{}"):
            callback("true", chdir=str(folder), shell=shell).check_program()


def test_programs_that_may_not_be_executed(tmp_path: Path) -> None:
    with pytest.raises(CommandNotExecutable, match="is a folder"):
        callback(str(tmp_path)).check_program()
    (tmp_path / "data").touch()
    with pytest.raises(CommandNotExecutable, match="may not be executed"):
        callback(str(tmp_path / "data")).check_program()


def test_what_the_param_names_is_not_looked_for() -> None:
    callback("{}").check_program()
    callback("./{prog}", "-x").check_program()


def test_paths_count_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prog").write_text("#!/bin/sh\n")
    (tmp_path / "prog").chmod(0o755)
    told = callback("./prog", chdir="runs/{id}", stdout="out/{id}")
    told.check_program()
    assert told.shown(Lease("7", "1")) == f"(cd runs/7 && {tmp_path}/prog 1) > out/7"


def test_the_path_is_searched_in_order(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a/prog").mkdir()
    (tmp_path / "b/prog").touch()
    path = f"{tmp_path}/none:{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert find_program("prog", path) == f"{tmp_path}/b/prog"
    (tmp_path / "c/prog").touch(mode=0o755)
    assert find_program("prog", path) == f"{tmp_path}/c/prog"
    assert find_program("other", path) is None


def test_shown() -> None:
    assert callback("echo", "a b").shown(Lease("7", '"c;d"')) == "echo 'a b' 'c;d'"
    assert callback("cat", stdin=True).shown(Lease("7", '{"a":1}')) == (
        "printf '%s\\n' '{\"a\":1}' | cat"
    )
    assert callback("echo", stderr="e f").shown(Lease("7", "1")) == "echo 1 2> 'e f'"
    assert callback("echo", "x y").command == "echo 'x y'"
