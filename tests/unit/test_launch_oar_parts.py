"""OAR: whose a job is, and which took whose place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minionize.errors import UsageError
from minionize.launch import Launch, oar
from minionize.launch.oar_states import is_of, is_told
from minionize.launch.script import write_script
from minionize.launch.values import Submitted

ROW: dict[str, Any] = {
    "name": "scan", "command": "'/my q/scan-1.sh' minionize=0af3", "submissionTime": 990,
    "resubmit_job_id": 0, "state": "Running",
}  # fmt: skip


def launched(*ids: str, mark: str = "0af3") -> Submitted:
    details = {"mark": mark} if mark else {}
    return Submitted("oar", ids, "scan", "file:/q", len(ids), at=1000.0, details=details)


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"submissionTime": 5}, True),  # the mark says it
        ({"name": "scans"}, False),
        ({"name": None}, False),
        ({"command": "'/my q/scan-1.sh' minionize=0af4"}, False),
        ({"command": "'/my q/scan-1.sh'"}, False),
        ({"command": "echo minionize=0af3 else"}, False),
        ({"command": None}, False),
    ],
)
def test_name_and_mark_must_agree(change: dict[str, Any], ours: bool) -> None:
    assert is_of({**ROW, **change}, launched("7")) is ours


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"submissionTime": "1010"}, True),
        ({"submissionTime": 300}, False),
        ({"submissionTime": 1100}, False),
        ({"submissionTime": 5000, "resubmit_job_id": 7}, True),
        ({"submissionTime": None}, False),
        ({"name": "scans"}, False),
    ],
)
def test_a_record_of_an_older_version_has_its_name_and_its_time(
    change: dict[str, Any], ours: bool
) -> None:
    assert is_of({**ROW, **change}, launched("7", mark="")) is ours


def test_who_took_whose_place() -> None:
    rows = {
        "12": {**ROW, "resubmit_job_id": 9},
        "9": {**ROW, "resubmit_job_id": "7"},
        "7": ROW,
        "8": {**ROW, "name": "theirs"},
        "10": {**ROW, "name": "theirs", "resubmit_job_id": 8},
    }
    assert list(oar._ours(rows, [launched("7", "8")])) == ["7", "9", "12"]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], False),
        ([{"type": "SIGNAL_INT"}], True),
        ([{"type": "SIGNAL_INT"}, {"type": "SIG_ERROR"}], False),
        ([{"type": "FRAG_JOB_REQUEST"}], True),
        (None, False),
    ],
)
def test_whether_a_cancel_took(events: list[dict[str, str]] | None, told: bool) -> None:
    assert is_told({**ROW, "events": events}) is told


@pytest.mark.parametrize("mask", [0o022, 0o177, 0o777])
def test_a_script_can_be_executed_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        path = write_script(str(tmp_path), "scan", "#!/bin/sh\n")
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o700 == 0o700


def test_what_can_not_be_executed_is_not_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is mounted noexec. OAR would take it."""
    monkeypatch.setattr(os, "access", lambda path, how: how != os.X_OK)
    launch = Launch(command=("true",), folder=str(tmp_path))
    with pytest.raises(UsageError, match=r"can't be executed, .* without noexec"):
        oar.submit(launch)
