"""The cost of a search before it is run: the means over searches in virtual time (`virtual.py`).

Their trials keep a random rank at every rung. For rules that decide by rank alone (`RANKED`) this gives the mean cost:
for successive halving trials / reduction^k at the k-th rung, and somewhat more, because the first to reach a rung
always pass (of n that arrive one by one, sum over i of max(1, floor(i / reduction)) / i continue). What other rules
stop depends on the curves, which are not known yet: for them there are two bounds, no trial stopped, and all trials
stopped as early as the rule's guards (grace, min_curves, protect) allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from results.output import Sheet, clock, render
from search_spaces import InputError, RunConfig, Space
from search_spaces.checkpoints import size_text
from tuner.simulation.virtual import END, ENDLESS, Virtual, draws, virtual_search
from tuner.study import budgets
from tuner.study.settings import StudyBudget, StudyChoice, StudySettings

RANKED = ("asha", "pbt", "none")
"""The rules that decide by ranks alone."""
REPEATS = 20


@dataclass
class Forecast:
    """The means over several virtual searches: a row for each rung, the end, and the total."""

    sheet: Sheet
    notes: list[str]
    rule: str
    trials: float
    ended: tuple[float, float]
    """Trials that run to their end: lower and upper bound; equal where ranks alone decide."""
    batches: tuple[float, float]
    full: float
    """Batches without any stop."""
    seconds: tuple[float, float] | None
    """Of wall time; None where no seconds per batch are known."""
    spread: tuple[float, float] = (0.0, 0.0)
    """Batches: 8 of 10 searches lie between."""

    def render(self, form: str) -> str:
        """The table in a format of `results.output`; in a terminal and in Markdown the notes follow."""
        text = render(self.sheet, form)
        if form not in ("table", "markdown"):
            return text
        return text + "\n" + "".join(f"{'- ' if form == 'markdown' else ''}{note}\n" for note in self.notes)

    @property
    def line(self) -> str:
        """In one line."""
        ends, batches = _range(self.ended), _range(self.batches)
        return f"about {self.trials:.0f} trials, {ends} of them to their end, {batches} of {_number(self.full)} batches"


def forecast(
    configs: Sequence[RunConfig],
    settings: StudySettings,
    concurrent: int,
    *,
    seconds_per_batch: float | None = None,
    repeats: int = REPEATS,
    state: float | None = None,
) -> Forecast:
    """The cost of a search with trials from `configs`; `settings` as for `virtual_search`.

    `state` are the bytes of a trial's state, where they are known.

    Raises InputError for a budget that is too small for one trial, and for a budget of time alone where the seconds per
    batch are unknown.
    """
    budget, known = settings.budget, settings.stopping.kind in RANKED
    _check_fits(configs, settings, seconds_per_batch)
    count = budget.trials or ENDLESS
    repeats = max(3, min(repeats, 1500 // count))

    def searches(rule: StudyChoice, stop_first: bool) -> list[Virtual]:
        changed = settings.changed({"stopping": rule})
        return [
            virtual_search(
                configs, changed, concurrent, seconds_per_batch=seconds_per_batch, stop_first=stop_first, seed=seed
            )
            for seed in range(repeats)
        ]

    most = searches(settings.stopping if known else StudyChoice(kind="none"), False)
    least = most if known else searches(settings.stopping, True)
    found = Forecast(
        sheet=Sheet([], []),
        notes=[],
        rule=settings.stopping.kind,
        trials=_mean(search.trials for search in most),
        ended=(_mean(search.ended for search in least), _mean(search.ended for search in most)),
        batches=(_mean(search.batches for search in least), _mean(search.batches for search in most)),
        full=_mean(search.full for search in most),
        seconds=None,
        spread=_spread([search.batches for search in [*least, *most]]),
    )
    if seconds_per_batch is not None:
        found.seconds = (_mean(search.seconds for search in least), _mean(search.seconds for search in most))
    resources, per_batch = settings.resources, seconds_per_batch
    rows = _rung_rows(most) if known else _bound_rows(found, least)
    cards = resources.gpus_per_trial
    for row in rows:
        if per_batch is not None:
            name, held = ("gpu_hours", cards) if cards else ("core_hours", resources.cpus_per_trial)
            row[name] = row["batches"] * per_batch * held / 3600
    shown = [{**{k: _shown(v) for k, v in row.items()}, "batches": round(row["batches"])} for row in rows]
    found.sheet = Sheet.of(shown)
    found.notes = [*_notes(found, most, budget, concurrent, known), *_room(most, state)]
    return found


def _rung_rows(searches: Sequence[Virtual]) -> list[dict[str, Any]]:
    keys = sorted({key for search in searches for key in search.came}, key=lambda key: key.at)
    rows: list[dict[str, Any]] = [
        {
            "place": "the end" if key == END else str(key),
            "trials": _mean(search.came.get(key, 0) for search in searches),
            "go_on": None if key == END else _mean(search.went_on.get(key, 0) for search in searches),
            "batches": _mean(search.batches_to.get(key, 0) for search in searches),
        }
        for key in keys
    ]
    trials, batches = _mean(search.trials for search in searches), _mean(search.batches for search in searches)
    return [*rows, {"place": "in all", "trials": trials, "go_on": None, "batches": batches}]


def _bound_rows(found: Forecast, least: Sequence[Virtual]) -> list[dict[str, Any]]:
    trials = (_mean(search.trials for search in least), found.trials)
    names = ("if all are stopped as early as possible", "if none is stopped")
    return [
        {"place": name, "trials": trials[i], "to_the_end": found.ended[i], "batches": found.batches[i]}
        for i, name in enumerate(names)
    ]


def _notes(
    found: Forecast, searches: Sequence[Virtual], budget: StudyBudget, concurrent: int, known: bool
) -> list[str]:
    share = [found.full and batches / found.full for batches in found.batches]
    saved = f"{share[1]:.0%}" if known else f"{share[0]:.0%} to {share[1]:.0%}"
    notes = []
    low, high = found.spread
    if known and round(low) < round(high):
        notes.append(f"in 8 of 10 searches {_number(low)} to {_number(high)} batches")
    notes += [f"{saved} of the {_number(found.full)} batches that {found.trials:.0f} whole runs take"]
    if found.seconds is not None:
        notes.append(f"about {_range(found.seconds, clock)} of wall time with {concurrent} at once")
    if found.rule == "pbt":
        notes.append("a trial that continues another one takes the remaining batches of the trial that it replaces")
    if not known:
        notes.append(
            f"what {found.rule} stops depends on the curves, so these are bounds; 'tuner simulate' uses real curves"
        )
    limits = sorted({budgets.REASONS[search.reason] for search in searches if search.reason in budgets.REASONS})
    if limits:
        notes.append(f"the budget of {' or '.join(budgets.text(budget.only(key)) for key in limits)} ends it")
    unknown = [budgets.text(budget.only(key)) for key in ("target_per", "no_improvement") if getattr(budget, key)]
    if unknown:
        notes.append(f"it may end earlier: {' or '.join(unknown)} cannot be predicted")
    return notes


def _room(searches: Sequence[Virtual], state: float | None) -> list[str]:
    """What the states of paused trials take; nothing where none is paused."""
    most = max(search.paused for search in searches)
    if not most:
        return []
    room = f", about {size_text(round(most * state))}" if state is not None else ""
    return [f"up to {most} trials are paused at once; their states are on the disk{room} (max_paused bounds them)"]


def _check_fits(configs: Sequence[RunConfig], settings: StudySettings, seconds: float | None) -> None:
    budget = settings.budget
    if seconds is None:
        if (budget.hours or budget.gpu_hours) and not budget.trials:
            raise InputError(
                f"a budget of {budgets.text(budget.only('hours', 'gpu_hours'))} needs the time of a batch; "
                "give --data to measure it, --seconds-per-batch, or --trials"
            )
        return
    shortest = min(config.training.batches for config in configs) * seconds / 3600
    budgets.check_fits(budget, shortest, settings.resources.gpus_per_trial)


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """The 10th and the 90th percentile."""
    low, high = np.quantile(values, (0.1, 0.9))
    return float(low), float(high)


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _shown(value: Any) -> Any:
    """Means of counts with one digit after the point, hours with three that count."""
    if not isinstance(value, float):
        return value
    return round(value, 1) if value >= 100 or value == round(value, 1) else float(f"{value:.3g}")


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _range(ends: tuple[float, float], words: Any = _number) -> str:
    low, high = map(words, ends)
    return low if low == high else f"{low} to {high}"


def in_short(settings: StudySettings, concurrent: int) -> str | None:
    """The forecast of a new study in one line; None where it is unknown or would take long."""
    trials, kind = settings.budget.trials, settings.stopping.kind
    if settings.space is None or not trials or trials > 300 or kind not in RANKED or kind == "none":
        return None
    try:
        configs = draws(Space.from_dict(settings.space), 24)
        counted = settings.changed({"budget": settings.budget.only("trials", "batches", "utterances")})
        return forecast(configs, counted, min(concurrent, trials), repeats=max(3, min(10, 400 // trials))).line
    except InputError:  # the search itself reports this
        return None
