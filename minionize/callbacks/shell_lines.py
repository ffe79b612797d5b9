"""Where a value must not be put: inside a script that a shell parses, unless it is quoted there.

Decided once, when CMD is compiled; in doubt the answer is no, with a remedy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from minionize.callbacks.template import Part, Word
from minionize.errors import UsageError

_SHELL = re.compile(r"(?:r?ba|da|z|[lm]?k|pdk|a|po|ya|fi|t?c|r)?sh(?:[-.\d].*)?")
_TAKES_SCRIPT = {"su", "runuser", "script", "flock"}
_SIMPLE_EXPANSION = re.compile(r"\$\{[^{}'\"`$\\<]*\}|\$\(\([^(){}'\"`$\\]*\)\)")
_WORD_STARTS = frozenset(" \t\n;&|()<>")


def refuse_scripts(cmd: Sequence[str], words: Sequence[Word]) -> None:
    """UsageError where a name in braces stands in the script of a `sh -c`, however it is
    wrapped (`env bash -euc`, `nice sh -c`). `words` are those of `cmd`, compiled."""
    for index, word in enumerate(cmd):
        if isinstance(words[index], str):
            program = word.rpartition("/")[2]
            if _SHELL.fullmatch(program):
                script = _script_of_shell(cmd, index + 1)
            elif program in _TAKES_SCRIPT:
                script = _after(cmd, index + 1, ("-c", "--command"))
            elif program == "env":
                script = _after(cmd, index + 1, ("-S", "--split-string"))
            else:
                continue
            if script is not None and not isinstance(words[script], str):
                (name, *_) = (part.name for part in words[script] if isinstance(part, Part))
                raise UsageError(
                    f"{{{name}}} stands in a script of {program}, which would run what a param "
                    f"says: write sh -c '... \"$1\"' x {{{name}}}, or use --shell, "
                    "which quotes each value"
                )


def _script_of_shell(cmd: Sequence[str], start: int) -> int | None:
    """The index of the script after a shell's `-c`, or None where there is none."""
    has_script = False
    index = start
    while index < len(cmd):
        word = cmd[index]
        if word in ("-", "--"):
            index += 1
            break
        if word.startswith("--"):
            if word.startswith("--command="):
                return index
            has_script = has_script or word == "--command"
            index += 2 if word in ("--rcfile", "--init-file") else 1
        elif word[:1] in ("-", "+") and len(word) > 1:
            has_script = has_script or (word[0] == "-" and "c" in word)
            # Each o takes a name: `-euo pipefail -c`.
            index += 1 + word.count("o") + word.count("O")
        else:
            break
    return index if has_script and index < len(cmd) else None


def _after(cmd: Sequence[str], start: int, flags: tuple[str, ...]) -> int | None:
    for index in range(start, len(cmd)):
        if cmd[index] in flags:
            return index + 1 if index + 1 < len(cmd) else None
        if cmd[index].startswith(tuple(f"{flag}=" for flag in flags if flag.startswith("--"))):
            return index
        if "-S" in flags and re.match(r"-[a-zA-Z]*S", cmd[index]):
            # `env -vS '...'`, or the string in the same word.
            return index if len(cmd[index].partition("S")[2]) else min(index + 1, len(cmd) - 1)
    return None


def refuse_quoted(line: Word, *, appends: bool) -> None:
    """UsageError where a value in `line` would not be a word of its own after quoting: inside
    quotes, backticks, a comment, `${...}`, `$((...))`, or after a here-document."""
    scan = _Scan()
    for piece in (line,) if isinstance(line, str) else line:
        if isinstance(piece, str):
            scan.read(piece)
        else:
            _refuse(f"{{{piece.name}}}", scan.where())
            scan.put()
    if appends:
        scan.read(" ")
        _refuse("the param, appended,", scan.where())


def _refuse(what: str, where: str) -> None:
    if where:
        raise UsageError(
            f"{what} stands {where} of the --shell line, where quoting does not hold: "
            "take it out of there (each value is quoted anyway), or write "
            "sh -c '... \"$1\"' x {} without --shell"
        )


class _Scan:
    """Reads a shell line from the left, as far as it must to know where a value stands."""

    def __init__(self) -> None:
        self.lost = ""
        """What was met that is not followed further; holds to the end of the line."""
        self.quote = ""
        self.comment = False
        self.escaped = False
        self.starts = True
        """A word would start here."""

    def where(self) -> str:
        """Where we are, for a message; empty in plain text."""
        if self.lost:
            return self.lost
        if self.comment:
            return "in a comment"
        if self.escaped:
            return "behind a backslash"
        return f"inside {self.quote} quotes" if self.quote else ""

    def put(self) -> None:
        """A quoted value stood here."""
        self.starts = False

    def read(self, text: str) -> None:
        """Go on over text of the line's own."""
        at = 0
        while at < len(text) and not self.lost:
            char = text[at]
            if self.comment:
                self.comment = char != "\n"
                self.starts = not self.comment
            elif self.escaped:
                self.escaped = False
                # A line that goes on: the shell drops both characters.
                self.starts = self.starts and char == "\n"
            elif self.quote == "'":
                self.quote = "" if char == "'" else "'"
            elif char == "\\":
                self.escaped = True
            elif simple := _SIMPLE_EXPANSION.match(text, at):
                at = simple.end() - 1
                self.starts = False
            else:
                at += self._plain(char, text[at : at + 3]) - 1
            at += 1

    def _plain(self, char: str, rest: str) -> int:
        """One character outside single quotes that nothing escapes; `rest` is it and what
        follows. Returns how many were read."""
        if char == "`":
            self.lost = "behind a backtick"
        elif rest.startswith(("${", "$((")) or (not self.quote and rest.startswith("((")):
            self.lost = f"behind a {'${' if rest.startswith('${') else '(('}"
        elif self.quote:
            if rest.startswith("$("):
                self.lost = "behind a $( in double quotes"
            elif char == '"':
                self.quote = ""
        elif rest.startswith(("$'", '$"')) or rest == "$":
            self.lost = f"behind a {rest[:2]}"
        elif rest.startswith("<<<"):
            self.starts = True
            return 3
        elif rest.startswith("<<"):
            self.lost = "behind a << (here-document)"
        elif char in "'\"":
            self.quote = char
            self.starts = False
        elif char == "#" and self.starts:
            self.comment = True
        else:
            self.starts = char in _WORD_STARTS
        return 1
