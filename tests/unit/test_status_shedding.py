"""Old files of a report go; what is young, written to, or no file of a report stays."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from minionize.status.read import Faults
from minionize.status.shedding import Shed, lowest_done_since, remove_old_files

NOW = 1_700_000_000.0


def part(folder: Path, name: str, written_s: float, *events: tuple[str, float, str]) -> Path:
    """A file of events, of a minion that began at NOW - 1000."""
    header = {"minionize-report": 1, "minion": "m", "host": "h", "pid": 1, "slots": 1,
              "command": "x", "began": NOW - 1000}  # fmt: skip
    values = [header, *([kind, at_s, id_, 1, 0, 0.1] for kind, at_s, id_ in events)]
    lines = [json.dumps(value, separators=(",", ":")) for value in values]
    path = folder / name
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    os.utime(path, (written_s, written_s))
    return path


def test_what_was_done_since(tmp_path: Path) -> None:
    part(tmp_path, "m.0001.jsonl.gz", NOW - 500, ("a", 400, "1"), ("a", 500, "2"))
    part(tmp_path, "m.0002.jsonl", NOW, ("a", 600, "9"), ("g", 990, "3"), ("d", 990, "4"),
         ("a", 900, "7"), ("a", 950, "8"), ("a", 950, "a-12"))  # fmt: skip
    (tmp_path / "m.0003.jsonl").write_bytes(b'["a",950,"5"]\nnoise\n["a",\n')
    faults = Faults()
    assert lowest_done_since(tmp_path, NOW - 2000, faults) == 1
    assert lowest_done_since(tmp_path, NOW - 450, faults) == 7
    assert lowest_done_since(tmp_path, NOW - 60, faults) == 8
    assert lowest_done_since(tmp_path, NOW, faults) is None
    assert lowest_done_since(tmp_path / "none", NOW, faults) is None


def test_a_file_that_is_young_stays_whole(tmp_path: Path) -> None:
    old = part(tmp_path, "m.0001.jsonl.gz", NOW - 500)
    young = part(tmp_path, "m.0002.jsonl", NOW - 100)
    roll = part(tmp_path, "m.roll", NOW - 500)
    size = old.stat().st_size
    assert remove_old_files(tmp_path, NOW - 400, ()) == Shed(1, size)
    assert not old.exists() and young.exists() and roll.exists()
    assert remove_old_files(tmp_path, NOW - 50, ()).files == 2
    assert list(tmp_path.iterdir()) == []


def test_what_a_minion_writes_to_stays(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        part(tmp_path, f"m.{number:04d}.jsonl", NOW - 500)
    part(tmp_path, "m.roll", NOW - 500)
    part(tmp_path, "n.0001.jsonl", NOW - 500)
    part(tmp_path, "n.roll", NOW - 500)
    part(tmp_path, "alone.roll", NOW - 500)
    assert remove_old_files(tmp_path, NOW, {"m"}).files == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.0003.jsonl", "m.roll"]


def test_both_of_a_part_and_its_packed_twin_go(tmp_path: Path) -> None:
    part(tmp_path, "m.0001.jsonl", NOW - 500)
    part(tmp_path, "m.0001.jsonl.gz", NOW - 500)
    assert remove_old_files(tmp_path, NOW, ()).files == 2
    assert list(tmp_path.iterdir()) == []


def test_other_files_folders_and_links_stay(tmp_path: Path) -> None:
    victim = part(tmp_path, "victim", NOW - 500)
    report = tmp_path / "report"
    report.mkdir()
    (report / "m.0001.jsonl").symlink_to(victim)
    (report / "m.roll").symlink_to(victim)
    (report / "n.0001.jsonl").mkdir()
    for name in ("notes.txt", ".m.roll.tmp", "m.jsonl", "jobs.csv"):
        part(report, name, NOW - 500)
    before = sorted(path.name for path in report.iterdir())
    assert remove_old_files(report, NOW, ()) == Shed(0, 0)
    assert sorted(path.name for path in report.iterdir()) == before
    assert victim.exists()


def test_a_folder_behind_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    old = part(tmp_path / "real", "m.0001.jsonl", NOW - 500)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError, match="it is a link"):
        remove_old_files(tmp_path / "link", NOW, ())
    assert old.exists()
    assert remove_old_files(tmp_path / "none", NOW, ()) == Shed(0, 0)


def result(folder: Path, name: str, written_s: float) -> Path:
    """The file of a large result."""
    path = folder / "results" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("[1]")
    os.utime(path, (written_s, written_s))
    return path


def naming(path: Path, *results: str) -> None:
    """Lines of events that name these results, at the end of a file of events."""
    written_s = path.stat().st_mtime
    lines = [f'["a",100,"{number}",1,0,0.1,{{"result_file":"{name}"}}]\n'
             for number, name in enumerate(results, 1)]  # fmt: skip
    raw = path.read_bytes()
    packed = path.name.endswith(".gz")
    more = "".join(lines).encode()
    path.write_bytes(raw + (gzip.compress(more) if packed else more))
    os.utime(path, (written_s, written_s))


def hexed(number: int) -> str:
    return f"m.{number:012x}.json"


def test_large_results_go_with_the_events_that_name_them(tmp_path: Path) -> None:
    naming(part(tmp_path, "m.0001.jsonl.gz", NOW - 500), hexed(1), hexed(2), "../m.roll")
    naming(part(tmp_path, "m.0002.jsonl", NOW - 450), hexed(3))
    naming(part(tmp_path, "m.0003.jsonl", NOW - 500), hexed(4))  # that the minion writes to
    part(tmp_path, "m.roll", NOW - 500)
    for number in (1, 2, 3, 4, 5):
        result(tmp_path, hexed(number), NOW - 600)
    assert remove_old_files(tmp_path, NOW - 480, {"m"}).files == 3
    left = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert left == [hexed(3), hexed(4), hexed(5)]
    assert (tmp_path / "m.roll").exists()


def test_results_of_a_minion_without_events_go(tmp_path: Path) -> None:
    """One that no event names is of a run that did not get to its end."""
    naming(part(tmp_path, "m.0001.jsonl", NOW - 500), hexed(1))
    naming(part(tmp_path, "n.b.0001.jsonl", NOW), "n.b.00000000000a.json")
    for name in (hexed(1), hexed(2), f".{hexed(3)}.tmp", "n.b.00000000000a.json",
                 "n.b.00000000000b.json", "of a person.json"):  # fmt: skip
        result(tmp_path, name, NOW - 600)
    young = result(tmp_path, hexed(4), NOW)
    assert remove_old_files(tmp_path, NOW - 100, ()).files == 4
    left = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert left == [young.name, "n.b.00000000000a.json", "n.b.00000000000b.json",
                    "of a person.json"]  # fmt: skip


def test_results_behind_a_link_stay(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    report = tmp_path / "report"
    report.mkdir()
    mine = result(tmp_path, hexed(1), NOW - 600)
    (report / "results").symlink_to(mine.parent)
    part(report, "m.0001.jsonl", NOW - 500)
    with pytest.raises(OSError):
        remove_old_files(report, NOW, ())
    assert mine.exists()
