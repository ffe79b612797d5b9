"""Minions that are told to stop, and commands of schedulers that only tell what they were asked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from storming import Field

from minionize.values import State

LONG = 'echo $$ >>"$MINION_PARAM_ID.pid"; sleep 600 & wait'
"""Goes on, and dies of TERM as programs do."""
SAVES = (
    'mkdir -p "$MINION_CHECKPOINT_DIR"; at=$(cat "$MINION_CHECKPOINT_DIR/at" 2>/dev/null); '
    'trap \'echo "$MINION_ID" >"$MINION_CHECKPOINT_DIR/at"; exit 1\' TERM; '
    'test -z "$at" || { echo "went on from $at" >>went; exit 0; }; '
    'touch "$MINION_PARAM_ID.began"; while :; do sleep 0.05; done'
)
"""Begins, saves where it is when it is told to stop, and is done when it finds that."""


@contextlib.contextmanager
def a_field(tmp_path: Path) -> Iterator[Field]:
    """Below no scheduler."""
    field = Field(tmp_path)
    field.env.pop("KUBERNETES_SERVICE_HOST", None)
    yield field
    field.close()


def began(field: Field, param_id: int = 1) -> bool:
    return (field.folder / f"{param_id}.pid").exists()


def fake(field: Field, **scripts: str) -> None:
    """Put commands of a scheduler on the PATH, in front."""
    folder = field.folder / "fake"
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "$(basename $0) $*" >>{field.folder}/asked\n{script}\n')
        path.chmod(0o755)
    field.env["PATH"] = f"{folder}:{os.environ['PATH']}"


def asked(field: Field) -> list[str]:
    path = field.folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def nothing_was_lost(field: Field, waiting: int) -> None:
    stats = field.stats()
    assert (stats.waiting, stats.delayed, stats.running, stats.dead) == (waiting, 0, 0, 0)
    assert all(
        (entry.attempt, entry.crashes) == (1, 0) for entry in field.entries(State.WAITING)
    ), "somebody was charged"
