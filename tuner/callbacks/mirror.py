"""A study as an Optuna study, rebuilt from the log: for optuna-dashboard, and for analyses with Optuna.

It is a copy for reading. The search itself uses `tuner/study/searchers/searcher.py`, which reports to Optuna only what
the sampler needs; the copy has all epochs of all trials under our trial numbers, with their states.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from results.store.events import scan_events
from results.store.paths import StudyPaths
from search_spaces import Dimension, InputError, flatten
from search_spaces.common import atomic
from tuner.study import objectives
from tuner.study.searchers import optuna_private
from tuner.study.searchers.method import distribution
from tuner.study.state import StudyState
from tuner.study.trial_state import TrialState

_WIDE = 30.0
"""Values that span more than this factor are shown on a logarithmic axis."""


class OptunaMirror:
    """An Optuna study in `storage`, made from a study's events and updated by `take`, which gets each new one.

    Optuna's trial numbers are ours. COMPLETE is a trial that ran to its end, with the objective; PRUNED one that was
    stopped early; FAIL one that failed, diverged or ended without a value; RUNNING one without an end: it runs or is
    interrupted. Intermediate values are the PER of each epoch. User attributes: trial, origin, status, seed, best_per,
    best_epoch, last_per, error. The runs of a planned or recorded study have the settings that differ as parameters.

    A storage that has the study already, from an earlier session, is updated: trials that ended do not change. Raises
    InputError if the events do not begin with the study's settings, or the storage has another study of that name.
    """

    def __init__(self, storage: BaseStorage, events: Iterable[Mapping[str, Any]]) -> None:
        self.state = StudyState(searching=False)
        self._ends: dict[int, Mapping[str, Any]] = {}
        self._ids: dict[int, int] = {}
        self._kinds_of: dict[int, dict[str, BaseDistribution]] = {}
        self._attributes_set: dict[int, dict[str, Any]] = {}
        self._choices: dict[str, BaseDistribution] = {}
        self._identity = ""
        for event in events:
            self._apply(event)
        if not self.state.begun:
            raise InputError("the log does not begin with the study's settings; it cannot be shown")
        self._storage = storage
        self._described = self._describe()
        settings = self.state.settings
        names = objectives.names(settings)
        self.study = optuna.create_study(
            storage=storage, study_name=settings.study, directions=["minimize"] * len(names), load_if_exists=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # so marked since 2023
            self.study.set_metric_names(names)
        known = {trial.user_attrs.get("trial"): trial for trial in self.study.get_trials(deepcopy=False)}
        if self.study.user_attrs.get("begun", None if known else self._identity) != self._identity:
            raise InputError(f"there is another study named {settings.study} in it; choose another place")
        self.study.set_user_attr("begun", self._identity)
        for key in ("objective", "host", "origin_note"):
            if value := getattr(settings, key):
                self.study.set_user_attr(key, value)
        self.study.set_user_attr("data", settings.data.name)
        for trial in sorted(self.state.trials.values(), key=lambda trial: trial.number):
            if trial.number in known:
                self._ids[trial.number] = optuna_private.id_of(known[trial.number])
                if not known[trial.number].state.is_finished():
                    self._attributes_set[trial.number] = dict(known[trial.number].user_attrs)
                    self._catch_up(trial, known[trial.number].intermediate_values)
            else:
                self._add(trial)

    def _apply(self, event: Mapping[str, Any]) -> None:
        self.state.apply(event)
        if event["event"] == "study_started":
            self._identity = f"{event['time']:.6f} {event.get('host')}"
        if event["event"] == "trial_started" and self.state.space is not None and event["attempt"] == 1:
            # By the space of that time: a resumed study may go on with another.
            here = [each for each in self.state.space.dimensions if _can_show(each, event["params"])]
            self._kinds_of[event["trial"]] = {each.name: _shown(each) for each in here}
        if event["event"] == "trial_ended":
            self._ends[event["trial"]] = event
        elif event["event"] == "trial_started":
            self._ends.pop(event["trial"], None)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in an event that came after those it was made from."""
        self._apply(event)
        if event.get("trial") is None:
            return
        trial = self.state.trials[event["trial"]]
        if trial.number not in self._ids:
            self._add(trial)
            return
        fresh = event["event"] == "epoch" and event["per"] is not None
        self._update(trial, {event["epoch"]: event["per"]} if fresh else {})

    def _catch_up(self, trial: TrialState, had: Mapping[int, float]) -> None:
        """Bring a trial that an earlier session left unfinished up to date."""
        self._update(trial, {epoch: per for epoch, per in trial.pers.items() if per is not None and epoch not in had})

    def _update(self, trial: TrialState, pers: Mapping[int, float]) -> None:
        where = self._ids[trial.number]
        for epoch, per in pers.items():
            self._storage.set_trial_intermediate_value(where, epoch, per)
        before = self._attributes_set.setdefault(trial.number, {})
        for name, value in self._attributes(trial).items():
            if before.get(name) != value:
                self._storage.set_trial_user_attr(where, name, value)
                before[name] = value
        state, values = self._outcome(trial)
        if state != OptunaState.RUNNING:
            self._storage.set_trial_state_values(where, state, values)

    def _add(self, trial: TrialState) -> None:
        frozen = self._freeze(trial)
        self.study.add_trial(frozen)
        # Optuna does not return the added trial; it is the last one.
        self._ids[trial.number] = optuna_private.id_of(self.study.get_trials(deepcopy=False)[-1])

    def _freeze(self, trial: TrialState) -> FrozenTrial:
        state, values = self._outcome(trial)
        if trial.number in self._described:
            params = self._described[trial.number]
            kinds = {name: self._kinds[name] for name in params}
        else:
            params = dict(trial.params)
            kinds = {
                name: kind for name, kind in self._kinds_of.get(trial.number, {}).items() if self._fits(name, kind)
            }
        frozen = create_trial(
            state=state,
            values=values,
            params={name: params[name] for name in kinds},
            distributions=kinds,
            user_attrs=self._attributes(trial),
            intermediate_values={epoch: per for epoch, per in sorted(trial.pers.items()) if per is not None},
        )
        frozen.datetime_start = datetime.fromtimestamp(trial.started)
        if state.is_finished():
            frozen.datetime_complete = datetime.fromtimestamp(max(trial.started, self._ends[trial.number]["time"]))
        return frozen

    def _fits(self, name: str, kind: BaseDistribution) -> bool:
        """Whether Optuna accepts the parameter: it refuses new choices, which a new space may have."""
        return not isinstance(kind, CategoricalDistribution) or self._choices.setdefault(name, kind) == kind

    def _outcome(self, trial: TrialState) -> tuple[OptunaState, list[float] | None]:
        waits = trial.status == "paused" or (trial.status == "interrupted" and trial.origin != "recorded")
        if trial.number not in self._ends or waits:
            return OptunaState.RUNNING, None
        value = objectives.values(trial, self.state.settings)
        if value is None and not trial.pers:  # recorded runs have a result and no epochs
            value = self._ends[trial.number].get(self.state.settings.objective)
        values = value if isinstance(value, list) or value is None else [value]
        if trial.status == "completed" and values is not None:
            return OptunaState.COMPLETE, values
        if trial.status in ("stopped", "interrupted"):
            return OptunaState.PRUNED, values
        return OptunaState.FAIL, None

    def _attributes(self, trial: TrialState) -> dict[str, Any]:
        per, epoch = trial.best or (None, None)
        found = {
            "trial": trial.number,
            "origin": trial.origin,
            "status": trial.status,
            "seed": trial.seed,
            "best_per": per,
            "best_epoch": epoch,
            "last_per": trial.pers.get(trial.epoch),
            "error": trial.error,
            "run": trial.started_with.get("run"),
        }
        return {name: value for name, value in found.items() if value is not None}

    def _describe(self) -> dict[int, dict[str, Any]]:
        """For a study without a space: the settings that differ between its trials, by trial; sets `_kinds`."""
        self._kinds: dict[str, BaseDistribution] = {}
        if self.state.space is not None:
            return {}
        plan = self.state.settings.plan
        configs = (
            {number: flatten(entry["config"]) for number, entry in enumerate(plan)}
            if plan
            else {number: trial.known for number, trial in self.state.trials.items()}
        )
        columns: dict[str, dict[int, Any]] = {}
        for number, config in configs.items():
            for name, value in config.items():
                if value is not None and name != "training.seed":
                    columns.setdefault(name, {})[number] = str(list(value)) if isinstance(value, tuple) else value
        described: dict[int, dict[str, Any]] = {number: {} for number in configs}
        for name, values in columns.items():
            if len(set(values.values())) > 1:
                self._kinds[name] = _distribution(list(values.values()))
                for number, value in values.items():
                    described[number][name] = value
        return described


