"""The contract of a learning-rate schedule: a kind in `search_spaces/config.py` with a formula in `lr_at`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces import RunConfig, flatten
from search_spaces.config import to_dict
from trainable.schedules import day_lr_at, lr_at, lr_curve
from tuner.testing.contracts import Clause, clauses, examples, hold

Rate = Callable[[RunConfig, int], float]
LONGEST = 600
"""Batches of the longest horizon that is tried."""


@dataclass(frozen=True)
class ScheduleUnderTest:
    """A schedule by its section of a run, and the function that gives its rates."""

    section: Mapping[str, Any]
    rate: Rate
    horizons: int
    """Horizons that Hypothesis makes up for a clause."""

    def config(self, horizon: int = LONGEST, batches: int | None = None) -> RunConfig:
        """A run with this schedule over `horizon` batches. Raises ValidationError where it does not fit."""
        return RunConfig.model_validate(
            {
                "schedule": {**self.section, "horizon": horizon},
                "training": {"batches": batches or horizon, "batches_per_epoch": 10},
            }
        )

    def each(self, check: Callable[[RunConfig, int, int], None], least: int = 1) -> None:
        """Call `check(config, horizon, batch)` for horizons and batches, beyond the horizon too."""

        @examples(self.horizons)
        @given(st.integers(least, LONGEST), st.floats(0, 1.5))
        def every(horizon: int, share: float) -> None:
            try:
                config = self.config(horizon)
            except (ValidationError, ValueError):
                assume(False)  # this schedule does not fit into so few batches
            check(config, horizon, round(share * horizon))

        every()


def contract(section: Mapping[str, Any], rate: Rate = lr_at, *, horizons: int = 100) -> list[Clause]:
    """The clauses for a schedule, given as its section of a run file; without `horizon`, which the suite varies.

    `rate` is the function that gives its rates.
    """
    subject = ScheduleUnderTest(section, rate, horizons)
    return clauses(subject, f"schedule {section['kind']}", CHECKS)


def is_a_function_of_the_batch(subject: ScheduleUnderTest) -> None:
    """The rate is a function of the configuration and the batch: asked in any order, and again, it is the same."""

    def check(config: RunConfig, horizon: int, batch: int) -> None:
        forwards = [subject.rate(config, i) for i in range(horizon)]
        backwards = [subject.rate(config, i) for i in reversed(range(horizon))]
        hold(forwards == backwards[::-1], f"with {horizon} batches the rates depend on the order in which one asks")

    subject.each(check)


def lies_between_nothing_and_the_peak(subject: ScheduleUnderTest) -> None:
    """Every rate is a finite number from 0 to `peak_lr`."""

    def check(config: RunConfig, horizon: int, batch: int) -> None:
        rate, peak = subject.rate(config, batch), config.schedule.peak_lr
        fits = math.isfinite(rate) and 0 <= rate <= peak * (1 + 1e-12)
        hold(fits, f"{rate!r} at batch {batch} of {horizon}, with a peak of {peak:g}")

    subject.each(check)


def reaches_its_peak(subject: ScheduleUnderTest) -> None:
    """With a horizon that is long enough, some batch has the rate `peak_lr`."""
    config = subject.config()
    highest = max(subject.rate(config, batch) for batch in range(LONGEST))
    peak = config.schedule.peak_lr
    hold(math.isclose(highest, peak, rel_tol=1e-9), f"the highest of {LONGEST} rates is {highest:g}, not {peak:g}")


def stays_after_the_horizon(subject: ScheduleUnderTest) -> None:
    """From the horizon on the rate stays as it is there."""

    def check(config: RunConfig, horizon: int, batch: int) -> None:
        there, later = subject.rate(config, horizon), subject.rate(config, horizon + batch)
        hold(there == later, f"{there!r} at the horizon {horizon}, {later!r} at batch {horizon + batch}")

    subject.each(check)


def does_not_depend_on_the_length_of_the_run(subject: ScheduleUnderTest) -> None:
    """With a horizon of its own, a run that is shorter or longer has the same rates: it can be continued."""

    def check(config: RunConfig, horizon: int, batch: int) -> None:
        for batches in (horizon + 7, 3 * horizon):
            other = subject.config(horizon, batches)
            rates = subject.rate(config, batch), subject.rate(other, batch)
            hold(rates[0] == rates[1], f"batch {batch} of horizon {horizon}: {rates}, by the length of the run")

    subject.each(check)


def survives_the_log(subject: ScheduleUnderTest) -> None:
    """The configuration comes back from JSON with the same rates, and each of its keys becomes a column."""
    config = subject.config()
    again = RunConfig.model_validate(json.loads(json.dumps(to_dict(config))))
    for batch in range(0, LONGEST + 20, 7):
        rates = subject.rate(config, batch), subject.rate(again, batch)
        hold(rates[0] == rates[1], f"batch {batch}: {rates[0]!r} before, {rates[1]!r} after")
    names = {f"schedule.{name}" for name in type(config.schedule).model_fields}
    missing = names - flatten(config).keys()
    hold(not missing, f"{sorted(missing)} are no columns")


def is_what_a_run_follows(subject: ScheduleUnderTest) -> None:
    """`lr_curve` has the rate of every batch, and day layers without a rate of their own have the same."""
    if subject.rate is not lr_at:
        return  # a formula that is tried before it is in `lr_at`
    config = subject.config()
    for batch, rate in enumerate(lr_curve(config)):
        hold(rate == lr_at(config, batch), f"batch {batch}: {rate!r} in lr_curve, {lr_at(config, batch)!r} by lr_at")
        day = day_lr_at(config, batch)
        hold(math.isclose(rate, day, rel_tol=1e-12), f"batch {batch}: {rate!r}, and {day!r} for the day layers")


CHECKS: tuple[Callable[[ScheduleUnderTest], None], ...] = (
    is_a_function_of_the_batch,
    lies_between_nothing_and_the_peak,
    reaches_its_peak,
    stays_after_the_horizon,
    does_not_depend_on_the_length_of_the_run,
    survives_the_log,
    is_what_a_run_follows,
)
"""The clauses; the docstring of each says what must hold."""
