"""Names of files, of any bytes: they reach the program as xargs and find hand them over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from services.command_line import command, environment

NAMES = [
    b"plain.txt",
    b"two words.txt",
    b"line\nbreak.txt",
    b"\n",
    b"caf\xe9.latin1",
    "café.utf8".encode(),
    b"\xff\xfe\x80",
    b"\xed\xa0\x80.surrogate",
    b"\xf0\x9f\x98",
    b"-n",
    b" blanks ",
    b"'quote\" $(touch pwned) `id` {} {.} \\",
    b"cr\r",
    b"tab\t\x1b[31m\x7f",
    b"x" * 200,
]


def made_in(folder: Path) -> Path:
    """The folder with a file of each of these names, and one below another folder."""
    (folder / os.fsdecode(b"d\xff")).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        for above in (b"", b"d\xff/"):
            (folder / os.fsdecode(above + name)).write_bytes(b"%d\n" % number * 100)
    return folder


def contents(folder: Path) -> dict[bytes, bytes]:
    """Each file below the folder, by its name as bytes."""
    return {
        os.fsencode(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def piped(*programs: list[str], cwd: Path, **env: str) -> bytes:
    """What the last of two programs prints, that reads from the first."""
    first, last = programs
    found = subprocess.run(first, cwd=cwd, capture_output=True, check=True, timeout=180).stdout
    ran = subprocess.run(
        last, input=found, cwd=cwd, env=environment(**env), capture_output=True, check=False,
        timeout=180,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


FIND = ["find", ".", "-type", "f", "-print0"]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of the same files."""
    one = made_in(tmp_path / "one")
    other = tmp_path / "other"
    shutil.copytree(one, other)
    return one, other


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_gzip_does_to_each_what_it_does_under_xargs(two: tuple[Path, Path], locale: str) -> None:
    one, other = two
    # -n: neither name nor time is kept in what is packed.
    piped(FIND, ["xargs", "-0", "-n1", "gzip", "-n"], cwd=one)
    piped(FIND, command("-0", "--from", "-", "gzip", "-n"), cwd=other, LC_ALL=locale)
    packed = contents(one)
    assert len(packed) == 2 * len(NAMES)
    assert contents(other) == packed


SHOWN = "import os, sys; os.write(1, os.fsencode(sys.argv[1]) + b'\\0')"


def test_arguments_are_those_of_xargs(tmp_path: Path) -> None:
    """Empty ones too; the last lacks its NUL."""
    (tmp_path / "names").write_bytes(b"\0".join([*NAMES, b"", b"", b"last\xff"]))
    given = (tmp_path / "names").read_bytes()
    show = [sys.executable, "-c", SHOWN]
    by_xargs = subprocess.run(
        ["xargs", "-0", "-n1", *show], input=given, capture_output=True, check=True, timeout=180
    ).stdout
    assert by_xargs == given + b"\0"
    for words in (["-0", "--from", "-"], ["--null", "--from", "names"]):
        ran = subprocess.run(
            command(*words, *show), cwd=tmp_path, input=given, env=environment(),
            capture_output=True, check=True, timeout=180,
        )  # fmt: skip
        assert ran.stdout == by_xargs


def test_a_queue_keeps_the_bytes(tmp_path: Path) -> None:
    """Fed, listed, fed again from that list, deduplicated, worked on, and read as results."""
    folder = made_in(tmp_path / "files")

    def minion(*words: str, input: bytes = b"", module: str = "minion") -> bytes:
        ran = subprocess.run(
            command(*words, module=module), cwd=folder, input=input, env=environment(),
            capture_output=True, check=False, timeout=180,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    names = b"".join(name + b"\0" for name in NAMES)
    minion("feed", "-q", "../q", "-0", input=names)
    listed = minion("list", "-q", "../q", "--json")
    texts = [json.dumps(json.loads(line)["param"]) for line in listed.splitlines()]
    assert [os.fsencode(json.loads(text)) for text in texts] == NAMES
    fed_again = minion(
        "feed", "-q", "../q", "--dedupe", "--format", "jsonl", input="\n".join(texts).encode()
    )
    assert fed_again.startswith(b"0 params put")
    minion("-q", "../q", "--stdout", "../out/{}.copy", "cat", "--", "{}", module="minionize")
    copies = {name + b".copy": b"%d\n" % number * 100 for number, name in enumerate(NAMES)}
    found = contents(tmp_path / "out")
    assert {name: found.get(name) for name in copies} == copies
    rows = minion("results", "-q", "../q", "--format", "jsonl").splitlines()
    assert {os.fsencode(json.loads(row)["param"]) for row in rows} == set(NAMES)
    csv = minion("results", "-q", "../q", "--format", "csv")
    assert rb"caf\udce9.latin1" in csv
    csv.decode()


def test_functions_get_names_that_they_can_open(tmp_path: Path) -> None:
    folder = made_in(tmp_path / "files")
    (folder / "module.py").write_text(
        "def first_line(path):\n    return [path, open(path).readline()]\n"
    )
    words = command("-0", "--from", "-", "-j", "2", "--reporter", "json", "--call")
    names = b"".join(name + b"\0" for name in NAMES)
    ran = subprocess.run(
        [*words, "module:first_line"], cwd=folder, input=names, env=environment(),
        capture_output=True, check=False, timeout=180,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = {}
    for part in (folder / "minion-report").glob("*.jsonl"):
        for line in part.read_text().splitlines():
            if line.startswith('["a"'):
                name, content = json.loads(line)[-1]["result"]
                found[os.fsencode(name)] = content
    assert found == {name: f"{number}\n" for number, name in enumerate(NAMES)}


def test_without_null_the_remedy_is_named(tmp_path: Path) -> None:
    for given, said in ((b"caf\xe9\n", b"find -print0 and --null"), (b"a\0b\0", b"give --null")):
        ran = subprocess.run(
            command("feed", module="minion"), cwd=tmp_path, input=given, env=environment(),
            capture_output=True, check=False, timeout=180,
        )  # fmt: skip
        assert ran.returncode == 2
        assert said in ran.stderr and b"Traceback" not in ran.stderr


def test_null_is_for_from_and_files(tmp_path: Path) -> None:
    for words, module in (
        (["-0", "echo"], "minionize"),
        (["feed", "-0", "--grid", "a=1"], "minion"),
        (["feed", "-0", "--format", "csv"], "minion"),
    ):
        ran = subprocess.run(
            command(*words, module=module), cwd=tmp_path, input=b"", env=environment(),
            capture_output=True, check=False, timeout=180,
        )  # fmt: skip
        assert ran.returncode == 2, ran
        assert len(ran.stderr.splitlines()) == 1
