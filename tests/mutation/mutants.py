"""Places in a module that can be made wrong, one at a time."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator
from typing import NamedTuple

_OTHER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change of one module."""

    module: str
    """Below `minionize/`."""
    function: str
    """The function or class that it is in; empty at the module's own level."""
    line: int
    kind: str
    begin: int
    """First and last byte of what is replaced."""
    end: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """Survives changes elsewhere in the module."""
        return f"{self.module} {self.function}: {self.before} -> {self.after}"

    def applied(self, source: str) -> str:
        """The module with the change."""
        raw = source.encode()
        return (raw[: self.begin] + self.after.encode() + raw[self.end :]).decode()


def mutants(module: str, source: str) -> list[Mutant]:
    """All that this script knows of. Not touched: what errors and f-strings say, annotations,
    defaults, and numbers that a module names (`_LOOK_S = 0.1`): they tune, and decide nothing."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found = []
    for function, kind, node, after in _changes(ast.parse(source), ""):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before = " ".join(source.encode()[begin:end].decode().split())
        made = Mutant(module, function, node.lineno, kind, begin, end, before, after)
        found.append(made)
    return found


def draw(source: str, mutants_: list[Mutant], count: int, seed: str) -> list[Mutant]:
    """So many of them, at most one of a line; kinds are drawn first, so that the commonest one
    does not crowd out the others."""
    original = ast.dump(ast.parse(source))
    chance = random.Random(seed)
    kinds: dict[str, list[Mutant]] = {}
    for mutant in mutants_:
        kinds.setdefault(mutant.kind, []).append(mutant)
    drawn: list[Mutant] = []
    while kinds and len(drawn) < count:
        kind = chance.choice(sorted(kinds))
        mutant = kinds[kind].pop(chance.randrange(len(kinds[kind])))
        if not kinds[kind]:
            del kinds[kind]
        if mutant.line in {other.line for other in drawn}:
            continue
        try:
            changed = ast.dump(ast.parse(mutant.applied(source)))
        except SyntaxError:  # `pass` where there is no statement by itself
            continue
        if changed != original:
            drawn.append(mutant)
    return drawn


Change = tuple[str, str, "ast.stmt | ast.expr", str]


def _changes(node: ast.AST, function: str) -> Iterator[Change]:
    if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert, ast.arguments)):
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None and function:
            yield from _changes(node.value, function)
        return
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        inner = f"{function}.{node.name}".lstrip(".")
        for statement in node.body:
            yield from _changes(statement, inner)
        return
    if isinstance(node, ast.If) and _says_types(node.test):
        return
    if not function and isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
        return
    for kind, at, after in _of(node, function):
        yield function, kind, at, after
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.expr_context, ast.operator, ast.cmpop, ast.boolop)):
            yield from _changes(child, function)


def _says_types(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _of(node: ast.AST, function: str) -> Iterator[tuple[str, ast.stmt | ast.expr, str]]:
    """What can be made wrong of this node itself."""
    if isinstance(node, ast.expr):
        yield from ((kind, node, f"({after})") for kind, after in _of_expression(node))
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield "negate", node.test, f"(not ({ast.unparse(node.test)}))"
    if isinstance(node, ast.comprehension):
        for test in node.ifs:
            yield "negate", test, f"(not ({ast.unparse(test)}))"
    if isinstance(node, ast.stmt):
        yield from ((kind, node, after) for kind, after in _of_statement(node, function))


def _of_expression(node: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            yield "compare", _with(node, "ops", at, _OTHER[type(operator)]())
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", repr(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield "constant", repr(node.value + 1)
        if isinstance(node.value, int) and node.value:
            yield "constant", repr(node.value - 1)
    elif isinstance(node, ast.BoolOp):
        other = copy.deepcopy(node)
        other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", ast.unparse(other)
        for at in range(len(node.values)):
            other = copy.deepcopy(node)
            del other.values[at]
            yield "operand", ast.unparse(other if len(other.values) > 1 else other.values[0])
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        if not isinstance(node.left, ast.Constant):
            changed = copy.deepcopy(node)
            changed.op = _ARITHMETIC[type(node.op)]()
            yield "arithmetic", ast.unparse(changed)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("min", "max"):
        call = copy.deepcopy(node)
        call.func = ast.Name("max" if ast.unparse(node.func) == "min" else "min", ast.Load())
        yield "min/max", ast.unparse(call)


def _of_statement(node: ast.stmt, function: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "removed call", "pass"
    elif isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
        other = copy.deepcopy(node)
        other.op = _ARITHMETIC[type(node.op)]()
        yield "arithmetic", ast.unparse(other)
    elif isinstance(node, ast.Assign) and function and not function.endswith("__init__"):
        if isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
            yield "removed assignment", "pass"
    elif isinstance(node, ast.Return) and node.value is not None:
        value = node.value
        if not (isinstance(value, ast.Constant) and isinstance(value.value, (bool, type(None)))):
            yield "return", "return None"
    elif isinstance(node, (ast.Continue, ast.Break)):
        yield "loop", "break" if isinstance(node, ast.Continue) else "continue"


def _with(node: ast.Compare, name: str, at: int, value: ast.cmpop) -> str:
    other = copy.deepcopy(node)
    getattr(other, name)[at] = value
    return ast.unparse(other)
