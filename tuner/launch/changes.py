"""What can change when a study is resumed: space, searcher, stopping rule, budget, resources, start points.

A change is a pair [old, new] under the name of its setting in the `study_resumed` event, so a replay applies it at its
place in the log. Earlier decisions are kept; later ones are made with the new settings, over all trials so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from results.store.made import refuse_short
from results.trials import read_log
from search_spaces import InputError, RunConfig, Space
from search_spaces.dimensions.grid import grid_points
from search_spaces.measures import is_per
from search_spaces.parsing.given import given_keys
from search_spaces.searchers import Searcher
from search_spaces.stopping import Stopping, retirement, rule_text
from trainable.data.dataset import open_dataset
from trainable.data.intact import check_intact
from tuner.callbacks import observers
from tuner.launch.checks import check_data, start_points
from tuner.launch.new_study import chosen, merged_resources
from tuner.simulation.rule_fit import check_fit
from tuner.study import budgets, checkpoints, objectives
from tuner.study.request import Request
from tuner.study.searchers.telling import params_in
from tuner.study.settings import StudyBudget, StudySettings
from tuner.study.state import StudyState
from tuner.study.study import Past, read_past

SEARCHED = ("config_base", "fixed", "dimensions", "constraints")
"""The fields in which two different spaces differ; name, file and defaults do not count."""
SHOWN = 6


_NO_CHANGE = ("results_dir", "data", "seed", "cpus", "address", "force_unlock", "give_up_after", "stage_data")
"""Options of a resume that say where it runs, and change no setting of the study."""


def asks(request: Request, space: Space | None) -> bool:
    """Whether a resume asks for another setting than the study has."""
    options = [option for option in fields(request) if option.name not in _NO_CHANGE]
    return space is not None or any(getattr(request, option.name) != option.default for option in options)


def settle(
    folder: Path, request: Request, space: Space | None
) -> tuple[StudySettings, dict[str, Any], list[str], Past | None]:
    """The settings of a resumed study, the changes among them as key -> [old, new], notes, and its past if it was read.

    `space` is searched from now on; None = unchanged. Hold the study's lock. Raises InputError for a change that is not
    possible.
    """
    refuse_short(folder)
    written, events = read_log(folder)
    old = StudySettings.read(written)
    refuse_for_plan(
        old, {"space": space, "searcher": request.searcher, "stopping": request.stopping, "start": request.start}
    )
    if old.plan and request.trials not in (None, len(old.plan)):
        raise InputError(
            f"--trials {request.trials}: the study has a fixed list of {len(old.plan)} runs; leave --trials out"
        )
    dataset = open_dataset(request.data)
    if dataset.fingerprint != old.data.fingerprint:
        raise InputError(
            f"{request.data}: the study was trained on other data (fingerprint here {dataset.fingerprint[:12]}, "
            f"then {old.data.fingerprint[:12]}); give the same data, or start another study"
        )
    check_intact(dataset)
    resources = merged_resources(request, old.resources)
    budget, past = old.budget, None
    if limits := budgets.given(request):
        past = read_past(folder)
        budget = raised_budget(past.state, folder.name, budget, limits, resources.gpus_per_trial)
    new: dict[str, Any] = {"resources": resources.as_dict(), "budget": budget.as_dict()}
    for key in ("retries", "hung_after"):
        if (value := getattr(request, key)) is not None:
            new[key] = value
    if checkpoints.asked(request):
        new["checkpoints"] = checkpoints.chosen(old.checkpoints.as_dict(), request)
    if (listeners := observers.kept(request, old.listeners)) is not None:
        new["listeners"] = listeners
    if str(request.data.resolve()) != old.data.path:
        new["data"] = {**old.data.as_dict(), "path": str(request.data.resolve())}
    notes: list[str] = []
    if request.stopping is None and (why := retirement(old.stopping.as_dict())):
        raise InputError(f"{folder.name}: its stopping rule {why} (--stopping); what it decided stays as it is")
    if old.space is not None:
        kinds: dict[str, Any] = {"searcher": Searcher, "stopping": Stopping}
        for key, kind in kinds.items():
            if (asked := getattr(request, key)) is not None:
                new[key] = chosen(key, kind, None, asked)
        if request.stopping is not None:
            new["stopping"] = objectives.compared(new["stopping"], given_keys(request.stopping), old.objective)
        now = space or Space.from_dict(old.space)
        if space is not None or "stopping" in new:
            rule = new.get("stopping", old.stopping.as_dict())
            check_fit(rule, now, budget, "--stopping")
            objectives.check_rule(old.changed({"stopping": rule}))
        grid = new.get("searcher", old.searcher.as_dict())
        if grid["kind"] == "grid" and ("searcher" in new or space is not None):
            grid_points(now, grid["points"])  # raises where the space has none
        starts, notes = start_points(now, request.results_dir, request.start, own=space is not None)
        started = [event for event in events if event["event"] == "trial_started"]
        new.update(space_changes(old, started, space, starts))
        if "space" in new:
            check_data(now, starts, dataset)
        else:
            notes = [note for note in notes if new.get("start_points")]
    changed = {key: [written.get(key), value] for key, value in new.items() if written.get(key) != value}
    return old.changed(new), changed, notes, past


def space_changes(
    old: StudySettings,
    started: Sequence[Mapping[str, Any]],
    space: Space | None,
    starts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The settings that a new space and further start points change.

    `old` are the settings in force, `started` the `trial_started` events, `starts` further start points as parameters
    of the space in force from now on. Earlier start points that have not been started are kept, each only once.
    """
    assert old.space is not None  # noqa: S101  a planned study is searched in no space
    before = Space.from_dict(old.space)
    new: dict[str, Any] = {}
    if space is not None and any(space.as_dict()[key] != old.space[key] for key in SEARCHED):
        new["space"] = space.as_dict()
        if space.objective != old.objective:
            if not (is_per(space.objective) and is_per(old.objective)):
                raise InputError(
                    f"{space.name}: objective: {space.objective} is not allowed on resume, the study minimises "
                    f"{old.objective}; give a space with this objective, or begin a study with --warm-start"
                )
            new["objective"] = space.objective
        if space.costs != before.costs:
            new["costs"] = list(space.costs)
    now = space if "space" in new and space is not None else before
    begun = {event["trial"]: event for event in started}
    from_trial = old.starts_from
    pending = [dict(params) for params in old.start_points[max(0, len(begun) - from_trial) :]]
    if "space" in new:
        pending = [now.params_of(before.config(params, 0))[0] for params in pending]
    known = [params_in(now, RunConfig.model_validate(event["config"])) for event in begun.values()]
    further = [dict(params) for params in starts if params not in pending and params not in known]
    if further or ("space" in new and pending):
        new["start_points"] = pending + further
        new["starts_from"] = max(begun, default=-1) + 1
    return new


