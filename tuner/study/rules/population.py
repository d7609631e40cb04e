"""Population Based Training (Jaderberg et al. 2017, arXiv 1711.09846): who is replaced by whom, and with what settings.

The first `population` trials come from the searcher. Each is paused at every multiple of `interval` epochs, and the
least advanced goes on first, so that the population advances together with any number of workers. Where a trial is to
go on that is among the worst `quantile` at its epoch, it is stopped (exploit), and a new trial goes on from the
checkpoint of one of the best `quantile` in its place, with that one's parameters, changed a little (explore): as Ray
Tune's PBT does, but as a trial of its own, so that each trial has one configuration. Members that ran to their end,
failed or diverged are not replaced.

Copying the donor's checkpoint and drawing the new settings is the driver's part: `tuner/study/heirs.py`.

Only what neither the schedule, the shapes nor the state of a run depends on is changed (`perturbable`). The searcher
is told of the new trials as of any others: their parameters, and the PER that they came to, which owes something to
the donor.
"""

from __future__ import annotations

import math

from search_spaces import InputError, Space
from search_spaces.space import Dimension
from search_spaces.stopping import PBTStopping
from tuner.study.rules.history import History
from tuner.study.settings import StudyBudget

FIXED_SECTIONS = ("data", "model", "schedule")
FIXED = (
    "averaging.every_batches",
    "averaging.lr",
    "averaging.start_batch",
    "optimizer.decay_biases",
    "optimizer.decay_day_layers",
    "training.batches",
    "training.batches_per_epoch",
    "training.device",
    "training.precision",
    "training.seed",
)
"""With every kind: what a run that goes on must share with the one it comes from. The optimizer's `decay_...` say in
which group a parameter is, and its state goes by the groups."""


def ranked(history: History, trial: int) -> tuple[list[int], list[int]]:
    """(the best, the worst) `quantile` of those that came to where `trial` waits, best first; empty while few have."""
    rule = history.rule
    assert isinstance(rule, PBTStopping)  # noqa: S101  whoever asks has seen to it
    values = history.rung(history.paused[trial]).values
    order = sorted(values, key=lambda number: (values[number], number))
    share = math.floor(len(order) * rule.quantile + 1e-9)
    best, worst = order[:share], order[len(order) - share :]
    return best, [number for number in worst if values[number] > values[best[-1]]]


def next_member(history: History) -> int | None:
    """The paused trial that goes on next: the least advanced, of these one that is to be replaced, the first."""
    if not history.paused:
        return None
    epoch = min(key.at for key in history.paused.values())
    here = [trial for trial, key in history.paused.items() if key.at == epoch]
    worst = ranked(history, here[0])[1]
    return min(here, key=lambda trial: (trial not in worst, trial))


def perturbable(space: Space) -> list[Dimension]:
    """The dimensions that a trial which goes on from another's state may have otherwise.

    Not those that the schedule, the shapes or the state depend on, nor what is relative to one of these or what one of
    these is relative to, nor what decides which dimensions there are.
    """
    conditions = {path for dimension in space.dimensions for path in dimension.when}

    def fixed(path: str) -> bool:
        section, _, key = path.partition(".")
        return section in FIXED_SECTIONS or key == "kind" or path in FIXED or path in conditions

    held = {dimension.path for dimension in space.dimensions if fixed(dimension.path)}
    while True:
        more = {d.path for d in space.dimensions if d.of is not None and (d.of in held or fixed(d.of))}
        more |= {d.of for d in space.dimensions if d.of is not None and d.path in held}
        if more <= held:
            return [d for d in space.dimensions if d.sampled and d.path not in held]
        held |= more


def check(rule: PBTStopping, space: Space, epochs: int, budget: StudyBudget, where: str) -> None:
    """Raises InputError where nobody could be replaced, or with nothing changed; `epochs` are those of the longest run.

    `where` begins the line.
    """
    if rule.interval >= epochs:
        raise InputError(
            f"{where}: interval: {rule.interval} is not allowed; the longest runs of {space.name} have {epochs} "
            f"epochs, so no trial would ever be compared; give {max(1, epochs - 1)} or less"
        )
    trials = budget.trials
    if trials and rule.population > trials:
        raise InputError(
            f"{where}: population: {rule.population} is not allowed with {trials} trials; give {trials} or less, or "
            "more --trials: each that goes on from another counts as one"
        )
    if rule.population * rule.quantile < 1:
        raise InputError(
            f"{where}: quantile: {rule.quantile:g} is not allowed with a population of {rule.population}, it is less "
            f"than one trial; give {1 / rule.population:.2g} or more, or a larger population"
        )
    if not perturbable(space):
        raise InputError(
            f"{where}: pbt: {space.name} has no dimension that can change while a run goes on; add one such as "
            "augmentation.white_noise, optimizer.weight_decay or training.clip, or choose another rule"
        )
