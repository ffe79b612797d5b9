"""`@minionize`: a function that can be put to work on a queue."""

from __future__ import annotations

import copyreg
import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, overload

from minionize.api.common import load_settings
from minionize.api.minions import minionizer
from minionize.api.queues import QueueHandle
from minionize.callbacks.func import FuncCallback
from minionize.values import Param

if TYPE_CHECKING:
    from minionize.worker.summary import Summary

P = ParamSpec("P")
R = TypeVar("R")


class Minionized(Generic[P, R]):
    """A function that can be put to work on a queue; called, it is the function that it was."""

    __minionized__: Callable[P, R]
    """The function itself."""
    travels_by_value: ClassVar[bool] = True
    """To the processes of functions, whose `__main__` is another."""
    __qualname__: str
    __module__: str

    def __init__(self, func: Callable[P, R], settings: dict[str, Any]) -> None:
        functools.update_wrapper(self, func)
        self.__minionized__ = func
        self._settings = settings

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__minionized__(*args, **kwargs)

    def __reduce__(self) -> Any:
        """By its name, where that leads to it, as a function is pickled."""
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is self:
            return self.__qualname__
        return copyreg.__newobj__, (type(self),), self.__dict__  # type: ignore[attr-defined]

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def put(self, params: Iterable[Param], **settings: Any) -> int:
        """Put params into the queue; how many. Here or on any other machine."""
        with self.queue(**settings) as queue:
            return queue.put(params)

    def work(self, **settings: Any) -> Summary:
        """Be a minion that calls this function, until the queue is drained (or as `until`
        says). KeyboardInterrupt after Ctrl-C, when all is given back."""
        summary = minionizer(FuncCallback(self.__minionized__), **self._with(settings)).run()
        if summary.died_of is not None:
            raise KeyboardInterrupt
        return summary

    def results(self, *, dead: bool = False, **settings: Any) -> Iterator[dict[str, Any]]:
        """The rows of `QueueHandle.results`, of this function's queue."""
        with self.queue(**settings) as queue:
            yield from queue.results(dead=dead)

    def map(self, params: Iterable[Param], **settings: Any) -> list[dict[str, Any]]:
        """Call the function on all of `params`, in processes of this machine (`slots=4`), and
        return their rows, in their order; see `QueueHandle.results`.

        A param whose attempts all failed has `_status` `dead`, a `_reason`, and no result; a
        warning tells how many. It has a queue of its own, in memory. MinionizeError
        when it ended before all were done (too many failures in a row, say).
        """
        from minionize.api.mapping import mapped

        return mapped(self.__minionized__, params, self._settings, settings)

    def queue(self, **settings: Any) -> QueueHandle:
        """The queue that this function works on."""
        return QueueHandle(load_settings(self._with(settings), feeding=True))

    def _with(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**self._settings, **settings}

    def __repr__(self) -> str:
        return f"<minionized {self.__minionized__!r}>"


@overload
def minionize(func: Callable[P, R], /) -> Minionized[P, R]: ...


@overload
def minionize(**settings: Any) -> Callable[[Callable[P, R]], Minionized[P, R]]: ...


def minionize(func: Callable[..., Any] | None = None, /, **settings: Any) -> Any:
    """Decorator: gives a function `put`, `work`, `map` and `results`, and leaves it callable.

    `@minionize`, or `@minionize(queue="runs/ising", slots=4)` for settings of its own. A param
    is passed as FuncCallback says.
    """
    if func is None:
        return lambda later: Minionized(later, settings)
    if not callable(func):
        raise TypeError(f"@minionize is for functions, not {type(func).__name__}")
    return Minionized(func, settings)
