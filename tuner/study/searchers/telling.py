"""Report all trials so far to a new searcher, or to one with a new space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import RunConfig, Space
from search_spaces.searchers import stored
from tuner.study import objectives
from tuner.study.searchers.searcher import OptunaSearcher
from tuner.study.searchers.warm_start import discounted
from tuner.study.settings import StudySettings
from tuner.study.trial_state import TrialState


def params_in(space: Space, config: RunConfig) -> dict[str, Any] | None:
    """The point of `space` that is exactly this configuration (constraints ignored); None where there is none."""
    params, notes = space.params_of(config)
    return params if len(notes) == len(space.broken_constraints(space.settings(params))) else None


def retell(
    searcher: OptunaSearcher, space: Space, trials: Mapping[int, TrialState], settings: StudySettings
) -> set[int]:
    """Report all trials so far to a new searcher, in the order of their numbers; returns those that are left out.

    Of a trial, its rungs are reported, and its end where it has one. A trial is left out if it lies outside the space,
    or differs from it in a value that the space does not vary.
    """
    left_out = set()
    for number, trial in sorted(trials.items()):
        params = params_in(space, trial.config)
        if params is None:
            left_out.add(number)
            continue
        same = params.keys() == trial.params.keys() and all(_close(params[key], trial.params[key]) for key in params)
        searcher.started(number, trial.params if same else params)
        for rung, per in trial.rungs.items():
            searcher.rung(number, rung, per)
        if trial.final:
            searcher.ended(number, trial.status, objectives.values(trial, settings))
    return left_out


def _close(a: Any, b: Any) -> bool:
    number = isinstance(a, float) and isinstance(b, float | int)
    return bool(abs(a - b) <= 1e-9 * abs(b)) if number else bool(a == b)


def make_searcher(
    space: Space, settings: StudySettings, trials: Mapping[int, TrialState]
) -> tuple[OptunaSearcher, set[int]]:
    """The searcher of the settings, with the trials so far reported, and the trials that are left out."""
    earlier = discounted(settings.warm_start, space)
    count = len(objectives.names(settings))
    searcher = OptunaSearcher(space, stored(settings.searcher.as_dict()), settings.seed, count, earlier)
    return searcher, retell(searcher, space, trials, settings)
