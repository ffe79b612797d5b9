"""Makes the core wrong in one place at a time, and runs the tests that are to see it.

    python tests/mutation/run.py --count 200 --out mutants.jsonl      # an hour or two, alone
    python tests/mutation/run.py --out mutants.jsonl --table          # what it found so far
    python tests/mutation/run.py --list

The seed draws the same mutants of the same source again; `--out` is gone on with where it was cut
off. Nothing here is part of CI: the run is long, and who reads the survivors decides what they say.
Each is either killed in time, or a hole (write a test), or equivalent: nobody could see a
difference. Those that were found to be so stand with the reason in `equivalent.txt`.

All happens in a copy of the checkout, with the interpreter that this runs with. The tests must pass
there unmutated. One that hangs for a minute kills its mutant; what is not over within `--limit`
seconds is not judged.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mutants import Mutant, draw, mutants
from near import NEAR

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HANGS_S = 60


def equivalent() -> dict[str, str]:
    """The names of those that are known to change nothing, with the reasons."""
    found = {}
    for line in (HERE / "equivalent.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, why = line.partition(" # ")
            found[name] = why
    return found


def chosen(count: int, seed: int) -> list[Mutant]:
    """`count` mutants, as many of each module as of another, in turns."""
    each = -(-count // len(NEAR))
    drawn = []
    for module in NEAR:
        source = (ROOT / "minionize" / module).read_text()
        drawn.append(draw(source, mutants(module, source), each, f"{seed} {module}"))
    turns = [some[turn] for turn in range(each) for some in drawn if turn < len(some)]
    return turns[:count]


class Copy:
    """A copy of the checkout in which one mutant at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("minionize", "tests", "pyproject.toml", "examples", "docs", "README.rst"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)

    def tried(self, mutant: Mutant, limit_s: float) -> dict[str, Any]:
        """What became of it."""
        path = self.folder / "minionize" / mutant.module
        source = path.read_text()
        began = time.monotonic()
        try:
            path.write_text(mutant.applied(source))
            verdict, said = self._test(NEAR[mutant.module], limit_s)
        finally:
            path.write_text(source)
        return {"verdict": verdict, "s": round(time.monotonic() - began, 1), "said": said}

    def _test(self, tests: tuple[str, ...], limit_s: float) -> tuple[str, str]:
        named = list(dict.fromkeys(name for test in tests for name in self._named(test)))
        argv = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        argv += ["-p", "no:xdist", "-o", f"faulthandler_timeout={HANGS_S}", *named]
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.folder)}
        env["CI"] = "1"  # the same examples of hypothesis each time
        process = subprocess.Popen(argv, cwd=self.folder, env=env, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace",
                                   start_new_session=True)  # fmt: skip
        try:
            said, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return ("killed", "it hung") if "Timeout (0:" in said else ("late", said[-200:])
        if process.returncode == 0:
            return "survived", ""
        failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return "killed", (failed or [said[-300:]])[0][:200]

    def _named(self, test: str) -> list[str]:
        file, mark, rest = test.partition("::")
        return [f"{one}{mark}{rest}" for one in sorted(glob.glob(file, root_dir=self.folder))]


_lock = threading.Lock()


def work(todo: SimpleQueue[Mutant], out: Path, limit_s: float, folder: Path) -> None:
    """Try what is left, in a copy of its own."""
    copy = Copy(folder)
    while True:
        try:
            mutant = todo.get_nowait()
        except Empty:
            return
        became = copy.tried(mutant, limit_s)
        with _lock, out.open("a") as file:
            file.write(json.dumps({"name": mutant.name, **mutant._asdict(), **became}) + "\n")


def tried(out: Path) -> Iterator[dict[str, Any]]:
    """What was found so far, the last word on each."""
    found = {}
    if out.exists():
        for line in out.read_text().splitlines():
            row = json.loads(line)
            found[row["name"]] = row
    return iter(found.values())


def table(out: Path) -> str:
    """A row for each module, and the holes."""
    same = equivalent()
    rows: dict[str, Counter[str]] = {}
    holes = []
    for row in tried(out):
        verdict = row["verdict"]
        if verdict == "survived":
            verdict = "equivalent" if row["name"] in same else "hole"
        if verdict == "hole":
            holes.append(f"{row['module']}:{row['line']} {row['name']}")
        rows.setdefault(row["module"], Counter())[verdict] += 1
    names = ("killed", "equivalent", "hole", "late")
    lines = [
        "| module | tried | killed | equivalent | holes | late |",
        "|---|---|---|---|---|---|",
    ]
    for module, counts in sorted(rows.items()):
        lines.append(
            f"| {module} | {counts.total()} | {' | '.join(str(counts[n]) for n in names)} |"
        )
    whole = sum(rows.values(), Counter[str]())
    lines.append(f"| all | {whole.total()} | {' | '.join(str(whole[n]) for n in names)} |")
    real = whole["killed"] + whole["hole"]
    share = f"{whole['killed'] / real:.1%}" if real else "none"
    return "\n".join([*lines, "", f"{share} of {real} real ones are killed", "", *sorted(holes)])


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="modules whose names hold this")
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--again", action="store_true", help="those that were not killed")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.table:
        print(table(args.out))
        return
    known = {row["name"] for row in tried(args.out) if row["verdict"] == "killed" or not args.again}
    todo: SimpleQueue[Mutant] = SimpleQueue()
    for mutant in chosen(args.count, args.seed):
        if args.only in mutant.module and mutant.name not in known:
            todo.put(mutant)
            if args.list:
                print(f"{mutant.module}:{mutant.line} [{mutant.kind}] {mutant.name}")
    if args.list:
        return
    with tempfile.TemporaryDirectory(prefix="mutants-") as parent:
        folders = [Path(parent) / str(number) for number in range(args.jobs)]
        threads = [
            threading.Thread(target=work, args=(todo, args.out, args.limit, folder))
            for folder in folders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(table(args.out))


if __name__ == "__main__":
    main()
