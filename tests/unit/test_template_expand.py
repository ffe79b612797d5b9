"""Params become arguments: what is appended, what names stand for, and what stays as it is."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minionize.callbacks.template import MAX_ARGUMENT, LacksName, Template
from minionize.errors import Reject
from minionize.values import to_text

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts
)
params = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)


def expand(words: list[str], param: Any, **options: Any) -> list[str]:
    return Template(words, **options).expand(to_text(param), "17", 2, 3)


@given(st.lists(texts.filter(lambda text: "{" not in text)), params)
def test_what_is_appended_arrives_as_it_is(words: list[str], param: Any) -> None:
    found = expand(words, param)
    assert found[: len(words)] == words
    values = param if isinstance(param, list) else [param]
    assert len(found) == len(words) + len(values)
    for argument, value in zip(found[len(words) :], values, strict=True):
        if isinstance(value, str):
            assert argument == value
        else:
            assert json.loads(argument) == value


@given(st.text(alphabet="ab ${}.[]/0\n'\"-"), params)
@example("${HOME}{1..3}{ print }{{.Id}}{a,b}{-a}{0}{[a]}{a.}{a..b}{[0]x}{///}", 5)
def test_text_without_names_stays(word: str, param: Any) -> None:
    """Everything that is no name of ours comes out as it went in; an independent, slow reading
    of the rules says which those are."""
    expected = plain_reading(word)
    if expected is None:
        return
    assert Template([word], appends=False).expand(to_text(param), "17", 2, 3) == [expected]


NAME = re.compile(r"|\.|/|//|/\.|([a-z][a-z0-9-]*|\[\d+\])(\.[a-z][a-z0-9-]*|\[\d+\])*")


def plain_reading(word: str) -> str | None:
    """The text that a word stands for if it takes nothing of the param, else None."""
    out = ""
    at = 0
    while at < len(word):
        if word[at] != "{":
            out += word[at]
            at += 1
            continue
        if word[at - 1 : at] == "$" and at:
            while word[at : at + 1] == "{":
                out += "{"
                at += 1
            continue
        for braces in (3, 2, 1):
            if word[at : at + braces] != "{" * braces:
                continue
            end = word.find("}", at)
            inside = word[at + braces : end]
            if end < 0 or word[end : end + braces] != "}" * braces or not NAME.fullmatch(inside):
                continue
            if braces != 2:
                return None
            out += "{" + inside + "}"
            at = end + braces
            break
        else:
            out += "{"
            at += 1
    return out


@given(params)
def test_the_whole_param_is_one_argument(param: Any) -> None:
    (argument,) = expand(["{}"], param)
    assert argument == param if isinstance(param, str) else json.loads(argument) == param
    assert expand(["<{}|{}>"], param) == [f"<{argument}|{argument}>"]


@given(texts, scalars)
def test_values_never_become_syntax(text: str, value: Any) -> None:
    """A value that looks like a name, an option or a list of words is one argument still."""
    found = expand(["x", "-{a}", "{a}{b}"], {"a": text, "b": value})
    shown = value if isinstance(value, str) else to_text(value)
    assert found == ["x", f"-{text}", text + shown]


@pytest.mark.parametrize(
    ("word", "param", "argument"),
    [
        ("{}", "a b", "a b"),
        ("{}", True, "true"),
        ("{}", None, "null"),
        ("{}", 0.1, "0.1"),
        ("{}", [1, "x"], '[1,"x"]'),
        ("{lr}", {"lr": 0.1}, "0.1"),
        ("{n}", {"n": None}, "null"),
        ("{batch-size}", {"batch-size": 8}, "8"),
        ("{größe}", {"größe": 8}, "8"),
        ("{opt.lr}", {"opt": {"lr": [1]}}, "[1]"),
        ("{xs[1]}", {"xs": [4, 5]}, "5"),
        ("{xs[1].y[0]}", {"xs": [4, {"y": ["z"]}]}, "z"),
        ("{[0]}-{[1].a}", [1, {"a": 2}], "1-2"),
        ("{[1][0]}", [1, [7]], "7"),
        ("{id}/{attempt}/{slot}", 5, "17/2/3"),
        ("{id}", {"id": "its own"}, "17"),
        ("{{name}}", {"name": 1}, "{name}"),
        ("{{}}", 1, "{}"),
        ("{{{name}}}", {"name": 1}, "{1}"),
        ('{{"a":{a}}', {"a": 1}, '{{"a":1}'),
        ("{.}", "dir.d/pic.tar.gz", "dir.d/pic.tar"),
        ("{.}", "dir.d/pic", "dir.d/pic"),
        ("{/}", "dir/pic.gz", "pic.gz"),
        ("{/.}", "dir/pic.gz", "pic"),
        ("{//}", "dir/sub/pic.gz", "dir/sub"),
        ("{//}", "pic.gz", "."),
        ("{//}", "/pic.gz", "/"),
        ("{//}", "dir/sub/", "dir"),
    ],
)
def test_names(word: str, param: Any, argument: str) -> None:
    assert expand(["x", word], param, appends=False) == ["x", argument]


@pytest.mark.parametrize(
    "word",
    [
        "${HOME}",
        "{1..3}",
        "{ print }",
        "{{.Id}}",
        "${{x}}",
        "{a,b}",
        "{ x = $1 }",
        "{",
        "}{",
        "{0}",
    ],
)
def test_no_names(word: str) -> None:
    assert expand([word], 5) == [word, "5"]


def test_names_take_the_place_of_what_would_be_appended() -> None:
    assert expand(["x", "{id}"], [1, 2]) == ["x", "17"]
    assert expand(["x", "{{id}}"], [1, 2]) == ["x", "{id}", "1", "2"]


def test_no_template() -> None:
    assert expand(["x", "{}", "{{a}}"], 5, braces=False) == ["x", "{}", "{{a}}", "5"]


def test_an_empty_list_appends_nothing() -> None:
    assert expand(["x"], []) == ["x"]


def test_blanks_around_json() -> None:
    template = Template(["x"])
    assert template.expand(' "a b" ', "1", 1, 0) == ["x", "a b"]
    assert template.expand(' [1, "a"]', "1", 1, 0) == ["x", "1", "a"]
    assert template.expand(" 0.10", "1", 1, 0) == ["x", "0.10"]


def test_numbers_stay_as_they_were_written() -> None:
    digits = "9" * 5000
    assert Template(["x", "{}"]).expand(digits, "1", 1, 0) == ["x", digits]
    assert Template(["x"]).expand("1e5", "1", 1, 0) == ["x", "1e5"]


@pytest.mark.parametrize(
    ("word", "param"),
    [
        ("{a}", {"b": 1}),
        ("{a}", 5),
        ("{a}", [1]),
        ("{a.b}", {"a": 5}),
        ("{[2]}", [1, 2]),
        ("{[0]}", {"0": 1}),
        ("{a[0]}", {"a": "text"}),
        ("{.}", 5),
        ("{/}", {"a": 1}),
    ],
)
def test_lacking_names(word: str, param: Any) -> None:
    with pytest.raises(LacksName, match=re.escape(word)):
        expand([word], param)


@pytest.mark.parametrize("words", [["x"], ["x", "{}"], ["x", "{a}"], ["x{a}y"]])
@pytest.mark.parametrize("bad", ["a\0b", "\0", "\ud800", "ok \udc7f", "\udd00"])
def test_what_cant_be_an_argument(words: list[str], bad: str) -> None:
    param: Any = {"a": bad} if "{a}" in words[-1] else bad
    with pytest.raises(Reject, match="--stdin"):
        expand(words, param)


@pytest.mark.parametrize("words", [["x"], ["x", "{}"], ["x", "{a}"], ["x{a}y"], ["{/}"]])
def test_bytes_that_are_no_utf_8_are_themselves(words: list[str]) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9\xff")
    param: Any = {"a": name} if "{a}" in words[-1] else name
    assert name in expand(words, param)[-1]


def test_parts_of_a_path_that_is_no_utf_8() -> None:
    name = os.fsdecode(b"d\xff/caf\xe9.t\xfe.gz")
    found = [os.fsencode(word) for word in expand(["{.}", "{/}", "{//}", "{/.}"], name)]
    assert found == [b"d\xff/caf\xe9.t\xfe", b"caf\xe9.t\xfe.gz", b"d\xff", b"caf\xe9.t\xfe"]


def test_nul_inside_json_is_fine() -> None:
    assert expand(["x"], {"a": "\0"}) == ["x", '{"a":"\\u0000"}']


def test_the_longest_argument() -> None:
    assert expand(["x"], "y" * MAX_ARGUMENT) == ["x", "y" * MAX_ARGUMENT]
    for words, param in [
        (["x"], "y" * (MAX_ARGUMENT + 1)),
        (["x"], "é" * (MAX_ARGUMENT // 2 + 1)),
        (["{a}" * 7], {"a": "y" * (MAX_ARGUMENT // 6)}),
        (["z" * 100 + "{}"], "y" * (MAX_ARGUMENT - 50)),
    ]:
        with pytest.raises(Reject, match="128 KiB"):
            expand(words, param)


def test_all_arguments_together() -> None:
    with pytest.raises(Reject, match="command line"):
        expand(["x"], ["y" * 1000] * 100, max_bytes=100_000)
    assert len(expand(["x"], ["y" * 1000] * 100, max_bytes=110_000)) == 101
