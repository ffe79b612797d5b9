"""Any param through the real commands: it arrives as it was put, no shell sees it, and no terminal
shows an escape sequence of it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

BIN = Path(sys.executable).parent
# Says what it was given, and fails with it: so it is shown to a person too.
ECHO = """
import json, os, sys
print(json.dumps([sys.argv[1:], json.loads(os.environ["MINION_PARAM"])]))
sys.stderr.write(os.environ["MINION_PARAM"] + " ".join(sys.argv[1:]))
sys.exit(int(sys.argv[1]))
"""
CHARS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
NASTY = st.sampled_from(
    [
        "$(touch owned)", "`touch owned`", "; touch owned", "| touch owned", "&& touch owned", "\n",
        "touch owned\n", "-rf", "--help", "{}", "{id}", "{x", "}}", "'", '"', "\\", "\x1b[31m",
        "\x1b]0;owned\x07", "\x9b31m", "\r", "\x7f", "%s", "*", "~", "\u202e", "", " ", "!!", "#",
    ]
)  # fmt: skip
TEXT = st.one_of(st.text(CHARS, max_size=40), NASTY, st.lists(NASTY, max_size=4).map("".join))
SCALAR: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT
SCALAR |= st.floats(allow_nan=False, allow_infinity=False)
PARAM = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def run(folder: str, *command: str, stdin: str = "", check: bool = True) -> str:
    ran = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=folder, input=stdin, capture_output=True,
        encoding="utf-8", errors="surrogateescape", timeout=180, check=False,
    )  # fmt: skip
    assert "Traceback" not in ran.stderr, ran.stderr
    assert not check or ran.returncode == 0, ran.stderr
    return ran.stdout


def on_terminal(folder: str, *command: str) -> str:
    """What a terminal is sent by this command."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]], cwd=folder, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    process.wait(180)
    return shown.decode(errors="replace")


def is_given(param: Any, words: list[str]) -> bool:
    """Whether this is what is appended to the command for `param` (docs/arguments.md)."""
    if isinstance(param, list):
        return len(words) == len(param) and all(map(is_word, param, words))
    return len(words) == 1 and is_word(param, words[0])


def is_word(part: Any, word: str) -> bool:
    """A string as it is, everything else as JSON."""
    return word == part if isinstance(part, str) else bool(json.loads(word) == part)


@given(params=st.lists(PARAM, min_size=1, max_size=8))
@settings(max_examples=6)
def test_every_param_arrives_as_it_was_put(params: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = "".join(json.dumps(param) + "\n" for param in params)
        run(folder, "minion", "feed", "--format", "jsonl", "-", stdin=lines)
        run(folder, "minionize", "--quiet", "--capture", sys.executable, "-c", ECHO, "0")
        rows = [json.loads(line) for line in run(
            folder, "minion", "results", "--output", "--format", "jsonl").splitlines()]  # fmt: skip
        assert len(rows) == len(params)
        rows.sort(key=lambda row: int(row["_id"]))
        for param, row in zip(params, rows, strict=True):
            argv, seen = json.loads(row["_stdout"])
            assert seen == param
            assert is_given(param, argv[1:])
        assert not os.path.exists(f"{folder}/owned"), "a shell saw a param"


@given(params=st.lists(PARAM, min_size=1, max_size=4))
@settings(max_examples=6)
def test_no_terminal_is_told_what_a_param_says(params: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = "".join(json.dumps(param) + "\n" for param in params)
        run(folder, "minion", "feed", "--format", "jsonl", "-", stdin=lines)
        # What the programs print themselves is theirs: it is captured here.
        fails = ["--max-attempts", "1", "--capture", sys.executable, "-c", ECHO, "7"]
        shown = on_terminal(folder, "minionize", *fails)
        for look in (("list", "dead"), ("failures",), ("status",), ("show", "1"), ("results",)):
            shown += on_terminal(folder, "minion", *look)
        # Ours: the live line is cleared, and colours come and go.
        for ours in ("\x1b[K", "\x1b[2K", "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[22m"):
            shown = shown.replace(ours, "")
        strange = {char for char in shown if ord(char) < 32 or 127 <= ord(char) < 160}
        assert strange <= set("\r\n\t"), shown


def test_a_mebibyte_and_more(tmp_path: Path) -> None:
    params = ["x" * (1 << 20), {"deep": "é\n\t" * 200_000}]
    lines = "".join(json.dumps(param) + "\n" for param in params)
    run(str(tmp_path), "minion", "feed", "--format", "jsonl", "-", stdin=lines)
    script = "import json, sys; print(json.dumps(len(json.dumps(json.load(sys.stdin)))))"
    run(str(tmp_path), "minionize", "--quiet", "--stdin", "--capture", sys.executable, "-c", script)
    out = run(str(tmp_path), "minion", "results", "--output", "--format", "jsonl")
    told = sorted(int(json.loads(line)["_stdout"]) for line in out.splitlines())
    assert told == sorted(len(json.dumps(param)) for param in params)


@given(words=st.lists(TEXT, min_size=1, max_size=3), param=PARAM)
@settings(max_examples=10)
def test_any_template_runs_or_says_what_is_wrong(words: list[str], param: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(folder, "minion", "feed", "--format", "jsonl", "-", stdin=json.dumps(param) + "\n")
        ran = subprocess.run(
            [str(BIN / "minionize"), "--max-attempts", "1", "--", "echo", *words], cwd=folder,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=180, check=False,
        )  # fmt: skip
        said = ran.stderr.decode(errors="replace")
        assert "Traceback" not in said, said
        assert ran.returncode in (0, 1, 2), said
        if ran.returncode == 2:
            assert said.startswith("minionize: "), said
        assert not os.path.exists(f"{folder}/owned"), "a shell saw a word"


@given(
    name=st.sampled_from(
        ["MINION_SLOTS", "MINION_TIMEOUT", "MINION_UNTIL", "MINION_ON_EXIT", "MINION_LEASE",
         "MINION_REPORTER", "MINION_QUEUE", "MINION_MAX_ATTEMPTS", "MINION_CHDIR", "MINION_GRACE"]
    ),
    value=st.text(CHARS, min_size=1, max_size=20) | NASTY.filter(bool),
)  # fmt: skip
@settings(max_examples=15)
def test_any_setting_works_or_is_named(name: str, value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(folder, "minion", "feed", "-", stdin="a\n")
        ran = subprocess.run(
            [str(BIN / "minionize"), "--max-time", "5", "true"], cwd=folder, timeout=180,
            env={**os.environ, name: value}, stdin=subprocess.DEVNULL, capture_output=True,
            check=False,
        )  # fmt: skip
        said = ran.stderr.decode(errors="replace")
        assert "Traceback" not in said, said
        assert ran.returncode in (0, 1, 2, 75), said
        if ran.returncode == 2:
            assert said.startswith("minionize: ") and said.count("\n") == 1, said
