"""Where a queue in Redis is: from its URL and from the variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from minionize.engines.redis.keys import keys
from minionize.engines.redis.place import place_of
from minionize.errors import UsageError


def test_a_url_says_all() -> None:
    place = place_of("redis://ada:s%2Fx@host:7000/3?stream=q&group=g&decoder=json&field=f", {})
    assert (place.host, place.port, place.db) == ("host", 7000, 3)
    assert (place.user, place.password) == ("ada", "s/x")
    assert (place.stream, place.group, place.decoder, place.field) == ("q", "g", "json", "f")
    assert place.url == "redis://host:7000/3?stream=q&group=g"
    assert "s/x" not in repr(place)


def test_variables_fill_what_it_lacks() -> None:
    env = {
        "REDIS_HOST": "there",
        "REDIS_PORT": "7001",
        "REDIS_DB": "2",
        "REDIS_USER": "ada",
        "REDIS_PASSWORD": "secret",
        "REDIS_STREAM": "runs",
    }
    place = place_of("redis://", env)
    assert (place.host, place.port, place.db) == ("there", 7001, 2)
    assert (place.user, place.password, place.stream) == ("ada", "secret", "runs")
    place = place_of("redis://bob:p@here:1/0?stream=q", env)
    assert (place.host, place.port, place.db) == ("here", 1, 0)
    assert (place.user, place.password, place.stream) == ("bob", "p", "q")


def test_what_kubernetes_injects_is_ignored() -> None:
    place = place_of("redis://redis?stream=q", {"REDIS_PORT": "tcp://10.0.0.1:6379"})
    assert (place.host, place.port) == ("redis", 6379)


def test_sockets_and_ipv6() -> None:
    place = place_of("unix:///run/redis.sock?stream=q&db=1", {"REDIS_HOST": "no"})
    assert (place.path, place.db) == ("/run/redis.sock", 1)
    assert place.url == "unix:///run/redis.sock?stream=q&db=1"
    place = place_of("redis://[::1]:7000?stream=q", {})
    assert (place.host, place.url) == ("::1", "redis://[::1]:7000/0?stream=q")


def test_files_for_tls_must_be_there(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    ca.touch()
    place = place_of("rediss://h?stream=q", {"REDIS_CA_FILE": str(ca)})
    assert place.tls == {"ssl_ca_certs": str(ca)}
    with pytest.raises(UsageError, match=r"REDIS_CERT_FILE=/no/where can't be read"):
        place_of("rediss://h?stream=q", {"REDIS_CERT_FILE": "/no/where"})
    with pytest.raises(UsageError, match="set REDIS_CERT_FILE too"):
        place_of("rediss://h?stream=q", {"REDIS_KEY_FILE": str(ca)})


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h/0", "no stream is named: write .stream=NAME"),
        ("redis://h/0?stream=a%20b", "stream 'a b' is no name"),
        ("redis://h/0?stream=a%7Bb", "is no name"),
        ("redis://h/x?stream=q", "database 'x' is no number"),
        ("redis://h/0?streem=q", "did you mean stream"),
        ("redis://h/0?stream=q&decoder=xml", "no decoder 'xml'"),
        ("unix://host/s?stream=q", "names no socket"),
    ],
)
def test_what_can_not_be_is_said(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        place_of(url, {})


def test_all_keys_are_in_one_slot() -> None:
    assert keys("q")[0] == "q"
    assert {key.partition(":")[0] for key in keys("q")[1:]} == {"{q}"}
    # A stream with a hash tag of its own has the same one in all.
    assert all(key.startswith("runs{a}") for key in keys("runs{a}"))
