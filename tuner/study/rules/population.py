"""Population Based Training (Jaderberg et al. 2017, arXiv 1711.09846): which trials are replaced, and by what.

The first `population` trials come from the searcher. Each is paused at every multiple of `interval` epochs, and the
least advanced continues first, so that the population advances together with any number of workers. When a trial that
is among the worst `quantile` at its epoch would continue, it is stopped (exploit). A new trial continues from the
checkpoint of one of the best `quantile` instead, with its parameters changed a little (explore). Ray Tune's PBT does
the same within one trial; here it is a new trial, so that each trial has one configuration. Members that ran to their
end, failed or diverged are not replaced.

Copying the donor's checkpoint and drawing the new settings is the driver's part: `tuner/study/heirs.py`.

Only settings on which the shapes, the state and the shape of the schedule of a run do not depend are changed
(`perturbable`): learning rates (unless the rule says `rates: false`), weight decay, clipping, augmentation, .... The
new trials are reported to the searcher like all others: their parameters, and their PER, which partly comes from the
donor.
"""

from __future__ import annotations

import math

from search_spaces import InputError, Space
from search_spaces.dimensions.dimension import Dimension
from search_spaces.stopping import PBTStopping
from tuner.study.rules.history import History
from tuner.study.settings import StudyBudget

FIXED_SECTIONS = ("data", "model", "schedule")
RATES = (
    "schedule.peak_lr",
    "schedule.start_lr",
    "schedule.end_lr",
    "schedule.day_peak_lr",
    "schedule.day_end_lr",
    "averaging.lr",
)
"""Learning rates: the rate of a batch is a function of the configuration alone, so a run can go on with others. The
shape of the schedule (kind, horizon, warm-up, periods) is the donor's, and so is the place in it."""
FIXED = (
    "averaging.every_batches",
    "averaging.start_batch",
    "optimizer.day_eps",
    "optimizer.day_weight_decay",
    "optimizer.decay_biases",
    "optimizer.decay_day_layers",
    "training.batches",
    "training.batches_per_epoch",
    "training.device",
    "training.init_from",
    "training.precision",
    "training.seed",
)
"""With every `kind`: settings that a continued run must share with its donor. The optimizer's `decay_...` and `day_...`
decide the group of a parameter, and the optimizer's state is stored by groups. So do rates of the day layers that may
be null."""


def ranked(history: History, trial: int) -> tuple[list[int], list[int]]:
    """(the best, the worst) `quantile` of the trials that reached the rung of `trial`, best first; empty while few
    have."""
    rule = history.rule
    assert isinstance(rule, PBTStopping)  # noqa: S101  whoever asks has seen to it
    values = history.rung(history.paused[trial]).values
    order = sorted(values, key=lambda number: (values[number], number))
    share = math.floor(len(order) * rule.quantile + 1e-9)
    best, worst = order[:share], order[len(order) - share :]
    return best, [number for number in worst if values[number] > values[best[-1]]]


def next_member(history: History) -> int | None:
    """The paused trial that continues next: the least advanced; among these one that will be replaced; the first."""
    if not history.paused:
        return None
    epoch = min(key.at for key in history.paused.values())
    here = [trial for trial, key in history.paused.items() if key.at == epoch]
    worst = ranked(history, here[0])[1]
    return min(here, key=lambda trial: (trial not in worst, trial))


def perturbable(space: Space, rates: bool = True) -> list[Dimension]:
    """The dimensions that may change in a trial that continues from another's state; `rates`: learning rates too.

    Not those on which the schedule's shape, the shapes or the state depend, nor any that is relative to one of these
    or the other way round, nor any that decides which dimensions exist.
    """
    conditions = {path for dimension in space.dimensions for path in dimension.when}

    def fixed(path: str) -> bool:
        if path in RATES:
            return not rates or path in conditions
        section, _, key = path.partition(".")
        return section in FIXED_SECTIONS or key == "kind" or path in FIXED or path in conditions

    held = {d.path for d in space.dimensions if fixed(d.path) or _decides_a_group(d)}
    while True:
        more = {d.path for d in space.dimensions if d.of is not None and (d.of in held or fixed(d.of))}
        more |= {d.of for d in space.dimensions if d.of is not None and d.path in held}
        if more <= held:
            return [d for d in space.dimensions if d.sampled and d.path not in held]
        held |= more


def _decides_a_group(dimension: Dimension) -> bool:
    return dimension.path.startswith("schedule.day_") and None in (*dimension.choices, *dimension.alternative)


def check(rule: PBTStopping, space: Space, epochs: int, budget: StudyBudget, where: str) -> None:
    """Raises InputError if no trial could be replaced, or none changed; `epochs` are those of the longest run.

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
            "more --trials: each trial that continues another counts as one"
        )
    if rule.population * rule.quantile < 1:
        raise InputError(
            f"{where}: quantile: {rule.quantile:g} is not allowed with a population of {rule.population}, this is less "
            f"than one trial; give {1 / rule.population:.2g} or more, or a larger population"
        )
    if not perturbable(space, rule.rates):
        raise InputError(
            f"{where}: pbt: {space.name} has no dimension that can change during a run; add one such as "
            f"{'' if rule.rates else 'schedule.peak_lr (with rates: true), '}augmentation.white_noise, "
            "optimizer.weight_decay or training.clip, or choose another rule"
        )
