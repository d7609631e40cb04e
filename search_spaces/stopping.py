"""The early-stopping rules and their settings, as in a space file or `--stopping`.

What each rule does with its settings is in `tuner/study/rules/stopping.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces.measures import problem_of
from search_spaces.wording import not_allowed, show

FIRST_RUNGS = {"horizon": 0.25, "area": 0.1}
"""The default first rung, by `at`: a fraction of the horizon, earlier ranks predict little of the end; or of the area
under the learning rate, where they predict more."""


RETIRED = {
    "extrapolation": "stopped winners that start slowly, and was the slowest rule",
    "hyperband": "cost more than the default and lost more winners on both banks it was tried on",
    "one_epoch": "lost four winners in five or more on both banks it was tried on",
}
"""Kinds of rules that earlier versions had, and why no longer (docs/early-stopping.md)."""
PROBES = ("probe", "probe_per", "probe_val_loss")
"""Metrics of cooldown probes, which earlier versions made."""


def retirement(rule: Mapping[str, Any]) -> str | None:
    """Why a rule as given or stored is no longer there, and what to give; None for any other."""
    advice = f'give "{rule_text(DEFAULT_STOPPING.model_dump())}", or none'
    if (kind := rule.get("kind")) in RETIRED:
        return f"{kind} is retired, it {RETIRED[kind]} (docs/early-stopping.md); {advice}"
    if rule.get("metric") in PROBES:
        return f"metric={rule['metric']} is retired, probes cost what they saved (docs/early-stopping.md); {advice}"
    return None


def todays(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A stored rule in the terms of this version: a retired rule compares nothing, or the PER in place of probes.

    Enough to read what it decided; it must not decide (`retirement`).
    """
    if rule["kind"] in RETIRED:
        return {"kind": "none"}
    kept = {key: value for key, value in rule.items() if key != "probe_share"}
    return {**kept, "metric": "per"} if kept.get("metric") in PROBES else kept


def _as_share(given: Any) -> Any:
    return float(given) if isinstance(given, bool) else given


def _refuse_retired(given: Any) -> Any:
    if isinstance(given, Mapping) and (why := retirement(given)):
        raise ValueError(why)
    return given


def _measure(name: str) -> str:
    if reason := problem_of(name):
        raise ValueError(reason)
    return name


def _measure_or(*more: str) -> Callable[[str], str]:
    return lambda name: name if name in more else _measure(name)


Measure = Annotated[str, AfterValidator(_measure)]
HalvingMetric = Annotated[str, AfterValidator(_measure_or("either"))]
_MEASURED = "per (of averaged weights), per_raw or another measure of an epoch [default: the objective's]"
Among = Literal["all", "horizon", "annealed"]


class Rule(BaseModel):
    """The settings of every stopping rule."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    right_for: ClassVar[str] = ""
    """The case in which it is the right choice."""
    compares_averages: ClassVar[bool] = False
    """Whether a rung holds the mean of a trial's values so far, instead of its value at the rung."""


class ComparingRule(Rule):
    """The settings of rules that compare a trial with others at the same point."""

    at: Literal["epochs", "horizon", "area"] = Field(
        "epochs",
        description="rungs are at epochs, at fractions of each trial's own horizon (length of its schedule), or at "
        "fractions of the area under its own learning rate",
    )
    grace: int | float = Field(
        1,
        description="the first rung: an epoch, or with at: horizon and at: area a fraction (then the default is 0.25 "
        "and 0.1)",
    )
    among: Among = Field(
        "all",
        description="compare with all trials, with those of similar horizon, or with those annealed about as far",
    )
    min_curves: int = Field(
        1, ge=1, description="no trial is stopped at a rung that fewer trials than this have reached"
    )
    patience: int = Field(1, ge=1, description="rungs in a row that a trial must fail before it is stopped")
    protect: int = Field(0, ge=0, description="this many of the study's best trials so far are never stopped")

    @model_validator(mode="before")
    @classmethod
    def _first_rung(cls, given: Any) -> Any:
        at = given.get("at") if isinstance(given, Mapping) else None
        if isinstance(at, str) and at in FIRST_RUNGS:
            return {"grace": FIRST_RUNGS[at], **given}
        return given

    @field_validator("grace")
    @classmethod
    def _grace_fits(cls, grace: int | float, info: ValidationInfo) -> int | float:
        at = info.data.get("at")
        if at == "epochs" and (grace < 1 or grace != int(grace)):
            more = ", or at: horizon or at: area for a fraction of each trial's own" if 0 < grace < 1 else ""
            raise ValueError(not_allowed(grace, f"a whole number of 1 or more{more}"))
        if at in FIRST_RUNGS and not 0.01 <= grace < 1:
            raise ValueError(
                not_allowed(grace, f"a fraction of the {at} from 0.01 to below 1, or at: epochs for an epoch")
            )
        return int(grace) if at == "epochs" else grace


