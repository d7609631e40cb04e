"""The limits of a search, and what it has used: both are functions of the log, except the clock of `hours`.

A budget is a `tuner.study.settings.StudyBudget`, which has null where there is no limit. The search ends at the first
limit that is reached. GPU-hours are the fraction of a GPU that a trial reserves times the wall time, over all attempts,
from the epochs in the log; an epoch counts when it is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces import InputError
from tuner.study.settings import StudyBudget

LIMITS = ("trials", "hours", "gpu_hours", "batches", "utterances", "target_per", "no_improvement")
COSTS = ("hours", "gpu_hours", "batches", "utterances")
"""The limits of what a search may use: at them running trials are interrupted."""
KEYS = (*LIMITS, "then")
REASONS = {
    "wall_time": "hours",
    "gpu_hours": "gpu_hours",
    "batches": "batches",
    "utterances": "utterances",
    "target_per": "target_per",
    "no_improvement": "no_improvement",
}
"""The reason that `study_ended` gives -> the limit that was reached. "budget" is the number of trials, all ended."""

_WORDS: dict[str, Callable[[Any], str]] = {
    "trials": lambda n: f"{n} trial{'s' * (n != 1)}",
    "hours": lambda hours: f"{hours:g} hours",
    "gpu_hours": lambda hours: f"{hours:g} GPU-hours",
    "batches": lambda n: f"{n:,} batches",
    "utterances": lambda n: f"{n:,} utterances",
    "target_per": lambda per: f"target PER {per:g}",
    "no_improvement": lambda n: f"no improvement for {n} trial{'s' * (n != 1)}",
}


@dataclass
class Spent:
    """What the trials have used and reached so far; filled by `apply`, live and replayed alike."""

    gpu_seconds: float = 0.0
    """Over all attempts of all trials."""
    batches: int = 0
    """Optimizer steps of all attempts, repeated epochs included, and the cooldown probes of earlier versions."""
    utterances: int = 0
    """Utterances in the micro-batches of these steps."""
    whole: int = 0
    """Batches of whole runs of all trials that have started."""
    best_per: float = math.inf
    measure: str = "per"
    """The column of an epoch that the objective is made of."""
    lowest: float = math.inf
    """The lowest value in that column."""
    since_best: int = 0
    """Trials that have ended for good since the last improvement of that value, without those that improved it."""
    _attempt: dict[int, float] = field(default_factory=dict)
    _steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Trial -> (batches done when its last epoch ended, utterances in a batch)."""
    _lowered: set[int] = field(default_factory=set)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the log."""
        if event["event"] == "trial_started":
            self._attempt[event["trial"]] = 0.0
            self._begin(event["trial"], event)
        elif event["event"] == "epoch":
            self._epoch(event["trial"], event)

    def _begin(self, trial: int, event: Mapping[str, Any]) -> None:
        training = (event.get("config") or {}).get("training", {})
        begins = (event.get("from_epoch") or 0) * training.get("batches_per_epoch", 0)
        size = training.get("batch_size", 0) * training.get("accumulation", 1)
        self._steps[trial] = (min(begins, training.get("batches", 0)), size)
        self.whole += training.get("batches", 0) if event.get("attempt", 1) == 1 else 0

    def _train(self, trial: int, event: Mapping[str, Any]) -> None:
        before, size = self._steps.get(trial, (0, 0))
        steps = max(0, (event.get("batch") or 0) - before) + (event.get("probe_batches") or 0)
        self._steps[trial] = ((event.get("batch") or 0), size)
        self.batches += steps
        self.utterances += steps * size

    def _epoch(self, trial: int, event: Mapping[str, Any]) -> None:
        used = event.get("gpu_seconds") or 0.0  # of the attempt so far
        self.gpu_seconds += max(0.0, used - self._attempt.get(trial, 0.0))
        self._attempt[trial] = used
        self._train(trial, event)
        per, value = event["per"], event.get(self.measure)
        if per is not None and per < self.best_per:
            self.best_per = per
        if value is not None and value < self.lowest:
            self.lowest, self.since_best = value, 0
            self._lowered.add(trial)

    def ended(self, trial: int) -> None:
        """A trial has ended for good."""
        self._attempt.pop(trial, None)
        self._steps.pop(trial, None)
        if trial not in self._lowered:
            self.since_best += 1


def reached(budget: StudyBudget, spent: Spent, seconds_left: float) -> str | None:
    """The limit that is reached, as the reason of `study_ended`; None while trials may start.

    The number of trials is not checked here: a study whose trials have all ended has the reason "budget".
    """
    if seconds_left <= 0:
        return "wall_time"
    if budget.gpu_hours and spent.gpu_seconds >= 3600 * budget.gpu_hours:
        return "gpu_hours"
    if budget.batches and spent.batches >= budget.batches:
        return "batches"
    if budget.utterances and spent.utterances >= budget.utterances:
        return "utterances"
    if budget.target_per is not None and spent.best_per <= budget.target_per:
        return "target_per"
    if budget.no_improvement and spent.since_best >= budget.no_improvement:
        return "no_improvement"
    return None


def share_left(budget: StudyBudget, spent: Spent, seconds_left: float) -> float:
    """The smallest share that is left of a limit of what a search may use (`COSTS`); 1 where there is none."""
    shares = [1.0]
    if budget.hours:
        shares.append(seconds_left / (3600 * budget.hours))
    if budget.gpu_hours:
        shares.append(1 - spent.gpu_seconds / (3600 * budget.gpu_hours))
    if budget.batches:
        shares.append(1 - spent.batches / budget.batches)
    if budget.utterances:
        shares.append(1 - spent.utterances / budget.utterances)
    return min(shares)


def thaws(drain: float, spent: Spent) -> bool:
    """Whether paused trials may continue under a rule with this `drain` (`ASHAStopping`) when nothing new is left."""
    return drain >= 1 or spent.batches < drain * spent.whole


def then(budget: StudyBudget, reason: str) -> str:
    """What running trials do when a limit is reached: "finish" or "stop".

    Unless the budget says it, a limit of cost (`COSTS`) stops them; at a limit of result (target, no
    improvement) they finish, since one of them may be better. Stopped ones are interrupted: a resumed study continues
    them from their checkpoints.
    """
    return budget.then or ("stop" if REASONS[reason] in COSTS else "finish")


def text(budget: StudyBudget) -> str:
    """A budget as text: `24 trials or 2 hours`; a dash for none."""
    limits = " or ".join(words(value) for key, words in _WORDS.items() if (value := getattr(budget, key)) is not None)
    return (limits or "-") + (f", then {budget.then}" if budget.then else "")


def given(request: Any) -> dict[str, Any]:
    """The parts of a budget that a request's options set."""
    return {key: value for key in KEYS if (value := getattr(request, key, None)) is not None}


