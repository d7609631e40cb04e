"""A learning-curve model that knows the schedule: it predicts the PER at the end of a run.

Two runs with the same PER at the same batch end with different PERs if one of them has annealed and the other has not:
the loss falls with the area under the learning rate, and again when the rate decreases (Tissue et al. 2024, 2408.11029;
Luo et al. 2025, 2503.12811). So the model learns *transitions*: how far log PER falls from a point of a curve to a
later one, given what is known at the first point (PER, validation loss, its slope, how far the rate has annealed) and
what the schedule does in between (batches, area under the rate, annealing). It learns from every pair of points of
every curve, finished or not; the end of a run is one more later point.

The model is a Gaussian process over those inputs (Rasmussen & Williams 2006, algorithm 2.1) with fixed length
scales in units of the inputs' own spread, and with a part that transitions of one curve share, since a run that falls
faster than similar ones keeps doing so. scikit-learn has no such part and no leave-one-curve-out, so the algebra is
here, on scipy. Its uncertainty is rescaled by how far it missed curves that it was not shown (all transitions of a
curve left out together; Dubrule 1983), weighted towards transitions like the one asked for; curves count there, not
points. Nothing is drawn at random, so the same curves give the same forecast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tuner.study.rules.history import Curve, History, Point

LENGTH = 2.0
"""Length scale, in standard deviations of the inputs."""
LINEAR, SHARED, NOISE = 0.1, 0.05, 0.05
"""Variances beside the smooth part's 1: a linear trend, what transitions of a curve share, and each one's own."""
MOST_TRANSITIONS = 400
"""The most transitions used; more are thinned, so that a forecast takes milliseconds."""
WHOLE_SHARE = 0.75
"""The least number of transitions from runs that reached their end, however many runs were stopped early."""
PRIOR_CURVES = 2.0
"""The weight, in curves, of the model's own uncertainty relative to the errors on curves left out."""
WAY = 0.7
"""Bandwidth, in the logarithm of the length, within which transitions tell the error of a forecast: a factor of two."""
FLOOR = 1e-4
"""PER and loss are floored here before the logarithm is taken."""
QUANTILES = 101


@dataclass(frozen=True)
class LearningCurve:
    """One run: arrays with an entry for each evaluated epoch, and the rest of its schedule."""

    trial: int
    batch: np.ndarray
    per: np.ndarray
    val_loss: np.ndarray
    """NaN where it was not recorded."""
    annealed: np.ndarray
    """How far the rate has decreased from its peak: 0 at the peak, 1 at zero."""
    integral: np.ndarray
    """The area under the rate so far."""
    end: int
    """Batches that the run is planned for."""
    end_annealed: float
    end_integral: float
    ended: bool = False
    """Whether there will be no more points."""

    @property
    def best(self) -> float:
        """The lowest PER so far."""
        return float(self.per.min())

    @property
    def whole(self) -> bool:
        """Whether the run reached its end."""
        return self.ended and bool(self.batch[-1] >= self.end)

    def inputs(self, i: int, j: int | None) -> list[float]:
        """The inputs of the model for the transition from point `i` to point `j`, or to the end (None)."""
        batch, integral = float(self.batch[i]), max(float(self.integral[i]), 1e-12)
        later = (self.end, self.end_integral, self.end_annealed)
        if j is not None:
            later = (self.batch[j], self.integral[j], self.annealed[j])
        per, loss = self._log_per(i), self._log_loss(i)
        slope = 0.0
        if i > 0:
            before = (i + 1) // 2 - 1 if i > 1 else 0
            slope = (loss - self._log_loss(before)) / max(math.log(batch / self.batch[before]), 0.3)
        return [
            per,
            loss,
            slope,
            math.log(max(later[0] / batch, 1.0)),
            math.log(max(later[1] / integral, 1.0)),
            float(self.annealed[i]),
            float(later[2]),
        ]

    def fall(self, i: int, j: int) -> float:
        """Log PER, the lowest of the points after `i` up to `j`, less log PER at `i`."""
        return math.log(max(float(self.per[i + 1 : j + 1].min()), FLOOR)) - self._log_per(i)

    def transitions(self) -> list[tuple[int, int]]:
        """The pairs of points to learn from: epochs 1, 2, 4, ... and, once the curve has ended, its last."""
        n = len(self.batch)
        points = [2**k - 1 for k in range(n.bit_length())]
        if self.ended and points and points[-1] != n - 1:
            points.append(n - 1)
        return [(i, j) for a, i in enumerate(points) for j in points[a + 1 :]]

    def _log_per(self, i: int) -> float:
        return math.log(max(float(self.per[i]), FLOOR))

    def _log_loss(self, i: int) -> float:
        loss = float(self.val_loss[i])
        return math.log(max(loss, FLOOR)) if math.isfinite(loss) else self._log_per(i)


