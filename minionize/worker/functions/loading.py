"""How a child gets its function: by import, or from a pickle."""

from __future__ import annotations

import functools
import io
import pickle
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from typing import Any

from minionize.callbacks import calling, generators
from minionize.errors import UsageError
from minionize.worker.blame import machine_error


def load(told: Mapping[str, Any], pickled: bytes) -> tuple[Callable[..., Any], bool]:
    """The function, and whether it takes a param whole. UsageError in one line if it can't be
    had."""
    try:
        if told["module"]:
            func = calling.find(told["module"], told["name"])
        else:
            _make_main(told["main"])
            func = _Unpickler(io.BytesIO(pickled)).load()
        whole = calling.takes_whole(func)
    except UsageError:
        raise
    except BaseException as error:
        what = _words(error)
        raise UsageError(f"the function can't be loaded in its own process ({what})") from error
    generators.renew_all(func)
    return func, whole


def by_machine(error: BaseException) -> tuple[str, int] | None:
    """Why it is the machine's fault that the function can't be loaded, in words and as an errno;
    None if the function or its module is wrong. `error`: as of `load`, or from before it."""
    cause = machine_error(error)
    if cause is None:
        return None
    # A UsageError says what a person should do about a module that is wrong.
    why = error.__cause__ if isinstance(error, UsageError) else None
    return _words(why or error), cause.errno or 0


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500].removesuffix(":")


def _make_main(main: Mapping[str, Any]) -> None:
    """Make `__main__` look like that of the minion, for what the function starts processes with:
    multiprocessing finds functions of `__main__` by their names, in a script that it runs again
    where it does not fork."""
    module = sys.modules["__main__"]
    for name in [name for name in vars(module) if not name.startswith("__")]:
        delattr(module, name)
    if main.get("file"):
        module.__file__ = main["file"]
    if main.get("spec"):
        module.__spec__ = ModuleSpec(main["spec"], None)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        found = super().find_class(module, name)
        if name == "_make_function" and module.startswith("cloudpickle"):
            return functools.partial(_make_function, found)
        return found


def _make_function(
    make: Callable[..., Any], code: Any, namespace: dict[str, Any], *more: Any
) -> Any:
    """cloudpickle gives functions of `__main__` globals that no module has: they get those of
    `__main__`, where others find them by name."""
    if namespace.get("__name__") == "__main__":
        main = vars(sys.modules["__main__"])
        main.update((name, value) for name, value in namespace.items() if name != "__name__")
        namespace = main
    return make(code, namespace, *more)
