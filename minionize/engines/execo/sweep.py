"""A sweep of execo's, through its own ParamSweeper: combinations as params with texts and ids.

execo writes three pickles into its folder: `sweeps` (a set: everything), `done` (appended) and
`inprogress` (a set, rewritten each time). What is neither done nor in progress is todo.
Unpickling runs what the pickle says, so each file's owner is looked at before it is opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import re
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from minionize.beneath import is_only_ours
from minionize.engines.execo.ledger import write_whole
from minionize.engines.execo.library import sweep_module
from minionize.errors import BadParam, EngineUnavailable, NoSuchQueue, QueueDamaged, UsageError
from minionize.values import to_text

_SPEAKING_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_HASH_ID = re.compile(r"x[0-9a-f]{20}")


class Sweep:
    """The combinations of one sweep and their states. Use it under the queue's lock only."""

    def __init__(self, folder: str, place: str) -> None:
        """NoSuchQueue if there is no sweep in `folder`. `place`: the same folder by a name that
        stays its own whatever others rename."""
        self.folder = folder
        self._place = place
        self.check()
        self._seen = self._signature()
        try:
            self._sweeper = sweep_module().ParamSweeper(place, name=os.path.basename(folder))
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("execo"):
                raise
            raise self._damaged(error) from error
        except OSError as error:
            raise EngineUnavailable(f"execo:{folder}: can't be opened ({error})") from error
        except Exception as error:  # pickles may raise anything
            raise self._damaged(error) from error
        self.texts: dict[str, str] = {}
        self.combinations: dict[str, Any] = {}
        self._ids: dict[Any, str] = {}
        self._name_all(self._sweeper.get_sweeps())

    def check(self) -> None:
        """Only files of this user, or root, that no other user may write are ever unpickled, and
        from a folder in which no other user can put another file in their place."""
        for name in ("sweeps", "done", "inprogress"):
            try:
                found = os.lstat(os.path.join(self._place, name))
            except FileNotFoundError:
                if name == "sweeps":
                    raise missing(self.folder) from None
                continue
            check_trusted(os.path.join(self.folder, name), found)

    @property
    def changed(self) -> bool:
        """Whether the file of combinations is another than the one that was read."""
        return self._signature() != self._seen

    @property
    def traces(self) -> tuple[object, ...]:
        """Something that changes when execo's files do. Who looks and finds nothing writes
        `inprogress` again as it was: so of that one only the size counts."""
        sweeps, done = (_trace(os.path.join(self._place, name)) for name in ("sweeps", "done"))
        return sweeps, done, os.path.getsize(os.path.join(self._place, "inprogress"))

    def id_of(self, combination: Any) -> str | None:
        """Its id, if it belongs to this sweep."""
        return self._ids.get(combination)

    def read_all(self) -> None:
        """See everything that others did."""
        self._sweeper.full_update()

    def take(self, limit: int, choose: Callable[[Collection[Any]], Iterable[Any]]) -> Sequence[Any]:
        """Up to `limit` of what `choose` makes of those that are todo; they are in progress now."""
        batch: Sequence[Any] = self._sweeper.get_next_batch(limit, filtr=choose)
        return batch

    def finish(self, ids: Iterable[str]) -> None:
        """These are done."""
        self._sweeper.done_batch([self.combinations[id] for id in ids])

    def cancel(self, ids: Iterable[str]) -> None:
        """These are todo again."""
        self._sweeper.cancel_batch([self.combinations[id] for id in ids if id in self.combinations])

    def done(self) -> set[str]:
        """Ids of what is done, as of the last look."""
        return {self._ids[combination] for combination in self._sweeper.get_done()}

    def in_progress(self) -> set[str]:
        """Ids of what is in progress, as of the last `read_all`."""
        return {self._ids[combination] for combination in self._sweeper.get_inprogress()}

    def undo(self, ids: Collection[str]) -> None:
        """These are not done any more. execo has no word for it: the file is written anew,
        under its own lock, without them."""
        chosen = {self.combinations[id] for id in ids}
        path = os.path.join(self._place, "done")
        with open(path, "rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            kept = []
            while True:
                try:
                    combination = pickle.load(file)
                except EOFError:
                    break
                if combination not in chosen:
                    kept.append(pickle.dumps(combination))
            write_whole(path, b"".join(kept))

    def without(self, ids: Collection[str]) -> None:
        """These are no longer part of the sweep."""
        gone = set(ids)
        save(self._place, {c for c, id in self._ids.items() if id not in gone})

    def _name_all(self, combinations: Iterable[Any]) -> None:
        twins: dict[str, list[Any]] = {}
        for combination in combinations:
            try:
                param = plain(combination)
                twins.setdefault(id := id_of(param), []).append(combination)
                self.texts[id] = to_text(param)
            except (TypeError, ValueError, RecursionError) as error:
                raise BadParam(
                    f"execo:{self.folder}: {combination!r:.200} is no JSON ({error}): "
                    "make the sweep of plain values"
                ) from error
        for id, same in twins.items():
            for combination in same:
                own = id
                if len(same) > 1:  # a tuple and a list, say: the same JSON, but not equal
                    own = _hash(f"{id} {_shape(combination)}")
                    self.texts[own] = to_text(plain(combination))
                self.combinations[own] = combination
                self._ids[combination] = own

    def _signature(self) -> object:
        return _trace(os.path.join(self._place, "sweeps"))

    def _damaged(self, error: Exception) -> QueueDamaged:
        return QueueDamaged(
            f"{self.folder}/sweeps is no sweep that can be read here "
            f"({type(error).__name__}: {error}): make it again with "
            "ParamSweeper(..., save_sweeps=True)"
        )


def check_trusted(path: str, found: os.stat_result) -> None:
    """UsageError unless it belongs to this user, or root, and no other user may write it."""
    if stat.S_ISLNK(found.st_mode):
        raise UsageError(
            f"{path} is a symbolic link, and reading a pickle runs what is in it: put the file "
            "itself there"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise UsageError(
            f"{path} belongs to user {found.st_uid}, and reading a pickle runs what its "
            "owner put into it: copy the sweep into a folder of your own"
        )
    if not is_only_ours(found):
        who = "everybody" if found.st_mode & stat.S_IWOTH else "its group"
        raise UsageError(
            f"{path} can be written by {who}, and reading a pickle runs what is in it: "
            f"chmod go-w {path}"
        )


def missing(folder: str) -> NoSuchQueue:
    """There is no sweep in `folder`."""
    if os.path.exists(os.path.join(folder, "done")):
        return NoSuchQueue(
            f"execo:{folder} has no file `sweeps`: make it with ParamSweeper(..., save_sweeps=True)"
        )
    return NoSuchQueue(
        f"no sweep in {folder}: make one with ParamSweeper({folder!r}, sweeps=..., "
        "save_sweeps=True), or with minion feed"
    )


def save(folder: str, combinations: set[Any]) -> None:
    """Make these the sweep: what ParamSweeper's `save_sweeps` writes, but whole or not at all."""
    os.makedirs(folder, exist_ok=True)
    write_whole(os.path.join(folder, "sweeps"), pickle.dumps(combinations))


def frozen(param: Any) -> Any:
    """A JSON value as execo can take it: HashableDicts, and tuples for lists."""
    if isinstance(param, dict):
        hashable = sweep_module().HashableDict
        return hashable((key, frozen(value)) for key, value in param.items())
    if isinstance(param, list):
        return tuple(map(frozen, param))
    return param


def plain(combination: Any) -> Any:
    """A combination as JSON values: numbers of numpy as numbers, sets as sorted lists."""
    if isinstance(combination, dict):
        return {_key(key): plain(value) for key, value in combination.items()}
    if isinstance(combination, (list, tuple, range)):
        return [plain(value) for value in combination]
    if isinstance(combination, (set, frozenset)):
        return sorted((plain(value) for value in combination), key=to_text)
    if combination is None or isinstance(combination, (str, int, float)):
        return combination
    if callable(item := getattr(combination, "item", None)):
        return item()
    return combination


def _key(key: Any) -> str:
    """Keys of JSON objects are strings; numbers become ones, as json.dumps does it."""
    if isinstance(key, str):
        return key
    return to_text(plain(key))


def id_of(param: Any) -> str:
    """A stable id: the value itself where it is a word or a number, else a hash of its JSON."""
    if isinstance(param, str):
        if _SPEAKING_ID.fullmatch(param) and not _HASH_ID.fullmatch(param) and not _json(param):
            return param
    elif (param is None or isinstance(param, (int, float))) and _SPEAKING_ID.fullmatch(
        text := to_text(param)
    ):
        return text
    return _hash(json.dumps(param, sort_keys=True, allow_nan=False))


def _json(text: str) -> bool:
    """Whether this word means a JSON value other than a string."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _hash(text: str) -> str:
    return "x" + hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _shape(combination: Any) -> str:
    """What tells apart combinations with the same JSON: the types in it."""
    kind = type(combination).__name__
    if isinstance(combination, dict):
        return f"{kind}{sorted((_key(k), _shape(v)) for k, v in combination.items())}"
    if isinstance(combination, (list, tuple)):
        return f"{kind}{[_shape(value) for value in combination]}"
    return kind


def _trace(path: str) -> object:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
