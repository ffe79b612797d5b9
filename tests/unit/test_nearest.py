"""Which names are near enough to be suggested."""

from __future__ import annotations

import pytest

from minionize.nearest import nearest
from minionize.settings.table import BY_KEY

KNOWN = [*BY_KEY, "retries", "command", "launch"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("slot", "slots"),
        ("sltos", "slots"),
        ("Queue", "queue"),
        ("retry", "retries"),
        ("attempts", "max-attempts"),
        ("comand", "command"),
        ("lunch", "launch"),
        ("spe", "sep"),
        ("tyt", "tty"),
    ],
)
def test_a_slip_is_recognised(name: str, meant: str) -> None:
    assert nearest(name, KNOWN) == meant


@pytest.mark.parametrize(
    "name", ["threads", "port", "workers", "cores", "partition", "debug", "host", "x", "", "日本"]
)
def test_what_is_something_else_is_left_alone(name: str) -> None:
    assert nearest(name, KNOWN) is None


def test_nothing_is_near_to_nothing() -> None:
    assert nearest("slots", []) is None
