"""What a search minimises: the PER or another measure of an epoch, alone or with what a trial costs.

The first objective is a measure (`search_spaces.measures`): rungs, early stopping and "best" use it. Further ones are
`train_seconds`, the wall time of a trial's epochs; `gpu_seconds`, the fraction of a GPU times the time for which it was
reserved; and `parameters`, the number of weights of the decoder.

Only trials that ran to their end have values. Optuna has no pruning for several objectives, so the searcher learns
nothing from a trial that was stopped early because of its PER. Early stopping removes the cheap end of the Pareto
front; where that matters, search with `--stopping none`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from search_spaces import InputError, RunConfig, Space
from search_spaces.measures import is_per, measure_of
from search_spaces.model_size import parameters
from search_spaces.plan import COSTS, split_objectives
from search_spaces.stopping import PROBES
from tuner.study.settings import StudyData, StudySettings
from tuner.study.trial_state import TrialState

SINGLE = ("cmaes",)
"""Searchers that take one objective."""


def names(settings: StudySettings) -> list[str]:
    """The objectives of a study, the PER first, from its settings."""
    return [settings.objective, *settings.costs]


def values(trial: TrialState, settings: StudySettings) -> float | list[float] | None:
    """The value of a trial, or its values where there are several objectives; None where one is unknown."""
    found = [_value(trial, name) for name in names(settings)]
    known = [value for value in found if value is not None]
    if len(known) < len(found):
        return None
    return known if len(known) > 1 else known[0]


def _value(trial: TrialState, name: str) -> float | None:
    if name not in COSTS:
        return trial.objective(name)
    if name == "parameters":
        count = trial.started_with.get("parameters")
        return None if count is None else float(count)
    return trial.gpu_seconds if name == "gpu_seconds" else trial.seconds


def weights(config: RunConfig, data: StudyData) -> dict[str, int]:
    """{"parameters": the decoder's weights} for a study's data settings; empty in a log that does not have them."""
    if data.features is None or data.classes is None or data.days is None:
        return {}
    return {"parameters": parameters(config, data.features, data.classes, data.days)}


def chosen(space: Space, given: str | None, searcher: str, gpus_per_trial: float) -> dict[str, Any]:
    """The settings `objective` and `costs`: the space's, or those that `--objectives best_per,train_seconds` names.

    Raises InputError for objectives that the searcher cannot take, or that would be the same for every trial.
    """
    objective, costs = space.objective, space.costs
    if given is not None:
        try:
            objective, costs = split_objectives([name.strip() for name in given.split(",")])
        except ValueError as error:
            raise InputError(f"--objectives: {error}") from None
    if costs and searcher in SINGLE:
        raise InputError(
            f"searcher {searcher}: takes only one objective; give nsga2, tpe, gp, qmc or random, or only {objective}"
        )
    if "gpu_seconds" in costs and not gpus_per_trial:
        raise InputError(
            "objectives: gpu_seconds is always 0, as trials use no GPU here; give train_seconds, or --gpus-per-trial"
        )
    return {"objective": objective, "costs": list(costs)}


def compared(rule: Mapping[str, Any], given: Collection[str], objective: str) -> dict[str, Any]:
    """The stopping rule, which compares what the objective is made of unless its metric was `given`."""
    follows = "metric" in rule and "metric" not in given and not is_per(objective)
    return {**rule, "metric": measure_of(objective)} if follows else dict(rule)


def check_rule(settings: StudySettings) -> None:
    """Raises InputError for a stopping rule that cannot be used with the objectives in `settings`."""
    rule, metric = settings.stopping.kind, settings.stopping.as_dict().get("metric")
    measures = {measure_of(settings.objective), *([metric] if metric else [])}
    if probed := sorted(measures & set(PROBES)):
        raise InputError(f"{probed[0]}: cooldown probes are no longer made; give per, val_loss or another measure")
    if rule == "pbt" and settings.costs:
        raise InputError(
            "stopping pbt: can have only one objective, because a trial that continues another has only a part of the "
            f"costs; give --objectives {settings.objective}, or another rule"
        )
