"""How a space is searched by default: the searcher (`searchers.py`), the stopping rule (`stopping.py`), the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.wording import either, not_allowed


class _Plan(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Budget(_Plan):
    """When the search ends: at the first limit that is reached."""

    trials: int | None = Field(None, ge=1, description="trials in all")
    hours: float | None = Field(None, gt=0, description="hours of wall time")
    gpu_hours: float | None = Field(
        None, gt=0, description="GPU hours (fraction of a GPU times hours) of all trials and attempts"
    )
    batches: int | None = Field(None, ge=1, description="optimizer steps of all trials and attempts")
    utterances: int | None = Field(None, ge=1, description="utterances that all trials and attempts train on")
    target_per: float | None = Field(None, ge=0, description="end when a trial reaches this PER")
    no_improvement: int | None = Field(
        None, ge=1, description="end when this many trials in a row have not improved the best PER"
    )
    then: Literal["finish", "stop"] | None = Field(
        None,
        description="what running trials do when a limit is reached; null = stop at hours, gpu_hours, batches and "
        "utterances, else finish",
    )

    @model_validator(mode="after")
    def _has_an_end(self) -> Budget:
        ends = (self.trials, self.hours, self.gpu_hours, self.batches, self.utterances, self.no_improvement)
        if not any(ends):
            raise ValueError(
                "the search would never end; give trials, hours, gpu_hours, batches, utterances or no_improvement"
            )
        return self


Objective = Literal["best_per", "last_per"]
Cost = Literal["train_seconds", "gpu_seconds", "parameters"]
"""What can be minimised besides the PER."""
PERS: tuple[Objective, ...] = get_args(Objective)
COSTS: tuple[Cost, ...] = get_args(Cost)


def split_objectives(names: Sequence[str]) -> tuple[Objective, tuple[Cost, ...]]:
    """The PER and the costs of a list of objectives. Raises ValueError, in the words of an error line."""
    if wrong := [name for name in names if name not in PERS + COSTS]:
        raise ValueError(not_allowed(wrong[0], either([*PERS, *COSTS])))
    pers = [name for name in PERS if name in names]
    costs = tuple(name for cost in names for name in COSTS if name == cost)
    if len(pers) != 1 or names[0] != pers[0] or len(set(names)) < len(names):
        raise ValueError(not_allowed(", ".join(names), f"{either(PERS)} first, then each of {', '.join(COSTS)} once"))
    return pers[0], costs
