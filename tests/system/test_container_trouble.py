"""`minionize --image` where something is wrong: with the name, the image, or what runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from services.container_bench import MINION, ROOT, Bench
from services.podman import BASE

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.values import State

NO_NAMES = ("a b", "UPPER", "a:b:c", "é", "https://x/y", "a" * 300)
"""Of images."""


def one_line(said: str) -> str:
    (line,) = said.splitlines()
    assert line.isprintable()
    return line


def test_what_is_wrong_with_the_minion_costs_no_param_an_attempt(bench: Bench) -> None:
    bench.put(1, 2)
    bench.run("nope", status=127)
    assert f"program nope is not there in image {BASE}: mend CMD, or the image" in bench.said
    bench.run("/etc", status=126)
    bench.run("--container-option", "memory=lots", "true", status=70)
    assert "podman can't run" in bench.said and "lots" in bench.said
    bench.run("--image", "localhost/no-such", "true", status=127)
    assert "image localhost/no-such is not here" in bench.said
    queue = open_queue(f"file:{bench.folder}/q", EngineOptions())
    assert [(entry.param, entry.attempt) for entry in queue.scan(State.WAITING)] == [(1, 1), (2, 1)]
    queue.close()
    bench.put("nope")
    bench.run("--max-attempts", "1", "{}", status=1)
    assert bench.dead()["nope"] == "its program is not there in the image"


def names(bench: Bench) -> None:
    """What can be no image's name is wrong usage, whoever says so."""
    bench.put(1)
    for name in NO_NAMES:
        bench.run("--image", name, "true", status=2)
        said = bench.said.replace(f"image {name} is not here yet", "").splitlines()[-1]
        assert said.startswith("minionize: --image ") and said.endswith(": name an image")
        assert said.isprintable()
    bench.run("--image", "localhost/no-such", "true", status=127)
    assert "image localhost/no-such is not here, and" in bench.said
    assert bench.stats().waiting == 1


def test_a_name_that_no_image_can_have_is_wrong_usage(bench: Bench) -> None:
    names(bench)


def test_docker_knows_such_names_too(docked: Bench) -> None:
    names(docked)


def test_a_docker_without_its_daemon_is_named_with_the_remedy(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    if shutil.which("docker") is None:
        needs_server("docker is missing: apt-get install docker.io")
    bench = Bench(tmp_path, {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none"}, "docker")
    bench.put(1)
    bench.run("true", status=70)
    said = one_line(bench.said)
    assert said.startswith("minionize: docker does not work here (") and f"{tmp_path}/none" in said
    assert said.endswith("mend or start it, or name another one with --runtime")
    assert bench.stats().waiting == 1


def started(code: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Where no runtime is on PATH."""
    (folder / "bin").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=folder, text=True, capture_output=True,
        env={"PATH": str(folder / "bin"), "PYTHONPATH": ROOT}, check=False,
    )  # fmt: skip


def test_where_nothing_runs_containers_a_line_says_what_to_install(tmp_path: Path) -> None:
    queue = open_queue(f"file:{tmp_path}/q", EngineOptions())
    queue.put([1])
    queue.close()
    args = ["-q", "q", "--image", "base"]
    ran = started(MINION, tmp_path, *args, "true")
    remedy = "an image needs podman, docker or apptainer, and none of them is on PATH: install one"
    assert (ran.returncode, one_line(ran.stderr)) == (2, f"minionize: {remedy}")
    for name, why in (
        ("docker", "is not on PATH: install it, or name another one"),
        ("/opt/podman", "is not there: install it, or name another one"),
        ("lxc", "is none of podman, docker, apptainer"),
        ("", "is none of podman, docker, apptainer"),
    ):
        ran = started(MINION, tmp_path, *args, "--runtime", name, "true")
        shown = name or "''"
        assert (ran.returncode, one_line(ran.stderr)) == (2, f"minionize: --runtime {shown} {why}")
    launched = "from minionize.cli.minion import main; main()"
    ran = started(launched, tmp_path, "launch", "local", "-n", "2", *args, "--", "true")
    assert (ran.returncode, one_line(ran.stderr)) == (2, f"minion launch: {remedy}")
    ran = started("from minionize import ContainerCallback; ContainerCallback('x')", tmp_path)
    assert ran.stderr.splitlines()[-1] == f"minionize.errors.UsageError: {remedy}"


@pytest.mark.parametrize(("kind", "name"), [
    ("docker", "a b"), ("docker", "a\n"), ("podman", ""), ("podman", "base "),
    ("podman", "\x1b[31m"), ("apptainer", "--rm"),
])  # fmt: skip
def test_no_name_is_found_out_before_anything_is_asked(
    tmp_path: Path, kind: str, name: str
) -> None:
    (tmp_path / "bin").mkdir()
    runtime = tmp_path / "bin" / kind
    runtime.write_text(f"#!/bin/sh\n[ $1 = --version ] || echo $1 >>{tmp_path}/asked\n")
    runtime.chmod(0o755)
    (tmp_path / "params").write_text("1\n")
    args = ["--from", "params", "--image", name, "--runtime", kind]
    for more in ([], ["--dry-run"]):
        ran = started(MINION, tmp_path, *args, *more, "true")
        said = one_line(ran.stderr)
        assert ran.returncode == 2, said
        assert said.startswith("minionize: --image ") and said.endswith(": name an image")
    assert not (tmp_path / "asked").exists()
