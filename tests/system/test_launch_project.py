"""`.minionize.yml` and `minion launch`: what stands there is what is launched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import minionize

ROOT = str(Path(minionize.__file__).parent.parent)
MAIN = "from minionize.cli.minion import main; main()"


class Project:
    """A folder with the file in it."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env

    def says(self, text: str) -> None:
        (self.folder / ".minionize.yml").write_text(text)

    def minion(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    import os

    ours = ("MINION_", "OAR_", "SLURM_", "PBS_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return Project(tmp_path, {**env, "PYTHONPATH": ROOT})


CAMPAIGN = """\
queue: runs
slots: 2
retries: 4
command: echo {} "a b"
launch:
  slurm: {n: 8, wall-time: 2h, partition: low, cpus: 2, grace: 5, sbatch: [--exclusive, --nice]}
"""


def test_a_section_is_the_command_line(project: Project) -> None:
    project.says(CAMPAIGN)
    said = project.minion("launch", "slurm", "--dry-run")
    assert said.returncode == 0, said.stderr
    typed = project.minion(
        *("launch", "slurm", "-n", "8", "--wall-time", "2h", "-O", "partition=low", "--cpus", "2"),
        *("--grace", "5", "-O", "sbatch=--exclusive", "-O", "sbatch=--nice", "--dry-run"),
        *("--", "echo", "{}", "a b"),
    )
    assert said.stdout == typed.stdout
    for line in (
        "#SBATCH --array=1-8",
        "#SBATCH --time=2:00:00",
        "#SBATCH --partition=low",
        "#SBATCH --nice",
    ):
        assert line in said.stdout.splitlines()
    (last,) = (line for line in said.stdout.splitlines() if line.startswith("exec "))
    assert f"--queue file:{project.folder}/runs" in last
    assert "--slots 2" in last and "--max-attempts 5" in last and "--grace 5" in last
    assert last.endswith("-- echo '{}' 'a b'")
    # There is no other section.
    assert project.minion("launch", "--dry-run").stdout == said.stdout
    # What is typed counts more.
    assert "#SBATCH --array=1-3\n" in project.minion("launch", "slurm", "-n3", "--dry-run").stdout


@pytest.mark.parametrize(
    ("section", "requeues"),
    [
        ("slurm: {n: 2}", True),
        ("slurm: {n: 2, O: requeue=no}", False),
        ("slurm: {n: 2, requeue: no}", False),
        ("oar: {n: 2}", True),
        ("oar: {n: 2, idempotent: no}", False),
    ],
)
def test_minions_are_told_whether_their_job_may_come_back(
    project: Project, section: str, requeues: bool
) -> None:
    project.says(f"command: echo\nlaunch: {{{section}}}\n")
    said = project.minion("launch", "--dry-run")
    assert said.returncode == 0, said.stderr
    (last,) = (line for line in said.stdout.splitlines() if line.startswith("exec "))
    assert (" --requeue" in last) is requeues
    if "slurm" in section:
        assert ("#SBATCH --requeue" in said.stdout) is requeues


def test_in_its_section_a_word_is_the_schedulers(project: Project) -> None:
    project.says("queue: runs\ncommand: echo\nlaunch: {oar: {queue: production}}\n")
    said = project.minion("launch", "--dry-run").stdout
    assert "#OAR -q production" in said
    assert f"--queue file:{project.folder}/runs" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("launch: {oar: {n: 1}, slurm: {n: 1}}", "say which, as minion launch oar"),
        ("command: echo", "launch where?"),
        ("launch: {slurm: {n: 1}}", "there is no CMD to run"),
        ("command: echo\nlaunch: {slurm: {env: [NOT_SET]}}", "--env NOT_SET"),
    ],
)
def test_what_cant_be_launched_is_one_line(project: Project, text: str, says: str) -> None:
    project.says(text)
    said = project.minion("launch", "--dry-run")
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("slurm: {partiton: low}", " sets launch.slurm.partiton, no option: did you mean partit"),
        ("slurm: {wall_tme: 2h}", " sets launch.slurm.wall-tme, no option: did you mean wall-time"),
        ("slurm: {idempotent: yes}", " sets launch.slurm.idempotent, no option: minion launch sl"),
        (
            "slurm: {n: 1, minions: 2}",
            ": launch.slurm.minions says the same as .minionize.yml: lau",
        ),
        (
            "slurm: {slots: many}",
            ": launch.slurm.slots: 'many' is not a whole number from 1 on: wr",
        ),
        ("slurm: {slots: [1, 2]}", ": launch.slurm.slots holds several values"),
        ("slurm: {on-exit: {3: perhaps}}", ": launch.slurm.on-exit: 3=perhaps maps no exit status"),
        (
            "slurm: {quiet: perhaps}",
            ": launch.slurm.quiet: 'perhaps' is neither yes nor no: write 1",
        ),
        ("slurm: {requeue: perhaps}", ": launch.slurm.requeue: 'perhaps' is neither yes nor no"),
        ("slurm: {warn: soon}", ": launch.slurm.warn: 'soon' is not a whole number from 1 on: wri"),
        ("slurm: {sbatch: [-x, nice]}", ": launch.slurm.sbatch: 'nice' is no option of sbatch: w"),
        ("slurm: {partition: {a: b}}", ": launch.slurm.partition is a table: write a value"),
        ("slurm: {partition: [a, b]}", ": launch.slurm.partition holds several values"),
        ("slurm: {partition: a\\b}", ": launch.slurm.partition: 'a\\\\b' has a backslash"),
        ("slurm: {O: {gibbon: 1}}", ": launch.slurm.O gibbon: slurm has no such key; it has part"),
        ("slurm: {O: [gibbon]}", ": launch.slurm.O gibbon: write KEY=VALUE"),
        ("slurm: {O: {requeue: x}}", ": launch.slurm.O: requeue=x: 'x' is neither yes nor no"),
        ("slurm: {secret-env: [TOKEN]}", ": launch.slurm.secret-env TOKEN: write NAME=VALUE"),
        ('slurm: {minionize: "a \'b"}', ": launch.slurm.minionize a 'b: No closing quotation"),
        ('oar: {project: "a\\nb"}', ": launch.oar.project: 'a\\nb' can't stand in a script's"),
        ("oar: {checkpoint: 0}", ": launch.oar.checkpoint: 0 is not a whole number from 1 on"),
        (
            "local: {output: paper}",
            ": launch.local.output: 'paper' is none of prefix, plain, files",
        ),
        ("kubernetes: {label: a}", ": launch.kubernetes.label: 'a' has no value: write NAME=VALUE"),
        ("kubernetes: {spot: moon}", ": launch.kubernetes.spot: 'moon' is not known: there are"),
        ("kubernetes: {tolerate: [a, 'b:No']}", ": launch.kubernetes.tolerate: 'b:No' is no tol"),
        ("kubernetes: {affinity: '{'}", ": launch.kubernetes.affinity: '{' is no JSON"),
        ("kubernetes: {volume: c}", ": launch.kubernetes.volume: 'c' is no volume: write CLAIM:/P"),
        ("kubernetes: {user: 0}", ": launch.kubernetes.user: '0' is root, which minions need not"),
        ("kubernetes: {config-env: A=b}", " sets launch.kubernetes.config-env, no option"),
    ],
)
def test_what_a_section_cant_say_is_one_line_with_its_place(
    project: Project, section: str, says: str
) -> None:
    """By whoever reads it for what it says: the launch, and config, which shows it."""
    project.says(f"command: echo\nlaunch: {{{section}}}\n")
    for words in (("launch", "--dry-run"), ("config",)):
        said = project.minion(*words)
        assert (said.returncode, said.stdout) == (2, "")
        (line,) = said.stderr.splitlines()
        assert line.startswith(f"minion {words[0]}: .minionize.yml{says}"), line


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("slurm: {n: x}", "launch.slurm.n: 'x' is not a whole number from 1 on: write one"),
        ("slurm: {n: 0}", "launch.slurm.n: 0 is not a whole number from 1 on: write one"),
        ("slurm: {n: [1, 2]}", "launch.slurm.n holds several values, and takes one: keep one of t"),
        ("oar: {wall-time: long}", "launch.oar.wall-time: 'long' is no time: write 90, 10m"),
        ("oar: {memory: lots}", "launch.oar.memory: 'lots' is no size: write 500M or 4G"),
        ("local: {wait: perhaps}", "launch.local.wait: 'perhaps' is neither yes nor no: write 1"),
        ("local: {name: ' '}", "launch.local.name: ' ' is no name: write one with letters"),
    ],
)
def test_what_all_sections_have_in_common_is_told_by_everybody(
    project: Project, section: str, says: str
) -> None:
    project.says(f"command: echo\nlaunch: {{{section}}}\n")
    for words in (("launch", "slurm", "--dry-run"), ("config",), ("run", "true")):
        said = project.minion(*words)
        assert (said.returncode, said.stdout) == (2, "")
        (line,) = said.stderr.splitlines()
        assert f": .minionize.yml: {says}" in line, line


@pytest.mark.parametrize(
    "text", ["launch: {slurm: {n: x}}", "launch: {slurm: {gibbon: 1}}", "launch: {slurm: [", "a: 1"]
)
def test_help_comes_whatever_the_project_says(project: Project, text: str) -> None:
    project.says(text)
    for words in (
        ["slurm", "--help"],
        ["slurm", "-n", "3", "-h"],
        ["--help"],
        ["-n", "3", "--help"],
    ):
        said = project.minion("launch", *words)
        assert (said.returncode, said.stderr) == (0, ""), words
        assert said.stdout.startswith("Usage: minion launch ")
    assert project.minion("launch", "slurm", "--", "echo", "--help").returncode == 2


def test_no_arguments_do_the_whole_campaign(project: Project) -> None:
    project.says("queue: runs\ncommand: sh -c 'echo $1 >>log' x {}\nlaunch: {local: {n: 2}}\n")
    fed = project.minion("feed", "--grid", "x=1:20")
    assert fed.returncode == 0, fed.stderr
    said = project.minion("launch")
    assert said.returncode == 0, said.stderr
    assert len((project.folder / "log").read_text().split()) == 19
    assert '"waiting": 0' in project.minion("status", "--json").stdout
