"""One dimension of a space: the values it can have, as samples and as a coordinate from 0 to 1.

A *sample* is what a searcher chooses, in the units of the setting. The *value* of the setting is the sample, the sample
times another setting (`of`), or 1 - sample (`complement`). The *coordinate* places the sample from 0 to 1 such that
uniform coordinates give the distribution of the dimension. Optuna has distributions for choices, ranges and steps
(`native`). For a normal distribution, a range with an alternative and a logarithmic range with steps it has none: there
Optuna samples the coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Protocol

from search_spaces.parsing.fields import is_integer
from search_spaces.parsing.sections import ABSENT, same
from search_spaces.wording import show

RANGES = ("uniform", "log_uniform", "int", "log_int")
NORMALS = ("normal", "log_normal")
NUMBERS = (*RANGES, *NORMALS)
KINDS = ("choice", *NUMBERS, "value")
"""The kinds of dimension. `value` is a constant under a condition; it is not sampled."""
SHARE = 0.25
"""How often the value of `or` is drawn, unless `share` says otherwise."""
WITHIN = 4.0
"""A normal distribution is cut off at so many standard deviations, unless `within` says otherwise."""
_EDGE = 1e-16
"""The quantile function is asked for nothing nearer to 0 and 1: it is infinite there."""


class TrialLike(Protocol):
    """What `Space.suggest` needs: the methods of an Optuna trial."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from `low` to `high`, both included; with `step`, one of low, low + step, ..."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number from `low` to `high`, both included; with `step`, one of low, low + step, ..."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Dimension:
    """One way in which the value at `path` is chosen.

    `name` is unique; it is the name of the Optuna parameter. `low` and `high` bound a range, both included; `choices`
    are the values of a choice, or the one value of kind `value`. `when` maps paths to the values under which the
    dimension is active. With `of`, the value is the sample times the value at that path; with `complement`, it is
    1 - sample. `q` is the distance between two values of a range. `mean` and `sd` are those of a normal distribution
    (log_normal: of the natural logarithm), cut off at `low` and `high`. `alternative` holds the value of `or`, if any:
    it is taken instead of a number from the range, with the probability `share`.
    """

    name: str
    path: str
    kind: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    of: str | None = None
    complement: bool = False
    q: float | None = None
    mean: float | None = None
    sd: float | None = None
    alternative: tuple[Any, ...] = ()
    share: float = SHARE

    @property
    def sampled(self) -> bool:
        """Whether the searcher chooses it."""
        return self.kind != "value"

    @property
    def numeric(self) -> bool:
        """Whether it is a range or a distribution of numbers."""
        return self.kind in NUMBERS

    @property
    def log(self) -> bool:
        """Whether its axis is logarithmic."""
        return self.kind.startswith("log")

    @property
    def whole(self) -> bool:
        """Whether its samples are whole numbers."""
        if self.kind in NORMALS:
            return self.of is None and not self.complement and is_integer(self.path)
        return self.kind in ("int", "log_int")

    @property
    def native(self) -> bool:
        """Whether Optuna has a distribution for it; else Optuna samples the coordinate."""
        return not (self.alternative or self.kind in NORMALS or (self.q is not None and self.log))

    @property
    def ends(self) -> tuple[float, float]:
        """(low, high) of a dimension of numbers."""
        return float(self.low or 0), float(self.high or 0)

    def suggest(self, trial: TrialLike) -> Any:
        """Ask a trial for a sample."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.choices)
        if not self.native:
            return self.from_unit(trial.suggest_float(self.name, 0.0, 1.0))
        low, high = self.ends
        if self.kind in ("int", "log_int"):
            step = {} if self.q is None else {"step": int(self.q)}
            return trial.suggest_int(self.name, int(low), int(high), log=self.kind == "log_int", **step)
        if self.q is not None:
            return self._on_step(trial.suggest_float(self.name, low, high, step=self.q))
        return trial.suggest_float(self.name, low, high, log=self.kind == "log_uniform")

    def value(self, sample: Any, other: Any = None) -> Any:
        """The value at `path` for a sample; `other` is the value at `of`."""
        if self.is_alternative(sample):
            return sample
        if self.complement:
            return 1 - sample
        if self.of is None:
            return sample
        return round(sample * other) if is_integer(self.path) else sample * other

    def sample(self, value: Any, other: Any = None) -> Any:
        """The sample that gives a value, in or out of range; the inverse of `value`. None where there is none."""
        if not _is_number(value) or self.is_alternative(value):
            return value
        # Twelve digits: 1 - 0.9995 is meant to be 0.0005, not 0.000500000000000056.
        if self.complement:
            return float(f"{1 - value:.12g}")
        if self.of is not None:
            return float(f"{value / other:.12g}") if other else None
        return value

    def is_alternative(self, sample: Any) -> bool:
        """Whether a sample is the value of `or`."""
        return bool(self.alternative) and any(same(sample, value) for value in self.alternative)

    def takes(self, value: Any) -> bool:
        """Whether a value that need not be a number is one of the choices, or the value of `or`."""
        return any(same(value, choice) for choice in (*self.choices, *self.alternative))

    def nearest(self, sample: Any) -> Any:
        """The allowed sample that is nearest to a given one; ABSENT where there is none."""
        if self.is_alternative(sample):
            return sample
        if self.kind in ("choice", "value"):
            return _nearest_choice(sample, self.choices)
        if not _is_number(sample) or self.low is None or self.high is None:
            return ABSENT
        inside = min(max(sample, self.low), self.high)
        found = self._on_step(inside) if self.q else round(inside) if self.whole else inside
        others = [value for value in self.alternative if _is_number(value)]
        return min([found, *others], key=lambda each: abs(each - sample))

    def middle(self) -> Any:
        """The middle of the range (geometric for a log range), for where nothing better is known."""
        if self.kind in ("choice", "value"):
            return self.choices[0]
        low, high = self.ends
        centre = (low * high) ** 0.5 if self.log else (low + high) / 2
        return self._on_step(centre) if self.q else round(centre) if self.whole else centre

    def from_unit(self, u: float) -> Any:
        """The sample at coordinate `u` in [0, 1]; equal lengths of the coordinate for choices and whole numbers."""
        if not self.alternative:
            return self.in_range(u)
        range_share = 1 - self.share
        if self._alternative_below:
            return self.alternative[0] if u < self.share else self.in_range((u - self.share) / range_share)
        return self.alternative[0] if u > range_share else self.in_range(u / range_share)

    def to_unit(self, sample: Any) -> float:
        """The coordinate of a sample, the inverse of `from_unit`; for a choice, the middle of its length."""
        if self.kind == "choice":
            return (self.choices.index(sample) + 0.5) / len(self.choices)
        if not self.alternative:
            return self._place(sample)
        below, range_share = self._alternative_below, 1 - self.share
        if self.is_alternative(sample):
            return self.share / 2 if below else 1 - self.share / 2
        return self._place(sample) * range_share + (self.share if below else 0.0)

    def words(self) -> str:
        """The range or the choices as text: `0.001..0.01`."""
        if self.kind in ("choice", "value"):
            return ", ".join(map(show, self.choices))
        text = f"{show(self.low)}..{show(self.high)}"
        if self.kind in NORMALS:
            text = f"{self.kind} {show(self.mean)} +- {show(self.sd)} within {text}"
        text += f" in steps of {show(self.q)}" if self.q is not None else ""
        return text + "".join(f", or {show(value)}" for value in self.alternative)

    @property
    def _alternative_below(self) -> bool:
        """Whether the value of `or` lies below the range: 0 does, and null, which stands for no limit, does not."""
        value = self.alternative[0]
        return _is_number(value) and value < self.ends[0]

    def in_range(self, u: float) -> Any:
        """The sample at coordinate `u` of the range itself, without the value of `or`."""
        if self.kind == "choice":
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        if self.kind in NORMALS:
            return self._tidy(self._quantile(u))
        low, high = self._wide_ends()
        value = math.exp(low + u * (high - low)) if self.log else low + u * (high - low)
        inside = min(max(value, self.ends[0]), self.ends[1])
        if self.q is None and self.native:
            return round(inside) if self.whole else inside
        return self._tidy(inside)

    def _place(self, sample: float) -> float:
        if self.kind in NORMALS:
            return self._probability(float(sample))
        low, high = self._wide_ends()
        value = math.log(sample) if self.log else float(sample)
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def _wide_ends(self) -> tuple[float, float]:
        """The ends on the dimension's own axis, with half a step more where there are steps, so that all are as
        likely."""
        half = self.q / 2 if self.q is not None else 0.5 if self.kind in ("int", "log_int") else 0.0
        low, high = self.ends[0] - half, self.ends[1] + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def _tidy(self, sample: float) -> Any:
        """The sample on its step, or with twelve digits, so that a coordinate and its sample agree exactly."""
        if self.q is not None:
            return self._on_step(sample)
        return round(sample) if self.whole else min(max(float(f"{sample:.12g}"), self.ends[0]), self.ends[1])

    def _on_step(self, sample: float) -> Any:
        """The nearest value on a step: counted from the low end, or from 0 in a normal distribution."""
        step, (low, high) = self.q or 1.0, self.ends
        start = 0.0 if self.kind in NORMALS else low
        least, most = math.ceil((low - start) / step - 1e-9), math.floor((high - start) / step + 1e-9)
        value = start + min(max(round((sample - start) / step), least), most) * step
        return round(value) if self.whole else float(f"{value:.12g}")

    @property
    def step_count(self) -> int | None:
        """How many samples a range with steps or of whole numbers has; None for other dimensions."""
        if not self.numeric or not (self.q or self.whole):
            return None
        first, last = map(self._on_step, self.ends)
        return round((last - first) / (self.q or 1)) + 1

    def steps(self) -> list[Any]:
        """Every sample of a range with steps or of whole numbers, in order."""
        first = self._on_step(self.ends[0])
        return [self._on_step(first + k * (self.q or 1)) for k in range(self.step_count or 0)]

    def _quantile(self, u: float) -> float:
        normal = NormalDist(self.mean or 0.0, self.sd or 1.0)
        low, high = map(self._along, self.ends)
        least, most = normal.cdf(low), normal.cdf(high)
        place = min(max(least + u * (most - least), _EDGE), 1 - _EDGE)
        along = min(max(normal.inv_cdf(place), low), high)
        return min(max(math.exp(along) if self.log else along, self.ends[0]), self.ends[1])

    def _probability(self, sample: float) -> float:
        normal = NormalDist(self.mean or 0.0, self.sd or 1.0)
        least, most = (normal.cdf(self._along(end)) for end in self.ends)
        return min(max((normal.cdf(self._along(sample)) - least) / (most - least), 0.0), 1.0)

    def _along(self, value: float) -> float:
        return math.log(value) if self.log else value


def _nearest_choice(sample: Any, choices: tuple[Any, ...]) -> Any:
    if any(same(sample, choice) for choice in choices):
        return sample
    numbers = [choice for choice in choices if _is_number(choice)]
    if not numbers or not _is_number(sample):
        return ABSENT
    return min(numbers, key=lambda choice: abs(choice - sample))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
