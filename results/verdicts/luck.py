"""Whether one configuration is better than another by more than luck: how far a PER depends on the seed.

A lead counts where it is larger than the margin: a quantile (1.96; Student's t where few repeats measure the spread)
times the standard error of the difference of the two means, sqrt(s1^2 / n1 + s2^2 / n2). The seed s.d. s of a PER is

1. *measured* where the results folder has `LEAST_DEGREES` degrees of freedom or more of repeats (one configuration with
   several seeds) on the same data at like PER: a mean within a factor `LIKE` of the PER in question;
2. else *from the model*: `sampled` (which gives the published 0.0013 of 10 seeds of the '24 GRU, 24,700 phonemes at
   0.2046) and 4.0 times how restless the run's own curve is (`restlessness`); larger where all repeats of the folder
   together say that the model is too small (`Luck.too_small`). The 4.0 is from the repeats of `benchmarks/seeds.py`
   (docs/benchmarks.md): with it the model is cautious on average over them, and too small for single ones.

All trials of a data set use the same validation sentences, so their sampling error is common to all and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from results.statistics import student_t

PUBLISHED_PHONEMES = 24_700
LEAST_DEGREES = 3
LIKE = 1.5
LEAST_SHARE = 0.5
"""A measured s.d. is never taken to be below this share of `sampled`: a few equal PERs are luck too."""
_SAMPLED = 0.51
_RESTLESS = 4.0
_SHORT = 0.0125
"""The restlessness of a curve too short to show it, as a share of its PER: with it the s.d. is 5% of the PER."""
_PRIOR = 4
"""Degrees of freedom that the model counts for when repeats are compared with it."""


@dataclass(frozen=True)
class Spread:
    """The s.d. of a PER over seeds; `degrees` of freedom where repeats measured it, None for the model."""

    sd: float
    degrees: int | None
    source: str
    """`measured on ...` or `from the model ...`."""


@dataclass(frozen=True)
class Lead:
    """By how much the first mean is lower than the second, and what luck explains; `source`: where the s.d. is from."""

    difference: float
    margin: float
    source: str

    @property
    def beyond(self) -> bool:
        """Whether the first is better by more than chance explains."""
        return self.difference > self.margin

    @property
    def tie(self) -> bool:
        """Whether luck explains the difference, in either direction."""
        return abs(self.difference) <= self.margin

    def __str__(self) -> str:
        word = "more" if not self.tie else "not more"
        return f"{self.difference:+.4f}, {word} than chance explains ({self.margin:.4f}; {self.source})"


@dataclass(frozen=True)
class Repeats:
    """One configuration on one data set with several seeds: a PER for each, and its curve's `restlessness`."""

    data: str
    phonemes: int | None
    pers: tuple[float, ...]
    restless: float | None = None

    @property
    def mean(self) -> float:
        """The mean PER."""
        return fmean(self.pers)

    @property
    def squares(self) -> float:
        """Sum of the squared distances from the mean; it has `len(pers) - 1` degrees of freedom."""
        return sum((per - self.mean) ** 2 for per in self.pers)


def lead(first: Sequence[float], second: Sequence[float] | float, spreads: Sequence[Spread]) -> Lead:
    """Whether `first` (a PER for each seed) is lower than `second` by more than luck.

    `second` is a PER for each seed too, or one number that is known exactly, such as a goal. `spreads` has the seed
    s.d. of the first and of the second; one stands for both.
    """
    mine, other = spreads[0], spreads[-1]
    variance = mine.sd**2 / len(first)
    if isinstance(second, int | float):
        value, used = float(second), [mine]
    else:
        value, used = fmean(second), [mine, other]
        variance += other.sd**2 / len(second)
    degrees = min((spread.degrees for spread in used if spread.degrees is not None), default=None)
    factor = 1.96 if degrees is None else student_t(0.975, degrees)
    return Lead(value - fmean(first), factor * math.sqrt(variance), _source(used))


