"""Queue URLs: what they name, and what is said about those that name nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines import registry
from minionize.engines.memory import MemoryQueue
from minionize.errors import MissingDriver, UsageError

OPTIONS = EngineOptions(minion_id="me")
ROOT = str(Path(registry.__file__).parents[2])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("runs/ising", "file:runs/ising"),
        ("runs/a:b", "file:runs/a:b"),
        ("./a:b", "file:./a:b"),
        ("/abs/q/", "file:/abs/q"),
        ("/", "file:/"),
        ("FILE:q", "file:q"),
        ("file:q", "file:q"),
        ("file:///abs/q", "file:/abs/q"),
        ("file://localhost/abs/q", "file:/abs/q"),
        ("execo:sweeps", "execo:sweeps"),
        ("execo:", "execo:"),
        ("memory:a?keep=0", "memory:a?keep=0"),
    ],
)
def test_urls_are_normalised(url: str, expected: str) -> None:
    assert registry.normalise(url) == expected
    assert registry.normalise(expected) == expected
    assert registry.scheme_of(url) == expected.partition(":")[0]


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    for url in ("~/q", "file:~/q", "file://~/q"):
        assert registry.normalise(url) == "file:/home/ada/q"
    assert registry.normalise("execo:~/s") == "execo:/home/ada/s"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "give a folder"),
        ("q\0", "give a folder"),
        ("file:", "names no folder"),
        ("file://host/q", "use file:host/q"),
        ("C:\\queue", "Windows path"),
        ("C:/queue", "Windows path"),
        ("redsi://ada:secret@host/0", r"queue 'redsi://host/0': no engine"),
        ("memry:x", r"did you mean memory:\?"),
        ("amqp://host/0", ", ".join(f"{re.escape(name)}:" for name in sorted(registry.BUILT_IN))),
        ("a:b", r"a folder of that name is \./a:b"),
    ],
)
def test_what_names_nothing_is_told_with_a_remedy(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        registry.open_queue(url, OPTIONS)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_queue_is_opened_by_its_scheme() -> None:
    assert isinstance(registry.open_queue("memory:registry", OPTIONS), MemoryQueue)


def plug_in(folder: Path, module: str) -> None:
    """What pip leaves behind for a package with an engine for `warehouse:`."""
    info = folder / "warehouse-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: warehouse\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[minionize.engines]\nwarehouse = warehouse_engine\n")
    (folder / "warehouse_engine.py").write_text(module)


def test_an_engine_with_several_schemes_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_engine.py").write_text("def open_queue(address, options): return address")
    monkeypatch.syspath_prepend(tmp_path)
    for whole, told in ((True, "shop://host/x"), (False, "//host/x")):
        monkeypatch.setitem(registry.BUILT_IN, "shop", registry.BuiltIn("shop_engine", whole=whole))
        opened: object = registry.open_queue("Shop://host/x", OPTIONS)
        assert opened == told


def test_entry_points_offer_more_schemes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(
        tmp_path,
        "from minionize.engines.memory import open_engine\n"
        "from minionize.engines.memory import open_queue as inner\n"
        "def open_queue(address, options):\n"
        "    return inner('warehouse' + address, options)\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    queue = registry.open_queue("warehouse:shelf", OPTIONS)
    assert queue.url == "memory:warehouseshelf"
    assert registry.schemes() == sorted([*registry.BUILT_IN, "warehouse"])
    with pytest.raises(UsageError, match=r"did you mean warehouse:\?"):
        registry.normalise("warehose:x")


def test_a_missing_module_of_theirs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(tmp_path, "import no_such_client\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "warehouse_engine", raising=False)
    with pytest.raises(MissingDriver, match="'warehouse' needs the Python module 'no_such_client'"):
        registry.open_engine("warehouse:x", OPTIONS)


def test_a_missing_driver_names_the_extra() -> None:
    script = (
        "import sys; sys.modules['execo_engine'] = None\n"
        "from minionize.engines.registry import open_engine\n"
        "from minionize.contracts.engine import EngineOptions\n"
        "try: open_engine('execo:x', EngineOptions())\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=180,
        check=True,
    )
    assert done.stdout == "MissingDriver engine 'execo' needs: pip install 'minionize[execo]'\n"


def test_entry_points_are_not_read_for_our_own_schemes() -> None:
    script = (
        "import sys\n"
        "from minionize.engines.registry import open_queue\n"
        "from minionize.contracts.engine import EngineOptions\n"
        "open_queue('memory:x', EngineOptions())\n"
        "print([m for m in ('importlib.metadata', 'execo_engine') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=180,
        check=True,
    )
    assert done.stdout == "[]\n"
