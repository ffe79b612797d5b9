"""Where checkpoints are, and when they go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minionize.errors import UsageError
from minionize.values import Lease
from minionize.worker.checkpoints import Checkpoints, check_root, checkpoints_of


def test_beside_a_queue_in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = checkpoints_of("file:q", "q", None)
    assert found is not None
    assert found.folder == f"{tmp_path}/q/checkpoints"
    (tmp_path / "q/checkpoints/1").mkdir(parents=True)
    found.settled([Lease("1", "1")])
    assert os.path.isdir(f"{found.folder}/1"), "that is the engine's to remove"


def test_nowhere() -> None:
    assert checkpoints_of("redis://host/0?stream=q", None, None) is None


def test_under_a_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def folder(url: str, queue_folder: str | None = None) -> str:
        found = checkpoints_of(url, queue_folder, "root")
        assert found is not None
        return found.folder

    urls = ["redis://host/0?stream=q", "redis://host/0?stream=r", "redis://host/0-stream=q"]
    assert len({folder(url) for url in urls}) == 3
    for url in urls:
        assert os.path.dirname(folder(url)) == f"{tmp_path}/root"
        assert folder(url) == folder(url)
    # However a folder is named from where one stands, it is the same one.
    assert folder("file:q", "q") == folder(f"file:{tmp_path}/q", f"{tmp_path}/q")
    (tmp_path / "sweeps").mkdir()
    assert folder("execo:sweeps") == folder(f"execo:{tmp_path}/sweeps")
    other = tmp_path / "other"
    (other / "sweeps").mkdir(parents=True)
    assert folder("execo:sweeps") != folder(f"execo:{other}/sweeps")


def test_gone_when_acked(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path / "of-queue"), ours=True)
    checkpoints.settled([Lease("1", "1")])  # nobody ever made one
    for name in "123":
        (tmp_path / "of-queue" / name / "deep").mkdir(parents=True)
    (tmp_path / "of-queue/1/deep/state").write_text("x")
    checkpoints.settled([Lease("1", "1"), Lease("3", "3"), Lease("4", "4")])
    assert os.listdir(tmp_path / "of-queue") == ["2"]


def test_a_root_is_made(tmp_path: Path) -> None:
    check_root(f"{tmp_path}/a/b")
    check_root(f"{tmp_path}/a/b")
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize(("root", "why"), [("file", "is no folder"), ("file/a", "can't be made")])
def test_a_root_that_can_be_none(tmp_path: Path, root: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=why) as caught:
        check_root(f"{tmp_path}/{root}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("root", "why"), [("mine", "can't be written from here: get"), ("mine/a", "Permission denied")]
)
def test_a_root_of_somebody_else(tmp_path: Path, root: str, why: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine").chmod(0o555)
    for above in tmp_path.parents:
        if above.owner() == tmp_path.owner() and above.name:
            above.chmod(above.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\nfrom minionize.worker.checkpoints import check_root\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "check_root(sys.argv[1])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, f"{tmp_path}/{root}"],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert "UsageError: --checkpoint-root" in ran.stderr
    assert why in ran.stderr
