"""`.minionize.yml`: what it may say, and what is said about what it may not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.errors import UsageError
from minionize.settings import load, load_launch
from minionize.settings.project import YAML

FILE = Path(YAML)


pytestmark = pytest.mark.usefixtures("empty_folder")


def test_a_whole_campaign() -> None:
    FILE.write_text(
        "queue: runs/a\nslots: 4\nretries: 4\nreporter: json\n"
        "command: ./a.out --lr {lr} 'two words'\n"
        "launch:\n  slurm: {n: 8, wall-time: 2h, partition: x, O: [qos=low, mem=0]}\n"
        "  oar:\n    wall_time: 1:30:00\n    besteffort: yes\n    name:\n"
    )
    loaded = load()
    told = loaded.settings
    assert (told.queue, told.slots, told.max_attempts, told.reporter) == ("runs/a", 4, 5, "json")
    assert loaded.command == ("./a.out", "--lr", "{lr}", "two words")
    assert loaded.origins["command"] == ".minionize.yml: command"
    assert loaded.origins["max_attempts"] == ".minionize.yml: retries"
    slurm = load_launch("slurm")
    assert slurm is not None
    assert slurm.values == {
        "n": "8",
        "wall-time": "2h",
        "partition": "x",
        "O": ["qos=low", "mem=0"],
    }
    assert slurm.origins["wall-time"] == ".minionize.yml: launch.slurm.wall-time"
    oar = load_launch("oar")
    assert oar is not None
    assert oar.values == {"wall-time": "1:30:00", "besteffort": "yes"}
    assert load_launch("kubernetes") is None


def test_nothing_is_said() -> None:
    assert (load().command, load_launch("oar")) == ((), None)
    FILE.write_text("")
    assert (load().command, load_launch("oar")) == ((), None)
    FILE.write_text("# later\nlaunch:\ncommand:\nslots:\n")
    assert (load().command, load().settings.slots, load_launch("oar")) == ((), 1, None)
    FILE.write_text("launch: {oar: }\n")
    section = load_launch()
    assert section is not None
    assert (section.scheduler, section.values) == ("oar", {})


def test_the_words_of_a_command_are_those_that_were_written() -> None:
    FILE.write_text("command: [echo, 010, yes, 1e3, ~/a, '', 1:30, 2020-01-01]\n")
    assert load().command == ("echo", "010", "yes", "1e3", "~/a", "", "1:30", "2020-01-01")
    FILE.write_text("shell: yes\ncommand: \"echo {} | tr 'a b' c\"\n")
    assert load().command == ("echo {} | tr 'a b' c",)
    FILE.write_text("command: \"echo {} | tr 'a b' c\"\n")
    assert load().command == ("echo", "{}", "|", "tr", "a b", "c")
    assert load({"shell": True}).command == ("echo {} | tr 'a b' c",)


def test_the_only_section_needs_no_name() -> None:
    with pytest.raises(UsageError, match=r"minion launch local\|oar\|slurm\|kubernetes, or"):
        load_launch()
    FILE.write_text("launch: {local: {n: 2}}\n")
    section = load_launch()
    assert section is not None
    assert (section.scheduler, section.values) == ("local", {"n": "2"})
    FILE.write_text("launch: {local: {n: 2}, oar: {n: 3}}\n")
    with pytest.raises(UsageError, match="local, oar: say which, as minion launch local"):
        load_launch()


def test_sections_may_share() -> None:
    FILE.write_text("launch:\n  oar: &all {n: 3, name: a}\n  slurm: {<<: *all, name: b}\n")
    section = load_launch("slurm")
    assert section is not None
    assert section.values == {"n": "3", "name": "b"}


def test_an_unknown_option_is_named_with_one_that_is_near() -> None:
    FILE.write_text("launch: {oar: {waltime: 2h}}\n")
    with pytest.raises(UsageError, match=r"launch\.oar\.waltime, .*did you mean wall-time\?"):
        load_launch("oar", known=["n", "wall-time", "name"])
    with pytest.raises(UsageError, match=r"launch\.oar\.waltime, no option: minion launch oar --h"):
        load_launch("oar", known=["n", "name"])
    assert load_launch("oar") is not None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("slots: 4\nqueue: a\nslots: 5\n", "line 3: 'slots' stands twice (first in line 1)"),
        ("launch: {oar: {n: 1, n: 2}}", "'n' stands twice"),
        ("max-attempts: 4\nmax_attempts: 5\n", "says the same as"),
        ("launch: {oar: {wall-time: 1, wall_time: 2}}", "launch.oar.wall-time stands twice"),
        ("max-attempts: 4\nretries: 5\n", "says the same as .minionize.yml: max-attempts"),
        ("retries: -1", "retries: '-1' is not a whole number from 0 on"),
        ("lunch: {oar: {n: 1}}", "did you mean launch?"),
        ("comand: x", "did you mean command?"),
        ("retry: 3", "did you mean retries?"),
        ("launch: {slrum: {n: 1}}", "launch.slrum, no scheduler: did you mean slurm?"),
        ("launch: {1: {n: 1}}", "no scheduler"),
        ("launch: {~: {n: 1}}", "no scheduler"),
        ("launch: 8", "launch is no table"),
        ("launch: {oar: 8}", "launch.oar is no table"),
        ("launch: {oar: [n, 8]}", "launch.oar is no table"),
        ("launch: {oar: {n: {a: [1]}}}", "launch.oar.n.a holds more than one text: write one"),
        (
            "launch: {oar: {env: {A: 1, B: null}}}",
            "launch.oar.env.B is left empty: write its value",
        ),
        ("launch: {oar: {env: {A: , B: b}}}", "launch.oar.env.A is left empty: write its value"),
        ("launch: {oar: {env: [A=1, ~]}}", "launch.oar.env has an item that is left empty"),
        (
            "launch: {oar: {n: 99999999999999999999}}",
            "launch.oar.n: 99999999999999999999 is too la",
        ),
        ("threads: 4", "sets 'threads', no setting: minionize --help has those that there are"),
        ("launch: {htcondor: {n: 1}}", "no scheduler: there are local, oar, slurm, kubernetes"),
        ("launch: {oar: {O: [[1]]}}", "launch.oar.O holds more"),
        ("command: {a: b}", "command is neither"),
        ("command: []", "command is neither"),
        ("command: ['']", "command is neither"),
        ("command: [a, [b]]", "command is neither"),
        ("command: ''", "command is neither"),
        ("command: echo 'a", "command can't be split into words"),
        ("? [1, 2]\n: 3\n", "can't be read"),
        ("? {a: b}\n: 3\n", "can't be read"),
        ("slots: {a: 1}", "slots holds more than one value"),
        ("queue: [a]", "queue holds more than one value"),
        ("on-exit: {3: [a]}", "on-exit holds more than one value"),
        ("slots: many", "slots: 'many' is not a whole number"),
        ("slots: 4\n  x: :", "line 2, column 4: mapping values are not allowed here"),
        ("slots:\t4\n\tx", "can't be read: line 1, column 7"),
        ("a: !!python/object/apply:os.system [ls]", "can't be read: line 1, column 4"),
        ("[" * 5000, "nested too deeply"),
        ("a\n---\nb\n", "can't be read"),
        ("slots", "is no table"),
        ("a: *b", "can't be read"),
        ("a: \0", "can't be read"),
    ],
)
def test_what_cant_be_used_is_one_line(content: str, says: str) -> None:
    FILE.write_text(content)
    with pytest.raises(UsageError) as caught:
        load()
        load_launch()
    line = str(caught.value)
    assert says in line
    assert "\n" not in line
    assert len(line) < 300


def test_a_bomb_of_aliases_costs_nothing() -> None:
    lines = ["a0: &a0 [x]"]
    for depth in range(60):
        lines.append(f"a{depth + 1}: &a{depth + 1} [*a{depth}, *a{depth}]")
    lines.append("slots: *a60")
    FILE.write_text("\n".join(reversed(lines)) + "\n")
    with pytest.raises(UsageError):
        load()
    FILE.write_text("\n".join([*lines[:-1], "launch: {oar: {O: *a60}}"]) + "\n")
    with pytest.raises(UsageError):
        load()


def test_no_text_at_all() -> None:
    FILE.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="can't be read") as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_large_file_is_not_read() -> None:
    with open(FILE, "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UsageError, match="is larger than 1 MiB: that is no file of settings"):
        load()


def test_no_file() -> None:
    FILE.mkdir()
    assert load().notes == (".minionize.yml is left out: it is a folder, no file of settings",)
    FILE.rmdir()
    FILE.symlink_to("elsewhere")
    assert load().notes == (".minionize.yml is left out: it is a link to nothing: remove it",)
    assert load_launch("oar") is None
    FILE.unlink()
    os.mkfifo(FILE)
    assert load().notes == (".minionize.yml is left out: it is a named pipe, no file of settings",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_yaml_with_a_byte_order_mark(encoding: str) -> None:
    FILE.write_bytes("slots: 4\nqueue: é\n".encode(encoding))
    assert (load().settings.slots, load().settings.queue) == (4, "é")


def test_no_permission(empty_folder: Path) -> None:
    FILE.write_text("slots: 4\n")
    FILE.chmod(0)
    for above in (empty_folder, *empty_folder.parents):
        if above.owner() == FILE.owner() and above.name:
            above.chmod(above.stat().st_mode | 0o055)
    code = (
        "import os, minionize.settings, minionize.settings.yaml_file\n"
        "if os.getuid() == 0: os.seteuid(65534)\n"
        "print(*minionize.settings.load().notes)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=180
    )
    assert ran.stdout == (
        ".minionize.yml is left out: it can't be read (Permission denied): mend or remove it\n"
    )


@given(st.text(max_size=60))
def test_whatever_stands_there_is_settings_or_one_line(content: str) -> None:
    FILE.write_bytes(content.encode("utf-8", "surrogatepass"))
    try:
        load()
        load_launch("oar")
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
