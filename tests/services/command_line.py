"""`minionize` and `minion` as people type them, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import minionize
from minionize.cli.cp import cp
from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue

ROOT = str(Path(minionize.__file__).parent.parent)
SHOW = "import json, sys; print(json.dumps(sys.argv[1:]))"

Ran = subprocess.CompletedProcess[str]
Run = Callable[..., Ran]


def environment(**more: str) -> dict[str, str]:
    """What a person has: none of our own settings."""
    ours = ("MINION_", "EXECO_", "REPORTER_", "OAR_", "SLURM_", "PBS_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**env, "PYTHONPATH": ROOT, **more}


def command(*args: str, module: str = "minionize") -> list[str]:
    """Its words."""
    main = f"from minionize.cli.{module} import main; main()"
    return [sys.executable, "-c", main, *args]


def runner(folder: Path) -> Run:
    """What runs it in that folder, to its end."""

    def run(*args: str, input: str = "", module: str = "minionize", **env: str) -> Ran:
        return subprocess.run(
            command(*args, module=module),
            input=input,
            cwd=folder,
            env=environment(**env),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    return run


def fill(url: str, *params: Any) -> None:
    """Put them."""
    queue = open_queue(url, EngineOptions(minion_id="filler"))
    queue.put(params)
    queue.close()


def only_line(ran: Ran) -> str:
    """The one line that was said; never a traceback."""
    assert "Traceback" not in ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith("minionize: ")
    return line


def copied(*args: str) -> str:
    """What `minion cp ARGS` shows; its errors escape."""
    ended = CliRunner().invoke(cp, args, standalone_mode=False)
    if ended.exception is not None:
        raise ended.exception
    assert ended.return_value == 0
    return ended.output
