"""The settings of a study, from a space or a plan and the options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search_spaces import InputError, Space
from search_spaces.config import TrainingConfig
from search_spaces.dimensions.grid import grid_points
from search_spaces.parsing.given import given_keys, parse_settings
from search_spaces.parsing.sections import merge, nested
from search_spaces.searchers import Searcher
from search_spaces.stopping import Stopping
from tuner.callbacks import observers
from tuner.simulation.rule_fit import check_fit
from tuner.study import budgets, checkpoints, objectives, provenance
from tuner.study.request import RESOURCES, RETRIES, Request
from tuner.study.searchers.samplers import apart
from tuner.study.settings import HUNG_AFTER, StudyBudget, StudyResources, StudySettings

STARTUP_SHARE = 1 / 3
"""Most of the trials that a budget buys that come before the searcher's model."""


def new_settings(space: Space, study: str, request: Request, dataset: Any) -> StudySettings:
    """The settings of a search, without its start points."""
    common = _common_settings(study, request, dataset)
    budget = budgets.merged(space.budget.model_dump(), budgets.given(request))
    searcher = chosen("searcher", Searcher, space.searcher, request.searcher)
    gpus = trial_resources(request).gpus_per_trial
    goals = objectives.chosen(space, request.objectives, searcher["kind"], gpus)
    named = space.stopping.model_fields_set if request.stopping is None else given_keys(request.stopping)
    stopping = chosen("stopping", Stopping, space.stopping, request.stopping)
    stopping = objectives.compared(stopping, named, goals["objective"])
    check_fit(stopping, space, budget, "--stopping" if request.stopping else f"{space.name}: stopping")
    settings = common.changed(
        {
            "space": space.as_dict(),
            "searcher": searcher,
            "stopping": stopping,
            "checkpoints": checkpoints.chosen(space.checkpoints, request),
            **goals,
        }
    )
    objectives.check_rule(settings)
    budget = _until_the_grid_ends(budget, space, searcher, len(space.start_points) + len(request.start))
    budget = budgets.check(budget, budgets.given(request), gpus, space.name)
    return settings.changed({"budget": budget, "searcher": _with_fitting_startup(searcher, space, budget)})


def _with_fitting_startup(searcher: Mapping[str, Any], space: Space, budget: StudyBudget) -> dict[str, Any]:
    """The searcher with no more random trials before its model than a third of the trials that the budget buys."""
    bought = _bought(space, budget)
    if bought is None or not searcher.get("startup_trials"):
        return dict(searcher)
    return {**searcher, "startup_trials": min(searcher["startup_trials"], _most_startup(bought))}


def _most_startup(bought: int) -> int:
    return max(1, round(bought * STARTUP_SHARE))


def _bought(space: Space, budget: StudyBudget) -> int | None:
    """Trials that the budget buys, in whole runs of the base's length; None where it has no limit in trials or batches.

    Early stopping makes more of a limit in batches.
    """
    sections = merge(space.config_base, nested(space.fixed))
    training = {**TrainingConfig().model_dump(), **sections.get("training", {})}
    batches = training["batches"]
    size = training["batch_size"] * training["accumulation"]
    limits = [(budget.trials, 1), (budget.batches, batches), (budget.utterances, batches * size)]
    return min((max(1, round(limit / cost)) for limit, cost in limits if limit), default=None)


def _until_the_grid_ends(budget: StudyBudget, space: Space, searcher: Mapping[str, Any], starts: int) -> StudyBudget:
    """The budget with no more trials than a grid has points, besides start points that may lie off it."""
    if searcher["kind"] != "grid":
        return budget
    most = len(grid_points(space, searcher["points"])) + starts
    return budget.changed({"trials": min(budget.trials or most, most)})


def planned_settings(
    plan: Sequence[Mapping[str, Any]], study: str, request: Request, dataset: Any, **more: Any
) -> StudySettings:
    """The settings of a plan: a list of {run, parent, origin, config}, each run to its end.

    `more` are further fields, such as `origin_note`.
    """
    given = {
        "space": None,
        "plan": list(plan),
        "searcher": {"kind": "plan"},
        "stopping": {"kind": "none"},
        "objective": "best_per",
        "start_points": [],
        "budget": budgets.merged({"trials": len(plan)}, {"hours": request.hours}),
        **more,
    }
    return _common_settings(study, request, dataset).changed(given)


