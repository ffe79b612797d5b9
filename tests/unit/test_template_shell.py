"""Values and shells: quoted under --shell wherever that holds, refused wherever it doesn't."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minionize.callbacks.command import CommandCallback
from minionize.callbacks.quoting import command_line, pasteable, quoted
from minionize.errors import UsageError
from minionize.settings import Settings
from minionize.values import Lease, to_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NASTY = st.text(alphabet="ab $`'\"\\;|&<>()#!*?[]{}~=2\n-", max_size=12)


def callback(*cmd: str, **options: object) -> CommandCallback:
    return CommandCallback(Settings(env=dict(os.environ), **options), list(cmd))  # type: ignore[arg-type]


def output(*cmd: str) -> str:
    return subprocess.run(cmd, capture_output=True, check=True, timeout=180).stdout.decode()


@settings(max_examples=60, deadline=None)
@given(TEXT | NASTY)
def test_quoted_values_come_back(value: str) -> None:
    assert output("/bin/sh", "-c", f"printf %s {quoted(value)}") == value


@settings(max_examples=40, deadline=None)
@given(TEXT | NASTY)
def test_shown_lines_can_be_pasted(value: str) -> None:
    line = command_line(["printf", "%s", value])
    assert line.isprintable()
    assert output("bash", "-c", line) == value


def test_shown_lines_hold_no_escape_sequence() -> None:
    assert pasteable("\x1b[31m\x9b1") == "$'\\033[31m\\302\\2331'"
    assert pasteable("") == "''"
    assert pasteable("a.b/c:1") == "a.b/c:1"
    assert pasteable("a=1") == "a=1"
    assert pasteable("=1") == "'=1'"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [*"a '\"\\`$)}#;\n", "$(", "${", "${A}", "$((", "))", "<<", "<<<", "((", "{}"]
        ),
        max_size=10,
    )
)
def test_no_accepted_line_runs_what_a_value_says(pieces: list[str]) -> None:
    """Whatever line is accepted: a value that tries every way out of its quotes ends in none."""
    line = "".join(pieces)
    try:
        run_line = callback(line, shell=True)
    except UsageError:
        return
    break_out = "$(echo O''UT >&2);echo O''UT >&2;`echo O''UT >&2`"
    for value in (
        break_out,
        f"'{break_out}'",
        f'"{break_out}"',
        f"\n{break_out}\n",
        f"'\n{break_out}\n'",
        f")){break_out}",
        f"}}{break_out}",
    ):
        script = run_line.invocation(Lease("1", to_text(value)), 0).argv[2]
        for shell in ("dash", "bash"):
            ended = subprocess.run(
                [shell, "-c", script],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=180,
                check=False,
                cwd="/proc/self",
            )
            assert b"\nOUT\n" not in b"\n" + ended.stderr, (shell, script)


@pytest.mark.parametrize(
    "line",
    [
        "gzip -c {} > {}.gz",
        "echo 'a' \"b\" {}",
        'x=$(cat {}) && echo "$x" > {/.}.txt',
        "${HOME}/bin/x $((1 + 2)) {}",
        "cat <<<{}",
        "echo a#{} \\\\{}",
        "echo # it's fine\necho {}",
    ],
)
def test_lines_that_hold(line: str) -> None:
    callback(line, shell=True)


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("echo '{}'", "' quotes"),
        ('echo "{}"', '" quotes'),
        ('echo "$(cmd "{}")"', "double quotes"),
        ("echo `cmd {}`", "backtick"),
        ("echo \\{}", "backslash"),
        ("echo # {}", "comment"),
        ("echo # it's\necho '{}'", "' quotes"),
        ("echo \\\n#'\n'{}'", "' quotes"),
        ("cat <<EOF\n{}\nEOF", "here-document"),
        ("echo $((1 + {}))", "(("),
        ("echo ${x:-{}}", "${"),
        ("echo $'a' {}", "$'"),
        ("echo done #", "comment"),
        ("echo 'open", "' quotes"),
    ],
)
def test_lines_that_dont(line: str, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        callback(line, shell=True)
    assert where in str(caught.value)
    assert '"$1"' in str(caught.value)


@pytest.mark.parametrize(
    "cmd",
    [
        ("sh", "-c", "echo {}"),
        ("/bin/sh", "-c", "echo {a.b}"),
        ("bash", "-euc", "echo {}"),
        ("bash", "-euo", "pipefail", "-c", "echo {}"),
        ("bash", "--norc", "--rcfile", "x", "-c", "{}"),
        ("bash", "-c", "-x", "--", "echo {}"),
        ("env", "bash", "-c", "echo {}"),
        ("env", "A=1", "dash", "-ec", "echo {}"),
        ("env", "-S", "sh -c {}"),
        ("env", "-vSsh -c {}"),
        ("nice", "-n", "5", "zsh", "-c", "echo {}"),
        ("timeout", "5", "ksh93", "-c", "{id}"),
        ("busybox", "ash", "-c", "echo {}"),
        ("fish", "--command=echo {}"),
        ("su", "me", "-c", "echo {}"),
        ("flock", "lock", "-c", "echo {}"),
    ],
)
def test_scripts_are_refused(cmd: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        callback(*cmd)
    assert "--shell" in str(caught.value) and "sh -c '... \"$1\"' x {" in str(caught.value)


@pytest.mark.parametrize(
    "cmd",
    [
        ("sh", "-c"),
        ("sh", "-c", 'echo "$1"', "x", "{}"),
        ("sh", "-c", "echo {{id}} ${HOME} {1..3}", "x", "{}"),
        ("bash", "script.sh", "-c", "{}"),
        ("bash", "{}"),
        ("echo", "-c", "{}"),
        ("ssh", "host", "-c", "{}"),
        ("env", "A={}", "prog", "{}"),
    ],
)
def test_no_scripts(cmd: tuple[str, ...]) -> None:
    callback(*cmd)


def test_no_template_leaves_scripts_alone() -> None:
    run = callback("sh", "-c", "echo {}", template=False).invocation(Lease("1", '"x"'), 0)
    assert run.argv == ["sh", "-c", "echo {}", "x"]


def test_shell_quotes_each_value() -> None:
    run = callback("echo {a} > {id}.txt", shell=True).invocation(Lease("7", '{"a":"$(rm) \'"}'), 0)
    assert run.argv[:2] == ["/bin/sh", "-c"]
    assert run.argv[2] == "echo '$(rm) '\"'\"'' > '7'.txt"
    assert callback("echo", "a  b", shell=True).invocation(Lease("7", "[1,2]"), 0).argv[2] == (
        "echo a  b '1' '2'"
    )
    # 2>x would be a redirection of stderr.
    line = callback("echo {}>x", shell=True).invocation(Lease("7", "2"), 0).argv[2]
    assert line == "echo '2'>x"
