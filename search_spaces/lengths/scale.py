"""A run made shorter or longer: every length in batches is multiplied by the scale, and nothing else changes.

    batches, horizon, warm-up, period, SWA start and steps    x scale
    batches per epoch    x sqrt(scale): fewer evaluations, and fewer batches between two of them
    EMA decay d    1 - d' = min((1 - d) / scale, 0.5): its window is the same fraction of the run

Milestones, drops and the place of a peak are fractions of the horizon already. Rates, eps, noise and masks are no
lengths. So at each share of its batches the scaled run has the learning rate that the whole one has there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search_spaces.config import RunConfig, flatten
from search_spaces.dimensions.dimension import Dimension
from search_spaces.errors import InputError
from search_spaces.parsing.sections import nested
from search_spaces.wording import not_allowed, show

COUNTS: Mapping[str, tuple[float, int]] = {
    "training.batches": (1.0, 1),
    "training.batches_per_epoch": (0.5, 1),
    "schedule.horizon": (1.0, 1),
    "schedule.warmup_batches": (1.0, 0),
    "schedule.period_batches": (1.0, 1),
    "averaging.start_batch": (1.0, 0),
    "averaging.every_batches": (1.0, 1),
}
"""Path of a number of batches -> (exponent of the scale in its factor, least value)."""
DECAYS = ("averaging.decay", "averaging.decays")
"""Paths of a fraction of an average that is kept at each batch, or of a list of them."""
MOST = 100.0
"""Largest scale."""
FEWEST = 2
"""Least number of lengths of a ladder."""
LARGEST = 0.5
"""Largest 1 - decay of a shortened average: with more it would be the last weights, hardly averaged."""


def check_scale(scale: float, most: float = MOST) -> None:
    """Raises InputError for a scale that is not above 0 and at most `most`."""
    if not 0 < scale <= most:
        raise InputError(f"scale: {scale:g} is not allowed; give a number above 0 and at most {most:g}")


def factor(path: str, scale: float) -> float:
    """What a number of batches at `path` is multiplied by; 1 for what is none."""
    return float(scale ** COUNTS[path][0]) if path in COUNTS else 1.0


def scaled_value(path: str, value: Any, scale: float) -> Any:
    """The value at a path of the scaled run; a list is scaled one by one, null and what is no length stay."""
    if isinstance(value, list | tuple):
        items = [scaled_value(path, each, scale) for each in value]
        if path == "averaging.decays" and not any(isinstance(each, list | tuple) for each in items):
            items = list(dict.fromkeys(items))  # in a short run several become 1 - LARGEST
        return type(value)(items)
    if scale == 1 or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if path in DECAYS:
        return scaled_decay(value, scale)
    if path in COUNTS:
        return max(COUNTS[path][1], round(value * factor(path, scale)))
    return value


def scaled_decay(decay: float, scale: float) -> float:
    """A decay whose window is the same fraction of the scaled run; at most `LARGEST` is forgotten at each batch."""
    # Rounded: without it, 0.999 would become 0.98000000000000001776.
    shorter = round(1 - min((1 - decay) / scale, LARGEST), 12)
    return min(decay, shorter) if scale < 1 else min(shorter, 1 - 1e-12)


def scaled_run(config: RunConfig, scale: float) -> RunConfig:
    """The run, `scale` times as long. Raises InputError for a scale that is not above 0 and at most `MOST`."""
    check_scale(scale)
    flat = {path: scaled_value(path, value, scale) for path, value in flatten(config).items()}
    batches = flat["training.batches"]
    # Rounding must not leave a run that ends within its warm-up, or before its average begins.
    for path, end in (
        ("schedule.warmup_batches", flat["schedule.horizon"] or batches),
        ("averaging.start_batch", batches),
    ):
        if path in flat:
            flat[path] = min(flat[path], end - 1)
    return RunConfig.model_validate(nested(flat))


def scaled_lengths(config: RunConfig, scale: float) -> dict[str, Any]:
    """Path -> value of the scaled run, for the settings that differ."""
    before, after = flatten(config), flatten(scaled_run(config, scale))
    return {path: value for path, value in after.items() if value != before[path]}


def epochs_factor(scale: float) -> float:
    """What a number of epochs is multiplied by, so that it is the same fraction of the run."""
    return math.sqrt(scale)


def problem_of_lengths(lengths: Sequence[float]) -> str | None:
    """Why these are no lengths, in the words of an error line, or None."""
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in lengths)
    if not numbers or not all(0 < each <= MOST for each in lengths):
        return not_allowed(show(list(lengths)), f"multiples of the run's length, above 0 and at most {MOST:g}")
    if len(lengths) < FEWEST or list(lengths) != sorted(set(lengths)):
        return not_allowed(show(list(lengths)), "two or more, rising, such as [0.25, 0.5, 1, 2]")
    return None


def clash_with_lengths(dimensions: Iterable[Dimension]) -> str | None:
    """Why a search over these dimensions cannot have several lengths too, in the words of an error line, or None."""
    for dimension in dimensions:
        if dimension.path in ("training.batches", "schedule.horizon"):
            return f"{dimension.path} is a dimension, which gives runs several lengths already; keep one of the two"
    return None
