"""What is measured after each epoch, and the objectives made of it: `best_val_loss`, `last_val_loss`.

An objective is minimised. `best_X` is the lowest X over the epochs of a trial, `last_X` that of its last epoch; X alone
means `best_X`. Imports nothing heavy: `tuner best` needs it.
"""

from __future__ import annotations

from search_spaces.wording import did_you_mean, not_allowed

PERS = ("best_per", "last_per")
MEASURES = (
    "per",
    "per_raw",
    "per_utterance_mean",
    "val_loss",
    "train_loss",
    "probe_per",
    "probe_val_loss",
    "grad_norm",
    "blank_share",
    "infeasible",
    "seconds",
    "checkpoint_seconds",
    "peak_memory_mb",
)
"""The columns of the epochs table that can be minimised."""
_OTHERS = {
    "samples_per_second": "grows as it gets better, and an objective is minimised; give seconds",
    "lr": "is set by the schedule and no result; give per, val_loss or another measure",
    "schedule_fraction": "is set by the schedule and no result; give per, val_loss or another measure",
    "per_halves": "tells how much of the PER is the luck of choosing among averages, and is null without one; give per",
    "probe_batches": "is what a cooldown probe cost and no result; give per, val_loss or another measure",
}


def problem_of(column: str) -> str | None:
    """Why a column of the epochs table cannot be minimised or compared, in the words of an error line; None if it
    can."""
    if column in MEASURES:
        return None
    if column in _OTHERS:
        return f"{column} {_OTHERS[column]}"
    hint = did_you_mean(column, MEASURES)
    return not_allowed(column, f"a measure of an epoch; {hint}they are {', '.join(MEASURES)}")


def objective_of(text: str) -> str | None:
    """`val_loss` as `best_val_loss`; None where the text is no objective that an epoch measures."""
    if text in MEASURES:
        return f"best_{text}"
    how, _, column = text.partition("_")
    return text if how in ("best", "last") and column in MEASURES else None


def measure_of(objective: str) -> str:
    """The column of the epochs table that an objective is made of: `val_loss` of `best_val_loss`."""
    return objective.partition("_")[2]


def is_per(objective: str) -> bool:
    """Whether it is one of the PERs of the trials table."""
    return objective in PERS
