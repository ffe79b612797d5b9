"""What a function returns, as JSON text. docs/results.md has the table of types."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Set
from typing import Any

_SMALL = 1 << 53
_MOST_BITS = 14_000
"""Of an integer that Python turns into text, and back: 4,300 digits."""


class Unkept(Exception):
    """A value that has no JSON form; says which, and where inside the result it stands."""

    def __init__(self, value: object, place: str, why: str = "has no JSON form") -> None:
        self.kind = name_of(value)
        where = f"result{place} is" if place else "it is"
        article = "an" if self.kind[:1].lower() in "aeiou" else "a"
        super().__init__(
            f"what the function returned can't be kept: {where} {article} {self.kind}, which {why}"
        )


def name_of(value: object) -> str:
    """The name of a value's type, with its module unless that says nothing."""
    kind = type(value)
    plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"


def _no_default(value: Any) -> Any:
    """The few types that need no second look."""
    if type(value).__module__ == "numpy" and value.dtype.kind in "biuf":
        return value.tolist()
    raise TypeError


_encode = json.JSONEncoder(
    allow_nan=False, separators=(",", ":"), default=_no_default, check_circular=False
).encode


def text_of(value: Any) -> str:
    """`value` as JSON text in ASCII, on one line. Unkept where it has no such form.

    NaN becomes null, an infinity the text `Infinity` or `-Infinity`.
    """
    kind = type(value)
    if kind is int and -_SMALL < value < _SMALL:
        return repr(value)
    if kind is float and math.isfinite(value):
        return repr(value)
    try:
        if _has_texts_for_keys(value):
            return _encode(value)
    except Exception:  # whatever the value's own methods raise: the slow way names it
        pass
    try:
        return _encode(plain(value, ""))
    except Unkept:
        raise
    except RecursionError:
        raise Unkept(value, "", "refers to itself, or is nested too deeply") from None
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise Unkept(value, "", f"can't be read ({said})") from error


def _has_texts_for_keys(value: Any) -> bool:
    """Whether json makes no text of a key of its own accord: two of them could be the same."""
    kind = type(value)
    if kind is dict:
        for key, member in value.items():
            if type(key) is not str:
                return False
            if type(member) in _DEEP and not _has_texts_for_keys(member):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(member) not in _DEEP or _has_texts_for_keys(member) for member in value)
    return not isinstance(value, dict)


_DEEP = (dict, list, tuple)


def plain(value: Any, place: str) -> Any:
    """`value` in terms of what JSON has. `place`: where it stands, as in Python: `['a'][0]`."""
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    convert = _BUILT_IN.get(kind) or _found.get(kind)
    if convert is None:
        for known, convert in _known():
            if issubclass(kind, known):
                _found[kind] = convert
                break
        else:
            convert = _by_its_methods
    return convert(value, place)


def _integer(value: int, place: str) -> int:
    if value.bit_length() > _MOST_BITS:
        raise Unkept(value, place, "has more than 4,300 digits")
    return int(value)


def _number(value: float, place: str) -> float | str | None:
    if math.isfinite(value):
        return float(value)
    if math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"


def _list(value: Any, place: str) -> list[Any]:
    return [plain(member, f"{place}[{index}]") for index, member in enumerate(value)]


def _set(value: Any, place: str) -> list[Any]:
    members = [plain(member, f"{place}{{…}}") for member in value]
    if all(type(member) is str for member in members) or all(
        type(member) in (int, float) for member in members
    ):
        return sorted(members)
    return sorted(members, key=_encode)


