"""A narrower space around the best trials of a study.

The trials are ranked by `importance.scored`: by the fraction of the others that are better at the last epoch that both
reached, so that a stopped trial is not ranked by its length. The best of them, the top, decide:

A range (on its own axis: logarithmic, relative or 1 - value, as it is sampled) becomes the span of the top's values,
each end moved out by one mean gap between them: the unbiased estimate of the interval of uniform values, so that a
setting without effect keeps about its range. With `MANY` values or more the span is that from the
5% to the 95% quantile. It never becomes narrower than `LEAST_WIDTH` of what it was.

A choice is dropped if it does not occur in the top although it was tried often: the hypergeometric probability of this
by chance is below `DOUBT`, divided by the number of choices that are tested (Bonferroni). Dimensions that exist only
under a dropped choice are dropped too.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from results.trials import read_log
from search_spaces import InputError, Space, flatten, load_run, load_space
from search_spaces.common import atomic
from search_spaces.dimensions.dimension import Dimension
from search_spaces.parsing.fields import refusal
from search_spaces.parsing.sections import merge, nested, same, value_at
from search_spaces.wording import show
from search_spaces.writing import dimensions_text, flow, refuse_existing, write_text
from tuner.analysis.importance import scored
from tuner.study.settings import StudySettings

LEAST_TRIALS = 12
"""Least number of ranked trials."""
LEAST_VALUES = 4
"""Least number of values in the top that narrow a range."""
MANY = 20
LEAST_WIDTH = 0.15
DOUBT = 0.05

Sample = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """The change of a dimension: `new` is None where it is dropped, `why` is one line.

    `tried` trials had it, `in_top` of them in the top.
    """

    old: Dimension
    new: Dimension | None
    why: str
    tried: int
    in_top: int


def narrow(results_dir: Path, study: str, keep: float = 0.25) -> tuple[Space, list[Change], Sample]:
    """The study's space, the change of each of its dimensions, and the samples of the best trial.

    `keep` is the share of the ranked trials that is the top, `LEAST_VALUES` trials or more. Raises `InputError` for a
    study without a space, or with too few trials.
    """
    space, samples, score = scored(results_dir, study)
    if len(samples) < LEAST_TRIALS:
        raise InputError(f"{study}: has {len(samples)} trials with a result; {LEAST_TRIALS} or more are needed")
    order = np.argsort(score, kind="stable")
    size = max(LEAST_VALUES, math.ceil(keep * len(samples)))
    top = [samples[index] for index in order[:size]]
    tests = sum(
        len(d.choices) for d in space.dimensions if d.kind == "choice" and sum(d.name in s for s in top) >= LEAST_VALUES
    )
    changes = [_change(space, d, samples, top, DOUBT / max(1, tests)) for d in space.dimensions]
    return space, _without_unreachable(space, changes), top[0]


def _change(
    space: Space, dimension: Dimension, samples: Sequence[Sample], top: Sequence[Sample], doubt: float
) -> Change:
    name = dimension.name
    everywhere = [sample[name] for sample in samples if name in sample]
    best = [sample[name] for sample in top if name in sample]
    counts = len(everywhere), len(best)
    if not dimension.sampled:
        return Change(dimension, dimension, "a fixed value", *counts)
    if len(best) < LEAST_VALUES:
        return Change(dimension, dimension, f"only {len(best)} of the top {len(top)} had it", *counts)
    if dimension.kind == "choice":
        return Change(dimension, *_narrow_choice(dimension, everywhere, best, doubt), *counts)
    if any(dimension.path in other.when for other in space.dimensions):
        return Change(dimension, dimension, "other dimensions depend on its values", *counts)
    if dimension.alternative:
        return Change(dimension, *_narrow_either(dimension, everywhere, best, doubt), *counts)
    return Change(dimension, *_narrow_range(dimension, best), *counts)


def _narrow_either(
    dimension: Dimension, everywhere: Sequence[Any], best: Sequence[Any], doubt: float
) -> tuple[Dimension, str]:
    """Of a range with `or`: what the top does not have is dropped, and the range becomes narrower."""
    other = show(dimension.alternative[0])
    inside = [value for value in best if not dimension.is_alternative(value)]
    tried = sum(dimension.is_alternative(value) for value in everywhere)
    if not inside:
        chance = _never_drawn(len(everywhere), len(everywhere) - tried, len(best))
        if chance >= doubt:
            return dimension, f"the top has only {other}, but its range was tried too rarely to drop"
        return _only(dimension), f"dropped its range ({len(everywhere) - tried} trials, none in the top)"
    new, why = dimension, ""
    if len(inside) == len(best) and (chance := _never_drawn(len(everywhere), tried, len(best))) < doubt:
        new, why = replace(dimension, alternative=()), f"dropped {other} ({tried} trials, none in the top); "
    if len(inside) < LEAST_VALUES:
        return new, f"{why}only {len(inside)} of the top have a number from its range"
    narrowed, reason = _narrow_range(new, inside)
    return narrowed, why + reason


def _only(dimension: Dimension) -> Dimension:
    """The dimension with the value of `or` alone."""
    values = {"kind": "value", "choices": dimension.alternative, "alternative": ()}
    return replace(dimension, **values, **dict.fromkeys(("low", "high", "q", "mean", "sd")))  # type: ignore[arg-type]


def _narrow_choice(
    dimension: Dimension, everywhere: Sequence[Any], best: Sequence[Any], doubt: float
) -> tuple[Dimension, str]:
    kept, dropped, spared = [], [], []
    for choice in dimension.choices:
        tried = sum(same(value, choice) for value in everywhere)
        made_it = sum(same(value, choice) for value in best)
        if made_it:
            kept.append(choice)
        elif (chance := _never_drawn(len(everywhere), tried, len(best))) < doubt:
            dropped.append(f"{show(choice)} ({tried} trials, none in the top, {chance:.1%} by chance)")
        else:
            kept.append(choice)
            spared.append(f"{show(choice)} ({tried} trials)")
    if dropped:
        kind = "choice" if len(kept) > 1 else "value"
        return replace(dimension, kind=kind, choices=tuple(kept)), f"dropped {', '.join(dropped)}"
    if spared:
        return dimension, f"not in the top, but tried too rarely to drop: {', '.join(spared)}"
    return dimension, "every choice occurs in the top"


def _never_drawn(total: int, marked: int, drawn: int) -> float:
    """The probability that `drawn` of `total`, drawn at random, have none of the `marked` among them."""
    if drawn > total - marked:
        return 0.0
    return math.comb(total - marked, drawn) / math.comb(total, drawn)


def _narrow_range(dimension: Dimension, best: Sequence[float]) -> tuple[Dimension, str]:
    assert dimension.low is not None and dimension.high is not None  # noqa: S101  every range has both
    log = dimension.log

    def along(value: float) -> float:
        return math.log(value) if log else float(value)

    places = sorted(along(value) for value in best)
    floor, ceiling = along(dimension.low), along(dimension.high)
    whole = ceiling - floor
    if len(places) >= MANY:
        low, high = (float(q) for q in np.quantile(places, (0.05, 0.95)))
    else:
        gap = (places[-1] - places[0]) / (len(places) - 1)
        low, high = places[0] - gap, places[-1] + gap
    low, high = _at_least(low, high, LEAST_WIDTH * whole)
    # The best trial stays inside, and the range does not grow beyond what was searched.
    low, high = max(floor, min(low, along(best[0]))), min(ceiling, max(high, along(best[0])))
    share = (high - low) / whole
    edge = _at_edge(dimension, places, floor, ceiling)
    if share > 0.9:
        return dimension, f"the top spans {share:.0%} of it{edge}"
    ends = math.exp(low) if log else low, math.exp(high) if log else high
    narrowed = _rounded(dimension, *ends)
    if (narrowed.low, narrowed.high) == (dimension.low, dimension.high):
        return dimension, f"the top spans {share:.0%} of it{edge}"
    return narrowed, f"to {share:.0%}: where the top's {len(best)} values lie{edge}"


def _at_least(low: float, high: float, width: float) -> tuple[float, float]:
    missing = max(0.0, width - (high - low)) / 2
    return low - missing, high + missing


def _at_edge(dimension: Dimension, places: Sequence[float], floor: float, ceiling: float) -> str:
    """A note where half of the top is in the outer tenth of the range and there are allowed values beyond it."""
    tenth = (ceiling - floor) / 10
    for name, count, beyond in (
        ("lower", sum(place <= floor + tenth for place in places), floor - tenth),
        ("upper", sum(place >= ceiling - tenth for place in places), ceiling + tenth),
    ):
        if 2 * count >= len(places) and _is_allowed(dimension, beyond):
            return f"; {count} of them at the {name} edge: consider searching beyond it"
    return ""


def _is_allowed(dimension: Dimension, place: float) -> bool:
    sample = math.exp(place) if dimension.log else place
    if dimension.of is not None:
        return sample > 0
    return refusal(dimension.path, dimension.value(round(sample) if dimension.whole else sample)) is None


def _rounded(dimension: Dimension, low: float, high: float) -> Dimension:
    """The dimension with these ends, rounded outwards: to its steps, to whole numbers, or to three digits."""
    assert dimension.low is not None and dimension.high is not None  # noqa: S101
    if dimension.q is not None:
        start, step = 0.0 if dimension.mean is not None else dimension.low, dimension.q
        first, last = math.floor((low - start) / step + 1e-9), math.ceil((high - start) / step - 1e-9)
        if first == last:
            first, last = (first, last + 1) if start + last * step < dimension.high else (first - 1, last)
        low, high = (float(f"{start + k * step:.12g}") for k in (first, last))
        low, high = (round(low), round(high)) if dimension.kind in ("int", "log_int") else (low, high)
    elif dimension.whole:
        low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
        if low == high:
            low, high = (low, high + 1) if high < dimension.high else (low - 1, high)
    else:
        low, high = _outwards(low, math.floor), _outwards(high, math.ceil)
    return replace(dimension, low=max(low, dimension.low), high=min(high, dimension.high))


def _outwards(value: float, round_to: Any) -> float:
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{round_to(value / step) * step:.12g}")


def _without_unreachable(space: Space, changes: Sequence[Change]) -> list[Change]:
    """Remove conditions on dropped choices, and dimensions that exist under no other condition."""
    gone = {
        (change.old.path, repr(choice)): choice
        for change in changes
        if change.new is not None and change.old.kind == "choice"
        for choice in change.old.choices
        if not any(same(choice, kept) for kept in change.new.choices)
    }
    base = merge(space.config_base, nested(space.fixed))
    for path, choice in [(path, choice) for (path, _), choice in gone.items()]:
        others = [c.new for c in changes if c.new is not None and c.old.path == path]
        offered = any(same(choice, value) for d in others for value in d.choices)
        if offered or (all(d.when for d in others) and same(value_at(base, path), choice)):
            del gone[path, repr(choice)]
    found = []
    for change in changes:
        new = change.new
        if new is not None:
            when = {p: tuple(v for v in values if (p, repr(v)) not in gone) for p, values in new.when.items()}
            if not all(when.values()):
                lost = next(p for p, values in when.items() if not values)
                change = replace(change, new=None, why=f"{lost} no longer has the value {_either(new.when[lost])}")
            elif when != new.when:
                change = replace(change, new=replace(new, when=when))
        found.append(change)
    return found


def _either(values: Sequence[Any]) -> str:
    return " or ".join(map(show, values))


def write_space(
    results_dir: Path, study: str, out: Path, keep: float, force: bool = False
) -> tuple[Space, list[Change], list[Path]]:
    """Write the narrowed space as a file that `load_space` takes; returns it, the changes and the files written.

    Its start point is the study's best trial. A base run whose file no longer exists is written beside `out`. Raises
    `InputError` as `narrow` does, and for an `out` that exists or cannot be written.
    """
    if atomic.is_stream(out):  # nothing can be read back from there, or written beside it
        with tempfile.TemporaryDirectory() as folder:
            space, changes, (made, *_) = write_space(results_dir, study, Path(folder) / f"{study}-narrow.yaml", keep)
            atomic.write(out, made.read_bytes(), advice="choose another --out")
        return space, changes, [out]
    refuse_existing(out, force)
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"{out}: the ending {out.suffix!r} is not allowed; give .yaml")
    space, changes, best = narrow(results_dir, study, keep)
    settings = StudySettings.read(read_log(results_dir / study)[0])
    written = []
    base, missing = _base(space, out)
    if missing is not None:
        refuse_existing(missing, force)
        write_text(missing, _base_text(space), force=force)
        written.append(missing)
    text = _space_text(space, settings, changes, keep, base, best)
    # Read back under another name first, so that an invalid space is never written to `out`.
    trial = out.with_name(f".{out.stem}.check.yaml")
    try:
        write_text(trial, text, force=True)
        try:
            load_space(trial)
        except InputError as error:
            raise InputError(
                line.replace(str(trial), f"the space narrowed from {study}") for line in error.problems
            ) from None
        write_text(out, text, force=force)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    finally:
        trial.unlink(missing_ok=True)
    return load_space(out), changes, [out, *written]


def _base(space: Space, out: Path) -> tuple[str, Path | None]:
    """The `base` of the new file, and the run file to write for it (None where the base exists)."""
    sibling = Path(space.path).parent / space.base
    for name in (space.base, str(sibling.resolve())):
        try:
            if load_run(name).settings == space.config_base:
                return name, None
        except InputError:
            continue
    path = out.with_name(f"{out.stem}_base.yaml")
    return path.name, path


def _base_text(space: Space) -> str:
    lines = [f"purpose: {flow(f'Base run of the space {space.name}, as its study had it.')}"]
    lines += [f"{section}: {flow(values)}" for section, values in space.config_base.items()]
    return "\n".join(lines) + "\n"


def _space_text(
    space: Space, settings: StudySettings, changes: Sequence[Change], keep: float, base: str, best: Sample
) -> str:
    study = settings.study
    kept = [change.new for change in changes if change.new is not None]
    remarks = {
        change.new.name: f"was {change.old.words()}"
        for change in changes
        if change.new is not None and change.new.words() != change.old.words()
    }
    lines = [
        f"purpose: {flow(f'Narrowed from {space.name} by the best {keep:.0%} of the trials of {study}.')}",
        f"base: {flow(base)}",
    ]
    if space.fixed:
        lines += ["fixed:", *(f"  {path}: {flow(value)}" for path, value in space.fixed.items())]
    lines += ["dimensions:", dimensions_text(kept, remarks).rstrip("\n")]
    if space.constraints:
        lines += ["constraints:", *(f"  - {flow(text)}" for text in space.constraints)]
    # The best trial again, with another seed: the search starts from it, and its result is checked.
    lines += ["start_points:", f"  - {flow(_start_point(space, base, best))}"]
    lines.append(f"objective: {space.objective}")
    # Those of the study, which may differ from those of its space.
    had = {"searcher": settings.searcher, "stopping": settings.stopping, "budget": settings.budget}
    for name, values in had.items():
        lines.append(f"{name}: {flow({key: v for key, v in values.as_dict().items() if v is not None})}")
    return "\n".join(lines) + "\n"


def _start_point(space: Space, base: str, best: Sample) -> str:
    """The best trial, as the base run with its changed settings."""
    import shlex

    flat = flatten(space.config(best, 0))
    paths = dict.fromkeys([*space.fixed, *(d.path for d in space.dimensions)])
    values: Mapping[str, Any] = {path: flat[path] for path in paths if path in flat}
    return " ".join([shlex.quote(base), *(shlex.quote(f"{path}={flow(value)}") for path, value in values.items())])
