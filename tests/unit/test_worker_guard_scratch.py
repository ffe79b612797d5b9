"""The folder of a minion that its guard removes in the end: that one, and nothing else."""

from __future__ import annotations

from pathlib import Path

from minionize.worker.guard import Guard


def _after_a_guard_of(scratch: Path) -> None:
    guard = Guard.start()
    guard.arm("", scratch=str(scratch))
    guard.close()


def test_it_goes_with_its_files(tmp_path: Path) -> None:
    scratch = tmp_path / "minion-m"
    scratch.mkdir()
    (scratch / "m.0123456789ab.json").write_text('"a result"')
    (scratch / ".m.ba9876543210.json.tmp").write_text('"half a res')
    _after_a_guard_of(scratch)
    assert not list(tmp_path.iterdir())


def test_a_link_in_its_place_leads_to_nothing_that_goes(tmp_path: Path) -> None:
    """TMPDIR may be a folder where others write."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("of somebody else")
    (tmp_path / "minion-m").symlink_to(tmp_path / "other")
    _after_a_guard_of(tmp_path / "minion-m")
    assert (tmp_path / "other" / "file").exists()


def test_a_path_that_is_too_long_is_not_cut_to_that_of_another_folder(tmp_path: Path) -> None:
    deep = tmp_path
    while len(str(deep)) < 900:
        deep = deep / ("d" * 50)
    deep = deep / ("d" * (1022 - len(str(deep))))
    deep.mkdir(parents=True)
    assert len(str(deep)) == 1023
    (deep / "file").write_text("of somebody else")
    _after_a_guard_of(deep / "minion-m")
    assert (deep / "file").exists()
