"""The settings of a study: the fields of its `study_started` event, as one frozen model.

The log is read leniently, so that every version reads the logs of all others: a field that is missing or null gets the
value that was used before the field existed; unknown fields are kept and written again. The user's input is checked in
`tuner.launch`, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from search_spaces import InputError

VERSION = 1
"""Of these settings; a log from before there was a number has 0."""
HUNG_AFTER = 20.0
"""A trial counts as hung after this many times the usual time of an epoch."""
_OF_THE_EVENT = ("event", "seq", "time", "elapsed")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        fields = cls.model_fields
        return {k: v for k, v in given.items() if v is not None or k not in fields or fields[k].default is None}

    def as_dict(self) -> dict[str, Any]:
        """What was given, as JSON types: defaults that were filled in are left out."""
        return self.model_dump(exclude_unset=True)

    def changed(self, new: Mapping[str, Any]) -> Self:
        """The same with other values, JSON types or models, under the names of fields."""
        return self.model_validate({**self.as_dict(), **new})


class StudyData(_Part):
    """The data set that the trials of a study train on."""

    path: str | None = None
    name: str = ""
    fingerprint: str = ""
    val_phonemes: int | None = None
    features: int | None = None
    """This one, `classes` and `days` are null in logs from before they were written."""
    classes: int | None = None
    days: int | None = None


class StudyCode(_Part):
    """The program that began the study."""

    version: str | None = None
    git: str | None = None
    dirty: bool | None = None


class StudyResources(_Part):
    """The resources of one trial, and the number of trials at once."""

    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    concurrent: int | None = None
    """null = as many as fit."""
    custom: dict[str, float] | None = None
    """Of Ray's custom resources."""
    packing: list[dict[str, Any]] | None = None
    """What was measured where `gpus_per_trial` was "auto" (`tuner.backend.packing.Packing`)."""


class StudyBudget(_Part):
    """When the search ends: at whichever limit comes first; null where there is none (`search_spaces.plan.Budget`)."""

    trials: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    batches: int | None = None
    utterances: int | None = None
    target_per: float | None = None
    no_improvement: int | None = None
    then: str | None = None

    def only(self, *limits: str) -> StudyBudget:
        """A budget of these limits alone."""
        return StudyBudget(**{name: getattr(self, name) for name in limits})


class StudyChoice(_Part):
    """A searcher (`search_spaces.searchers`) or a stopping rule (`search_spaces.stopping`): its kind and settings."""

    kind: str = "none"


class StudyCheckpoints(_Part):
    """Which checkpoints are kept (`search_spaces.checkpoints.Checkpoints`)."""

    every: str = "auto"
    best_weights: str = "full"
    budget: int | None = None
    """Bytes; null = no limit."""


class StudyListeners(_Part):
    """The other programs that follow the study: `--log`, `--notify`, `--notify-on` and `--storage`."""

    log: list[str] = []
    notify: list[str] = []
    notify_on: str | None = None
    storage: str | None = None
    unsaved: list[str] = []
    """Options with a value that may hold a secret, as they may be shown; they must be given again on resume."""


class StudySettings(_Part):
    """The settings of a study: what a `study_started` event holds, with what resuming changed."""

    settings_version: int = 0
    study: str = ""
    host: str | None = None
    space: dict[str, Any] | None = None
    """A `search_spaces.Space`, as `Space.as_dict` gives it; null for a plan and for recorded runs."""
    plan: list[dict[str, Any]] | None = None
    """The trials, where they are given: {run, parent, origin, config} each."""
    data: StudyData = StudyData()
    code: StudyCode = StudyCode()
    packages: dict[str, str] = {}
    searcher: StudyChoice = StudyChoice()
    """`plan` or `none` where nothing is searched."""
    stopping: StudyChoice = StudyChoice()
    objective: str = "best_per"
    costs: list[str] = []
    """What is minimised besides the PER."""
    start_points: list[dict[str, Any]] = []
    starts_from: int = 0
    """The number of the trial that is the first start point."""
    warm_start: list[dict[str, Any]] = []
    """Trials of other studies that the searcher gets."""
    seed: int = 0
    budget: StudyBudget = StudyBudget()
    resources: StudyResources = StudyResources()
    retries: int = 0
    hung_after: float = HUNG_AFTER
    checkpoints: StudyCheckpoints = StudyCheckpoints()
    listeners: StudyListeners | None = None
    """null where there was none, and in logs from before they were written."""
    confirms: str | None = None
    """The study whose best configurations this one trains again."""
    lineage: dict[str, Any] | None = None
    """How the recorded runs are run again; null in other studies."""
    origin_note: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> StudySettings:
        """The settings in a `study_started` event, or in its fields. Raises InputError where one has a wrong type."""
        try:
            return cls.model_validate({key: value for key, value in given.items() if key not in _OF_THE_EVENT})
        except ValidationError as error:
            raise InputError(
                f"the study's settings: {'.'.join(map(str, each['loc']))}: {each['msg']}, and not {each['input']!r}"
                for each in error.errors()
            ) from None

    def fields(self) -> dict[str, Any]:
        """The fields of a `study_started` event."""
        return {**self.as_dict(), "settings_version": VERSION}
