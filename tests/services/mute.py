"""A broker that can do next to nothing beyond handing out params: it counts nothing, lists
nothing, steers nobody. A file queue behind a mask, as an engine of somebody else's package.
"""

from __future__ import annotations

from pathlib import Path

_ENGINE = '''
"""`mute:FOLDER`."""
from minionize.contracts.engine import Traits
from minionize.engines import file
from minionize.engines.address import without_credentials
from minionize.errors import NotSupported
from minionize.values import Stats

TRAITS = Traits(counts=False, delays=False, counts_crashes=False, scans=False, steers=False)

def cant(*args, **named):
    raise NotSupported("mute: can't do that: use another queue")

class Mask:
    def __init__(self, inner):
        self.inner = inner
        self.traits = TRAITS
        self.url = "mute:" + inner.url.removeprefix("file:")

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def stats(self):
        self.inner.stats()  # NoSuchQueue
        return Stats()

    def minions(self):
        return ()

    def look_up(self, ids):
        return {}

    scan = requeue = purge = steer = cant

def folder(address):
    return without_credentials(f"mute:{address}").removeprefix("mute:")

def open_engine(address, options):
    return Mask(file.open_engine(folder(address), options))

def open_queue(address, options):
    return Mask(file.open_queue(folder(address), options))
'''


def install(folder: Path) -> None:
    """What pip would leave in `folder` (to be put on PYTHONPATH) for a package with `mute:`."""
    info = folder / "mute-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mute\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[minionize.engines]\nmute = mute_engine\n")
    (folder / "mute_engine.py").write_text(_ENGINE)
