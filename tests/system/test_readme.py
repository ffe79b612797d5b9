"""The README is typed here as it stands: its sessions, its table of settings, its links.

`python tests/system/test_readme.py` writes the table of settings into the README, and
.env.example, from the options themselves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

from minionize.settings.table import OPTIONS, SECTIONS, Option

CLONE = Path(__file__).resolve().parents[2]
README = CLONE / "README.rst"
ENV_EXAMPLE = CLONE / ".env.example"


class Block(NamedTuple):
    """An indented block and what introduces it."""

    kind: str
    """`console`, `python` …, or the name of the file that the block is (`file:NAME`)."""
    text: str


def sections(text: str) -> dict[str, str]:
    """Title → what stands under it."""
    parts = re.split(r"^(.+)\n[=-]{4,}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(section: str) -> list[Block]:
    """Its code blocks in order."""
    found = []
    pattern = r"(?:\.\. file: (\S+)\n)?\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)"
    for match in re.finditer(pattern, section):
        name, kind, body = match.groups()
        text = "".join(line.removeprefix("    ") for line in body.splitlines(keepends=True))
        found.append(Block(f"file:{name}" if name else kind, text.strip("\n") + "\n"))
    return found


TEXT = README.read_text()
SESSIONS = {
    title: blocks(section)
    for title, section in sections(TEXT).items()
    if ".. code-block:: console" in section
}


def commands(session: str) -> list[tuple[str, str]]:
    """(what is typed, what is shown) of a console block."""
    typed = re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]
    return [(cmd, shown) for cmd, _, shown in (part.partition("\n") for part in typed)]


MASKS = [
    (r"\b\d+(\.\d+)? (µs|ms|s|min|h|MiB)\b", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE"),
    (r"(,done,\d+),[\d.e-]+,", r"\1,SECONDS,"),
    (r"[ \t]+", " "),  # columns move with what stands in them
]


def masked(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(rf"(?<=\b){re.escape(os.uname().nodename)}\b", "vm", text)
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def agree(shown: str, seen: str) -> bool:
    """Whether what was seen is what is shown; a line of `...` stands for any lines."""
    lines = ("(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in
             masked(shown).splitlines())  # fmt: skip
    return re.fullmatch("".join(lines), masked(seen) + "\n" if seen.strip() else "") is not None


def typed(lines: list[str], cwd: Path) -> list[str]:
    """What a terminal shows for each of these, typed into one shell."""
    script = cwd.parent / f"{cwd.name}.sh"
    mark = "--- a line nobody prints ---"
    script.write_text("".join(f"{line}\n{{ s=$?; echo '{mark}'; (exit $s); }}\n" for line in lines))
    env = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", script],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.stdout.split(mark + "\n")[:-1]


@pytest.mark.parametrize("title", SESSIONS)
def test_sessions_are_what_is_seen(title: str, tmp_path: Path) -> None:
    cwd = tmp_path / "here"
    cwd.mkdir()
    both: list[tuple[str, str]] = []
    for block in SESSIONS[title]:
        if block.kind.startswith("file:"):
            (cwd / block.kind.removeprefix("file:")).write_text(block.text)
        elif block.kind == "console":
            both += commands(block.text)
    seen = typed([cmd for cmd, _ in both], cwd)
    assert len(seen) == len(both), seen
    wrong = [
        f"$ {cmd}\n{output}--- and the README shows:\n{shown}"
        for (cmd, shown), output in zip(both, seen, strict=True)
        if not agree(shown, output)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_comparison_finds_differences() -> None:
    assert agree("a\n...\nz 1 s\n", "a\nb\nc\nz 2.5 s\n")
    assert agree("", "")
    assert not agree("a\n", "b\n")
    assert not agree("a\n", "")
    assert not agree("", "a\n")
    assert not agree("a\n...\nz\n", "a\nb\n")


XARGS = [
    ("seq 9 | minionize --from - expr 2 +", "3 4 5 6 7 8 9 10 11"),
    ("seq 9 | minionize -j 4 --from - echo a{}z", "a1z a2z a3z a4z a5z a6z a7z a8z a9z"),
    ("echo a/b.txt | minionize --from - echo {/} {.}", "b.txt a/b"),
    ("minion feed --grid x=a,b y=1,2", "4 params put: file:minion-queue, 4 waiting"),
    ("minionize echo {x} {y}", "a 1 a 2 b 1 b 2"),
    ("minionize --from runs.csv echo {lr}", "0.1 0.2"),
    ("minionize --from jobs.txt sh -c", "x y"),
    ("echo a | minionize --from - --shell 'echo {} | tr a b'", "b"),
    ("printf '%s\\n' *.txt | minionize --from - gzip", ""),  # the last: no file is left
]


def test_the_table_for_people_who_know_xargs(tmp_path: Path) -> None:
    section = sections(TEXT)["Coming from xargs and GNU parallel"]
    cwd = tmp_path / "here"
    cwd.mkdir()
    (cwd / "x.txt").write_text("x")
    (cwd / "runs.csv").write_text("lr\n0.1\n0.2\n")
    (cwd / "jobs.txt").write_text("echo X | tr X x\necho y\n")
    for (cmd, shown), seen in zip(
        XARGS, typed([cmd for cmd, _ in XARGS], cwd), strict=True
    ):  # fmt: skip
        assert f"``{cmd}``" in section
        lines = [line for line in seen.splitlines() if not line.startswith("minionize: ")]
        assert sorted(" ".join(lines).split()) == sorted(shown.split())
    assert (cwd / "x.txt.gz").exists()
    if shutil.which("xargs"):
        assert typed(["seq 9 | xargs -n1 expr 2 +"], cwd)[0].split() == XARGS[0][1].split()


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"<([\w./-]+[^_])>`_", TEXT)
    assert "docs/file-queue.md" in targets
    missing = [target for target in targets if not (CLONE / target).exists()]
    assert not missing


def test_options_that_are_named_exist() -> None:
    """Of minionize and minion; those of others stand in code blocks or are listed here."""
    known = set()
    for cmd in ["minionize", *(f"minion {sub}" for sub in SUBCOMMANDS)]:
        env = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
        shown = subprocess.run(
            [*cmd.split(), "--help"], env=env, capture_output=True, text=True, check=True
        )
        known |= set(re.findall(r"--[a-z][a-z-]+", shown.stdout))
    known |= {f"--no-{name[2:]}" for name in known} | {f"--{name[5:]}" for name in known}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)) - OPTIONS_OF_OTHERS
    assert named <= known, named - known


SUBCOMMANDS = ["feed", "list", "show", "status", "results", "failures", "retry", "pause"]
SUBCOMMANDS += ["resume", "stop", "wait", "purge", "doctor", "config", "run", "launch slurm"]
SUBCOMMANDS += ["jobs", "logs", "cancel"]
OPTIONS_OF_OTHERS = {"--retries", "--results", "--joblog", "--resume", "--colsep", "--python"}
OPTIONS_OF_OTHERS |= {"--list", "--array", "--time", "--signal", "--lr", "--temperature", "--seed"}


# ---- settings
BEGIN, END = ".. settings begin\n", ".. settings end\n"


def names_of(option: Option) -> str:
    name = f"{option.short}, {option.flag}" if option.short else option.flag
    return f"{name} {option.metavar}".rstrip()


def settings_table() -> str:
    """A row for each option, from its own words."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 30 25 45", ""]
    lines += ["   * - option", "     - variable", "     - meaning"]
    for section in SECTIONS:
        for option in OPTIONS:
            if option.section != section:
                continue
            default = f" (``{option.default}``)" if option.default else ""
            if " " in option.default:
                default = f" ({option.default})"
            lines += [
                f"   * - ``{names_of(option)}``",
                f"     - ``{option.variable}``",
                f"     - {option.help}{default}",
            ]
    return "\n".join(lines) + "\n"


