"""How a space is searched by default: the searcher (`searchers.py`), the stopping rule (`stopping.py`), the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search_spaces.measures import MEASURES, PERS, measure_of, objective_of, problem_of
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


Cost = Literal["train_seconds", "gpu_seconds", "parameters"]
"""What can be minimised besides the first objective."""
COSTS: tuple[Cost, ...] = get_args(Cost)


def split_objectives(names: Sequence[str]) -> tuple[str, tuple[Cost, ...]]:
    """The first objective, a PER or another measure of an epoch, and the costs of a list of objectives.

    `val_loss` becomes `best_val_loss`. Raises ValueError, in the words of an error line.
    """
    known = {name: objective_of(name) for name in names}
    if wrong := [name for name in names if known[name] is None and name not in COSTS]:
        near = measure_of(wrong[0]) if wrong[0].startswith(("best_", "last_")) else wrong[0]
        reason = problem_of(near) or ""
        if not reason.startswith(f"{near} is not allowed"):  # a column that is no measure
            raise ValueError(reason)
        text = f"{either([*PERS, *COSTS])}, or a measure of an epoch, such as val_loss"
        raise ValueError(not_allowed(wrong[0], text + f" ({', '.join(MEASURES)})"))
    measured = [name for name in names if known[name] is not None]
    costs = tuple(name for cost in names for name in COSTS if name == cost)
    if len(measured) != 1 or names[0] != measured[0] or len(set(names)) < len(names):
        first = f"{either(PERS)} first (or another measure of an epoch, such as val_loss)"
        raise ValueError(not_allowed(", ".join(names), f"{first}, then each of {', '.join(COSTS)} once"))
    return str(known[measured[0]]), costs