def _object(value: Any, place: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, member in value.items():
        text = key if type(key) is str else _key(key, place)
        if text in members:
            raise Unkept(value, place, f"has two keys that are both {text!r} in JSON")
        members[text] = plain(member, f"{place}[{key!r}]"[:200])
    return members


def _key(key: Any, place: str) -> str:
    made = plain(key, f"{place}'s key")
    if isinstance(made, str):
        return made
    if isinstance(made, (list, dict)):
        raise Unkept(key, f"{place}'s key", "can't be a key in JSON")
    if made is None and isinstance(key, float):
        return "NaN"
    return _encode(made)


def _members(names: Callable[[Any], Any]) -> Callable[[Any, str], Any]:
    """For objects that are made of the attributes of these names."""

    def convert(value: Any, place: str) -> dict[str, Any]:
        return {name: plain(getattr(value, name), f"{place}.{name}") for name in names(value)}

    return convert


_BUILT_IN: dict[type, Callable[[Any, str], Any]] = {
    int: _integer,
    float: _number,
    list: _list,
    tuple: _list,
    dict: _object,
    set: _set,
    frozenset: _set,
    range: _list,
    bytes: lambda value, place: _base64(value),
    bytearray: lambda value, place: _base64(value),
    memoryview: lambda value, place: _base64(value),
    complex: lambda value, place: {
        "real": _number(value.real, place),
        "imag": _number(value.imag, place),
    },
}


_found: dict[type, Callable[[Any, str], Any]] = {}
"""What was found out about other types."""


def _base64(value: Any) -> str:
    import binascii

    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _decimal(value: Any, place: str) -> str | None:
    return None if value.is_nan() else str(value)


def _moment(value: Any, place: str) -> str | None:
    return None if value != value else str(value.isoformat())  # pandas' NaT is not itself


def _duration(value: Any, place: str) -> float | None:
    return None if value != value else float(value.total_seconds())


def _text(value: Any, place: str) -> str:
    return str(value)


def _frame(value: Any, place: str) -> list[dict[str, Any]]:
    """Rows as objects; the index is left out."""
    columns = [_list(value.iloc[:, at].tolist(), f"{place}.iloc[:,{at}]")
               for at in range(value.shape[1])]  # fmt: skip
    names = [name if type(name) is str else _key(name, f"{place}.columns")
             for name in value.columns]  # fmt: skip
    if len(set(names)) < len(names):
        raise Unkept(value, place, "has two columns of one name")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _array(value: Any, place: str) -> Any:
    """numpy's arrays and numbers."""
    numpy = sys.modules["numpy"]
    dtype = value.dtype
    if dtype.names:
        if value.shape:
            return _list(value, place)
        return {name: plain(value[name], f"{place}[{name!r}]") for name in dtype.names}
    if dtype.kind == "M":
        texts = numpy.datetime_as_string(value).tolist()
        return _without_nat(texts)
    if dtype.kind == "m":
        unit = numpy.datetime_data(dtype)[0]
        if unit not in ("generic", "Y", "M"):
            value = value / numpy.timedelta64(1, "s")
        else:
            value = value.astype("int64")
    elif dtype.kind == "f" and dtype.itemsize > 8:
        value = value.astype("float64")
    elif dtype.kind == "c" and dtype.itemsize > 16:
        value = value.astype("complex128")
    return plain(value.tolist(), place)


def _without_nat(texts: Any) -> Any:
    if isinstance(texts, list):
        return [_without_nat(text) for text in texts]
    return None if texts == "NaT" else str(texts)


_LIBRARIES: tuple[tuple[str, str, Callable[[Any, str], Any]], ...] = (
    ("enum", "Enum", lambda value, place: plain(value.value, f"{place}.value")),
    ("datetime", "date", _moment),
    ("datetime", "time", _moment),
    ("datetime", "timedelta", _duration),
    ("decimal", "Decimal", _decimal),
    ("fractions", "Fraction", _text),
    ("uuid", "UUID", _text),
    ("ipaddress", "_IPAddressBase", _text),
    ("array", "array", lambda value, place: _list(value.tolist(), place)),
    ("collections", "deque", _list),
    ("types", "SimpleNamespace", lambda value, place: _object(vars(value), place)),
    ("argparse", "Namespace", lambda value, place: _object(vars(value), place)),
    ("pandas", "DataFrame", _frame),
    ("pandas", "Series", lambda value, place: _list(value.tolist(), place)),
    ("pandas", "Period", _text),
    ("pandas", "Interval", _text),
    ("pandas", "NaT", lambda value, place: None),
    ("pandas", "NA", lambda value, place: None),
    ("numpy", "ndarray", _array),
    ("numpy", "generic", _array),
)


def _known() -> list[tuple[type, Callable[[Any, str], Any]]]:
    """The types of the libraries that are loaded, and what becomes of them. Loads none."""
    import os

    known: list[tuple[type, Callable[[Any, str], Any]]] = []
    for module, name, convert in _LIBRARIES:
        found = getattr(sys.modules.get(module), name, None)
        if found is not None:
            known.append((found if isinstance(found, type) else type(found), convert))
    return [
        *known,
        (int, lambda value, place: _integer(int(value), place)),
        (float, lambda value, place: _number(float(value), place)),
        (str, lambda value, place: str.__str__(value)),
        *((kind, convert) for kind, convert in _BUILT_IN.items() if kind not in (int, float)),
        (Mapping, _object),
        (Set, _set),
        (type({}.values()), _list),
        (os.PathLike, lambda value, place: os.fsdecode(value)),
    ]


def _by_its_methods(value: Any, place: str) -> Any:
    kind = type(value)
    if not isinstance(value, type):
        if hasattr(kind, "__dataclass_fields__"):
            import dataclasses

            names = [field.name for field in dataclasses.fields(value)]
            return _members(lambda value: names)(value, place)
        if hasattr(kind, "__attrs_attrs__"):
            names = [attribute.name for attribute in kind.__attrs_attrs__]
            return _members(lambda value: names)(value, place)
        if callable(getattr(kind, "model_dump", None)):  # pydantic
            return plain(value.model_dump(), place)
        for method in ("tolist", "to_list"):  # torch, pandas' arrays and indexes
            if callable(getattr(kind, method, None)):
                made = getattr(value, method)()
                if type(made) is not kind:
                    return plain(made, place)
    raise Unkept(value, place)