def refuse_for_plan(settings: StudySettings, asked: Mapping[str, Any]) -> None:
    """Raises InputError for a change of something that a planned study does not have."""
    if settings.plan:
        wrong = [f"--{key}" for key, value in asked.items() if value]
        if wrong:
            raise InputError(
                f"{', '.join(wrong)}: the study has a fixed list of {len(settings.plan)} runs and does not search; "
                "leave the option out"
            )


def describe(changed: Mapping[str, Any], state: StudyState) -> list[str]:
    """A line for the user on each change."""
    lines = []
    for key, (old, new) in changed.items():
        if key == "space":
            lines.append(f"space {old['name']} -> {new['name']}{_told(state)}")
        elif key == "start_points":
            lines.append(f"start points: {len(new)} to come")
        elif key == "stopping":
            lines.append(f"stopping: {rule_text(old)} -> {rule_text(new)}")
        elif key == "listeners":
            lines += [f"--{each}" for each in _listeners(old or {}, new)]
        elif key != "starts_from" and isinstance(new, Mapping):
            before = old if isinstance(old, Mapping) else {}
            parts = [f"{k} {_show(before.get(k))} -> {_show(v)}" for k, v in new.items() if before.get(k) != v]
            lines.append(f"{key}: {', '.join(parts)}")
        elif key != "starts_from":
            lines.append(f"{key}: {_show(old)} -> {_show(new)}")
    return [f"changed from now on: {line}" for line in lines]


def _listeners(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`log tensorboard -> wandb` for each option that changed; what may not be written is not among them."""
    keys = [key for key in ("log", "notify", "notify_on", "storage") if old.get(key) != new.get(key)]
    shown = lambda value: _show(", ".join(value) if isinstance(value, list) else value or None)  # noqa: E731
    return [f"{key.replace('_', '-')}: {shown(old.get(key))} -> {shown(new.get(key))}" for key in keys]


def _told(state: StudyState) -> str:
    out = sorted(state.untold)
    if not out:
        return f"; the searcher gets all {len(state.trials)} trials so far" if state.trials else ""
    names = ", ".join(map(str, out[:SHOWN])) + (", ..." if len(out) > SHOWN else "")
    return (
        f"; {len(out)} of {len(state.trials)} trials so far are not in it, so the searcher does not get them "
        f"(trial {names}); they keep their results"
    )


def _show(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def raised_budget(
    state: StudyState, study: str, before: StudyBudget, new: Mapping[str, Any], gpus_per_trial: float
) -> StudyBudget:
    """The budget of a study in this state when it is resumed with the options `new`.

    Raises InputError for limits that the study has already reached: no trial could start.
    """
    budget = budgets.check(before.changed(new), new, gpus_per_trial, study)
    if problems := _used_up(new, state, study):
        raise InputError(problems)
    return budget


def _used_up(asked: Mapping[str, Any], state: StudyState, study: str) -> list[str]:
    spent, (first, last) = state.spent, state.session
    hours = (state.driver_seconds + last - first) / 3600
    used = {
        "trials": (len(state.trials), f"{len(state.trials)} have been started"),
        "hours": (hours, f"it has run {hours:.3g} hours"),
        "gpu_hours": (spent.gpu_seconds / 3600, f"it has used {spent.gpu_seconds / 3600:.3g} GPU-hours"),
        "batches": (spent.batches, f"{spent.batches:,} batches have been trained"),
        "utterances": (spent.utterances, f"{spent.utterances:,} utterances have been used"),
        "no_improvement": (spent.since_best, f"{spent.since_best} trials have ended since the last improvement"),
    }
    problems = []
    for key, value in asked.items():
        option = "--" + key.replace("_", "-")
        if key == "target_per" and spent.best_per <= value:
            problems.append(f"{option} {value:g}: the study {study} has reached {spent.best_per:.4f}; give a lower PER")
        elif key in used and (value < used[key][0] or (value == used[key][0] and key != "trials")):
            problems.append(f"{option} {value:g}: of the study {study}, {used[key][1]}; give more")
    return problems
