"""The percentile bootstrap (Efron 1979), used for all intervals over repeats, runs or sentences.

    interval(values[resamples(len(values))].mean(axis=1))  # of a mean

The samples are a function of the seed and the number of observations, so that two measures of the same repeats are
sampled in pairs.
"""

from __future__ import annotations

import numpy as np

DRAWS = 2000


def resamples(count: int, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """int [draws, count]: which of `count` observations each bootstrap sample has."""
    return np.random.default_rng(seed).integers(count, size=(draws, count))


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic, float [draws], one value from each sample."""
    low, high = band(values)
    return float(low), float(high)


def band(values: np.ndarray) -> np.ndarray:
    """float64 [2, ...]: the lower and upper ends of the interval of each statistic, float [draws, ...]."""
    return np.asarray(np.quantile(values, (0.025, 0.975), axis=0))