_Transition = tuple[LearningCurve, int, int]
_REMAINING = 3
"""The input for the length of the transition: the part that a curve's transitions share grows with it."""


@dataclass(frozen=True)
class CurveForecast:
    """The lowest PER of a run at its end: log PER is Student's t around `middle`, and no worse than `reached`."""

    middle: float
    spread: float
    freedom: float
    reached: float
    """The lowest PER so far."""

    def per(self, share: float) -> float:
        """The PER below which the run ends with probability `share`."""
        from scipy.special import stdtrit

        value = math.exp(self.middle + self.spread * float(stdtrit(self.freedom, share)))
        return min(value, self.reached)

    def chance_below(self, per: np.ndarray) -> np.ndarray:
        """The probability of ending below each of `per`."""
        from scipy.special import stdtr

        inside = stdtr(self.freedom, (np.log(np.maximum(per, FLOOR)) - self.middle) / self.spread)
        return np.where(self.reached < per, 1.0, inside)


@dataclass(frozen=True)
class _Fit:
    """A Gaussian process conditioned on transitions, with what each curve's residuals were when it was left out."""

    inputs: np.ndarray
    curve: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    mean: float
    sd: float
    inverse: np.ndarray
    alpha: np.ndarray
    missed: np.ndarray
    """Squared standardised residual of each transition, its curve left out."""


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product = a @ b.T
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * product
    kernel: np.ndarray = np.exp(-0.5 / LENGTH**2 * np.maximum(squares, 0)) + LINEAR * (1 + product)
    return kernel


def _shared(a: np.ndarray, curve_a: np.ndarray, b: np.ndarray, curve_b: np.ndarray) -> np.ndarray:
    same: np.ndarray = curve_a[:, None] == curve_b[None]
    return SHARED * same * np.outer(a[:, _REMAINING], b[:, _REMAINING])