class ASHAStopping(ComparingRule):
    """Asynchronous successive halving (Li et al. 2020): stops trials, or pauses and promotes them."""

    right_for: ClassVar[str] = (
        "almost every search: at=area metric=either reduction=4 promote=true drain=0.65 is the default; "
        "at=horizon reduction=1.5 where no state of a paused trial can be kept"
    )
    metric: HalvingMetric = Field(
        "per",
        description=f"what is compared: {_MEASURED}; val_loss among trials with the "
        "same training.ctc_reduction; or either: a trial passes if it does by per or by val_loss",
    )
    reduction: int | float = Field(3, description="the best 1 / reduction continue; the next rung is at this multiple")
    max_rungs: int | None = Field(None, ge=1, description="largest number of rungs; null = as many as fit in the run")
    kind: Literal["asha"] = "asha"
    promote: bool = Field(
        False, description="pause trials instead of stopping them; a paused trial continues if it qualifies later"
    )
    drain: Annotated[float, BeforeValidator(_as_share)] = Field(
        0.0,
        ge=0,
        le=1,
        description="with promote: when nothing new is left to start, the paused trials continue too, best first, on "
        "half of the workers, until this share of the batches of whole runs is trained; then the rest is stopped. "
        "1 (or true) = all of them continue, 0 (or false) = none. A rung lets nobody pass before as many have come as "
        "reduction says",
    )
    finish: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="with drain: share of a limit of hours, GPU-hours, batches or utterances in which no new trial "
        "starts while some are paused, so that the best of them come to their end",
    )
    max_paused: int | None = Field(
        None, ge=1, description="with promote: most trials that are paused at once; the worst beyond it is stopped"
    )

    @field_validator("reduction")
    @classmethod
    def _reduces(cls, reduction: int | float) -> int | float:
        if reduction < 1.1:
            raise ValueError(not_allowed(reduction, "a number of 1.1 or more, such as 3"))
        return reduction

    @model_validator(mode="after")
    def _pauses(self) -> ASHAStopping:
        if not self.promote and (self.drain or self.max_paused):
            name = "drain" if self.drain else "max_paused"
            raise ValueError(f"{name} needs trials that are paused; give promote: true too")
        return self


class MedianStopping(ComparingRule):
    """Stops a trial whose best PER is above the median of the others' running means (Golovin et al. 2017)."""

    right_for: ClassVar[str] = "runs of one length and schedule whose best learns fast from the start"
    compares_averages: ClassVar[bool] = True
    kind: Literal["median"] = "median"
    metric: Measure = Field("per", description=f"what is compared: {_MEASURED}")
    min_curves: int = Field(
        5, ge=1, description="no trial is stopped at a rung that fewer trials than this have reached"
    )
    interval: int | float | None = Field(
        None,
        gt=0,
        description="interval between comparisons: epochs, or a fraction of the horizon; null = 1 epoch, or 0.05",
    )


class PBTStopping(Rule):
    """Population Based Training (Jaderberg et al. 2017): the worst become changed copies of the best."""

    right_for: ClassVar[str] = "settings that are to change during a run"
    kind: Literal["pbt"] = "pbt"
    population: int = Field(8, ge=2, description="number of trials in the population, proposed by the searcher")
    interval: int = Field(2, ge=1, description="epochs between two comparisons")
    quantile: float = Field(
        0.25, gt=0, le=0.5, description="fraction of the worst trials that is replaced, and of the best that is copied"
    )
    metric: Measure = Field("per", description=f"what is compared: {_MEASURED}")
    resample: float = Field(
        0.25, ge=0, le=1, description="chance that a setting is drawn anew instead of changed by a step"
    )
    shrink: float = Field(0.8, gt=0, lt=1, description="factor of a step down; a choice moves to a neighbouring one")
    grow: float = Field(1.2, gt=1, le=100, description="factor of a step up")
    rates: bool = Field(
        True,
        description="whether learning rates change too; the shape of the schedule never does",
    )


class NoStopping(Rule):
    """Every trial runs to its end."""

    right_for: ClassVar[str] = "recording whole runs to judge rules on, several objectives, or a handful of trials"
    kind: Literal["none"] = "none"


Stopping = Annotated[
    ASHAStopping | MedianStopping | PBTStopping | NoStopping,
    Field(discriminator="kind"),
    BeforeValidator(_refuse_retired),
]
DEFAULT_STOPPING: Stopping = ASHAStopping.model_construct(
    {"at", "grace", "reduction", "promote", "drain"},
    at="area",
    grace=0.1,
    metric="either",
    reduction=4,
    promote=True,
    drain=0.65,
)
"""The default rule (docs/early-stopping.md). Its metric is not among the settings that are given: it follows an
objective that is no PER."""
STOPPING_KINDS: dict[str, type[Rule]] = {
    model.model_fields["kind"].default: model for model in get_args(get_args(Stopping)[0])
}


def rule_text(rule: Mapping[str, Any]) -> str:
    """A rule as text for `--stopping`: its kind, and its settings that are not the defaults of the kind."""
    model = STOPPING_KINDS.get(rule["kind"])
    if model is None:
        return str(rule["kind"])
    shares = rule.get("at") in FIRST_RUNGS
    defaults = model.model_validate({"at": rule["at"]} if shares else {}).model_dump()
    told = {k: v for k, v in rule.items() if v != defaults.get(k, v) or (k == "at" and shares)}
    return " ".join([rule["kind"], *(f"{key}={show(value)}" for key, value in told.items())])
