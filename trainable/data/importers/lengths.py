"""Utterances whose length is far from what their text or label suggests: cut short, run together, or wrongly labelled.

They are only noticed: a long pause is no mistake. What is usual is a straight line through the data themselves, so that
it holds for any bin width, speaker and way of writing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainable.data.checks import outliers

FEWEST = 10
"""Utterances from which on something is usual."""
SAMPLE = 400
"""Utterances that the line is laid through; pairs of them are compared."""


@dataclass(frozen=True)
class OddLength:
    """An utterance that is much longer or shorter than others with as much text."""

    where: str
    what: str


class Lengths:
    """The lengths of utterances, their labels and their texts."""

    def __init__(self) -> None:
        self._bins: list[int] = []
        self._labels: list[int] = []
        self._letters: list[int] = []
        self._where: list[str] = []

    def see(self, bins: int, labels: int, text: str, where: str) -> None:
        """Count one utterance: its bins, the length of its label (0 without one), and its text."""
        self._bins.append(bins)
        self._labels.append(labels)
        self._letters.append(sum(sign.isalnum() for sign in text))
        self._where.append(where)

    def odd(self) -> list[OddLength]:
        """The odd ones, in the order they were seen; each at most once."""
        found: dict[int, str] = {}
        for measured, by, what, of in (
            (self._bins, self._labels, "bins", "phonemes"),
            (self._bins, self._letters, "bins", "letters and digits"),
            (self._labels, self._letters, "phonemes", "letters and digits"),
        ):
            y, x = np.array(measured), np.array(by)
            rows = np.flatnonzero((x > 0) & (y > 0))
            if len(rows) < FEWEST:
                continue
            usual = expected(x[rows], y[rows])
            for i in np.flatnonzero(outliers(y[rows] / usual)):
                row = int(rows[i])
                found.setdefault(row, f"{y[row]} {what} for {x[row]} {of}, about {usual[i]:.0f} are usual")
        return [OddLength(self._where[row], found[row]) for row in sorted(found)]


def expected(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What y is usual at each x: a line with a slope of 0 or more, by medians (Theil and Sen); positive.

    >>> expected(np.array([1, 2, 3, 4]), np.array([12, 22, 32, 420])).tolist()
    [12.0, 22.0, 32.0, 42.0]
    """
    some = np.unique(np.linspace(0, len(x) - 1, SAMPLE).astype(int))
    rise = np.subtract.outer(y[some], y[some]).astype(float)
    run = np.subtract.outer(x[some], x[some]).astype(float)
    slopes = rise[run > 0] / run[run > 0]
    slope = max(0.0, float(np.median(slopes))) if slopes.size else 0.0
    line = slope * x + np.median(y - slope * x)
    return np.asarray(np.maximum(line, np.median(y) / 10))
