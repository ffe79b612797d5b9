"""Reads one small YAML file whose scalars all stay text. Imports PyYAML, so only when needed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from minionize.errors import UsageError
from minionize.settings.own_files import MOST_BYTES

_WIDE = (b"\xff\xfe", b"\xfe\xff")


def table_of(read: bytes, path: str) -> dict[str, Any]:
    """The table in `read`, what the file `path` holds: keys and scalars as the texts that were
    written (None where nothing stands), lists and tables of them.

    YAML itself would make a number of `010` and a yes/no of `on`, and a command would not get the
    words that were written. UsageError, in one line, for what can't be read.
    """
    if len(read) > MOST_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB: that is no file of settings; remove it")
    try:
        content = yaml.load(_decoded(read), Loader=_Texts)
    except _Twice as error:
        raise UsageError(f"{path} {error}: keep one of them") from None
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f"{_place(error.problem_mark)}: "
        why = _one_line(error.problem or error.context or "")
        raise UsageError(f"{path} can't be read: {where}{why}; mend it") from error
    except RecursionError:
        raise UsageError(f"{path} can't be read: it is nested too deeply; mend it") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} can't be read: {_one_line(str(error))}; mend it") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no table: write lines such as `slots: 4`")
    return content


def _decoded(read: bytes) -> str:
    """UTF-8, or UTF-16 by its mark: YAML is both."""
    return read.decode("utf-16" if read.startswith(_WIDE) else "utf-8")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


class _Twice(Exception):
    """A key stands twice in one table."""


class _Texts(yaml.SafeLoader):
    """Leaves scalars as they are written, and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        """As SafeLoader does, which silently takes the last of two."""
        lines: dict[str, int] = {}
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        for key, _ in pairs:
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            line = key.start_mark.line + 1
            if key.value:
                key.tag = "tag:yaml.org,2002:str"  # `null` names a setting here
            if key.value in lines:
                first = lines[key.value]
                raise _Twice(f"line {line}: {key.value!r} stands twice (first in line {first})")
            lines[key.value] = line
        return super().construct_mapping(node, deep=deep)  # type: ignore[arg-type]

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """The scalar as it is written, whatever it is tagged as."""
        return self.construct_scalar(node)


_Texts.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0].endswith((":null", ":merge"))]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag in ("bool", "int", "float", "timestamp", "binary"):
    _Texts.add_constructor(f"tag:yaml.org,2002:{_tag}", _Texts.construct_text)
