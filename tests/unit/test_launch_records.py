"""Launches on record, and the files that their minions write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from minionize.errors import UsageError
from minionize.launch import files, records
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted

SUBMITTED = Submitted(
    "slurm", ("12", "13"), "scan", "file:/q", 30, at=1000.5, user="ann", host="front",
    logs=("/q/launches/logs/scan.12_*.out",), details={"cluster": "t"},
)  # fmt: skip


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of these tests alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_what_is_remembered_is_read_again(tmp_path: Path) -> None:
    folder = str(tmp_path / "launches")
    first = records.remember(folder, SUBMITTED)
    assert first.id == "slurm-12"
    assert records.recorded(folder) == [first]
    assert records.recorded(folder)[0].submitted == SUBMITTED


def test_two_clusters_with_one_number(tmp_path: Path) -> None:
    ids = [records.remember(str(tmp_path), SUBMITTED).id for _ in range(3)]
    assert ids == ["slurm-12", "slurm-12-2", "slurm-12-3"]
    records.forget(str(tmp_path), records.Record(ids[1], SUBMITTED))
    assert [record.id for record in records.recorded(str(tmp_path))] == [ids[0], ids[2]]


def test_of_one_queue_oldest_first(tmp_path: Path) -> None:
    def made(job: str, queue: str, at: float) -> records.Record:
        submitted = Submitted("oar", (job,), "scan", queue, 1, at=at)
        return records.remember(str(tmp_path), submitted)

    new, old = made("1", "redis://a", 20.0), made("2", "redis://a", 10.0)
    made("3", "redis://b", 5.0)
    assert records.recorded(str(tmp_path), "redis://a") == [old, new]


def test_what_others_may_write_since_is_believed_as_long_as_it_is_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `chmod -R g+w`, or where a node has given a volume to the group of its pods."""
    # The folders above are the system's, and others may write some of them.
    monkeypatch.setattr(records, "can_be_replaced", lambda path: False)
    folder = tmp_path / "launches"
    record = records.remember(str(folder), SUBMITTED)
    path = folder / f"{record.id}.json"
    path.chmod(0o666)
    told: list[str] = []
    assert records.recorded(str(folder), tell=told.append) == [record]
    assert told == []
    path.write_text(path.read_text().replace('"12"', '"14"'))
    assert records.recorded(str(folder), tell=told.append) == []
    assert "chmod go-w" in told[0]
    # Nor is one whose digest another could have put there.
    monkeypatch.setattr(records, "can_be_replaced", lambda path: True)
    path.write_text(path.read_text().replace('"14"', '"12"'))
    assert records.recorded(str(folder)) == []


@pytest.mark.parametrize("cut", [1, 50, 150, 250])
def test_a_record_that_was_cut_off_is_passed_over(tmp_path: Path, cut: int) -> None:
    record = records.remember(str(tmp_path), SUBMITTED)
    path = tmp_path / f"{record.id}.json"
    path.write_bytes(path.read_bytes()[:cut])
    assert records.recorded(str(tmp_path)) == []
    assert records.remember(str(tmp_path), SUBMITTED).id == "slurm-12-2"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 1}', '{"version": 2, "scheduler": "slurm"}']
)
def test_what_cant_be_read_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "slurm-1.json").write_text(text)
    good = records.remember(str(tmp_path), SUBMITTED)
    assert records.recorded(str(tmp_path)) == [good]


@pytest.mark.parametrize("key", ["details", "minions", "at", "job_ids", "logs"])
def test_wrong_types_are_passed_over(tmp_path: Path, key: str) -> None:
    record = records.remember(str(tmp_path), SUBMITTED)
    path = tmp_path / f"{record.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: "odd"}))
    assert records.recorded(str(tmp_path)) == []


def test_no_folder(tmp_path: Path) -> None:
    assert records.recorded(str(tmp_path / "none")) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="submitted as 12 13, but"):
        records.remember(str(tmp_path / "file"), SUBMITTED)


def test_a_hidden_folder_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the system's answer, since root may read any folder."""

    def refused(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.listdir", refused)
    with pytest.raises(UsageError, match=r"Permission denied: you need the right to read it"):
        records.recorded(str(tmp_path))


def test_where_they_are() -> None:
    assert records.folder_of("/shared/q", {}) == "/shared/q/launches"
    assert records.folder_of(None, {"XDG_STATE_HOME": "/s"}) == "/s/minionize/launches"
    assert records.folder_of(None, {}).endswith("/.local/state/minionize/launches")


def test_patterns_of_logs() -> None:
    launch = Launch(command=("true",))
    slurm = files.submitted(launch, "slurm", ["7", "8"], "/q [1] 50%%/scan.%A_%a.out")
    assert slurm.logs == ("/q [[]1] 50%/scan.7_*.out", "/q [[]1] 50%/scan.8_*.out")


def test_lines_of_files(tmp_path: Path) -> None:
    for job, text in (("7_10", "ten\n"), ("7_9", "nine\nno end"), ("8_1", "other\n")):
        (tmp_path / f"scan.{job}.out").write_text(text)
    found = Submitted("slurm", ("7",), "scan", "q", 2, logs=(f"{tmp_path}/scan.7_*.out",))
    lines = list(files.lines(found, follow=False, states=list))
    assert lines == [LogLine("7_9", "nine"), LogLine("7_10", "ten"), LogLine("7_9", "no end")]


def test_lines_are_followed_until_nobody_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ASK_EVERY_S", 0.1)
    path = tmp_path / "scan.7_1.out"
    path.write_bytes(b"first\n" + "é".encode()[:1])
    looks = 0

    def states() -> Sequence[Job]:
        nonlocal looks
        looks += 1
        if looks == 2:
            with path.open("ab") as file:
                file.write("é".encode()[1:] + b"\nlast\n")
        return [Job("7_1", JobState.RUNNING if looks < 2 else JobState.ENDED)]

    found = Submitted("slurm", ("7",), "scan", "q", 1, logs=(str(path),))
    lines = [line.text for line in files.lines(found, follow=True, states=states)]
    assert lines == ["first", "é", "last"]


def _logged(folder: Path) -> Submitted:
    return files.submitted(
        Launch(minions=3, queue="file:/q"), "slurm", ["7"], f"{folder}/scan.%A_%a.out"
    )


def test_a_file_that_cant_be_read_is_told_once_and_the_others_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "a [b] *"
    folder.mkdir()
    (folder / "scan.7_1.out").write_text("one\n")
    (folder / "scan.7_2.out").mkdir()
    (folder / "scan.7_3.out").write_text("three\n")
    asked = 0

    def states() -> Sequence[Job]:
        nonlocal asked
        asked += 1
        return [Job("7_1", JobState.RUNNING if asked == 1 else JobState.ENDED)]

    files_every_s, files.ASK_EVERY_S = files.ASK_EVERY_S, 0.0
    try:
        found = list(files.lines(_logged(folder), follow=True, states=states))
    finally:
        files.ASK_EVERY_S = files_every_s
    why = f"{folder}/scan.7_2.out can't be read: Is a directory; ask its owner for it"
    assert found == [
        LogLine("7_1", "one"), LogLine("7_2", why, unread=True), LogLine("7_3", "three"),
    ]  # fmt: skip


def test_what_is_not_there_yet_is_nothing_to_tell(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", tmp_path / "[x]"):
        assert list(files.lines(_logged(folder), follow=False, states=list)) == []


def test_a_folder_that_hides_its_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    (found,) = files.lines(_logged(tmp_path / "logs"), follow=False, states=list)
    assert found.unread
    assert found.text.startswith(f"{tmp_path}/logs can't be read: Not a directory; ")
