"""`.env`: what it sets, and that nothing of what may stand under that name ends a command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from minionize.settings import load
from minionize.settings.own_files import MOST_BYTES

pytestmark = pytest.mark.usefixtures("empty_folder")

FILE = Path(".env")


def folder() -> None:
    (FILE / "bin").mkdir(parents=True)


def fifo() -> None:
    os.mkfifo(FILE)


def link_to_a_folder() -> None:
    FILE.symlink_to("/")


def link_to_nothing() -> None:
    FILE.symlink_to("nowhere")


def link_to_itself() -> None:
    FILE.symlink_to(FILE)


def device() -> None:
    FILE.symlink_to("/dev/zero")


def unix_socket() -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(FILE))


def huge() -> None:
    with FILE.open("wb") as file:
        file.truncate(1 << 33)


def utf_16() -> None:
    FILE.write_bytes("MINION_SLOTS=2\n".encode("utf-16"))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (folder, "it is a folder, no file of settings"),
        (fifo, "it is a named pipe, no file of settings"),
        (link_to_a_folder, "it is a folder, no file of settings"),
        (link_to_nothing, "it is a link to nothing: remove it"),
        (link_to_itself, "it can't be read (Too many levels of symbolic links): mend or remove it"),
        (device, "it is a device, no file of settings"),
        (unix_socket, "it is a socket, no file of settings"),
        (huge, "it is larger than 1 MiB, no file of settings"),
        (utf_16, "it is UTF-16: turn it into UTF-8, iconv -f UTF-16 -t UTF-8 .env"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_is_no_file_of_settings_is_left_out_in_one_line(made: object, why: str) -> None:
    assert callable(made)
    made()
    loaded = load()
    assert loaded.notes == (f".env is left out: {why}",)
    assert set(loaded.origins.values()) == {"default"}


def test_one_that_may_not_be_read(empty_folder: Path) -> None:
    FILE.write_text("MINION_SLOTS=2\n")
    FILE.chmod(0)
    for above in (empty_folder, *empty_folder.parents):
        if above.owner() == FILE.owner() and above.name:
            above.chmod(above.stat().st_mode | 0o055)
    code = (
        "import os, minionize.settings\n"
        "if os.getuid() == 0: os.seteuid(65534)\n"
        "loaded = minionize.settings.load()\n"
        "print(loaded.settings.slots, *loaded.notes)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180
    )
    why = "it can't be read (Permission denied): mend or remove it"
    assert ran.stdout == f"1 .env is left out: {why}\n"


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"\n\nA B C\nMINION_SLOTS=2\n", ".env, line 3 is left out (no NAME=VALUE)"),
        (b"# \xe9t\xe9\nX=\xe9\nMINION_SLOTS=2\n", ".env, line 2 is left out (not UTF-8)"),
        (b"X=a\0b\nMINION_SLOTS=2\n", ".env, line 1 is left out (a NUL character, as in UTF-16)"),
        (b"X='open\nMINION_SLOTS=2\n", ".env, line 1 is left out (no NAME=VALUE)"),
        (
            b"\n=\nMINION_SLOTS=2\n\n\nif true\n[ a ]\n",
            ".env, line 2 is left out (no NAME=VALUE), and 2 more below",
        ),
    ],
)
def test_a_bad_line_is_left_out_alone(content: bytes, note: str) -> None:
    FILE.write_bytes(content)
    loaded = load()
    assert loaded.settings.slots == 2
    assert loaded.notes == (f"{note}: mend or remove it",)
    assert "X" not in os.environ


def test_the_value_of_a_bad_line_is_never_shown(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    FILE.write_bytes(b"pass word = hunter2\nTOKEN=hunter2\0\nexport: hunter2\n")
    assert "hunter2" not in "".join(load().notes)
    captured = capfd.readouterr()
    assert "hunter2" not in captured.out + captured.err + caplog.text


def test_a_mark_at_the_beginning_is_no_part_of_the_first_name() -> None:
    FILE.write_bytes(b"\xef\xbb\xbfMINION_SLOTS=2\r\n# fine\r\nB='x'\r\n")
    loaded = load()
    assert (loaded.settings.slots, loaded.notes, os.environ["B"]) == (2, (), "x")


def test_a_name_that_means_nothing_is_told_with_its_line() -> None:
    os.environ["MINION_QUEU"] = "typed"
    FILE.write_text("# mine\n\n\nMINION_SLTOS=2\nMINION_QUEU=filed\n")
    assert load().notes == (
        "MINION_QUEU means nothing: did you mean MINION_QUEUE?",
        ".env, line 4: MINION_SLTOS means nothing: did you mean MINION_SLOTS?",
    )


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_any_text_sets_what_python_dotenv_reads_in_it(text: str) -> None:
    before = dict(os.environ)
    text = "".join(f"DEMO_{line}\n" for line in text.splitlines())
    FILE.write_bytes(text.encode())
    try:
        load()
        expected = {k: v for k, v in dotenv_values(FILE).items() if v is not None}
        assert {k: v for k, v in os.environ.items() if k not in before} == {
            k: v for k, v in expected.items() if k not in before
        }
    finally:
        os.environ.clear()
        os.environ.update(before)


@given(st.binary(max_size=80))
def test_any_bytes_end_nothing(content: bytes) -> None:
    before = dict(os.environ)
    FILE.write_bytes(b"DEMO=1\n" + content)
    try:
        assert all(len(note.splitlines()) == 1 for note in load().notes)
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_limit_is_of_what_is_read() -> None:
    line = b"MINION_SLOTS=2\n"
    FILE.write_bytes(line + b"#" * (MOST_BYTES - len(line)))
    assert load().settings.slots == 2