def _common_settings(study: str, request: Request, dataset: Any) -> StudySettings:
    given = {
        "study": study,
        "data": {
            "path": str(request.data.resolve()),
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "val_phonemes": int(dataset.val.label_lengths.sum()),
            "features": dataset.n_features,
            "classes": dataset.n_classes,
            "days": len(dataset.days),
        },
        "code": provenance.code(),
        "packages": provenance.packages(),
        "host": provenance.host(),
        "seed": request.seed,
        "retries": RETRIES if request.retries is None else request.retries,
        "hung_after": HUNG_AFTER if request.hung_after is None else request.hung_after,
        "resources": trial_resources(request),
        "checkpoints": checkpoints.chosen({}, request),
        **({"listeners": listeners} if (listeners := observers.kept(request)) else {}),
    }
    return StudySettings.read(given)


def chosen(name: str, kinds: Any, default: Any, given: str | None) -> dict[str, Any]:
    """The searcher or stopping rule of the space, or the one that was given: a kind, with settings after it.

    Settings that are not given get the default of the kind, not those of the space.
    """
    if given is None:
        settings: dict[str, Any] = default.model_dump(mode="json")
        return settings
    return parse_settings(given, kinds, name)


def default_resources(request: Request) -> StudyResources:
    """The default resources of a trial: one core, and a whole GPU if this machine has one.

    `concurrent` None means as many at once as fit. On a cluster, GPUs of the driver's machine do not count.
    """
    card = request.address is None and any(Path("/dev").glob("nvidia[0-9]*"))
    return StudyResources(cpus_per_trial=1.0, gpus_per_trial=1.0 if card else 0.0, concurrent=None)


def trial_resources(request: Request) -> StudyResources:
    """The resources of a new study: those asked for, else the defaults."""
    if request.gpus_per_trial == "auto":
        raise InputError("--gpus-per-trial auto: only 'tuner search' measures it; give a number")
    return merged_resources(request, default_resources(request))


def merged_resources(request: Request, before: StudyResources) -> StudyResources:
    """The resources of the options; where none is given, those `before`, also what "auto" chose."""
    asked = {key: getattr(request, key) for key in RESOURCES}
    return before.changed({key: value for key, value in asked.items() if value not in (None, "auto")})


def _short_startup(settings: StudySettings) -> str | None:
    """A line where the trials before the searcher's model are as few as the budget allows."""
    first = settings.searcher.as_dict().get("startup_trials")
    bought = settings.space and _bought(Space.from_dict(settings.space), settings.budget)
    if not first or not bought or first < _most_startup(bought):
        return None
    runs = f"{bought} whole run{'s' * (bought > 1)}"
    come = "the first trial comes" if first == 1 else f"the first {first} trials, a third, come"
    return (
        f"the budget buys about {runs}, so {come} before the model of searcher {settings.searcher.kind}; a larger "
        "budget gives it more to learn from"
    )


def notes_on(settings: StudySettings) -> list[str]:
    """Notes on a new search: dimensions that its model leaves out, early stopping with several objectives."""
    found, kind = [], settings.searcher.kind
    if line := _short_startup(settings):
        found.append(line)
    space = settings.space and Space.from_dict(settings.space)
    if space and (left_out := apart(space, kind)):
        found.append(
            f"the model of searcher {kind} does not include these; each is sampled alone, by TPE: {', '.join(left_out)}"
        )
    if space and kind == "grid":
        points, trials = len(grid_points(space, settings.searcher.as_dict()["points"])), settings.budget.trials
        short = trials is not None and trials < points
        found.append(f"the grid has {points} points" + (f"; --trials {points} tries all" if short else ""))
    if settings.costs and settings.stopping.kind != "none":
        found.append(
            f"stopping {settings.stopping.kind} compares one measure, and with several objectives the searcher "
            "learns nothing from a stopped trial; --stopping none keeps the cheap end of the Pareto front"
        )
    return found
