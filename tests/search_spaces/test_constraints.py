"""Constraints: what they mean, and that nothing is run as code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.parsing.constraints import parse_constraint

NUMBERS = {"a.x": 2, "a.y": 0.5, "a.none": None, "a.word": "w", "a.flag": True}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a.x * a.y <= 1", True),
        ("a.x * a.y < 1", False),
        ("a.x + 2 * a.y == 3", True),
        ("(a.x + 2) * a.y == 2", True),
        ("a.x - 1 - 1 == 0", True),
        ("-a.x + 1e1 >= 8", True),
        ("3 != 3", False),
        ("a.x > a.y", True),
        ("a.none > 100", True),
        ("a.word > 100", True),
        ("a.flag > 100", True),
        ("a.absent * a.x > 100", True),
    ],
)
def test_a_constraint_means_what_it_says(text: str, holds: bool) -> None:
    """Products before sums, brackets before both; a path without a number breaks nothing."""
    assert (parse_constraint(text).broken(lambda path: NUMBERS.get(path, "absent")) is None) is holds


def test_the_line_shows_both_sides() -> None:
    """A broken constraint says with which numbers."""
    assert parse_constraint("a.x * 0.8 <= 1.5").broken(NUMBERS.get) == (
        "a.x * 0.8 <= 1.5: does not hold, 1.6 <= 1.5 is false"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.x", "expected one of <= >= == != < > at the end"),
        ("a.x <", "expected a path or a number at the end"),
        ("a.x < 1 < 2", "a constraint has one comparison"),
        ("a.x / 2 < 1", "cannot read '/ 2 < 1'"),
        ("f(a.x) < 1", "expected one of <= >= == != < > before '('"),
        ("(a.x < 1", "a bracket is not closed"),
        ("__import__('os').system('true') < 1", "cannot read"),
        ("a.x = 1", "cannot read '= 1'"),
        ("", "expected a path or a number at the end"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, why: str) -> None:
    """Anything but sums and products with one comparison is refused, with the place."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_constraint(text)
    assert why in str(caught.value)


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 9)), max_size=6), st.integers(-50, 50))
def test_arithmetic_agrees_with_python(rest: list[tuple[str, int]], bound: int) -> None:
    """Sums and products have Python's value, whatever their order."""
    expression = "3" + "".join(f" {sign} {number}" for sign, number in rest)
    expected = eval(expression) <= bound
    assert (parse_constraint(f"{expression} <= {bound}").broken(NUMBERS.get) is None) is expected
