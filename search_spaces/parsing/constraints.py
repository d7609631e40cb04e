"""Constraints between values, such as `augmentation.time_masks * augmentation.time_mask_width <= 1.6`.

Sums, differences and products of dotted paths and numbers, brackets, and one comparison. They are read by the parser
below and never evaluated as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
    r"|(?P<path>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|(?P<sign><=|>=|==|!=|<|>|[-+*()]))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}

Expression = float | str | tuple[str, "Expression", "Expression"]
"""A number, a dotted path, or (operator, left, right)."""


@dataclass(frozen=True)
class Constraint:
    """A parsed constraint; `paths` are the dotted paths it names."""

    text: str
    left: Expression
    comparison: str
    right: Expression
    paths: tuple[str, ...]

    def broken(self, value_of: Callable[[str], Any]) -> str | None:
        """The line that says how the constraint is broken, or None.

        It holds where a path has no number in this configuration: the key is absent, or its value is null.
        """
        numbers = {path: value_of(path) for path in self.paths}
        if any(not isinstance(v, int | float) or isinstance(v, bool) for v in numbers.values()):
            return None
        left, right = _evaluate(self.left, numbers), _evaluate(self.right, numbers)
        if _COMPARISONS[self.comparison](left, right):
            return None
        return f"{self.text}: does not hold, {left:.6g} {self.comparison} {right:.6g} is false"


@lru_cache(maxsize=1024)
def parse_constraint(text: str) -> Constraint:
    """Reads a constraint. Raises ValueError with what is wrong and where."""
    tokens = _Tokens(text)
    left = _sum(tokens)
    if tokens.next not in _COMPARISONS:
        raise ValueError(f"expected one of {' '.join(_COMPARISONS)} {tokens.where()}")
    comparison = str(tokens.take())
    right = _sum(tokens)
    if tokens.next is not None:
        raise ValueError(f"expected the end {tokens.where()}; a constraint has one comparison")
    return Constraint(text, left, comparison, right, tuple(dict.fromkeys([*_paths(left), *_paths(right)])))


class _Tokens:
    def __init__(self, text: str) -> None:
        self.items: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                rest = text[position:].strip()
                raise ValueError(f"cannot read {rest!r}; use paths, numbers, + - * ( ) and one of < <= > >= == !=")
            self.items.append((str(match.lastgroup), match.group().strip()))
            position = match.end()
        self.items.reverse()

    @property
    def next(self) -> str | None:
        return self.items[-1][1] if self.items else None

    @property
    def kind(self) -> str | None:
        return self.items[-1][0] if self.items else None

    def take(self) -> str | None:
        return self.items.pop()[1] if self.items else None

    def where(self) -> str:
        return f"before {self.next!r}" if self.items else "at the end"


def _sum(tokens: _Tokens) -> Expression:
    value = _product(tokens)
    while tokens.next in ("+", "-"):
        value = (str(tokens.take()), value, _product(tokens))
    return value


def _product(tokens: _Tokens) -> Expression:
    value = _factor(tokens)
    while tokens.next == "*":
        value = (str(tokens.take()), value, _factor(tokens))
    return value


def _factor(tokens: _Tokens) -> Expression:
    kind, where = tokens.kind, tokens.where()
    word = tokens.take()
    if word == "(":
        value = _sum(tokens)
        if tokens.take() != ")":
            raise ValueError("a bracket is not closed")
        return value
    if word == "-":
        return ("*", -1.0, _factor(tokens))
    if kind == "number":
        return float(str(word))
    if kind == "path":
        return str(word)
    raise ValueError(f"expected a path or a number {where}")


def _paths(expression: Expression) -> Iterator[str]:
    if isinstance(expression, str):
        yield expression
    elif isinstance(expression, tuple):
        yield from _paths(expression[1])
        yield from _paths(expression[2])


def _evaluate(expression: Expression, numbers: dict[str, float]) -> float:
    if isinstance(expression, str):
        return numbers[expression]
    if isinstance(expression, tuple):
        sign, left, right = expression
        return float(_ARITHMETIC[sign](_evaluate(left, numbers), _evaluate(right, numbers)))
    return expression
