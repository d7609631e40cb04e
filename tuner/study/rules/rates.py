"""The learning rate over a run, and the area under it: how far along its own schedule a trial is.

The area under the rate up to a batch is the sum of the rates of the batches so far. A fraction of the area of the whole
run says more than the same fraction of the batches: a warm-up counts little, the time at the peak much, and a long tail
little. At a constant rate both are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from search_spaces.config import RunConfig
from trainable.schedules import lr_at

RATE_POINTS = 512
"""The rate of a run is sampled at this many batches at most, which is enough for its integral."""


class Rates(NamedTuple):
    """Float64 [at most 513] each, from batch 0 to the end of the run."""

    batches: np.ndarray
    rate: np.ndarray
    highest: np.ndarray
    """The highest rate so far."""
    area: np.ndarray
    """The sum of the rates so far."""

    def batch_at(self, share: float) -> float:
        """The batch at which the area has reached this share of the whole run's.

        Where the rate is 0 all along: the share of the batches.
        """
        total = self.area[-1]
        if not total > 0:
            return float(share * self.batches[-1])
        first = int(np.searchsorted(self.area, share * total * (1 - 1e-12)))
        return float(np.interp(share * total, self.area[max(0, first - 1) :], self.batches[max(0, first - 1) :]))


def planned_rates(config: RunConfig) -> Rates:
    """The rates of a run with this configuration."""
    return _with_area(*_sampled(config))


def recorded_rates(batches: Sequence[float], rates: Sequence[float]) -> Rates:
    """Recorded rates, one at the end of each epoch; each is held back to the epoch before."""
    known = np.asarray(rates, float)
    return _with_area(np.concatenate([[0.0], np.asarray(batches, float)]), np.concatenate([known[:1], known]))


@functools.lru_cache(maxsize=1024)
def _sampled(config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """(batches, rate); cached, because simulated searches repeat the same runs."""
    batches = np.unique(np.linspace(0, config.training.batches, RATE_POINTS + 1).round())
    return batches, np.array([lr_at(config, int(batch)) for batch in batches])


def _with_area(batches: np.ndarray, rate: np.ndarray) -> Rates:
    area = np.concatenate([[0.0], np.cumsum(np.diff(batches) * (rate[1:] + rate[:-1]) / 2)])
    return Rates(batches, rate, np.maximum.accumulate(rate), area)
