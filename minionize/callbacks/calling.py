"""How a function is found by its name, and how it takes a param."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from minionize.errors import UsageError
from minionize.nearest import nearest


def parse_spec(spec: str) -> tuple[str, str]:
    """`module:function` in its two parts. UsageError for anything else."""
    module, colon, name = spec.partition(":")
    if module.endswith(".py"):
        raise UsageError(f"--call {spec}: takes a module's name, not a file: {module[:-3]}:{name}")
    parts = [*module.split("."), *name.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise UsageError(f"--call {spec}: no module:function (such as train:simulate)")
    return module, name


def find(module_name: str, name: str) -> Callable[..., Any]:
    """Import a function, with the current folder first on the path.

    UsageError in one line: no such module, no such function, or what the import raised.
    """
    here = os.getcwd()
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)
    import importlib

    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise UsageError(
                f"no module {error.name!r} in {here} or on Python's path: "
                "start where it is, or set PYTHONPATH"
            ) from error
        raise UsageError(_import_failed(module_name, error)) from error
    except (Exception, SystemExit) as error:
        raise UsageError(_import_failed(module_name, error)) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise UsageError(_no_function(module_name, name, part, found)) from error
    if not callable(found):
        raise UsageError(f"{module_name}:{name} is no function but a {type(found).__name__}")
    return getattr(found, "__minionized__", found)  # type: ignore[no-any-return]


def _import_failed(module_name: str, error: BaseException) -> str:
    where = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "importlib" not in file and file != __file__:
            where = f", {file} line {trace.tb_lineno}"
        trace = trace.tb_next
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"module {module_name!r} can't be imported ({what}{where}): "
        f"python -c 'import {module_name}' shows more"
    )


def _no_function(module_name: str, name: str, part: str, holder: object) -> str:
    names = [known for known in dir(holder) if callable(getattr(holder, known, None))]
    near = nearest(part, names)
    hint = f": did you mean {near}?" if near else ": check the name"
    return f"module {module_name!r} has no function {name!r}{hint}"


def takes_whole(func: Callable[..., Any]) -> bool:
    """Whether `func` gets a param as it is: it has one parameter. Otherwise it has more, and an
    object is passed by keyword, a list by position, and a scalar as the one argument.

    Parameters with defaults count, `*args` and `**kwargs` mean several. A callable that does not
    tell its parameters (some builtins) gets the param. UsageError for one without parameters,
    and for one whose body a mere call would not run.
    """
    import inspect

    name = getattr(func, "__qualname__", repr(func))
    if inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
        raise UsageError(f"{name}() is async, so calling it runs nothing: call one that awaits it "
                         "with asyncio.run")  # fmt: skip
    if inspect.isgeneratorfunction(func):
        raise UsageError(f"{name}() is a generator, so calling it runs nothing: return a list "
                         "instead of yielding")  # fmt: skip
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (ValueError, TypeError):
        return True
    if not parameters:
        raise UsageError(f"{name}() takes no parameter: give it one, for the param")
    only = parameters[0]
    variable = (only.VAR_POSITIONAL, only.VAR_KEYWORD, only.KEYWORD_ONLY)
    return len(parameters) == 1 and only.kind not in variable
