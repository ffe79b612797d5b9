"""What `pip install minionize` gives to people: commands, types, and no more than is stated."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parents[2]
STATED = {"asciichartpy", "click", "cloudpickle", "humanize", "python-dotenv", "pyyaml"}
"""A new one is a decision: it is installed on every login node of every user."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])"
    clean = folder / "clone"  # Building writes into its folder: not into the clone.
    git = ["git", "ls-files", "-coz", "--exclude-standard"]
    files = subprocess.run(git, cwd=CLONE, capture_output=True, text=True, check=False)
    if files.returncode:
        pytest.skip("this is no clone of git, which says what the files of the project are")
    for name in filter(None, files.stdout.split("\0")):
        if (CLONE / name).is_file():
            (clean / name).parent.mkdir(parents=True, exist_ok=True)
            (clean / name).write_bytes((CLONE / name).read_bytes())
    run([sys.executable, "-W", "ignore", "-c", code, str(folder)], cwd=clean)
    (sdist,) = folder.glob("*.tar.gz")
    (folder / "sdist").mkdir()
    run(["tar", "xzf", str(sdist), "-C", "sdist"], cwd=folder)
    (unpacked,) = (folder / "sdist").iterdir()
    run([sys.executable, "-W", "ignore", "-c", code.replace("sdist", "wheel"), str(folder)],
        cwd=unpacked)  # fmt: skip
    return folder


def run(cmd: list[str], cwd: Path) -> str:
    ended = subprocess.run(cmd, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def wheel_of(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def test_the_wheel_holds_the_package_its_types_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = wheel.namelist()
    assert "minionize/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"minionize"}
    sources = {path.relative_to(CLONE).as_posix() for path in (CLONE / "minionize").rglob("*.py")}
    tracked = run(["git", "ls-files", "minionize"], cwd=CLONE).split()
    assert {name for name in names if name.endswith(".py")} >= sources & set(tracked)


def test_the_sdist_holds_what_it_takes_to_work_on_it(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.rst", "CHANGELOG.rst", ".env.example", "tests/run.sh"} <= names
    assert {"examples/quickstart.sh", "docs/file-queue.md"} <= names


def test_no_more_is_required_than_is_stated(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        (metadata,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(wheel.read(metadata).decode())
    lines = said.get_all("Requires-Dist") or []
    required = {line.split(">=")[0].strip().lower() for line in lines if "extra ==" not in line}
    assert required == STATED
    extras = {"all", "dev", "execo", "google", "kubernetes", "pulsar", "redis"}
    assert set(said.get_all("Provides-Extra") or []) == extras
    assert said["Requires-Python"] == ">=3.10"
    assert said["License-Expression"] == "MIT"


def test_a_fresh_environment_has_the_three_commands(built: Path, tmp_path: Path) -> None:
    """With what `minionize` requires and nothing of what its tests do, it works."""
    fresh = tmp_path / "fresh"
    run([sys.executable, "-m", "venv", "--without-pip", str(fresh)], cwd=tmp_path)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python"]
    pip += [str(fresh / "bin" / "python"), "install", "-q"]
    ended = subprocess.run(
        [*pip, str(wheel_of(built))], capture_output=True, text=True, timeout=300, check=False
    )
    if "No matching distribution" in ended.stderr or "Connection" in ended.stderr:
        pytest.skip(f"pip reaches no index: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr

    commands = fresh / "bin"
    for command in ("minionize", "minion", "minion-status"):
        assert "Usage" in run([str(commands / command), "--help"], cwd=tmp_path)
    (tmp_path / "params.txt").write_text("a\nb\n")
    run([str(commands / "minion"), "feed", "params.txt"], cwd=tmp_path)
    assert run([str(commands / "minionize"), "echo"], cwd=tmp_path) == "a\nb\n"
    assert "_id" in run([str(commands / "minion"), "results"], cwd=tmp_path)
    assert "done" in run([str(commands / "minion-status")], cwd=tmp_path)

    code = "from importlib.metadata import distributions as d; print(*(x.name for x in d()))"
    there = {name.lower() for name in run([str(commands / "python"), "-c", code], tmp_path).split()}
    # asciichartpy asks for setuptools.
    assert there == STATED | {"minionize", "setuptools"}


def test_this_environment_has_the_commands_too() -> None:
    """The tests of examples and of the README type them."""
    for command in ("minionize", "minion", "minion-status"):
        assert (Path(sysconfig.get_path("scripts")) / command).exists()
