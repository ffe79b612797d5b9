"""A cell of a notebook, in a real Jupyter kernel (its main thread runs an event loop, others
beside it; functions live in `__main__`)."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

CELLS = [
    """
    from minionize import minionize
    FACTOR = 3
    def helper(x):
        return FACTOR * x
    @minionize
    def simulate(x, y):
        print("in a cell", x)
        return {"z": helper(x) + y}
    """,
    "simulate.put([{'x': n, 'y': 1} for n in range(20)])",
    "print(simulate.work(slots=2))",
    "print(sorted(row['z'] for row in simulate.results()))",
    """
    FACTOR = 4
    print([row['z'] for row in simulate.map([[n, 0] for n in range(5)], slots=2)])
    """,
]


@pytest.mark.filterwarnings("ignore")
def test_the_cells_of_a_notebook(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel", reason="needs ipykernel and nbclient (not installed)")
    nbclient: Any = pytest.importorskip("nbclient", reason="needs nbclient (not installed)")
    nbformat: Any = pytest.importorskip("nbformat", reason="needs nbformat (not installed)")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in CELLS]
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    client = nbclient.NotebookClient(
        notebook,
        timeout=180,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=env)
    said = ["".join(out.get("text", "") for out in cell["outputs"]) for cell in notebook.cells]
    assert "done=20" in said[2]
    assert said[3].strip() == str(sorted(3 * n + 1 for n in range(20)))
    assert said[4].splitlines()[-1] == "[0, 4, 8, 12, 16]"
