"""State that a module has made when it is imported: each child of a function makes its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driven import Driven, leases, made
from python_runs import DEADLINE_S, python

from minionize import open_queue
from minionize.callbacks.func import FuncCallback

KINDS = {
    "random": "import random\ndraw = random.random",
    "random seeded": "import random\nrandom.seed(7)\ndraw = random.random",
    "Random": "import random\nrng = random.Random()\ndraw = lambda: rng.random()",
    "Random seeded": "import random\nrng = random.Random(7)\ndraw = lambda: rng.random()",
    "bound": "import random\ndraw = random.Random(7).random",
    "in an object": "import random\nclass Sim:\n    def __init__(self):\n"
    "        self.rngs = [random.Random(7)]\nsim = Sim()\ndraw = lambda: sim.rngs[0].random()",
    "numpy": "import numpy\ndraw = numpy.random.rand",
    "numpy seeded": "import numpy\nnumpy.random.seed(7)\ndraw = numpy.random.rand",
    "Generator": "import numpy\nrng = numpy.random.default_rng()\ndraw = lambda: rng.random()",
    "Generator seeded": "import numpy\nrng = numpy.random.default_rng(7)\n"
    "draw = lambda: rng.random()",
    "Generator's children": "import numpy\nrng = numpy.random.default_rng(7)\n"
    "draw = lambda: rng.spawn(1)[0].random()",
    "bound Generator": "import numpy\ndraw = numpy.random.default_rng(7).random",
    "Philox": "import numpy\nrng = numpy.random.Generator(numpy.random.Philox(7))\n"
    "draw = lambda: rng.random()",
    "RandomState": "import numpy\nrng = numpy.random.RandomState()\ndraw = lambda: rng.rand()",
    "RandomState seeded": "import numpy\nrng = numpy.random.RandomState(7)\n"
    "draw = lambda: rng.rand()",
    "torch": "import torch\ndraw = lambda: torch.rand(1).item()",
    "torch's Generator": "import torch\nrng = torch.Generator()\n"
    "draw = lambda: torch.rand(1, generator=rng).item()",
}
WORK = """
import os
def work(n):
    if n == 3:
        os._exit(1)  # the next ones run in another child
    return [os.getpid(), *(float(draw()) for _ in range(3))]
"""


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    with made() as make:
        yield make


def _needs(kind: str) -> None:
    for library in ("numpy", "torch"):
        if f"import {library}" in KINDS[kind]:
            pytest.importorskip(library)


def _all_differ(results: list[list[float]]) -> None:
    drawn = [number for _, *numbers in results for number in numbers]
    assert len(set(drawn)) == len(drawn), results


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_children_draw_the_same_numbers(
    drive: Callable[..., Driven],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    _needs(kind)
    (tmp_path / "drawing.py").write_text(KINDS[kind] + WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    driven = drive(FuncCallback.from_spec("drawing:work"), slots=2).ready()
    ended = driven.run(leases(*range(12)), None)
    results = [json.loads(each.result) for each in ended.values() if each.result]
    assert len(results) == 11
    assert len({pid for pid, *_ in results}) > 1
    _all_differ(results)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, "map") for kind in KINDS]
    + [
        (kind, how)
        for kind in ("Random seeded", "Generator seeded", "in an object")
        for how in ("work", "closure")
    ],
)
def test_nor_do_those_of_a_script(kind: str, how: str) -> None:
    """The generators travel with the pickled function, or stand in what it holds."""
    _needs(kind)
    calls = {
        "map": "minionize(work).map(range(12), slots=2, max_attempts=1)",
        "work": "f = minionize(work); f.put(range(12)); "
        "f.work(slots=2, max_attempts=1); rows = f.results()",
        "closure": "(lambda f: minionize(lambda n: f(n)))(work)"
        ".map(range(12), slots=2, max_attempts=1)",
    }
    call = calls[how]
    script = "import json\nfrom minionize import minionize\n" + KINDS[kind] + WORK
    script += call if "rows = " in call else f"rows = {call}"
    script += "\nprint(json.dumps([row['result'] for row in rows if 'result' in row]))\n"
    done = python(script)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == 11
    _all_differ(results)


@pytest.mark.usefixtures("empty_folder")
def test_two_minions_of_one_queue_draw_different_numbers(tmp_path: Path) -> None:
    (tmp_path / "drawing.py").write_text(
        KINDS["Random seeded"] + "\nimport os, time\ndef work(n):\n    time.sleep(0.2)\n"
        "    return [os.getpid(), draw()]\n"
    )
    with open_queue() as queue:
        queue.put(range(20))
        command = "from minionize.cli.minionize import main; main(['--call', 'drawing:work'])"
        minions = [subprocess.Popen([sys.executable, "-c", command]) for _ in range(2)]
        assert [each.wait(DEADLINE_S) for each in minions] == [0, 0]
        results = [row["result"] for row in queue.results()]
    assert len(results) == 20 and len({pid for pid, _ in results}) == 2
    _all_differ(results)


def test_threads_that_a_module_starts_at_import_are_there(
    drive: Callable[..., Driven], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "threaded.py").write_text(
        textwrap.dedent(
            """
            import queue, threading
            asked, answered = queue.Queue(), queue.Queue()
            def serve():
                while True:
                    answered.put(2 * asked.get())
            threading.Thread(target=serve, daemon=True).start()
            def double(n):
                asked.put(n)
                return answered.get(timeout=30)
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ended = drive(FuncCallback.from_spec("threaded:double"), slots=2).run(leases(*range(10)), None)
    assert sorted(int(each.result or -1) for each in ended.values()) == [2 * n for n in range(10)]


