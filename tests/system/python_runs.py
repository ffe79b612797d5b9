"""Python scripts of users, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

DEADLINE_S = 60.0


def python(script: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        **options,
    )