def merged(before: Mapping[str, Any], new: Mapping[str, Any]) -> StudyBudget:
    """The budget `before` with the options `new`; keys that neither has are null."""
    return StudyBudget(**{**dict.fromkeys(KEYS), **before, **new})


def check(budget: StudyBudget, asked: Iterable[str], gpus_per_trial: float, where: str) -> StudyBudget:
    """The budget of the study. Raises InputError where it has no limit, or one that cannot be reached.

    Without a GPU there are no GPU-hours to count. As an option, or as the only limit, they are an error; where the
    space has them beside another limit, they are left out.
    """
    asked = tuple(asked)
    if budget.gpu_hours and gpus_per_trial <= 0:
        if "gpu_hours" in asked:
            raise InputError(
                f"--gpu-hours {budget.gpu_hours:g}: trials use no GPU here (--gpus-per-trial 0), so none would "
                "be counted; give --hours instead"
            )
        budget = budget.changed({"gpu_hours": None})
    if not any(getattr(budget, limit) for limit in ("trials", *COSTS, "no_improvement")):
        raise InputError(
            f"{where}: the search would never end; give --trials, --hours, --gpu-hours (with GPUs), --batches, "
            "--utterances or --no-improvement"
        )
    return budget


def check_fits(budget: StudyBudget, hours: float, gpus_per_trial: float) -> None:
    """Raises InputError if the budget is too small for one trial, which takes `hours` of wall time."""
    for option, limit, cost in (
        ("--hours", budget.hours, hours),
        ("--gpu-hours", budget.gpu_hours, hours * gpus_per_trial),
    ):
        if limit and cost > limit:
            raise InputError(f"{option} {limit:g}: is not enough for one trial, which takes {cost:.3g}; give more")