def test_a_module_knows_its_slot_at_import_and_is_heard_once(
    drive: Callable[..., Driven],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "placed.py").write_text(
        "import os, sys\nDEVICE = int(os.environ['MINION_SLOT'])\n"
        "print('heavy'); print('warned', file=sys.stderr)\n"
        "def work(n):\n    return [DEVICE, int(os.environ['MINION_SLOT'])]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driven = drive(FuncCallback.from_spec("placed:work"), slots=3).ready()
    ended = driven.run(leases(*range(30)), 1e-4)
    places = {tuple(json.loads(each.result or "")) for each in ended.values()}
    assert places == {(0, 0), (1, 1), (2, 2)}
    assert capfd.readouterr() == ("heavy\n", "warned\n")


def test_one_child_that_dies_while_it_loads_is_replaced(
    drive: Callable[..., Driven], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for its memory, say; and a module that never loads is said at once."""
    (tmp_path / "unlucky.py").write_text(
        textwrap.dedent(
            f"""
            import os
            try:
                os.mkdir({str(tmp_path / "died")!r})
            except FileExistsError:
                pass
            else:
                while not os.path.exists({str(tmp_path / "loaded")!r}):
                    pass
                os.kill(os.getpid(), 9)
            open({str(tmp_path / "loaded")!r}, "w").close()
            def work(n):
                return n
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    driven = drive(FuncCallback.from_spec("unlucky:work"), slots=2).ready()
    assert (tmp_path / "died").is_dir()
    ended = driven.run(leases(*range(50)), 1e-4)
    assert sorted(int(each.result or -1) for each in ended.values()) == list(range(50))


POOL = """
import multiprocessing, os, sys
from minionize import minionize

FACTOR = 3

class Point:
    def __init__(self, x):
        self.x = x

def helper(n):
    return Point(FACTOR * n)

@minionize
def other(n):
    return n + 1

def work(n):
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        return sum(point.x for point in pool.map(helper, range(n))), pool.map(other, [n])

if __name__ == "__main__":
    rows = minionize(work).map([2, 3], slots=2, max_attempts=1)
    print("GOT", [row.get("result", row["_reason"]) for row in rows])
"""


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("started", ["script", "module"])
def test_a_function_of_main_may_use_a_pool(tmp_path: Path, method: str, started: str) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "script.py").write_text(POOL.format(method=method))
    what = ["package/script.py"] if started == "script" else ["-m", "package.script"]
    done = subprocess.run(
        [sys.executable, *what], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert "GOT [[3, [3]], [9, [4]]]" in done.stdout, done.stderr


UNGUARDED = """
import multiprocessing
from minionize import minionize

def helper(n):
    pass

@minionize
def work(n):
    process = multiprocessing.get_context("spawn").Process(target=helper, args=[n])
    process.start()
    process.join()
    return process.exitcode

print("GOT", [row.get("result", row["_reason"]) for row in work.map([1, 2])])
"""


@pytest.mark.usefixtures("empty_folder")
def test_a_script_without_a_guard_does_not_run_itself_for_ever(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, "script.py"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout == "GOT [1, 1]\n", done.stderr
    assert "__name__ == '__main__'" in done.stderr


def test_a_fork_of_the_function_exits_as_it_says(drive: Callable[..., Driven]) -> None:
    def fork(n: int) -> Any:
        pid = os.fork()
        if not pid:
            sys.exit(n)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    ended = drive(fork).run(leases(0, 3))
    assert [ended[id_].result for id_ in ("1", "2")] == ["0", "3"]
