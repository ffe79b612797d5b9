"""The quick reading of a command line agrees with click's, wherever it does not leave it alone."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.cli.plain import read
from minionize.cli.usage import command
from minionize.settings.table import OPTIONS

FLAGS = [option.flag for option in OPTIONS] + ["--no-capture", "--header", "-q", "-j"]
WORDS = ["x", "", "-", "--", "-j4", "-qruns/a", "-x", "--help", "--version", "3=done", "a=b", "-jx"]
words = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(FLAGS).map(lambda flag: flag + "=v"),
    st.sampled_from(WORDS),
)


@given(st.lists(words, max_size=8))
def test_both_readings_agree(args: list[str]) -> None:
    plain = read(args)
    try:
        params = command.make_context("minionize", list(args)).params
    except (click.ClickException, click.exceptions.Exit):
        assert plain is None
        return
    if plain is not None:
        cmd, found = plain
        assert cmd == params.pop("cmd")
        assert found == {name: value for name, value in params.items() if value is not None}


@pytest.mark.parametrize(
    ("args", "cmd", "found"),
    [
        ("echo -j 4", ("echo", "-j", "4"), {}),
        ("-j 4 -qq --no-template --from=- -- -x {}", ("-x", "{}"), None),
        ("--on-exit 3=done --on-exit=4=dead true", ("true",), {"on_exit": "3=done,4=dead"}),
        ("--timeout -5 true", ("true",), {"timeout_s": "-5"}),
    ],
)
def test_what_is_plain(args: str, cmd: tuple[str, ...], found: dict[str, object] | None) -> None:
    if found is None:
        found = {"slots": "4", "queue": "q", "template": False, "from_file": "-"}
    assert read(args.split()) == (cmd, found)


@pytest.mark.parametrize(
    "args", ["", "--help", "-h x", "--slotz 4 x", "--slots", "-z", "--quiet=1"]
)
def test_what_is_left_to_click(args: str) -> None:
    assert read(args.split()) is None
