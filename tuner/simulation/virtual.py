"""A search in virtual time whose trials are made up: what `tuner.simulation.forecast` counts.

The real `Study` and the real stopping rule are driven by an event queue, as in `tuner.simulation.simulate`, but the
trials are draws from the space that train nothing: each has a rank, drawn at random, that it keeps at every rung.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search_spaces import InputError, RunConfig, Space
from search_spaces.config import to_dict
from tuner.simulation.simulate import NOWHERE, MemoryLog
from tuner.study.budgets import COSTS
from tuner.study.compact import KeptConfig
from tuner.study.rules.stopping import Curve, Decision, RungKey
from tuner.study.settings import StudySettings
from tuner.study.state import StudyState
from tuner.study.study import Job, Study

DRAWS = 200
"""How often a configuration that breaks a constraint is drawn again."""
ENDLESS = 2000
"""Trials at which a search without a known end is cut."""
END = RungKey(10**9, "end")
"""The end of a run, after every rung."""


@dataclass
class Virtual:
    """One search in virtual time."""

    came: dict[RungKey, int] = field(default_factory=dict)
    """Trials that came to each place."""
    went_on: dict[RungKey, int] = field(default_factory=dict)
    batches_to: dict[RungKey, int] = field(default_factory=dict)
    """Batches between the places before and this one."""
    trials: int = 0
    ended: int = 0
    """Those that ran to their end."""
    batches: int = 0
    """All that were run."""
    full: int = 0
    """Those that all trials started would have had without a stop."""
    paused: int = 0
    """The most that were paused at once."""
    seconds: float = 0.0
    """From the first to the last epoch; in batches where no seconds are known."""
    reason: str = "budget"


class _Drawn:
    """Trials that are `entries` in order, again and again."""

    def __init__(self, entries: Sequence[dict[str, Any]]) -> None:
        self._entries = entries

    def trial(self, state: StudyState, number: int) -> dict[str, Any]:
        return self._entries[number % len(self._entries)]

    def curve(self, number: int, config: RunConfig | KeptConfig) -> Curve:
        return Curve.of_run(number, config)


class _Random:
    """Answers like an Optuna trial with independent draws."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            return float(np.exp(self._rng.uniform(np.log(low), np.log(high))))
        if step:
            return float(low + step * self._rng.integers(round((high - low) / step) + 1))
        return float(self._rng.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return min(high, int(np.exp(self._rng.uniform(np.log(low), np.log(high + 1)))))
        return int(low + step * self._rng.integers((high - low) // step + 1))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[int(self._rng.integers(len(choices)))]


def draws(space: Space, count: int, seed: int = 0) -> list[RunConfig]:
    """`count` configurations drawn at random from the space. Raises InputError if its constraints leave none."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        for _ in range(DRAWS):
            params = space.suggest(_Random(rng))
            broken = space.violations(params)
            if not broken:
                found.append(space.config(params, 0))
                break
        else:
            raise InputError(
                f"{space.name}: none of {DRAWS} draws met the constraint '{broken[0]}'; relax it or widen the ranges"
            )
    return found


def virtual_search(
    configs: Sequence[RunConfig],
    settings: StudySettings,
    concurrent: int,
    *,
    seconds_per_batch: float | None = None,
    stop_first: bool = False,
    seed: int = 0,
) -> Virtual:
    """One search over `configs`, in an order and with ranks drawn from `seed`.

    `settings` has stopping, budget (without target and no improvement, which depend on what is found) and resources.
    `stop_first` stops all trials as early as the rule's guards allow.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(configs))
    entries = [{"params": {}, "seed": 0, "origin": "searched", "config": to_dict(configs[i])} for i in order]
    trials = min(settings.budget.trials or ENDLESS, ENDLESS)
    budget = settings.budget.changed({"trials": trials, "target_per": None, "no_improvement": None})
    log = MemoryLog()
    changed = settings.changed({"space": None, "budget": budget, "retries": 0})
    study = Study.create(NOWHERE, changed, [], log, source=_Drawn(entries), clock=lambda: log.now)
    return _Loop(study, log, rng, seconds_per_batch, stop_first).run(concurrent)


class _Loop:
    """Virtual workers around one study. Only epochs that matter are reported: rungs, the last, the first."""

    def __init__(
        self, study: Study, log: MemoryLog, rng: np.random.Generator, seconds: float | None, stop_first: bool
    ) -> None:
        self.study, self.log, self.rng, self.seconds, self.stop_first = study, log, rng, seconds or 1.0, stop_first
        self.share = study.settings.resources.gpus_per_trial
        # Limits of time are looked at after each epoch, and so may a rule be: then each is reported.
        self.every = stop_first or any(getattr(study.settings.budget, limit) for limit in COSTS)
        self.found = Virtual()
        self.ranks: dict[int, float] = {}
        self.queue: list[tuple[float, int, Job, int, float, int]] = []
        self.order = itertools.count()
        self.since: dict[int, int] = {}
        self.at: dict[int, RungKey] = {}

    def run(self, workers: int) -> Virtual:
        study, found = self.study, self.found
        idle = workers
        while True:
            while idle and (job := study.ask()) is not None:
                if job.trial not in self.ranks:
                    self.ranks[job.trial] = float(self.rng.random())
                    found.full += job.config.training.batches
                self._begin(job, job.epochs_logged, 0.0)
                idle -= 1
            if not self.queue:
                break
            self.log.now, _, job, epoch, held, batches = heapq.heappop(self.queue)
            if self._report(job, epoch, held, batches):
                self._begin(job, epoch, held)
            else:
                idle += 1
            if study.leaves:
                break
        found.reason = study.reached or "budget"
        found.seconds, found.trials = self.log.now, len(study.state.trials)
        return found

    def _key(self, trial: int, epoch: int) -> RungKey | None:
        return self.study.state.history.key(trial, epoch)

    def _begin(self, job: Job, done: int, held: float) -> None:
        """Queue the next epoch that matters; `held` is the time for which this attempt has held its card."""
        grid = self.study.state.history.curves[job.trial].grid
        if key := self.at.pop(job.trial, None):
            self.found.went_on[key] = self.found.went_on.get(key, 0) + 1
        epoch = done + 1
        while not self.every and epoch < grid.epochs and self._key(job.trial, epoch) is None:
            epoch += 1
        batches = grid.batch(epoch) - (grid.batch(done) if done else 0)
        held += batches * self.seconds
        end = self.log.now + batches * self.seconds
        heapq.heappush(self.queue, (end, next(self.order), job, epoch, held, batches))

    def _strictest(self, trial: int, epoch: int) -> Decision:
        """Stop where the rule's guards allow it: it looks there, enough trials have come, and this is no leader."""
        history, rank = self.study.state.history, self.ranks[trial]
        rule, key = history.rule, self._key(trial, epoch)
        looks = key is not None
        enough = key is not None and 1 + self.found.came.get(key, 0) >= getattr(rule, "min_curves", 1)
        stop = enough and not history.protected(trial, (rank, rank))
        return Decision(stop=stop, rung=epoch if looks else None, passed=not stop)

    def _report(self, job: Job, epoch: int, held: float, batches: int) -> bool:
        """Whether the attempt goes on after an epoch."""
        found, grid, rank = self.found, self.study.state.history.curves[job.trial].grid, self.ranks[job.trial]
        key, last = self._key(job.trial, epoch), epoch == grid.epochs
        row = {"epoch": epoch, "batch": grid.batch(epoch), "per": rank, "per_raw": rank, "val_loss": rank, "lr": 0.0}
        row |= {"seconds": batches * self.seconds, "gpu_seconds": held * self.share, "cpu_seconds": 0.0}
        verdict = self._strictest(job.trial, epoch) if self.stop_first else None
        found.batches += batches
        spent = self.since.pop(job.trial, 0) + batches
        if last:
            key = END
        if key is None:
            self.since[job.trial] = spent
        else:
            found.batches_to[key] = found.batches_to.get(key, 0) + spent
            found.came[key] = found.came.get(key, 0) + 1
            found.ended += last
            self.at[job.trial] = key
        goes_on = self.study.report(job.trial, job.attempt, row, verdict) == "continue"
        found.paused = max(found.paused, len(self.study.state.history.paused))
        return goes_on