@lru_cache(maxsize=4)
def _fit(inputs_bytes: bytes, falls_bytes: bytes, curve_bytes: bytes, width: int) -> _Fit:
    """The process for these transitions. Cached, since many decisions in a row use the same ones."""
    raw = np.frombuffer(inputs_bytes).reshape(-1, width)
    falls, curve = np.frombuffer(falls_bytes), np.frombuffer(curve_bytes, dtype=np.int64)
    centre, scale = raw.mean(0), raw.std(0) + 1e-6
    mean, sd = float(falls.mean()), float(falls.std()) + 1e-6
    inputs, targets = (raw - centre) / scale, (falls - mean) / sd
    covariance = _kernel(inputs, inputs) + _shared(raw, curve, raw, curve) + NOISE * np.eye(len(raw))
    inverse = _inverse(covariance)
    alpha = inverse @ targets
    missed = np.empty(len(raw))
    for number in np.unique(curve):
        own = np.flatnonzero(curve == number)
        left_out = _inverse(inverse[np.ix_(own, own)])  # the covariance of its residuals
        missed[own] = (left_out @ alpha[own]) ** 2 / np.diag(left_out)
    return _Fit(raw, curve, centre, scale, mean, sd, inverse, alpha, missed)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a positive definite matrix."""
    from scipy.linalg import cho_factor, cho_solve

    result: np.ndarray = cho_solve(cho_factor(matrix, lower=True, check_finite=False), np.eye(len(matrix)))
    return result


def forecasts(curves: Sequence[LearningCurve], wanted: Sequence[int]) -> dict[int, CurveForecast]:
    """Forecasts of the `wanted` trials' lowest PER at their ends; empty if there is no transition to learn from.

    `curves` have at least one point each, all finite PERs.
    """
    pairs = [(curve, i, j) for curve in curves for i, j in curve.transitions()]
    asked = [curve for curve in curves if curve.trial in set(wanted)]
    if not pairs or not asked:
        return {}
    if len(pairs) > MOST_TRANSITIONS:
        whole, cut = [pair for pair in pairs if pair[0].whole], [pair for pair in pairs if not pair[0].whole]
        room = max(round(WHOLE_SHARE * MOST_TRANSITIONS), MOST_TRANSITIONS - len(cut))
        whole = _evenly(whole, room)
        pairs = whole + _evenly(cut, MOST_TRANSITIONS - len(whole))
    inputs = np.array([curve.inputs(i, j) for curve, i, j in pairs])
    falls = np.array([curve.fall(i, j) for curve, i, j in pairs])
    numbers = np.array([curve.trial for curve, _, _ in pairs], dtype=np.int64)
    fit = _fit(inputs.tobytes(), falls.tobytes(), numbers.tobytes(), inputs.shape[1])
    return _predict(fit, asked)


def _evenly(pairs: list[_Transition], most: int) -> list[_Transition]:
    if len(pairs) <= most:
        return pairs
    return [pairs[round(at)] for at in np.linspace(0, len(pairs) - 1, most)]


def _predict(fit: _Fit, asked: Sequence[LearningCurve]) -> dict[int, CurveForecast]:
    raw = np.array([curve.inputs(len(curve.batch) - 1, None) for curve in asked])
    trial = np.array([curve.trial for curve in asked], dtype=np.int64)
    query, known = (raw - fit.centre) / fit.scale, (fit.inputs - fit.centre) / fit.scale
    smooth = _kernel(query, known)
    cross = smooth + _shared(raw, trial, fit.inputs, fit.curve)
    prior = 1 + LINEAR * (1 + (query * query).sum(1)) + SHARED * raw[:, _REMAINING] ** 2 + NOISE
    variance = np.maximum(prior - ((cross @ fit.inverse) * cross).sum(1), NOISE)
    middle = fit.mean + fit.sd * (cross @ fit.alpha)
    squares = ((query[:, None] - known[None]) ** 2).sum(2)
    ways = (raw[:, None, _REMAINING] - fit.inputs[None, :, _REMAINING]) / WAY
    near = np.exp(-0.5 * (squares / LENGTH**2 + ways**2))
    _, own, counts = np.unique(fit.curve, return_inverse=True, return_counts=True)
    near /= counts[own]  # so that every curve counts once, whatever its number of transitions
    weight = near.sum(1)
    stretch = (near @ fit.missed + PRIOR_CURVES) / (weight + PRIOR_CURVES)
    return {
        curve.trial: CurveForecast(
            middle=float(middle[n]) + math.log(max(float(curve.per[-1]), FLOOR)),
            spread=fit.sd * math.sqrt(float(variance[n] * stretch[n])),
            freedom=PRIOR_CURVES + 1 + float(weight[n]),
            reached=curve.best,
        )
        for n, curve in enumerate(asked)
    }


def chance_of_top(k: int, own: CurveForecast, reached: Sequence[float], rivals: Sequence[CurveForecast]) -> float:
    """The probability that fewer than `k` others end below this run.

    `reached` are the PERs of trials that have ended; `rivals` the forecasts of those that run. The others are taken as
    independent of each other, and their number below a PER as Poisson-binomial.
    """
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    ends = np.array([own.per(share) for share in shares])
    ahead = np.zeros((k + 1, QUANTILES))  # ahead[n]: probability that n are ahead; the last row is k or more
    fixed = (np.array(sorted(reached))[:, None] < ends).sum(0) if reached else np.zeros(QUANTILES, dtype=int)
    ahead[np.minimum(fixed, k), np.arange(QUANTILES)] = 1
    for rival in rivals:
        below = rival.chance_below(ends)
        moved = ahead[:-1] * below
        ahead[:-1] -= moved
        ahead[1:] += moved
    return float(ahead[:-1].sum(0).mean())


@dataclass(frozen=True)
class Outlook:
    """The model's forecast for a running trial."""

    chance: float
    """The chance to end among the best `top` of the study."""
    top: int
    own: CurveForecast
    end: int
    """Batches at its end."""
    mark: float
    """The PER of the `top`-th best of the others: reached, or the median of its forecast."""

    def __str__(self) -> str:
        aim = "becoming the best" if self.top == 1 else f"entering the top {self.top}"
        low, middle, high = (self.own.per(share) for share in (0.1, 0.5, 0.9))
        return (
            f"chance {self.chance:.1%} of {aim}: predicted PER {middle:.3f} [{low:.3f}, {high:.3f}] "
            f"at batch {self.end}, {_ordinal(self.top)} {self.mark:.3f}"
        )


