"""The names of Optuna that its documentation does not promise, in one place.

An upgrade of Optuna may move them without a word. `NAMES` says what each is used for;
tests/tuner/study/test_optuna_private.py looks for each and fails with that line. No other module uses such names
(tests/test_architecture.py).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, Trial, TrialState

NAMES = {
    "FrozenTrial._trial_id": "to write the value of a rung, and to update a trial of a --storage",
    "Trial._trial_id": "to remove a sampler's notes on a draw",
    "Trial.storage": "to remove a sampler's notes on a draw",
    "Trial.storage.get_trial_system_attrs": "to remove a sampler's notes on a draw",
    "Trial.storage.set_trial_system_attr": "to remove a sampler's notes on a draw",
    "Trial.storage.set_trial_param": "to let a drawn trial have the value that a replay gives it",
    "Trial(study, id)": "to report the rungs of a trial that runs in another process",
    "relative_params": "to find the notes that TPE and GP make on a draw: they may name inactive dimensions",
    "Study._get_trials": "to let TPE see the trials in an order of ours",
    "NSGAIISampler._get_generation_key": "to give the trials of a warm start the first generation",
}
"""Where a name is -> what it is used for."""

_NOTES = "relative_params"
"""Part of the keys of attributes in which samplers keep what they drew."""


def id_of(trial: FrozenTrial) -> int:
    """The number by which a storage knows a trial; unlike `trial.number` it differs between storages."""
    return trial._trial_id


def report(study: optuna.Study, trial: FrozenTrial, value: float, step: int) -> None:
    """Write an intermediate value of a running trial of which only the record is at hand."""
    Trial(study, trial._trial_id).report(value, step)


def forget_draw(trial: Trial) -> None:
    """Remove a sampler's notes on its draw: they may name dimensions that became inactive.

    A running trial then counts with the parameters it runs with, which is all that a replay knows.
    """
    for key in list(trial.storage.get_trial_system_attrs(trial._trial_id)):
        if _NOTES in key:
            trial.storage.set_trial_system_attr(trial._trial_id, key, "")


def set_param(trial: Trial, name: str, value: Any, kind: BaseDistribution) -> None:
    """Let a running trial have another value of a parameter than the one it drew."""
    trial.storage.set_trial_param(trial._trial_id, name, kind.to_internal_repr(value), kind)


def first_generation(sampler: NSGAIISampler) -> dict[str, int]:
    """The attributes of a trial that belongs to the first generation of a genetic search."""
    return {sampler._get_generation_key(): 0}


class SeenStudy:
    """A study for a sampler, in which other trials are seen than those that are stored: `trials`, which are not copied.

    A trial that has been drawn since is not among them.
    """

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        self._study, self._seen = study, trials

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._seen if states is None or trial.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)
