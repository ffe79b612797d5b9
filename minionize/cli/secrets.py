"""Credentials in URLs: what is warned about, and how such a URL is shown."""

from __future__ import annotations

from collections.abc import Iterator

from minionize.settings import Loaded

_FIELDS = {"queue": "MINION_QUEUE", "reporter": "MINION_REPORTER"}


def warnings(loaded: Loaded) -> Iterator[str]:
    """A line for each URL with a password that was given as an argument."""
    for field, variable in _FIELDS.items():
        url, origin = getattr(loaded.settings, field), loaded.origins[field]
        if url and origin.startswith("--") and (line := warning(origin, url, variable)):
            yield line


def warning(origin: str, url: str, variable: str) -> str | None:
    """What to say of `url`, which was given as the argument `origin`, if it has a password."""
    if "://" not in url:
        return None
    from minionize.engines.address import has_password  # most minions need none

    if not has_password(url):
        return None
    return (
        f"{origin} shows its password to everybody on this host (ps): put the URL into {variable} "
        "or .env, or the password into a variable or file of its own (see docs/brokers.md)"
    )


def shown(url: str) -> str:
    """A queue's URL for messages, without credentials."""
    if "://" not in url:
        return url
    from minionize.engines.address import without_credentials

    return without_credentials(url)
