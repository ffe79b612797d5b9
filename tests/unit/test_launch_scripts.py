"""The scripts of `minion launch`: golden texts, and what can't stand in them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from launch_texts import FULL, OAR, OAR_OPTIONS, SLURM, SLURM_OPTIONS

from minionize.errors import UsageError
from minionize.launch import Launch, launcher
from minionize.launch.script import clock, file_name, quoted, write_script


def test_oar_whole() -> None:
    assert launcher("oar").render(replace(FULL, options=OAR_OPTIONS)) == OAR


def test_slurm_whole() -> None:
    told = replace(FULL, memory_mib=2048, options=SLURM_OPTIONS)
    assert launcher("slurm").render(told) == SLURM


def test_oar_plain() -> None:
    """No word of resources where nothing was said: the site's defaults hold."""
    launch = Launch(command=("true",), workdir="/home/ann", folder="/home/ann/q/launches",
                    options={"besteffort": ("no",), "idempotent": ("no",)})  # fmt: skip
    assert (
        launcher("oar").render(launch)
        == """#!/usr/bin/env bash
#OAR -n minions
#OAR --array 1
#OAR --checkpoint 60
#OAR --signal 12
#OAR -d /home/ann
#OAR -O /home/ann/q/launches/logs/minions.%jobid%.out
#OAR -E /home/ann/q/launches/logs/minions.%jobid%.out

set --
cd -- /home/ann || exit 2
exec minionize --queue file:minion-queue -- true
"""
    )


def test_slurm_plain() -> None:
    launch = Launch(command=("true",), workdir="/home/ann", folder="/home/50%/launches",
                    options={"requeue": ("no",)})  # fmt: skip
    assert (
        launcher("slurm").render(launch)
        == r"""#!/usr/bin/env bash
#SBATCH --job-name=minions
#SBATCH --array=1-1
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --no-requeue
#SBATCH --signal=B:USR1@60
#SBATCH --output=/home/50%%/launches/logs/minions.%A_%a.out
#SBATCH --open-mode=append

set --
unset MINION_PARAM MINION_PARAM_FILE MINION_PARAM_ID MINION_ATTEMPT MINION_ID MINION_SLOT \
MINION_DEADLINE MINION_JOB MINION_CHECKPOINT_DIR
cd -- /home/ann || exit 2
exec minionize --queue file:minion-queue -- true
""".replace("\\\n", "")
    )


def test_local_is_one_minion() -> None:
    launch = Launch(minions=3, command=("true",), workdir="/home/ann")
    assert (
        launcher("local").render(launch)
        == """#!/usr/bin/env bash
# 3 times on this machine

cd -- /home/ann || exit 2
exec minionize --queue file:minion-queue -- true
"""
    )


@pytest.mark.parametrize("scheduler", ["oar", "slurm", "local"])
def test_the_same_launch_is_the_same_text(scheduler: str) -> None:
    module = launcher(scheduler)
    assert module.render(FULL) == module.render(replace(FULL))


@pytest.mark.parametrize("scheduler", ["oar", "slurm"])
def test_a_long_grace_is_warned_of_earlier(scheduler: str) -> None:
    text = launcher(scheduler).render(replace(FULL, grace_s=100.5))
    assert "--checkpoint 131\n" in text or "USR1@131\n" in text


@pytest.mark.parametrize("scheduler", ["oar", "slurm"])
@pytest.mark.parametrize(
    "changed",
    [
        {"name": "two\nlines"},
        {"folder": "/shared/two\nlines"},
        {"env": {"no name": "x"}},
        {"secret_env": {"a=b": "x"}},
    ],
)
def test_what_no_script_can_hold(scheduler: str, changed: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        launcher(scheduler).render(replace(FULL, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scheduler", "key", "value"),
    [
        ("oar", "type", "a\n#OAR -t deploy"),
        ("oar", "besteffort", "perhaps"),
        ("oar", "checkpoint", "-3"),
        ("slurm", "partition", "a\nb"),
        ("slurm", "partition", "a\\b"),
        ("slurm", "sbatch", "exclusive"),
        ("slurm", "throttle", "0"),
        ("slurm", "account", "a\"b'c"),
    ],
)
def test_values_that_cant_be(scheduler: str, key: str, value: str) -> None:
    with pytest.raises(UsageError):
        launcher(scheduler).render(replace(FULL, options={key: (value,)}))


def test_memory_where_there_is_no_word_for_it() -> None:
    for scheduler in ("oar", "local"):
        with pytest.raises(UsageError, match="--memory"):
            launcher(scheduler).render(replace(FULL, memory_mib=1))
    told = replace(FULL, memory_mib=1, options={"resources": ("host=1",)})
    assert "-l host=1,walltime=1:30:00\n" in launcher("oar").render(told)


def test_an_unknown_scheduler() -> None:
    with pytest.raises(UsageError, match="did you mean slurm"):
        launcher("slrum")


@pytest.mark.parametrize(
    "word",
    ["", "a b", "it's", "$HOME `x` \"y\"", "a\nb", "\t\x1b[31m\x7f", "'\n'\\n", "é\u202e", "-n",
     "a\n0\n1f"],
)  # fmt: skip
def test_bash_reads_what_was_quoted(word: str) -> None:
    assert "\n" not in quoted(word)
    said = subprocess.run(
        ["bash", "-c", f"printf %s {quoted(word)} x"], stdout=subprocess.PIPE, check=True
    ).stdout
    assert said.decode() == word + "x"


def test_the_script_runs(tmp_path: Path) -> None:
    """With its secret, its variables, its setup, in its folder, and with exec."""
    workdir = tmp_path / "it's here"
    workdir.mkdir()
    (workdir / "secret").write_text("s3cret\n")
    launch = replace(
        FULL,
        workdir=str(workdir),
        minionize=("bash", "-c", 'printf "%s|" "$PWD" $$ "$GREETING" "$REDIS_PASSWORD" $SET "$@"'),
        secret_env={"REDIS_PASSWORD": "secret"},
        options={"setup": ("export SET=up",)},
    )
    path = tmp_path / "script"
    path.write_text(launcher("slurm").render(launch))
    process = subprocess.Popen(["bash", str(path)], stdout=subprocess.PIPE)
    said = process.communicate(timeout=180)[0].decode().split("|")
    assert said[:5] == [str(workdir), str(process.pid), "hello $USER", "s3cret", "up"]
    assert said[-2] == FULL.command[-1]
    (workdir / "secret").unlink()
    assert subprocess.run(["bash", str(path)], capture_output=True, check=False).returncode == 2


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
@pytest.mark.parametrize("text", [OAR, SLURM])
def test_shellcheck(text: str) -> None:
    ran = subprocess.run(
        ["shellcheck", "-"], input=text, text=True, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_clock_and_names() -> None:
    assert [clock(0.2), clock(59.5), clock(3600), clock(360000)] == [
        "0:00:01", "0:01:00", "1:00:00", "100:00:00",
    ]  # fmt: skip
    assert [file_name("my scan/x"), file_name("..."), file_name("-é-")] == [
        "my-scan-x", "minions", "minions",
    ]  # fmt: skip


def test_a_long_name_makes_no_file_that_cant_be(tmp_path: Path) -> None:
    """Schedulers take names of hundreds of letters."""
    path = Path(write_script(str(tmp_path), "n" * 300, "true\n"))
    assert path.read_text() == "true\n"
    assert len(path.name) < 150
