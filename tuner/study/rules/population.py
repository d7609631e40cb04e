"""Population Based Training (Jaderberg et al. 2017, arXiv 1711.09846): who is replaced by whom, and with what settings.

The first `population` trials come from the searcher. Each is paused at every multiple of `interval` epochs, and the
least advanced goes on first, so that the population advances together with any number of workers. Where a trial is to
go on that is among the worst `quantile` at its epoch, it is stopped (exploit), and a new trial goes on from the
checkpoint of one of the best `quantile` in its place, with that one's parameters, changed a little (explore): as Ray
Tune's PBT does, but as a trial of its own, so that each trial has one configuration. Members that ran to their end,
failed or diverged are not replaced.

The event log holds each step: the end of the replaced trial names the donor (`exploits`), the start of the new one
what it came from. The donor's checkpoint is copied before either is written, so a driver may die anywhere between.

Only what neither the schedule, the shapes nor the state of a run depends on is changed (`perturbable`). The searcher
is told of the new trials as of any others: their parameters, and the PER that they came to, which owes something to
the donor.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces import InputError, Space
from search_spaces.space import Dimension
from search_spaces.stopping import PBTStopping
from tuner.study.checkpoints import LAST, trial_folder

if TYPE_CHECKING:
    from tuner.study.rules.history import History
    from tuner.study.state import StudyState

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
DRAWS = 100
"""How often settings that break a constraint are drawn again."""
EXPLORE, DONOR = 2**31 + 1, 2**31 + 2
"""Streams of random numbers, apart from those of trials' seeds."""


def size(state: StudyState) -> int:
    """Members of the population; 0 under another rule."""
    rule = state.history.rule
    return rule.population if isinstance(rule, PBTStopping) else 0


def founders_left(state: StudyState, left: int) -> int:
    """How many of the `left` trials of the budget the searcher may still be asked for."""
    members = size(state)
    return min(left, max(0, members - (state.next_number - state.heirs))) if members else left


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


def parent(state: StudyState, folder: Path, trial: int) -> tuple[int, int] | None:
    """(donor, epoch) that the next trial goes on from in place of `trial`; None if that one goes on itself.

    The donor's checkpoint is then copied to where the next trial finds it. A donor that has ended has none; one that
    runs is taken where it has come to. Nobody is replaced once the budget's trials are used up, or where the disk
    takes no copy.
    """
    number, budget = state.next_number, state.settings["budget"].get("trials")
    if not size(state) or (budget and number >= budget):
        return None
    best, worst = ranked(state.history, trial)
    if trial not in worst:
        return None
    order = np.random.default_rng([state.settings["seed"], number, DONOR]).permutation(len(best))
    for donor in (state.trials[best[int(which)]] for which in order):
        if not donor.final:
            epoch = _copy(trial_folder(folder, donor.number) / LAST, trial_folder(folder, number) / LAST)
            if epoch is not None and epoch < donor.config.epochs:
                return donor.number, epoch
    return None


def _copy(source: Path, target: Path) -> int | None:
    """Copy a checkpoint, whole or not at all; its epoch, None where there is none, or it cannot be read or written."""
    from trainable.checkpoint import epoch_of

    temporary = target.with_name(f".{target.name}.copy")
    try:
        with source.open("rb") as old:  # which may be replaced meanwhile: what is open stays what it is
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as new:
                shutil.copyfileobj(old, new)
                new.flush()
                os.fsync(new.fileno())
        epoch = epoch_of(temporary)
        if epoch is not None:
            temporary.replace(target)
            handle = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return epoch
    except OSError:
        return None
    finally:
        temporary.unlink(missing_ok=True)


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


def explore(state: StudyState, space: Space, donor: int, number: int) -> dict[str, Any]:
    """The parameters of trial `number`: the donor's, each that may change drawn anew or moved by a step.

    A function of the study's seed, the number and the donor. The donor's own where no draw keeps the constraints.
    """
    rule, given = state.history.rule, state.trials[donor].params
    rng = np.random.default_rng([state.settings["seed"], number, EXPLORE])
    able = [dimension for dimension in perturbable(space) if dimension.name in given]
    settings = rule if isinstance(rule, PBTStopping) else PBTStopping()
    for _ in range(DRAWS):
        params = dict(given)
        for dimension in able:
            params[dimension.name] = _changed(dimension, given[dimension.name], settings, rng)
        if not space.violations(params):
            return params
    return dict(given)


def _changed(dimension: Dimension, sample: Any, rule: PBTStopping, rng: np.random.Generator) -> Any:
    """Another sample of a dimension: any in its range with probability `resample`, else one a step away."""
    anew, up = rng.random() < rule.resample, bool(rng.integers(2))
    if dimension.kind == "choice":
        choices = dimension.choices
        if anew or sample not in choices:
            return choices[int(rng.integers(len(choices)))]
        return choices[min(max(choices.index(sample) + (1 if up else -1), 0), len(choices) - 1)]
    low, high = float(dimension.low or 0), float(dimension.high or 0)
    whole = dimension.kind in ("int", "log_int")
    if anew:
        if dimension.kind.startswith("log"):
            drawn = float(np.exp(rng.uniform(math.log(low), math.log(high))))
        else:
            drawn = float(rng.uniform(low, high))
    else:
        drawn = sample * (rule.grow if up else rule.shrink)
        if whole and round(drawn) == sample:  # a small number moves as well
            drawn = sample + (1 if up else -1)
    return dimension.nearest(drawn) if not whole else int(dimension.nearest(round(drawn)))


def check(rule: PBTStopping, space: Space, epochs: int, budget: Mapping[str, Any], where: str) -> None:
    """Raises InputError where nobody could be replaced, or with nothing changed; `epochs` are those of the longest run.

    `where` begins the line.
    """
    if rule.interval >= epochs:
        raise InputError(
            f"{where}: interval: {rule.interval} is not allowed; the longest runs of {space.name} have {epochs} "
            f"epochs, so no trial would ever be compared; give {max(1, epochs - 1)} or less"
        )
    trials = budget.get("trials")
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
