"""The source of a study's trials: its plan, start points, searcher and heirs, or a simulation."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from search_spaces import RunConfig
from search_spaces.config import to_dict
from search_spaces.space import LENGTH
from tuner.study import heirs, objectives
from tuner.study.compact import KeptConfig
from tuner.study.rules import ladder
from tuner.study.rules.history import Curve
from tuner.study.state import StudyState


class TrialSource(Protocol):
    """Defines the trials of a study. A study asks for each number once, in order, and keeps the answer."""

    def trial(self, state: StudyState, number: int) -> dict[str, Any]:
        """What trial `number` is: the fields of its `trial_started` event (params, seed, origin, config, ...)."""

    def curve(self, number: int, config: RunConfig | KeptConfig) -> Curve:
        """The curve of trial `number` before its first epoch, as the stopping rule is to see it."""


class OwnTrials:
    """The trials that the settings name: heirs where one is due (pbt), the plan, start points, then the searcher's."""

    def trial(self, state: StudyState, number: int) -> dict[str, Any]:
        """A function of the log alone: the searcher and the seeds have no other state."""
        if state.heir is not None:
            return {**_heir(state, number, state.heir["from_trial"]), **state.heir}
        if state.settings.plan:
            entry = state.settings.plan[number]
            weights = objectives.weights(RunConfig.model_validate(entry["config"]), state.settings.data)
            return {"params": {}, "seed": entry["config"]["training"]["seed"], **weights, **entry}
        if state.lengths and (shorter := ladder.next_run(state)) is not True:
            assert shorter is not None  # noqa: S101  a study asks only where there is a trial to start
            params, origin = ladder.longer(state, shorter), state.trials[shorter].origin
            return {**_in_space(state, number, params, origin), "shorter": shorter}
        return _searched(state, number)

    def curve(self, number: int, config: RunConfig | KeptConfig) -> Curve:
        """By its configuration."""
        return Curve.of_run(number, config)


def _searched(state: StudyState, number: int) -> dict[str, Any]:
    place = ladder.drawn(state) if state.lengths else number - state.settings.starts_from
    if place < len(state.settings.start_points):
        return _in_space(state, number, state.settings.start_points[place], "start_point")
    assert state.searcher is not None  # noqa: S101  a study without a plan has one
    return _in_space(state, number, state.searcher.propose(number), "searched")


def _heir(state: StudyState, number: int, donor: int) -> dict[str, Any]:
    assert state.space is not None  # noqa: S101  a planned study has no rule that gets here
    return _in_space(state, number, heirs.explore(state, state.space, donor, number), "searched")


def _in_space(state: StudyState, number: int, params: dict[str, Any], origin: str) -> dict[str, Any]:
    assert state.space is not None  # noqa: S101  set by study_started
    seed = int(np.random.SeedSequence([state.settings.seed, number, 2**31]).generate_state(1)[0])
    config = state.space.config(params, seed)
    weights = objectives.weights(config, state.settings.data)
    length = {"length": params[LENGTH]} if LENGTH in params else {}
    return {"params": params, "seed": seed, "origin": origin, **length, **weights, "config": to_dict(config)}
