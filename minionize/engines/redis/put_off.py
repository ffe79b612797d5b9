"""Modules whose own code runs when somebody wants it, not when they are imported.

To import a client is to run all that it imports, a tenth of a second for what one connection never
uses. A module that is put off is the same as ever, only later: its code runs, as it is, as soon
as anybody asks for a name of it. That can be noticed (what is set on it before is overwritten),
so this is for processes where only our code runs: `engines.alone`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

_locks: dict[str, Any] = {}
"""One for each module, as for imports: their code imports others."""
_running: set[str] = set()
_elsewhere: dict[str, Mapping[str, str]] = {}
_for_now: dict[tuple[int, str], Mapping[str, Any]] = {}
"""By thread, whose imports get it, and module."""
_given: dict[str, dict[str, Any]] = {}
"""By module: what was given for a name of it, until there is the real one."""


class _PutOff(ModuleType):
    """A module whose own code has not run yet. The parts of a package are imported as usual."""

    def __getattr__(self, name: str) -> Any:
        """Only asked for what is not there."""
        me = self.__name__
        with _locks[me]:
            if type(self) is _PutOff:
                # Whoever imports from it asks for `__path__`, which a package has from the start.
                # That it runs is our doing: its code imports what wants it.
                if name == "__path__" or me in _running:
                    raise AttributeError(f"partially initialized module {me!r} has no {name!r}")
                stand_ins = _for_now.get((threading.get_ident(), me), {})
                if name in stand_ins:
                    return _given.setdefault(me, {}).setdefault(name, stand_ins[name])
                names = _elsewhere.get(me)
                if names is not None:
                    if name in names:
                        return getattr(importlib.import_module(names[name]), name)
                    part = f"{me}.{name}"
                    if "__path__" in vars(self) and importlib.util.find_spec(part) is not None:
                        return importlib.import_module(part)
                self._run()
        return getattr(self, name)

    def _run(self) -> None:
        me, spec = self.__name__, self.__spec__
        assert spec is not None and spec.loader is not None
        _running.add(me)
        try:
            spec.loader.exec_module(self)
            self.__class__ = ModuleType  # type: ignore[assignment]
        finally:
            _running.discard(me)
        for name, stand_in in _given.pop(me, {}).items():
            _replace(stand_in, getattr(self, name))


def _replace(stand_in: Any, real: Any) -> None:
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            held = vars(module)
            # A copy: other threads may define names meanwhile.
            for key in [key for key, value in list(held.items()) if value is stand_in]:
                held[key] = real


def is_put_off(name: str) -> bool:
    """Whether there is such a module, and its code has not run yet."""
    return type(sys.modules.get(name)) is _PutOff


def put_off(name: str, elsewhere: Mapping[str, str] | None = None) -> None:
    """Have module `name` as it will be, unless it was imported already. What is not installed is
    left for the import that wants it.

    `elsewhere`: which other modules define some of its names; these names, and the parts of a
    package, are had from there without the code of `name`, which the parts must not need.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _PutOff
    _locks[name] = threading.RLock()
    if elsewhere is not None:
        _elsewhere[name] = elsewhere
    sys.modules[name] = module
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, module)


@contextlib.contextmanager
def for_now(stand_ins: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """What this thread imports meanwhile gets `stand_ins` (module -> name -> what) for names of
    modules that are put off. They are replaced by the real ones, wherever a module has them, as
    soon as the code of theirs runs: so each must be an object of its own, and of no use before, as
    a class that is only mentioned in types."""
    me = threading.get_ident()
    _for_now.update({(me, module): names for module, names in stand_ins.items()})
    try:
        yield
    finally:
        for module in stand_ins:
            del _for_now[me, module]
