"""Generators of random numbers: each process of a function draws numbers of its own.

A seed that a module sets when it is imported, or a state that travels with a pickled function,
would be the same in each process, and their numbers too. So they are seeded anew there.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

_KINDS = (
    ("random", ("Random",)),
    ("numpy.random", ("Generator", "RandomState", "BitGenerator")),
    ("torch", ("Generator",)),
)
_DEPTH = 3
"""How far into lists, dicts and objects of a module generators are looked for."""
_MOST = 10_000
"""Lists and dicts that hold more are data."""
_BOUND = (types.BuiltinMethodType, types.MethodType)


def kinds() -> tuple[type, ...]:
    """The types of generators, of the libraries that are loaded. Loads none."""
    found: list[type] = []
    for module, names in _KINDS:
        loaded = sys.modules.get(module)
        types = (getattr(loaded, name, None) for name in names)
        found += [kind for kind in types if isinstance(kind, type)]
    return tuple(found)


def renew(generator: Any) -> None:
    """Seed it from the system's entropy. Left as it is where that can't be."""
    with contextlib.suppress(Exception):  # a subclass may do what it likes
        bits = getattr(generator, "bit_generator", getattr(generator, "_bit_generator", None))
        if bits is not None:
            numpy_random = sys.modules["numpy.random"]
            whole = isinstance(generator, numpy_random.Generator)
            kind: Any = numpy_random.Generator if whole else numpy_random.RandomState
            # Not its state alone: `spawn` begins with the seed that it was made from.
            kind.__init__(generator, type(bits)())
        elif hasattr(generator, "seed"):
            generator.seed()
        else:
            generator.__init__()


def renew_all(func: Callable[..., Any]) -> None:
    """Seed what `func` may draw from in this process: the generators that a library has for all,
    and those of the function's module, closure and object."""
    for module in ("random", "numpy.random", "torch"):
        seed = getattr(sys.modules.get(module), "seed", None)
        if seed is not None:
            with contextlib.suppress(Exception):
                seed()
    known = kinds()
    if not known:
        return
    seen: set[int] = set()
    home = getattr(func, "__module__", None)
    for place in _places(func):
        _renew_in(place, known, home, seen, _DEPTH)


def _places(func: Any) -> Iterator[Any]:
    """Where a function may keep things: its object, its module, its closure, its defaults."""
    for _ in range(_DEPTH):
        yield getattr(func, "__self__", None)
        yield getattr(func, "__globals__", None)
        yield getattr(func, "__defaults__", None)
        yield getattr(func, "__kwdefaults__", None)
        for cell in getattr(func, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # not filled yet
                yield cell.cell_contents
        if isinstance(func, functools.partial):
            yield func.args
            yield func.keywords
            func = func.func
        elif hasattr(func, "__wrapped__"):
            func = func.__wrapped__
        else:
            if not hasattr(func, "__globals__"):
                yield getattr(func, "__dict__", None)
                yield getattr(vars(type(func)).get("__call__"), "__globals__", None)
            return


def _renew_in(
    value: Any, known: tuple[type, ...], home: str | None, seen: set[int], depth: int
) -> None:
    # By `type` and not by `isinstance`, which wakes up what a module only stands in for.
    kind = type(value)
    if kind in _BOUND:  # `draw = default_rng().random`
        value = value.__self__
        kind = type(value)
    if id(value) in seen:
        return
    seen.add(id(value))
    if issubclass(kind, known):
        renew(value)
        return
    inner: Any = ()
    if issubclass(kind, dict):
        inner = list(value.values())
    elif issubclass(kind, (list, tuple)):
        inner = value
    elif kind.__module__ == home or (kind is type and value.__module__ == home):
        inner = list(getattr(value, "__dict__", {}).values())
    if depth and len(inner) <= _MOST:
        for each in inner:
            _renew_in(each, known, home, seen, depth - 1)


def reduced(generator: Any) -> tuple[Any, ...]:
    """For a pickler: the same generator, renewed where it is unpickled."""
    if type(generator).__name__ == "SystemRandom":
        return type(generator), ()
    make, arguments, *rest = generator.__reduce_ex__(2)
    return _reborn, (make, arguments, rest[0] if rest else None)


def _reborn(make: Callable[..., Any], arguments: tuple[Any, ...], state: Any) -> Any:
    generator = make(*arguments)
    if state is not None and hasattr(generator, "__setstate__"):
        generator.__setstate__(state)
    elif state is not None:
        generator.__dict__.update(state)
    renew(generator)
    return generator