def _source(spreads: Sequence[Spread]) -> str:
    """The s.d. of one or two PERs, and where they are from."""
    sds = list(dict.fromkeys(f"{spread.sd:.4f}" for spread in spreads))
    texts = list(dict.fromkeys(spread.source for spread in spreads))
    if len(texts) == 2:
        parts = [f"{spread.sd:.4f}, {spread.source}" for spread in spreads]
        text = f"seed s.d. {parts[0]}; of the other {parts[1]}"
    else:
        text = f"seed s.d. {' and '.join(sds)}, {texts[0]}"
    return text + ("" if all(spread.degrees for spread in spreads) else "; 'tuner confirm' measures it")


def sampled(per: float, phonemes: int | None) -> float:
    """The part of the model's s.d. that a longer validation set makes smaller, for a PER on so many phonemes."""
    p = min(max(per, 0.01), 0.99)
    return _SAMPLED * math.sqrt(p * (1 - p) / (phonemes or PUBLISHED_PHONEMES))


def model(per: float, phonemes: int | None, restless: float | None = None) -> float:
    """The seed s.d. of a PER where no repeats measure it."""
    return math.hypot(sampled(per, phonemes), _RESTLESS * (restless or 0.0))


def restlessness(pers: Sequence[float | None]) -> float | None:
    """How restless the end of a curve is: the s.d. of an evaluation around the line through its neighbours.

    It is taken over the last half of the evaluations, whose PERs are `pers`. Where that has fewer than four, a share of
    the lowest PER stands for it; None where there is no PER at all.
    """
    end = [per for per in pers[len(pers) // 2 :] if per is not None]
    if len(end) < 4:
        return _SHORT * min(per for per in pers if per is not None) if any(pers) else None
    bends = [a - 2 * b + c for a, b, c in zip(end, end[1:], end[2:], strict=False)]
    return math.sqrt(fmean(bend**2 for bend in bends) / 6)


class Luck:
    """The seed s.d. of any PER on some data set, from the repeats of a results folder and the model."""

    def __init__(self, repeats: Iterable[Repeats] = ()) -> None:
        self.repeats = [each for each in repeats if len(each.pers) > 1]

    @cached_property
    def too_small(self) -> float:
        """How many times too small all the repeats together say that the model is; 1 where they do not.

        The model counts as `_PRIOR` degrees of freedom, so that one odd pair does not decide.
        """
        degrees = sum(len(each.pers) - 1 for each in self.repeats)
        squares = sum(each.squares / model(each.mean, each.phonemes, each.restless) ** 2 for each in self.repeats)
        return max(1.0, math.sqrt((_PRIOR + squares) / (_PRIOR + degrees)))

    def spread(
        self, per: float, data: str | None, phonemes: int | None = None, restless: float | None = None
    ) -> Spread:
        """The seed s.d. of a PER on the data set with the fingerprint `data`, with so many validation phonemes.

        `restless` is that of the run's curve, None where it is not known.
        """
        like = [each for each in self.repeats if each.data == data and per / LIKE <= each.mean <= per * LIKE]
        degrees = sum(len(each.pers) - 1 for each in like)
        if degrees >= LEAST_DEGREES:
            sd = math.sqrt(sum(each.squares for each in like) / degrees)
            low, high = (f"{end(each.mean for each in like):.2f}" for end in (min, max))
            where = f"PER {low}" if low == high else f"PER {low} to {high}"
            many = f"{len(like)} configuration{'s' * (len(like) > 1)} with several seeds"
            source = f"measured on this data: {many} at {where}, {degrees} degrees of freedom"
            return Spread(max(sd, LEAST_SHARE * sampled(per, phonemes)), degrees, source)
        return self.modelled(per, phonemes, restless)

    def modelled(self, per: float, phonemes: int | None = None, restless: float | None = None) -> Spread:
        """The seed s.d. that the model gives, made larger where the repeats say so."""
        source = f"from the model for {phonemes or PUBLISHED_PHONEMES:,} phonemes"
        if self.too_small > 1.05:
            source += f", times {self.too_small:.1f} because of the repeats that there are"
        return Spread(self.too_small * model(per, phonemes, restless), None, source)
