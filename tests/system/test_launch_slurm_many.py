"""Many launches on record in one folder: Slurm is asked once for all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services.processes import until
from services.slurm import Slurm, lacking
from sites import SlurmSite, at_work


@pytest.fixture
def site(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[SlurmSite]:
    with at_work(Slurm(tmp_path / "slurm"), lacking(), needs_server) as slurm:
        yield SlurmSite(slurm, tmp_path)


def test_all_launches_are_asked_for_in_one_go(
    site: SlurmSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.feed(3)
    ours = [site.launch("-n", count, command=["true"]).partition(":")[0] for count in "121"]
    until(lambda: site.stats().drained, site.told)
    launches = site.queue / "launches"
    record = json.loads((launches / f"{ours[0]}.json").read_text())
    for number in range(100, 200):
        other = {**record, "job_ids": [str(number)]}
        (launches / f"slurm-{number}.json").write_text(json.dumps(other))
    fakes, asked = site.folder / "fakes", site.folder / "asked"
    fakes.mkdir()
    for name in ("squeue", "scontrol"):
        real = shutil.which(name)
        (fakes / name).write_text(f'#!/bin/sh\necho {name} >>{asked}\nexec {real} "$@"\n')
        (fakes / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(fakes), prepend=":")
    until(lambda: _states(site, ours) == [["ended"], ["ended"] * 2, ["ended"]], site.told)
    asked.unlink()
    told = [json.loads(line) for line in site.minion("jobs", "--json").splitlines()]
    assert len(told) == 103
    by_id = {launch["id"]: [job["id"] for job in launch["jobs"]] for launch in told}
    first, second, third = (id.removeprefix("slurm-") for id in ours)
    assert [by_id[id] for id in ours] == [
        [f"{first}_1"], [f"{second}_1", f"{second}_2"], [f"{third}_1"],
    ]  # fmt: skip
    assert by_id["slurm-150"] == ["150_1"]
    assert asked.read_text().split().count("squeue") == 1
    assert asked.read_text().split().count("scontrol") <= 2


def _states(site: SlurmSite, ids: list[str]) -> list[list[str]]:
    return [list(site.jobs(id).values()) for id in ids]