def _ordinal(n: int) -> str:
    """best, second best, third best, 4th best, ..."""
    words = ("", "second ", "third ")
    if n <= len(words):
        return f"{words[n - 1]}best"
    ending = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending} best"


def outlook(history: History, curve: Curve, point: Point, top: int) -> Outlook | None:
    """The chance that `curve` ends among the best `top`, after `point`, which is not in the history yet.

    None where it is unknown: the point has no PER, there is nothing to learn from, or there are fewer than `top`
    others.
    """
    if not _usable(point):
        return None
    own = _learning_curve(curve, [*curve.points, point])
    others = [known for other in history.curves.values() if other is not curve and (known := _known(history, other))]
    if own is None or len(others) < top:
        return None
    running = [other.trial for other in others if not other.ended]
    told = forecasts([*others, own], [curve.trial, *running])
    if not told:
        return None
    reached = [other.best for other in others if other.ended]
    rivals = [told[trial] for trial in running]
    return Outlook(
        chance=chance_of_top(top, told[curve.trial], reached, rivals),
        top=top,
        own=told[curve.trial],
        end=curve.grid.batches,
        mark=sorted([*reached, *(rival.per(0.5) for rival in rivals)])[top - 1],
    )


def _usable(point: Point) -> bool:
    return point.per is not None and math.isfinite(point.per)


def _known(history: History, curve: Curve) -> LearningCurve | None:
    """The recorded part of a curve; made again only when there is more of it."""
    key, state = ("extrapolation", curve.trial), (curve.epoch, curve.ended)
    held = history.memo.get(key)
    if held is None or held[0] != state:
        held = (state, _learning_curve(curve, curve.points))
        history.memo[key] = held
    known: LearningCurve | None = held[1]
    return known


def _learning_curve(curve: Curve, points: Sequence[Point]) -> LearningCurve | None:
    """A curve in the form that the model needs, without epochs whose PER is NaN; None if no epoch is left."""
    kept = [point for point in points if _usable(point)]
    if not kept:
        return None
    batch = np.array([point.batch for point in kept], dtype=float)
    losses = [math.nan if point.val_loss is None else point.val_loss for point in kept]
    annealed, integral = _schedule(curve, np.append(batch, curve.grid.batches))
    return LearningCurve(
        trial=curve.trial,
        batch=batch,
        per=np.array([point.per for point in kept], dtype=float),
        val_loss=np.array(losses, dtype=float),
        annealed=annealed[:-1],
        integral=integral[:-1],
        end=curve.grid.batches,
        end_annealed=float(annealed[-1]),
        end_integral=float(integral[-1]),
        ended=curve.ended,
    )


def _schedule(curve: Curve, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(annealed, area under the rate) at each batch; where no rate is known, the area is in batches at a rate of 1."""
    annealed = np.array([curve.annealed(at) for at in batch])
    return annealed, batch if curve.rates() is None else np.array([curve.rate_integral(at) for at in batch])
