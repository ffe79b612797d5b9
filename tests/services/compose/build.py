"""Docker Compose's own program: Debian 12 has but its predecessor, which can't read our file.

Two minutes on two cores, kept as 70 MB. `python -m services.compose.build` in `tests/` builds it
ahead of the tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.go_program import CannotBuild, GoProgram

PROGRAM = GoProgram(
    name="docker-compose",
    sources=Path(__file__).parent,
    files=("go.mod", "go.sum"),
    package="github.com/docker/compose/v2/cmd",
    ldflags="-s -w -X github.com/docker/compose/v2/internal.Version=v2.40.3",
    needs="Go 1.24.9 or later",
)

if __name__ == "__main__":
    try:
        print(PROGRAM.built())
    except CannotBuild as reason:
        sys.exit(f"no Docker Compose: {reason}")
