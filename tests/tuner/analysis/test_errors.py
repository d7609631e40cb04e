"""The errors of the best in the report, as they are counted."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tuner.analysis.errors import summary

CLASSES = ("blank", "A", "B", "C")
UTTERANCES = st.lists(st.tuples(*[st.lists(st.integers(1, 3), min_size=1, max_size=6)] * 2), min_size=1, max_size=5)


def test_each_error_is_counted_where_it_was_made() -> None:
    """A read as B, B left out, C put in; by day the PER of its own utterances."""
    found = summary([[1, 1], [2], [1]], [[2, 1], [], [1, 3]], CLASSES, ["d1", "d1", "d2"])
    rows = {row["phoneme"]: row for row in found["phonemes"]}
    assert (rows["A"]["said"], rows["A"]["substituted"], rows["A"]["heard"]) == (3, 1, "B")
    assert (rows["B"]["said"], rows["B"]["deleted"], rows["B"]["wrong"], rows["B"]["heard"]) == (1, 1, 1, None)
    assert (rows["C"]["said"], rows["C"]["inserted"], rows["C"]["wrong"]) == (0, 1, 0)
    assert found["per"] == 3 / 4
    assert found["days"] == [{"day": "d1", "per": 2 / 3, "utterances": 2}, {"day": "d2", "per": 1.0, "utterances": 1}]


@given(UTTERANCES)
def test_the_errors_of_all_phonemes_are_the_edit_distances(pairs: Any) -> None:
    """Nothing is counted twice and nothing is lost."""
    references, hypotheses = zip(*pairs, strict=True)
    found = summary(references, hypotheses, CLASSES, ["d"] * len(pairs))
    wrong = sum(row["wrong"] + row["inserted"] for row in found["phonemes"])
    assert wrong / sum(map(len, references)) == found["per"]