def _can_show(dimension: Dimension, params: Mapping[str, Any]) -> bool:
    """Whether a trial has the dimension, with a value that Optuna can hold: null beside numbers is left out."""
    value = params.get(dimension.name)
    return dimension.name in params and (dimension.kind == "choice" or _is_number(value))


def _shown(dimension: Dimension) -> BaseDistribution:
    """A distribution that has the samples themselves, for whoever looks at them; the searcher may have their
    coordinates."""
    if dimension.kind == "choice" or dimension.native:
        return distribution(dimension)
    low, high = dimension.ends
    others = [float(value) for value in dimension.alternative if _is_number(value)]
    ends = min(low, *others, high), max(low, *others, high)
    return FloatDistribution(*ends, log=dimension.log and ends[0] > 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _distribution(values: list[Any]) -> BaseDistribution:
    """A range that holds all values."""
    numbers = [value for value in values if _is_number(value)]
    if len(numbers) < len(values):
        return CategoricalDistribution(sorted(set(values), key=str))
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low > _WIDE
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def save(folder: Path, path: Path) -> int:
    """Write the study in `folder` as an Optuna SQLite file, in one step; returns the number of trials.

    `optuna.load_study(study_name=..., storage="sqlite:///PATH")` opens it. Raises InputError if the file cannot be
    written.
    """
    memory = optuna.storages.InMemoryStorage()
    mirror = OptunaMirror(memory, scan_events(StudyPaths(folder).log, []))
    with atomic.file(path, advice="choose another place") as temporary:
        temporary.touch()  # SQLite's own error would not say why
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        optuna.copy_study(from_study_name=mirror.study.study_name, from_storage=memory, to_storage=storage)
        storage.engine.dispose()
    return len(mirror.state.trials)