BROKERS = """
# ---- Brokers: the queue by variables, as in 0.2.1 (MINION_QUEUE wins over them); docs/brokers.md
#MINION_ENGINE=redis
#REDIS_HOST=localhost
#REDIS_PORT=6379
#REDIS_DB=0
#REDIS_STREAM=minions
# A variable that holds a secret may have _FILE behind it, and name a file that holds it
#REDIS_USER=
#REDIS_PASSWORD=
#REDIS_DECODER=identity

#MINION_ENGINE=pulsar
#PULSAR_CONNECTION=pulsar://localhost:6650
#PULSAR_TOPIC=
#PULSAR_SUBSCRIPTION=minions
#PULSAR_ADMIN=
#PULSAR_TOKEN=
#PULSAR_DECODER=identity

#MINION_ENGINE=google
#GOOGLE_PROJECT_ID=
#GOOGLE_TOPIC_ID=
#GOOGLE_SUBSCRIPTION=
#GOOGLE_APPLICATION_CREDENTIALS=
#GOOGLE_DECODER=identity"""


def env_example() -> str:
    """`.env.example`: every setting, off."""
    lines = [
        "# Settings of minionize. Copy this to .env, in the folder where minions start, and take",
        "# away the # before what you need. The environment and the command line win over it.",
    ]
    for section in SECTIONS:
        lines += ["", f"# ---- {section}"]
        for option in OPTIONS:
            if option.section != section:
                continue
            # As a variable, --no-NAME is NAME said with 0.
            meaning = f"0: {option.help}" if option.flag.startswith("--no-") else option.help
            value = option.default if " " not in option.default else ""
            if not option.metavar:
                value = "0" if option.flag.startswith("--no-") else "1"
            lines += [f"# {meaning}", f"#{option.variable}={value}"]
    lines += [
        "",
        "# ---- Sweeps of execo",
        "# The queue is a sweep of execo (MINION_QUEUE wins over it), in this folder",
        "#MINION_ENGINE=execo",
        "#EXECO_PERSISTENCE_DIR=sweeps",
        *BROKERS.splitlines(),
    ]
    return "\n".join(lines) + "\n"


def test_the_table_of_settings_is_that_of_the_options() -> None:
    table = TEXT.partition(BEGIN)[2].partition(END)[0]
    assert table.strip() == settings_table().strip(), "run python tests/system/test_readme.py"


def test_the_example_of_a_dotenv_file_has_every_setting() -> None:
    assert ENV_EXAMPLE.read_text() == env_example(), "run python tests/system/test_readme.py"


if __name__ == "__main__":
    before, _, rest = TEXT.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{settings_table()}\n{END}{after}")
    ENV_EXAMPLE.write_text(env_example())
