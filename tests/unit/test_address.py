"""URLs of brokers: their pieces, and that no message ever shows a secret of theirs."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.engines.address import (
    credential,
    has_password,
    parse,
    with_parameters,
    without_credentials,
)
from minionize.errors import UsageError

KNOWN = ("stream", "decoder", "subscription", "admin", "db")


def test_pieces_of_a_url() -> None:
    url = "Redis://ada:p%40ss%2F@[::1]:6380/2?stream=a%20b&decoder="
    found = parse(url, KNOWN)
    assert found._replace(parameters={}) == (
        "redis", "ada", "p@ss/", "::1", 6380, "[::1]:6380", "2", {},
    )  # fmt: skip
    assert found.parameters == {"stream": "a b", "decoder": ""}


def test_several_hosts_and_none() -> None:
    found = parse("pulsar://one:6650,two:6651/tenant/space/topic?subscription=s", KNOWN)
    assert (found.host, found.port, found.hosts) == ("one", 6650, "one:6650,two:6651")
    assert found.path == "tenant/space/topic"
    socket = parse("unix:///run/redis.sock?db=1", KNOWN)
    assert (socket.host, socket.port, socket.path) == ("", None, "run/redis.sock")
    google = parse("pubsub://project/topic", KNOWN)
    assert (google.host, google.path, google.parameters) == ("project", "topic", {})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/0?strem=q", "has no parameter 'strem': did you mean stream?"),
        ("redis://h/0?colour=q", "has no parameter 'colour': it takes "),
        ("redis://h/0?stream=a&stream=b", "says 'stream' twice: say it once"),
        ("redis://h:port/0", "is no URL: write for instance"),
        ("redis://h:99999/0", "is no URL"),
        ("redis://[::1/0", "is no URL"),
        ("redis://h/0 ?stream=q", "is no URL"),
        ("//h/0", "is no URL"),
        ("redis://h/0?stream=a#b", "has a #: write it as %23"),
        ("redis://u:se/cret@h/0", "'redis://h/0' is no URL"),
        ("redis://u:secret@h:x/0", "'redis://h:x/0' is no URL"),
        ("redis://u:secret@h/0?x=1", "'redis://h/0?x=1' has no parameter 'x'"),
        ("redis://h/0?password=secret", "'redis://h/0?password=***' has no parameter"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(url: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(url, KNOWN)
    assert said in str(caught.value) and "secret" not in str(caught.value)


def test_an_engine_without_parameters_says_so() -> None:
    with pytest.raises(UsageError, match="has no parameter 'a': it takes none"):
        parse("x://h?a=1", ())


SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=20).map(
    lambda text: f"Sec{text}ret"
)


@given(SECRETS, st.booleans(), st.sampled_from(["", "ada"]), st.sampled_from(["h", "[::1]:6379"]))
def test_a_password_never_shows(secret: str, escaped: bool, user: str, host: str) -> None:
    said = quote(secret, safe="") if escaped else secret
    url = f"redis://{user}:{said}@{host}/0?stream=q"
    assert without_credentials(url) == f"redis://{host}/0?stream=q"
    if escaped:
        assert has_password(url)
        assert parse(url, KNOWN).password == secret
        return
    try:
        parse(url, KNOWN)
    except UsageError as error:
        assert secret not in str(error)


@pytest.mark.parametrize(
    ("url", "shown", "secret"),
    [
        ("redis://h/0?stream=a@b", "redis://h/0?stream=a@b", False),
        ("redis://ada@h/0", "redis://h/0", False),
        ("redis://:pw@h/0", "redis://h/0", True),
        ("pulsar://h/t?Auth_Token=abc&x=1", "pulsar://h/t?Auth_Token=***&x=1", True),
        ("file:///runs/x?pass=1@b", "file:///runs/x?pass=1@b", False),
        ("file:runs/a@b", "file:runs/a@b", False),
        ("runs/pass=word", "runs/pass=word", False),
        ("memory:a?keep=0", "memory:a?keep=0", False),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str, secret: bool) -> None:
    assert without_credentials(url) == shown
    assert has_password(url) is secret


def test_a_credential_comes_from_its_variable_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p w\n\n")
    assert credential({}, "X_PASSWORD") == ""
    assert credential({"X_PASSWORD_FILE": str(file)}, "X_PASSWORD") == "p w\n"
    assert credential({"X_PASSWORD_FILE": str(file), "X_PASSWORD": "q"}, "X_PASSWORD") == "q"
    file.write_bytes(b"\xff")
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    with large.open("wb") as open_file:
        open_file.truncate(1 << 32)
    for path, why in (
        (file, "it is no UTF-8"),
        (tmp_path, "Is a directory"),
        (pipe, "it is a named pipe"),
        (Path("/dev/zero"), "it is a device"),
        (large, "it is larger than 1 MiB"),
    ):
        with pytest.raises(UsageError, match=f"^X_FILE={path} can't be read .{why}"):
            credential({"X_FILE": str(path)}, "X")


def test_a_credential_comes_from_a_pipe_of_a_shell() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"secret\n")
    os.close(writing)
    assert credential({"X_FILE": f"/dev/fd/{reading}"}, "X") == "secret"
    os.close(reading)


@given(st.text(min_size=1))
def test_parameters_come_back_as_they_were(value: str) -> None:
    value = value.encode("utf-8", "replace").decode()
    url = with_parameters("redis://h/0", {"stream": value, "decoder": ""})
    assert parse(url, KNOWN).parameters == {"stream": value}
