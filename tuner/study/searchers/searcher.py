"""The searcher: Optuna proposes the trials, and stopped trials are reported to it as PRUNED.

`OptunaSearcher` has an in-memory Optuna study that is filled only from events. Each proposal uses a new sampler seeded
by (search seed, trial number, draw), so the log is the searcher's only state: a replayed study proposes the same
trials. The kinds are in `tuner/study/searchers/samplers.py`.

What is reported to Optuna: a running or paused trial is RUNNING with the value of each rung that it reached, which
`tpe` counts; one that ran to its end is COMPLETE with its objectives; a stopped one is PRUNED with the value of each
rung that it reached; a diverged one ranks below everything (FAIL, and its point again as PRUNED without a value, which
TPE sorts last); a trial that failed for another reason is FAIL, which does not affect the sampler. Optuna has no
pruning with several objectives: there a stopped trial is FAIL too. (It was stopped because of its PER, and may still be
the cheapest.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import TypeAdapter

from search_spaces import InputError, Space
from search_spaces.searchers import Searcher
from search_spaces.space import LENGTH
from tuner.study.searchers import optuna_private
from tuner.study.searchers.method import MAX_DRAWS, Method, optuna_params
from tuner.study.searchers.samplers import METHODS
from tuner.study.searchers.warm_start import ENOUGH


class OptunaSearcher:
    """Proposes the parameters of a trial from the trials that were reported to it; `objectives` is their number.

    `earlier` are other studies' trials (`tuner.study.searchers.warm_start.discounted`); those that are not comparable
    with this study's are removed when it has enough of its own. `method` is the `Method` of a kind that is not in
    `METHODS`; `searcher` are then its settings as they are.
    """

    def __init__(
        self,
        space: Space,
        searcher: Searcher | Mapping[str, Any],
        seed: int,
        objectives: int = 1,
        earlier: Sequence[Mapping[str, Any]] = (),
        method: type[Method[Any]] | None = None,
    ) -> None:
        self._space, self._seed, self._objectives = space, seed, objectives
        settings: Any = searcher if method else TypeAdapter(Searcher).validate_python(searcher)
        self._settings, self._make = settings, method or METHODS[settings.kind]
        self._earlier = earlier
        self._completed = 0
        self._own: list[tuple[str, tuple[Any, ...]]] | None = None
        """What was reported of this study, kept while earlier trials may have to be removed."""
        self._begin(earlier)
        if any(not trial["compares"] for trial in earlier):
            self._own = []

    def _begin(self, earlier: Sequence[Mapping[str, Any]]) -> None:
        self._study = optuna.create_study(directions=["minimize"] * self._objectives)
        self._optuna_number: dict[int, int] = {}
        self._proposed: dict[int, int] = {}
        self._ended: list[FrozenTrial] = []
        """Those trials, as far as they have been asked for."""
        self._shared: dict[str, BaseDistribution] = {}
        self._ends: list[int] = []
        """Optuna's numbers of the trials with information, in the order of their ends."""
        self._method = self._make(self._space, self._settings, self._seed)
        single = self._objectives == 1
        for trial in earlier:
            params, status = trial["params"], trial["status"]
            has = optuna_params(self._space, params)
            if status == "completed":
                born = self._method.born()
                self._study.add_trial(create_trial(values=trial["values"], system_attrs=born, **has))
                # CMA-ES begins at the best of so many; they are in the order of their values.
                if len(self._ends) < getattr(self._settings, "startup_trials", 0):
                    self._ends.append(len(self._study.get_trials(deepcopy=False)) - 1)
            elif status == "diverged" or single:
                reached = {trial["epochs"]: trial["values"][0]} if status == "stopped" else {}
                self._study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values=reached, **has))

    def _note(self, what: str, *told: Any) -> None:
        if self._own is not None:
            self._own.append((what, told))

    def _forget(self) -> None:
        """Continue as if only comparable earlier trials, and those of this study, had been reported."""
        own, self._own = self._own or [], None
        self._begin([trial for trial in self._earlier if trial["compares"]])
        for what, told in own:
            getattr(self, what)(*told)

    def propose(self, number: int) -> dict[str, Any]:
        """The sampled parameters of trial `number`. Raises InputError if no draw fits the space's constraints."""
        study = self._method.view(self._study)
        all_trials = self._study.get_trials(deepcopy=False)
        ended = self._told(all_trials)
        for draw in range(MAX_DRAWS):
            seed = int(np.random.SeedSequence([self._seed, number, draw]).generate_state(1)[0])
            if draw < self._method.draws:
                study.sampler = self._method.sampler(study, ended, number, seed)
            else:
                study.sampler = optuna.samplers.RandomSampler(seed=seed)
            trial = study.ask()
            if self._space.lengths:  # Optuna has the length of every trial; a new one gets the shortest
                trial.suggest_categorical(LENGTH, self._space.lengths)
            params = self._space.suggest(trial)
            broken = self._space.violations(params)
            if not broken:
                if study is self._study:
                    optuna_private.forget_draw(trial)
                    self._settle(trial, params)
                    self._proposed[number] = trial.number
                return params
            self._method.refused(study, trial)
        raise InputError(
            f"{self._space.name}: none of {MAX_DRAWS} draws met the constraint '{broken[0]}'; "
            "widen the ranges or relax the constraint"
        )

    def left(self, pending: Sequence[Mapping[str, Any]] = ()) -> int | None:
        """How many more proposals there are besides `pending` start points; None where there is no end."""
        return self._method.left(pending)

    def _settle(self, trial: optuna.trial.Trial, params: Mapping[str, Any]) -> None:
        """Let a drawn trial have the value that a replay gives it: a sample on its step has many coordinates."""
        frozen = self._frozen(trial.number)  # what a trial itself gives are copies
        drawn, kinds = frozen.params, frozen.distributions
        for name, value in optuna_params(self._space, params)["params"].items():
            if drawn[name] != value:
                optuna_private.set_param(trial, name, value, kinds[name])

    def _told(self, all_trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The trials that told something, in the order of their ends."""
        self._ended += [all_trials[which] for which in self._ends[len(self._ended) :]]
        return self._ended

    def _share(self, number: int) -> None:
        """Let a trial have the distributions that others have: Optuna makes new ones for each, 2 KB and more."""
        kinds = self._frozen(number).distributions
        for name, kind in kinds.items():
            if self._shared.setdefault(name, kind) == kind:
                kinds[name] = self._shared[name]

    def withdraw(self, number: int) -> None:
        """The proposal for trial `number` is not used (a simulated search uses the nearest recorded run)."""
        if number in self._proposed:  # some methods draw in a study of their own
            self._study.tell(self._proposed.pop(number), state=TrialState.FAIL)

    def started(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial runs with `params`; it counts as running until it ends."""
        self._note("started", number, params)
        if number in self._proposed:
            self._optuna_number[number] = self._proposed.pop(number)
            self._share(self._optuna_number[number])
            return
        self._study.add_trial(create_trial(state=TrialState.RUNNING, **optuna_params(self._space, params)))
        self._optuna_number[number] = len(self._study.get_trials(deepcopy=False)) - 1
        self._share(self._optuna_number[number])
        self._method.added(self._study, self._frozen(self._optuna_number[number]))

    def rung(self, number: int, epoch: int, per: float) -> None:
        """The PER that a trial had at a rung."""
        self._note("rung", number, epoch, per)
        frozen = self._frozen(self._optuna_number[number])
        single = len(self._study.directions) == 1
        if single and frozen.state == TrialState.RUNNING and epoch not in frozen.intermediate_values:
            optuna_private.report(self._study, frozen, per, epoch)

    def ended(self, number: int, status: str, objective: float | Sequence[float] | None) -> None:
        """A trial ended for good; `objective` is its value, or those of several objectives, None if there is none."""
        self._note("ended", number, status, objective)
        trial = self._optuna_number.pop(number)
        if status == "completed" and objective is not None:
            self._study.tell(trial, objective)
            self._ends.append(trial)
        elif status == "stopped" and len(self._study.directions) == 1:
            self._study.tell(trial, state=TrialState.PRUNED)
            self._ends.append(trial)
        else:
            self._study.tell(trial, state=TrialState.FAIL)
            if status in ("diverged", "completed"):
                frozen = self._frozen(trial)
                worst = create_trial(state=TrialState.PRUNED, params=frozen.params, distributions=frozen.distributions)
                self._study.add_trial(worst)
                self._ends.append(len(self._study.get_trials(deepcopy=False)) - 1)
        self._completed += status == "completed"
        if self._own is not None and self._completed >= ENOUGH:
            self._forget()

    def _frozen(self, optuna_number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[optuna_number]

    @property
    def trials(self) -> list[FrozenTrial]:
        """What Optuna knows, in its own order (rejected draws included as FAIL)."""
        return self._study.get_trials(deepcopy=True)
