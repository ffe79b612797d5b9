"""Each sentence of docs/security.md names its test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/security.md"


def test_the_tests_that_the_page_names_are_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE.read_text())
    assert len(named) > 25
    for file, name in named:
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(), (file, name)


def test_each_row_names_one() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [^|]{3,}\|", line)]
    assert len(rows) > 15
    assert [row for row in rows if "::test_" not in row] == []


def test_no_test_of_trust_is_left_out() -> None:
    page = PAGE.read_text()
    for path in (ROOT / "tests/system").glob("test_trust_*.py"):
        for name in re.findall(r"def (test_\w+)\(", path.read_text()):
            assert f"{path.name}::{name}`" in page, name
