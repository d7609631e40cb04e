"""The driver's part of Population Based Training: the checkpoint that a new trial continues from, and its settings.

The rule itself, which trial is replaced by which, is `rules/population.py`. The event log holds each step: the end of
the replaced trial names the donor (`exploits`), the start of the new one its origin. The donor's checkpoint is copied
before either is written, so the driver may die at any point.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from results.store.paths import StudyPaths
from search_spaces import Dimension, InputError, Space
from search_spaces.common import atomic
from search_spaces.stopping import PBTStopping
from tuner.study.rules.population import perturbable, ranked
from tuner.study.state import StudyState

DRAWS = 100
"""How often settings that break a constraint are drawn again."""
EXPLORE, DONOR = 2**31 + 1, 2**31 + 2
"""Streams of random numbers, separate from those of the trials' seeds."""


def size(state: StudyState) -> int:
    """Members of the population; 0 under another rule."""
    rule = state.history.rule
    return rule.population if isinstance(rule, PBTStopping) else 0


def founders_left(state: StudyState, left: int) -> int:
    """How many of the `left` trials of the budget the searcher may still be asked for."""
    members = size(state)
    return min(left, max(0, members - (state.next_number - state.heirs))) if members else left


def parent(state: StudyState, folder: Path, trial: int) -> tuple[int, int] | None:
    """(donor, epoch) from which the next trial continues instead of `trial`; None if `trial` itself continues.

    The donor's checkpoint is then copied to where the next trial finds it. A donor that has ended has none; a running
    one is copied at its current state. No trial is replaced when the budget's trials are used up, or when the copy
    cannot be written.
    """
    number, budget = state.next_number, state.settings.budget.trials
    if not size(state) or (budget and number >= budget):
        return None
    best, worst = ranked(state.history, trial)
    if trial not in worst:
        return None
    paths = StudyPaths(folder)
    order = np.random.default_rng([state.settings.seed, number, DONOR]).permutation(len(best))
    for donor in (state.trials[best[int(which)]] for which in order):
        if not donor.final:
            epoch = _copy(paths.trial(donor.number).last, paths.trial(number).last)
            if epoch is not None and epoch < donor.config.epochs:
                return donor.number, epoch
    return None


def _copy(source: Path, target: Path) -> int | None:
    """Copy a checkpoint in one step; its epoch, or None where there is none or it cannot be read or written."""
    from trainable.checkpoint import epoch_of

    try:
        with source.open("rb") as old:  # the file may be replaced meanwhile; an open file does not change
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic.file(target, sync_name=True) as new:
                with new.open("wb") as copy:
                    shutil.copyfileobj(old, copy)
                if (epoch := epoch_of(new)) is None:
                    raise InputError(f"{source}: is not a complete checkpoint; it is not copied")
    except (OSError, InputError):
        return None
    return epoch


def explore(state: StudyState, space: Space, donor: int, number: int) -> dict[str, Any]:
    """The parameters of trial `number`: those of the donor, where each that may change is drawn anew or moved by a
    step.

    A function of the study's seed, the number and the donor. Unchanged where no draw meets the constraints.
    """
    rule, given = state.history.rule, state.trials[donor].params
    rng = np.random.default_rng([state.settings.seed, number, EXPLORE])
    settings = rule if isinstance(rule, PBTStopping) else PBTStopping()
    able = [dimension for dimension in perturbable(space, settings.rates) if dimension.name in given]
    for _ in range(DRAWS):
        params = dict(given)
        for dimension in able:
            params[dimension.name] = _changed(dimension, given[dimension.name], settings, rng)
        if not space.violations(params):
            return params
    return dict(given)


def _changed(dimension: Dimension, sample: Any, rule: PBTStopping, rng: np.random.Generator) -> Any:
    """Another sample of a dimension: any in its range with probability `resample`, else one a step away."""
    anew, up = rng.random() < rule.resample, bool(rng.integers(2))
    if dimension.kind == "choice":
        choices = dimension.choices
        if anew or sample not in choices:
            return choices[int(rng.integers(len(choices)))]
        return choices[min(max(choices.index(sample) + (1 if up else -1), 0), len(choices) - 1)]
    if anew:
        return _anew(dimension, rng)
    if dimension.is_alternative(sample):  # a step up leads into the range
        return dimension.nearest(dimension.ends[0]) if up else sample
    drawn = sample * (rule.grow if up else rule.shrink)
    step = dimension.q or 1
    if dimension.q is not None or dimension.whole:
        if dimension.nearest(drawn) == sample:  # so that a small number changes too
            drawn = sample + (step if up else -step)
        drawn = drawn if dimension.q is not None else round(drawn)
    return dimension.nearest(drawn)


def _anew(dimension: Dimension, rng: np.random.Generator) -> Any:
    """Any sample, by the dimension's own distribution."""
    if not dimension.native or dimension.q is not None:
        return dimension.from_unit(float(rng.random()))
    low, high = dimension.ends
    drawn = (
        float(np.exp(rng.uniform(math.log(low), math.log(high)))) if dimension.log else float(rng.uniform(low, high))
    )
    return dimension.nearest(round(drawn) if dimension.whole else drawn)
