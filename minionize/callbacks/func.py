"""FuncCallback: a Python function is called for each param.

The function runs in child processes of the minion, which a clean interpreter forks (or in the
minion itself with `--inline`). So it must be found there again: by import where that is
possible, else by value (cloudpickle) for functions of a notebook, a script or a shell, lambdas
and closures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from minionize.callbacks import generators
from minionize.callbacks.calling import find, parse_spec
from minionize.values import Param


class Origin(NamedTuple):
    """How another interpreter finds a function again: by import, or by value."""

    module: str = ""
    name: str = ""
    """Dotted name in the module."""
    pickled: bytes = b""


class FuncCallback:
    """Calls `func` for each param.

    With one parameter it gets the param as it is; with more, an object by keyword and a list
    by position (everything else is passed as the one argument). What it returns is the result
    (docs/results.md has the types), and acks the param, as `sys.exit(0)` does. `RetryLater` gives
    the param back uncharged, `Reject` makes a dead letter of it, and any other exception (and an
    exit with another status) is a failed attempt whose traceback is kept.

    A subclass may override the hooks below, which run in the minion itself and not in the
    function's process. Overriding any of them costs speed: params are then run one by one. Each
    run that came to an end of its own has one teardown.
    """

    def __init__(self, func: Callable[..., Any]) -> None:
        if not callable(func):
            raise TypeError(f"FuncCallback needs a function, not {type(func).__name__}")
        self._spec = ""
        self._func: Callable[..., Any] | None = getattr(func, "__minionized__", func)

    @classmethod
    def from_spec(cls, spec: str) -> FuncCallback:
        """The callback of `--call module:function`. UsageError for what has not this form.

        Nothing is imported here: the function's own process does that, so that the minion stays
        small and beats while a heavy module is loaded. What is wrong with the module or the
        name is said by the crew before it takes a param.
        """
        parse_spec(spec)
        self = cls.__new__(cls)
        self._spec = spec
        self._func = None
        return self

    def function(self) -> Callable[..., Any]:
        """The function itself. UsageError if it can't be imported."""
        if self._func is None:
            self._func = find(*parse_spec(self._spec))
        return self._func

    def origin(self) -> Origin:
        """How the function's own process finds it. UsageError if there is no way."""
        if self._func is None:
            return Origin(*parse_spec(self._spec))
        return _importable(self._func) or Origin(pickled=_pickle(self._func))

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._spec or str(getattr(self._func, "__qualname__", None) or repr(self._func))

    def setup(self, param: Param, engine: Any) -> None:
        """Before the run; an exception means what it means in the function."""

    def teardown_ok(self, param: Param, engine: Any) -> None:
        """After a run that is done, before its ack; an exception as in `setup`."""

    def teardown_ko(self, param: Param, engine: Any, exception: BaseException) -> None:
        """After any other end of its own: it failed, was rejected, asked for later, or a hook
        raised. Not after a run that the minion stopped."""


def overrides_hooks(callback: FuncCallback) -> bool:
    """Whether any hook of this callback does something."""
    return any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(FuncCallback, hook)
        for hook in ("setup", "teardown_ok", "teardown_ko")
    )


def _importable(func: Callable[..., Any]) -> Origin | None:
    """The import that leads to `func`, if a new interpreter can follow it."""
    module_name = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None)
    if not module_name or not name or "<" in name or module_name == "__main__":
        return None
    module = sys.modules.get(module_name)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if getattr(found, "__minionized__", found) is not func:
        return None  # a bound method, a wrapper, or a name that means something else by now
    return Origin(module_name, name) if _can_find(module_name) else None


def _can_find(module_name: str) -> bool:
    """Whether an import of this name, elsewhere, leads to the module that is loaded here."""
    top = module_name.partition(".")[0]
    loaded = getattr(sys.modules.get(top), "__file__", None)
    for finder in sys.meta_path:  # importlib.util would answer from sys.modules
        find_spec = getattr(finder, "find_spec", None)
        found = find_spec(top, None) if find_spec is not None else None
        if found is not None:
            return loaded is None or found.origin == loaded
    return False


def _dumped(func: Callable[..., Any]) -> bytes:
    """As cloudpickle.dumps; but generators of random numbers are renewed where it is loaded."""
    import copyreg
    import io

    import cloudpickle

    kinds = generators.kinds()

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if issubclass(type(value), kinds):
                return generators.reduced(value)
            if getattr(type(value), "travels_by_value", None) is True:
                return copyreg.__newobj__, (type(value),), vars(value)  # type: ignore[attr-defined]
            return super().reducer_override(value)

    with io.BytesIO() as file:
        Pickler(file).dump(func)
        return file.getvalue()


def _pickle(func: Callable[..., Any]) -> bytes:
    """The function by value. UsageError for what it holds that can't leave this process."""
    import cloudpickle

    from minionize.errors import UsageError

    module = sys.modules.get(getattr(func, "__module__", None) or "")
    # cloudpickle sends what stands in a module by its name: no help where it can't be imported
    whole = module is not None and module.__name__ != "__main__" and not _can_find(module.__name__)
    try:
        if whole:
            cloudpickle.register_pickle_by_value(module)
        try:
            return _dumped(func)
        finally:
            if whole:
                cloudpickle.unregister_pickle_by_value(module)
    except Exception as error:
        name = getattr(func, "__qualname__", repr(func))
        raise UsageError(
            f"{name} can't be sent to its own process ({type(error).__name__}: {error}): "
            "make what it uses inside the function, or run with --inline"
        ) from error
