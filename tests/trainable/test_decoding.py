from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainable.decoding import collapse, error_counts, greedy, per, utterance_per

Path = st.lists(st.integers(0, 4), min_size=1, max_size=12)


def logits_of(path: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([path]), 5).float()


def test_a_doubled_symbol_survives_across_a_blank() -> None:
    """Repeats merge, blanks drop, and a class on both sides of a blank is said twice."""
    path = [0, 2, 2, 0, 2, 3, 3, 0, 0]
    assert greedy(logits_of(path), torch.tensor([9])) == [[2, 2, 3]]


def test_frames_beyond_the_length_do_not_count() -> None:
    """Only the first `lengths` frames of each utterance are read; an utterance without frames says nothing."""
    logits = torch.cat([logits_of([1, 0, 2, 3])] * 3)
    assert greedy(logits, torch.tensor([4, 2, 0])) == [[1, 2, 3], [1], []]


@given(st.lists(Path, min_size=1, max_size=5))
def test_collapsing_is_merge_then_drop(paths: list[list[int]]) -> None:
    """For any batch of paths the result is that of merging repeats and dropping blanks, one path at a time."""
    width = max(map(len, paths))
    padded = np.array([path + [4] * (width - len(path)) for path in paths])
    expected = [[key for key, _ in groupby(path) if key != 0] for path in paths]
    assert collapse(padded, np.array([len(path) for path in paths])) == expected


def slow_distance(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


@given(st.lists(st.tuples(Path, Path), min_size=1, max_size=4))
def test_errors_are_edit_distances(pairs: list[tuple[list[int], list[int]]]) -> None:
    """Substitutions, insertions and deletions cost one each, as in the textbook algorithm."""
    references, hypotheses = zip(*pairs, strict=True)
    counts = error_counts(references, hypotheses)
    assert counts.dtype == np.int64
    assert counts.tolist() == [slow_distance(a, b) for a, b in pairs]


def test_corpus_and_utterance_per_weigh_differently() -> None:
    """Corpus PER pools errors and phonemes; the utterance mean gives each labelled utterance the same weight."""
    errors, lengths = np.array([1, 4, 0]), np.array([10, 5, 0])
    assert per(errors, lengths) == pytest.approx(5 / 15)
    assert utterance_per(errors, lengths) == pytest.approx((0.1 + 0.8) / 2)
    assert np.isnan(per(np.array([0]), np.array([0])))


def test_saying_nothing_is_a_per_of_one() -> None:
    """All blanks: every reference phoneme is a deletion."""
    errors = error_counts([[1, 2, 3], [4]], [[], []])
    assert per(errors, np.array([3, 1])) == 1.0
