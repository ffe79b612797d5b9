"""A running job's wall time, made longer with `oarwalltime` on a real OAR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services.oar import Oar, lacking
from services.processes import until
from sites import OarSite, at_work

ALLOWED = {"WALLTIME_CHANGE_ENABLED": "yes", "WALLTIME_MAX_INCREASE": "-1"}
"""OAR allows it only where its site does."""


@pytest.fixture
def site(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[OarSite]:
    with at_work(Oar(tmp_path, ALLOWED), lacking(), needs_server) as oar:
        yield OarSite(oar)


def test_a_wall_time_that_was_made_longer(site: OarSite) -> None:
    """The minion asks OAR before it ends by its own clock, and its run ends well."""
    site.feed(1)
    said = site.launch("--wall-time", "1m", "--grace", "1", "-O", "checkpoint=1", "-O",
                       "besteffort=no", "--", "sh", "-c", "sleep 75")  # fmt: skip
    assert said.startswith("oar-1: ")
    until(lambda: site.stats().running == 1, site.told, every_s=0.5)
    changed = site.ok("oarwalltime", "1", "+0:10:0")
    assert "Accepted" in changed, changed
    until(lambda: site.oar.jobs()["1"]["walltime"] > 600, site.told, every_s=0.5)
    until(lambda: site.stats().drained, site.told, timeout_s=120, every_s=0.5)
    assert (site.stats().done, site.stats().dead) == (1, 0), site.told()
    until(lambda: site.jobs("oar-1") == {"1": "ended"}, site.told, every_s=0.5)
    assert len(site.oar.jobs()) == 1, site.told()
