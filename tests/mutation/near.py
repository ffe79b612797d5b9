"""The core, and which tests are to see that something in it is wrong: the nearest ones first."""

from __future__ import annotations

_U = "tests/unit/test_"
_CONTRACT = "tests/contracts/test_contract_"
_FILE = (f"{_CONTRACT}file.py::TestFile", f"{_U}file_m*.py", f"{_U}file_*.py")
_WORKER = (f"{_U}worker_leases.py", f"{_U}worker_loop.py", f"{_U}worker_[!p]*.py")
_MEMORY = (f"{_CONTRACT}memory.py", f"{_U}memory.py")
_TEMPLATE = (f"{_U}template_*.py",)
_REPORT = (f"{_U}reporters_*.py", f"{_U}status_*.py")
_LAUNCH = (f"{_U}launch_*.py",)

NEAR: dict[str, tuple[str, ...]] = {
    "worker/decisions.py": (f"{_U}worker_decisions.py", *_WORKER),
    "worker/pace.py": (f"{_U}worker_taking.py", f"{_U}worker_decisions.py", *_WORKER),
    "worker/waiting.py": (f"{_U}worker_waiting.py", *_WORKER),
    "worker/book.py": _WORKER,
    "worker/leaving.py": (f"{_U}worker_leaving.py", *_WORKER),
    "worker/link.py": (f"{_U}worker_link.py", *_WORKER),
    "worker/taking.py": (f"{_U}worker_taking.py", f"{_U}worker_link.py", *_WORKER),
    "engines/file/claiming.py": (f"{_U}file_claiming.py", *_FILE),
    "engines/file/rearranging.py": (f"{_U}file_rearranging.py", *_FILE),
    "engines/file/holding.py": (f"{_U}file_taken_over.py", *_FILE),
    "engines/file/sweeping.py": (f"{_U}file_taken_over.py", f"{_U}file_mixed_leases.py", *_FILE),
    "engines/file/held.py": (f"{_U}file_held.py", f"{_U}file_leasing.py", *_FILE),
    "engines/file/head.py": (f"{_U}file_head.py", *_FILE),
    "engines/file/batches.py": (f"{_U}file_batches.py", *_FILE),
    "engines/file/slot.py": (f"{_U}file_head.py", *_FILE),
    "engines/file/scanning.py": (f"{_U}file_rearranging.py", *_FILE),
    "engines/file/leasing.py": (f"{_U}file_leasing.py", *_FILE),
    "engines/file/counting.py": _FILE,
    "engines/file/settling.py": (f"{_U}file_leasing.py", *_FILE),
    "engines/file/member.py": (f"{_U}file_taken_over.py", *_FILE),
    "engines/memory/store.py": _MEMORY,
    "engines/memory/minion.py": _MEMORY,
    "engines/execo/room.py": (f"{_CONTRACT}execo.py::TestExeco", f"{_U}execo.py"),
    "engines/redis/minion.py": (f"{_CONTRACT}redis.py", f"{_U}redis_*.py"),
    "engines/envelope.py": (f"{_U}envelope.py",),
    "callbacks/template.py": _TEMPLATE,
    "filling/grid.py": (f"{_U}filling_grid.py",),
    "filling/dedupe.py": (f"{_U}filling_*.py", f"{_U}file_forgetting.py"),
    "filling/canonical.py": (f"{_U}filling_dedupe.py",),
    "reporters/rollup.py": _REPORT,
    "status/rows.py": (f"{_U}status_rows.py", *_REPORT),
    "launch/slurm.py": _LAUNCH,
    "launch/decisions.py": (f"{_U}launch_states.py",),
    "launch/kubernetes/manifest.py": (f"{_U}launch_kubernetes_manifest.py", *_LAUNCH),
}
"""By module below `minionize/`."""
