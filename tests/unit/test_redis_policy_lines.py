"""What a server's answer about its policies comes to."""

from __future__ import annotations

import pytest

from minionize.engines.redis.policies import UNKNOWN, memory_policies, policies_from
from minionize.values import Harm

_EVICTING = ("allkeys-lru", "allkeys-lfu", "allkeys-random")
_EVICTING_SOME = ("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")


def test_noeviction_does_no_harm() -> None:
    assert memory_policies(b"noeviction", b"0") == []
    assert memory_policies(b"noeviction", b"1000000", b"7") == []


@pytest.mark.parametrize("name", _EVICTING)
def test_any_key_may_go(name: str) -> None:
    (policy,) = memory_policies(name.encode(), b"104857600", b"1234")
    assert policy.harm is Harm.LOSS
    assert policy.setting == f"maxmemory-policy {name}"
    assert "100 MiB" in policy.effect and "it dropped 1,234 keys" in policy.effect
    assert "noeviction" in policy.remedy


@pytest.mark.parametrize("name", _EVICTING_SOME)
def test_keys_that_expire_may_go(name: str) -> None:
    (policy,) = memory_policies(name.encode(), b"104857600")
    assert policy.harm is Harm.DELAY
    assert "large put" in policy.effect and "noeviction" in policy.remedy


@pytest.mark.parametrize("told", [b"0", b""])
def test_a_server_without_a_limit_drops_nothing_yet(told: bytes) -> None:
    """Or one that does not say which."""
    (policy,) = memory_policies(b"allkeys-lru", told)
    assert policy.harm is Harm.LOSS and policy.effect.startswith("once maxmemory is set")
    assert "keys since" not in policy.effect


def test_a_server_that_does_not_say() -> None:
    assert memory_policies(b"", b"") == [UNKNOWN]
    assert policies_from([b"ok", b"", b"", b""]) == [UNKNOWN]


def test_keys_that_expire_are_named() -> None:
    (policy,) = policies_from([b"ok", b"noeviction", b"0", b"0", [b"{x}:dead\xff", 90_000]])
    assert policy.harm is Harm.LOSS and policy.setting == "EXPIRE {x}:dead\\xff"
    assert "in 90 s" in policy.effect and "PERSIST" in policy.remedy
