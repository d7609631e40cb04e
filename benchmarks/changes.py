"""The small changes that `benchmarks/mutants.py` makes to a module: what they are, and where in its source."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """One change: bytes `start` to `end` of the module become `text`."""

    module: str
    line: int
    lines: tuple[int, int]
    """First and last line of the statement around it; of a block, of its head."""
    start: int
    end: int
    text: str
    was: str
    """The changed lines before, with single spaces."""
    becomes: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What `mutants.yaml` names it by."""
        return self.module, self.was, self.becomes

    def source(self, text: bytes) -> bytes:
        """The module's source with the change."""
        return text[: self.start] + self.text.encode() + text[self.end :]


_COMPARED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_COMPUTED = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "-"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
_CALLED = {
    "min": "max",
    "max": "min",
    "round": "int",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
    "sorted": "list",
    "sum": "max",
    "abs": "",
}
_NO_NUMBER = (ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple)
_Change = tuple[int, int, str]
"""Start and end in bytes, and the text that takes this place."""


class _Places:
    """Where the nodes of a source are, in bytes."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]

    def span(self, node: Any) -> tuple[int, int]:
        """Start and end of a node."""
        start, end = self._lines[node.lineno - 1], self._lines[node.end_lineno - 1]
        return start + node.col_offset, end + node.end_col_offset

    def text(self, node: Any) -> str:
        """The source of a node."""
        start, end = self.span(node)
        return self._source[start:end].decode()

    def instead(self, node: Any, text: str) -> _Change:
        """The change of a whole node."""
        return (*self.span(node), text)

    def between(self, left: Any, right: Any, old: str, new: str) -> Iterator[_Change]:
        """The change of an operator, which is no node but stands between its operands, perhaps with brackets."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self._source[start:end].decode()
        if "#" not in gap and gap.count(old) == 1:
            at = start + len(gap[: gap.index(old)].encode())
            yield at, at + len(old.encode()), new


def _changes_of(node: ast.AST, places: _Places) -> Iterator[_Change]:
    """The changes of one node, without those of its parts."""
    match node:
        case ast.Compare():
            for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                yield from places.between(left, right, *_COMPARED[type(operator)])
        case ast.BinOp() if type(node.op) in _COMPUTED and not (_is_text(node.left) or _is_text(node.right)):
            yield from places.between(node.left, node.right, *_COMPUTED[type(node.op)])
        case ast.BoolOp():
            words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in itertools.pairwise(node.values):
                yield from places.between(left, right, *words)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield places.instead(node, f"({places.text(node.operand)})")
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant | ast.NamedExpr):
                yield places.instead(test, f"(not {places.text(test)})")
        case ast.Constant(value=bool()):
            yield places.instead(node, str(not node.value))
        case ast.Constant(value=int() | float()):
            yield places.instead(node, repr(node.value + 1))
            if node.value != 0:
                yield places.instead(node, repr(node.value - 1))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _CALLED:
            end = places.span(node.func)[1]
            yield end - len(name), end, _CALLED[name]
        case _:
            yield from _changes_of_statement(node, places)


def _changes_of_statement(node: ast.AST, places: _Places) -> Iterator[_Change]:
    match node:
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield places.instead(node, "return None")
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield places.instead(node, "pass")
        case ast.Assign() if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            yield places.instead(node, "pass")
        case ast.AugAssign():
            yield places.instead(node, "pass")
            if isinstance(node.op, ast.Add | ast.Sub) and not _is_text(node.value):
                old, new = _COMPUTED[type(node.op)]
                yield from places.between(node.target, node.value, f"{old}=", f"{new}=")
        case ast.Break():
            yield places.instead(node, "continue")
        case ast.Continue():
            yield places.instead(node, "break")


def _is_text(node: ast.expr) -> bool:
    """Whether `+` and `%` do not compute with it."""
    return isinstance(node, _NO_NUMBER) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _parts(node: ast.AST) -> list[ast.AST]:
    """The parts of a node that are changed too.

    Left alone: annotations, decorators, docstrings, what is for type checkers, and the texts of messages (Python 3.11
    does not know where the parts of an f-string are).
    """
    match node:
        case ast.JoinedStr() | ast.Assert() | ast.Expr(value=ast.Constant()):
            return []
        case ast.FunctionDef(args=arguments, body=body):
            return [*arguments.defaults, *filter(None, arguments.kw_defaults), *body]
        case ast.ClassDef(body=body):
            return [*body]
        case ast.AnnAssign(value=value):
            return [value] if value is not None else []
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return []
        case ast.AugAssign(value=value):
            return [value]
        case _:
            return list(ast.iter_child_nodes(node))


def _all_changes(node: ast.AST, places: _Places, around: ast.stmt | None) -> Iterator[tuple[_Change, ast.stmt]]:
    around = node if isinstance(node, ast.stmt) else around
    if around is not None:
        for change in _changes_of(node, places):
            yield change, around
    for part in _parts(node):
        yield from _all_changes(part, places, around)


def mutants_of(module: str, source: bytes) -> list[Mutant]:
    """Every change of one module, in the order of the source."""
    made = set()
    for (start, end, text), statement in _all_changes(ast.parse(source), _Places(source), None):
        first, last = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end) % (len(source) + 1)
        line, depth = source.count(b"\n", 0, start) + 1, source.count(b"\n", start, end)
        was = source[first:last].decode()
        becomes = source[first:start].decode() + text + source[end:last].decode()
        around = statement.lineno, statement.end_lineno or statement.lineno
        if hasattr(statement, "body"):
            around = statement.lineno, max(statement.lineno, line + depth)
        made.add(Mutant(module, line, around, start, end, text, *(" ".join(one.split()) for one in (was, becomes))))
    return sorted((mutant for mutant in made if mutant.was != mutant.becomes), key=lambda m: (m.start, m.text))


def by_hand(module: str, source: bytes, old: str, new: str) -> Mutant:
    """The change of `old`, which must occur once in the source, to `new`; ValueError where it does not."""
    if source.count(old.encode()) != 1:
        raise ValueError(f"{module}: {old!r} occurs {source.count(old.encode())} times; give a text that occurs once")
    start = source.index(old.encode())
    line = source[:start].count(b"\n") + 1
    return Mutant(module, line, (line, line + old.count("\n")), start, start + len(old.encode()), new, old, new)
