"""What a server may do to the keys of a queue, as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minionize.values import Harm, Policy

_REMEDY = (
    "set maxmemory-policy to noeviction (CONFIG SET, redis.conf, or the parameters of a managed "
    "service)"
)
UNKNOWN = Policy(
    Harm.UNKNOWN,
    "maxmemory-policy",
    "this user may not ask for it (INFO)",
    "see that it is noeviction, or grant +info",
)


def policies_from(answer: Sequence[Any]) -> list[Policy]:
    """What policies.lua said."""
    _, policy, bytes_, evicted, *expiring = answer
    found = memory_policies(policy, bytes_, evicted)
    for key, left_ms in expiring:
        name = key.decode(errors="backslashreplace")
        found.append(
            Policy(
                Harm.LOSS,
                f"EXPIRE {name}",
                f"another program had this key of the queue expire, in {left_ms / 1000:.0f} s",
                f"redis-cli PERSIST '{name}', and find that program",
            )
        )
    return found


def memory_policies(policy: bytes, bytes_: bytes, evicted: bytes = b"") -> list[Policy]:
    """Those of a server with this maxmemory-policy and so many bytes of memory, as it says them:
    empty where it does not. `evicted`: how many keys it dropped since it started."""
    name = policy.decode()
    if not name:
        return [UNKNOWN]
    if name == "noeviction":
        return []
    setting = f"maxmemory-policy {name}"
    most = int(bytes_ or b"0")
    when = "once maxmemory is set and reached"
    if most:
        when = f"when its memory is full ({most / 2**20:,.0f} MiB)"
    if name.startswith("volatile-"):
        effect = (
            f"{when} the server drops keys that expire, and with them the parts of a large put "
            "that is under way: that put fails then, or is done twice"
        )
        return [Policy(Harm.DELAY, setting, effect, _REMEDY)]
    effect = f"{when} the server drops whole keys, and with them params"
    if int(evicted or b"0"):
        effect += f"; it dropped {int(evicted):,} keys since it started"
    return [Policy(Harm.LOSS, setting, effect, _REMEDY)]
