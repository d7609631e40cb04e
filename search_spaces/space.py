"""A search space: which settings vary, how, and under which conditions.

A space is used define-by-run: `suggest` calls the `suggest_*` methods of an Optuna trial (or of any object that has
them) for the active dimensions, in an order in which every condition is known. A condition tests the value that the
configuration has: where the dimension of a path is not active, this is the value of the base run, of `fixed`, or the
default; where the chosen kind has no such key, the condition is false.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter

from search_spaces.checkpoints import Checkpoints
from search_spaces.config import RunConfig, flatten
from search_spaces.dimensions.dimension import Dimension, TrialLike
from search_spaces.errors import InputError
from search_spaces.lengths.scale import scaled_run, scaled_value
from search_spaces.loader import Run, load_run
from search_spaces.parsing.constraints import parse_constraint
from search_spaces.parsing.sections import (
    ABSENT,
    InvalidSettings,
    Settings,
    merge,
    nested,
    put,
    same,
    validate,
    value_at,
)
from search_spaces.plan import Budget, Cost
from search_spaces.searchers import Searcher, TPESearcher
from search_spaces.stopping import DEFAULT_STOPPING, Stopping, todays
from search_spaces.wording import show

Draw = Callable[[Dimension, Settings], Any]
LENGTH = "length"
"""The parameter of a trial that says how long its run is, in a space with `lengths`."""


@dataclass(frozen=True)
class Space:
    """A validated space; read one with `load_space`.

    `config_base` has the settings of the base run, without defaults; `fixed` overrides them. Each of `dimensions` comes
    after those that it depends on. `start_points` are runs by name or path, with overrides if needed:
    `run16_5 optimizer.kind=adamw`.
    """

    name: str
    path: str
    purpose: str
    base: str
    config_base: Settings
    fixed: Mapping[str, Any]
    dimensions: tuple[Dimension, ...]
    constraints: tuple[str, ...] = ()
    start_points: tuple[str, ...] = ()
    objective: str = "best_per"
    costs: tuple[Cost, ...] = ()
    searcher: Searcher = field(default_factory=TPESearcher)
    stopping: Stopping = field(default=DEFAULT_STOPPING)
    budget: Budget = field(default_factory=lambda: Budget(trials=16))
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    scale: float = 1.0
    """How long its runs are, as a multiple of those that its file gives (`search_spaces.lengths`)."""
    lengths: tuple[float, ...] = ()
    """Multiples of that length, rising, where runs have several (`search_spaces.lengths.ladder`)."""

    def suggest(self, trial: TrialLike) -> dict[str, Any]:
        """Parameter name -> sample, for the active dimensions, asked of `trial` in order."""
        return self.drawn(trial)[0]

    def drawn(self, trial: TrialLike) -> tuple[dict[str, Any], Settings]:
        """What `suggest` gives, and the `settings` that it describes."""
        params: dict[str, Any] = {}

        def draw(dimension: Dimension, _: Settings) -> Any:
            params[dimension.name] = dimension.suggest(trial)
            return params[dimension.name]

        settings = self._assemble(draw)
        return self.at_length(params), settings

    def at_length(self, params: Mapping[str, Any], place: int = 0) -> dict[str, Any]:
        """The parameters for a run of the length at this place, the shortest at 0; as they are without `lengths`."""
        return {**params, LENGTH: self.lengths[place]} if self.lengths else dict(params)

    def config(self, params: Mapping[str, Any], seed: int) -> RunConfig:
        """The run that samples describe, with its seed.

        Raises InputError where a sample is missing, belongs to no active dimension, or gives an invalid run.
        """
        try:
            config = validate(merge(self.settings(params), {"training": {"seed": seed}}))
            return scaled_run(config, params.get(LENGTH, 1))
        except InvalidSettings as error:
            raise InputError(f"{self.name}: {path}: {message}" for path, message in error.problems) from None

    def violations(self, params: Mapping[str, Any]) -> list[str]:
        """One line for each declared constraint that is broken; if none is, one for each reason why `config` fails."""
        settings = self.settings(params)
        if broken := self.broken_constraints(settings):
            return broken
        try:
            validate(settings)
        except InvalidSettings as error:
            return [f"{path}: {message}" for path, message in error.problems]
        return []

    def broken_constraints(self, settings: Settings) -> list[str]:
        """One line for each declared constraint that these settings break."""
        lines = (parse_constraint(text).broken(lambda path: value_at(settings, path)) for text in self.constraints)
        return [line for line in lines if line]

    def start_params(self, start_point: str) -> tuple[dict[str, Any], list[str]]:
        """A run expressed in this space: (parameter name -> sample, notes on values that had to change).

        A value outside a range becomes the nearest end of the range; a choice that the space does not have becomes that
        of the base run, or else the first. Raises InputError for an unknown run.
        """
        params, notes = self.params_of(load_start_point(start_point).config)
        return self.at_length(params), notes

    def params_of(self, config: RunConfig) -> tuple[dict[str, Any], list[str]]:
        """`start_params` of a configuration, such as that of an earlier trial; with `lengths`, of its own length."""
        length = self._length_of(config)
        wanted = flatten(scaled_run(config, 1 / length))
        params: dict[str, Any] = {}
        notes: list[str] = []
        moved: set[str] = set()

        def draw(dimension: Dimension, settings: Settings) -> Any:
            sample, note = _closest(dimension, wanted.get(dimension.path, ABSENT), settings)
            if note:
                notes.append(f"{dimension.path}: {note}")
                moved.add(dimension.path)
            params[dimension.name] = sample
            return sample

        settings = self._assemble(draw)
        notes += self._not_searched(settings, flatten(config), moved, length)
        found = {**params, LENGTH: length} if self.lengths else params
        return found, notes + self.broken_constraints(settings)

    def _length_of(self, config: RunConfig) -> float:
        """Of the space's lengths, the one that a run has, or the nearest; 1 without `lengths`."""
        whole = value_at(self._undrawn, "training.batches")
        ratio = math.log(config.training.batches / whole)
        return min(self.lengths, key=lambda each: abs(math.log(each) - ratio), default=1)

    def _not_searched(self, settings: Settings, wanted: Mapping[str, Any], moved: set[str], length: float) -> list[str]:
        """One note on all values of the run that differ from those that the space does not vary, at its length."""
        differs = []
        for path, value in wanted.items():
            here = scaled_value(path, value_at(settings, path), length)
            close = _is_number(here) and _is_number(value) and abs(here - value) <= 1e-9 * abs(value)
            here = tuple(here) if isinstance(here, list) else here
            if path == "averaging.kind" and value == "none" and value_at(settings, "averaging.decays") not in _NOTHING:
                continue  # the raw weights compete with the averages
            if path not in moved and path != "training.seed" and here != ABSENT and not close and not same(here, value):
                differs.append(f"{path} {show(value)} -> {show(here)}")
        return [f"not searched here, so the value of the space is used: {', '.join(differs)}"] if differs else []

    def settings(self, params: Mapping[str, Any]) -> Settings:
        """The settings that samples describe, before validation. Raises InputError for missing or surplus samples."""
        used: set[str] = set()

        def draw(dimension: Dimension, _: Settings) -> Any:
            if dimension.name not in params:
                raise InputError(f"{self.name}: {dimension.name}: has no value; give one, {dimension.words()}")
            used.add(dimension.name)
            return params[dimension.name]

        settings = self._assemble(draw)
        if surplus := [name for name in params if name not in used and name != LENGTH]:
            raise InputError(f"{self.name}: {name}: is not an active dimension here; remove it" for name in surplus)
        return settings

    def _assemble(self, draw: Draw) -> Settings:
        """Base, fixed values and the active dimensions; `draw` gives the sample of each that is sampled."""
        settings = {section: dict(values) for section, values in self._undrawn.items()}
        for dimension in self.dimensions:
            if dimension.when and not _meets(settings, dimension.when):
                continue
            other = value_at(settings, dimension.of) if dimension.of else None
            if dimension.of and not _is_number(other):
                raise InputError(f"{self.name}: {dimension.name}: {dimension.of} is {show(other)} here, not a number")
            sample = draw(dimension, settings) if dimension.sampled else dimension.choices[0]
            section, _, key = dimension.path.partition(".")
            put(settings, section, key, dimension.value(sample, other))
        return settings

    @cached_property
    def _undrawn(self) -> Settings:
        """Base and fixed values, without the dimensions; a search asks for them thousands of times."""
        return merge(self.config_base, nested(self.fixed))

    def as_dict(self) -> dict[str, Any]:
        """The whole space as plain JSON types, as the event log stores it; `from_dict` reads it back."""
        return {
            "name": self.name,
            "path": self.path,
            "purpose": self.purpose,
            "base": self.base,
            "config_base": _json(self.config_base),
            "fixed": _json(self.fixed),
            "dimensions": [_stored(dimension) for dimension in self.dimensions],
            "constraints": list(self.constraints),
            "start_points": list(self.start_points),
            "objective": self.objective,
            "costs": list(self.costs),
            "searcher": self.searcher.model_dump(mode="json"),
            "stopping": self.stopping.model_dump(mode="json"),
            "budget": self.budget.model_dump(mode="json"),
            "checkpoints": self.checkpoints.model_dump(mode="json"),
            **({"scale": self.scale} if self.scale != 1 else {}),
            **({"lengths": list(self.lengths)} if self.lengths else {}),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Space:
        """The space that `as_dict` described; needs no file. Raises InputError if something is missing."""
        try:
            return cls(
                **{key: stored[key] for key in ("name", "path", "purpose", "base", "config_base", "fixed")},
                dimensions=tuple(_dimension(entry) for entry in stored["dimensions"]),
                constraints=tuple(stored["constraints"]),
                start_points=tuple(stored["start_points"]),
                objective=stored["objective"],
                costs=tuple(stored.get("costs", ())),
                searcher=TypeAdapter(Searcher).validate_python(stored["searcher"]),
                stopping=TypeAdapter(Stopping).validate_python(todays(stored["stopping"])),
                budget=Budget.model_validate(stored["budget"]),
                checkpoints=Checkpoints.model_validate(stored.get("checkpoints", {})),
                scale=stored.get("scale", 1.0),
                lengths=tuple(stored.get("lengths", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the stored space cannot be read ({error!r}); start a new search from its file") from None


def load_start_point(text: str) -> Run:
    """The run of a start point such as `run16_5 optimizer.kind=adamw`. Raises InputError."""
    try:
        name, *overrides = shlex.split(text)
    except ValueError:
        raise InputError(f"{show(text)} is not allowed; give a run, followed by section.key=value if needed") from None
    return load_run(name, overrides)


_LATER = ("q", "mean", "sd", "alternative", "share")
"""Fields that logs from before they existed do not have; left out where they say nothing."""


def _stored(dimension: Dimension) -> dict[str, Any]:
    default = {each.name: each.default for each in fields(dimension) if each.default is not MISSING}
    given = {key: value for key, value in vars(dimension).items() if key not in _LATER or value != default[key]}
    return {key: _json(value) for key, value in given.items()}


def _dimension(entry: Mapping[str, Any]) -> Dimension:
    when = {path: tuple(values) for path, values in entry["when"].items()}
    tuples = {key: tuple(entry[key]) for key in ("choices", "alternative") if key in entry}
    return Dimension(**{**entry, **tuples, "when": when})


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value


_NOTHING = (None, ABSENT)


def _meets(settings: Settings, when: Mapping[str, tuple[Any, ...]]) -> bool:
    """Whether these settings have one of the values at each of the paths."""
    found = ((value_at(settings, path), values) for path, values in when.items())
    return all(any(same(value, candidate) for candidate in values) for value, values in found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _closest(dimension: Dimension, value: Any, settings: Settings) -> tuple[Any, str | None]:
    """The sample of a dimension that is nearest to a run's value, and a note if it is not the same."""
    other = value_at(settings, dimension.of) if dimension.of else None
    exact = ABSENT if value == ABSENT else dimension.sample(value, other)
    sample = dimension.nearest(exact)
    if sample == ABSENT:
        sample = dimension.nearest(dimension.sample(value_at(settings, dimension.path), other))
        sample = dimension.middle() if sample == ABSENT else sample
        lacks = "the run has no value" if value == ABSENT else f"{show(value)} is not in this space"
        return sample, f"{lacks}; {show(dimension.value(sample, other))} is used"
    if same(sample, exact):
        return sample, None
    near = "choice" if dimension.kind == "choice" else "value" if dimension.q or dimension.alternative else "edge"
    moved = f"moved to {show(dimension.value(sample, other))}, the nearest {near}"
    return sample, f"{show(value)} is outside {dimension.name} {dimension.words()}; {moved}"
