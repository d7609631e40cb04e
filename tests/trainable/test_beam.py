"""Beam search against all paths of small emissions, and against the two rules that a hand-written search got wrong."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import InputError
from trainable.beam import beam_search
from trainable.decoding import collapse

Labels = tuple[int, ...]
Search = Callable[[np.ndarray], Labels]


def ours(probabilities: np.ndarray, width: int = 200) -> Labels:
    """`beam_search` on the probabilities [frames, classes] of one utterance."""
    logits = torch.from_numpy(np.log(np.maximum(probabilities, 1e-30)))[None]
    return tuple(beam_search(logits, torch.tensor([len(probabilities)]), width)[0])


def masses(probabilities: np.ndarray) -> dict[Labels, float]:
    """The probability of every labelling, from all paths: what CTC means."""
    frames, classes = probabilities.shape
    found: dict[Labels, float] = defaultdict(float)
    for path in itertools.product(range(classes), repeat=frames):
        labels = tuple(collapse(np.array([path]), np.array([frames]))[0])
        found[labels] += math.prod(probabilities[t, c] for t, c in enumerate(path))
    return found


def prefix_search(probabilities: np.ndarray, mistake: str = "", width: int = 1000) -> Labels:
    """A textbook prefix search, or one with a mistake: `drops_repeats` or `no_doubles`."""
    beams: dict[Labels, list[float]] = {(): [1.0, 0.0]}  # prefix -> mass ending in the blank, in its last class
    for frame in probabilities:
        following: dict[Labels, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, symbol) in beams.items():
            following[prefix][0] += (blank + symbol) * frame[0]
            for c in range(1, len(frame)):
                if prefix and c == prefix[-1]:
                    if mistake != "drops_repeats":
                        following[prefix][1] += symbol * frame[c]
                    if mistake != "no_doubles":
                        following[(*prefix, c)][1] += blank * frame[c]
                else:
                    following[(*prefix, c)][1] += (blank + symbol) * frame[c]
        beams = dict(sorted(following.items(), key=lambda item: -sum(item[1]))[:width])
    return max(beams, key=lambda prefix: sum(beams[prefix]))


# One row a frame: blank, A, B.
HELD = np.array([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])
"""A held for three frames: nearly all mass stays on the last symbol."""
DOUBLED = np.array([[0.05, 0.9, 0.05], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])
"""A, blank, A: said twice."""
CASES = {"held": (HELD, (1,)), "doubled": (DOUBLED, (1, 1))}


def check(search: Search, name: str) -> None:
    emissions, expected = CASES[name]
    assert search(emissions) == expected


@pytest.mark.parametrize("name", CASES)
def test_held_symbols_stay_one_and_doubled_ones_stay_two(name: str) -> None:
    """A symbol held over frames comes out once; one with a blank in between comes out twice, as marginalised."""
    emissions, expected = CASES[name]
    found = masses(emissions)
    assert max(found, key=lambda labels: found[labels]) == expected
    check(ours, name)
    check(prefix_search, name)


def test_dropping_the_mass_that_stays_on_a_repeated_symbol_is_noticed() -> None:
    """The first mistake: on a frame that repeats the last symbol the mass is lost. The check above fails on it."""
    with pytest.raises(AssertionError):
        check(lambda p: prefix_search(p, "drops_repeats"), "held")


def test_a_search_that_cannot_double_a_symbol_is_noticed() -> None:
    """The second mistake: A blank A comes out as A. The check above fails on it."""
    with pytest.raises(AssertionError):
        check(lambda p: prefix_search(p, "no_doubles"), "doubled")


def test_real_length_emissions_show_both_mistakes() -> None:
    """On peaked emissions of 60 frames ours gives the labels that were put in; both wrong rules give others."""
    rng = np.random.default_rng(3)
    labels: list[int] = []
    rows: list[np.ndarray] = []
    for _ in range(5):
        label = int(rng.integers(1, 4))
        for c in [0] * 3 * (not labels or label == labels[-1]) + [label] * int(rng.integers(6, 12)):
            rows.append(0.02 * rng.dirichlet(np.ones(4)) + 0.98 * np.eye(4)[c])
        labels.append(label)
    labels += [labels[-1]]
    rows += [0.02 * rng.dirichlet(np.ones(4)) + 0.98 * np.eye(4)[c] for c in [0, 0, labels[-1], labels[-1]]]
    emissions = np.array(rows)
    assert ours(emissions, 10) == tuple(labels)
    assert prefix_search(emissions, width=20) == tuple(labels)
    for mistake in ("drops_repeats", "no_doubles"):
        assert prefix_search(emissions, mistake, width=20) != tuple(labels)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6), st.integers(2, 3), st.floats(0.1, 3), st.integers(0, 2**32 - 1))
def test_a_wide_beam_finds_the_likeliest_labelling(frames: int, classes: int, peak: float, seed: int) -> None:
    """For random emissions the labels have the highest probability over all paths, to float32's precision."""
    probabilities = np.random.default_rng(seed).dirichlet(np.full(classes, peak), size=frames)
    found = masses(probabilities)
    assert found[ours(probabilities)] >= max(found.values()) * (1 - 1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_on_certain_emissions_beam_and_greedy_agree(frames: int, seed: int) -> None:
    """Where each frame is nearly sure, any width gives the best path's labels."""
    path = np.random.default_rng(seed).integers(0, 4, size=(1, frames))
    probabilities = 0.001 / 4 + 0.999 * np.eye(4)[path[0]]
    expected = tuple(collapse(path, np.array([frames]))[0])
    assert ours(probabilities, 1) == ours(probabilities, 10) == expected


def test_only_the_frames_that_count_are_read() -> None:
    """Padding is not decoded; an utterance without frames says nothing."""
    logits = torch.zeros(2, 3, 3)
    logits[:, :, 1] = 9.0
    logits[0, 1, 0], logits[0, 2, 2] = 20.0, 20.0
    assert beam_search(logits, torch.tensor([2, 0])) == [[1], []]
    assert beam_search(logits, torch.tensor([3, 1])) == [[1, 2], [1]]


def test_spoilt_emissions_and_a_beam_of_nothing_are_one_line() -> None:
    """NaN in the output, and a width of 0."""
    with pytest.raises(InputError, match="is NaN"):
        beam_search(torch.full((1, 2, 3), math.nan), torch.tensor([2]))
    with pytest.raises(InputError, match="give 1 or more"):
        beam_search(torch.zeros(1, 2, 3), torch.tensor([2]), 0)
