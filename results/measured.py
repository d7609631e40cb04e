"""Columns of the trials made from a measure of their epochs: `best_val_loss`, `last_per_raw`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.store.replay import column_array
from results.store.tables import load_tables
from search_spaces.errors import InputError
from search_spaces.measures import MEASURES, is_per, measure_of, objective_of

Value = float | None


def with_measures(
    trials: pa.Table, names: Iterable[str], results_dir: str | Path, studies: Sequence[str] | None
) -> pa.Table:
    """The trials with a column for each of the objectives `names` that are not columns yet.

    Only what `objective_of` knows is added. Raises InputError for a measure that no epoch has.
    """
    wanted = [name for name in dict.fromkeys(names) if name not in trials.column_names and objective_of(name) == name]
    if not wanted:
        return trials
    epochs = load_tables(results_dir, studies, ("epochs",))[0]["epochs"]
    for name in wanted:
        column = measure_of(name)
        if column not in epochs.column_names or epochs[column].null_count == len(epochs):
            raise InputError(f"by: {name}: no epoch of these studies has a {column}; give another column")
        found = objective_values(epochs, name)
        keys = zip(trials["study"].to_pylist(), trials["trial"].to_pylist(), strict=True)
        trials = trials.append_column(name, column_array([found.get(key) for key in keys], pa.float64()))
    return trials


def objective_values(epochs: pa.Table, objective: str) -> dict[tuple[str, int], Value]:
    """(study, trial) -> the value of an objective, from an epochs table."""
    rows = epochs.select(["study", "trial", "epoch", measure_of(objective)]).sort_by("epoch").to_pydict()
    found: dict[tuple[str, int], Value] = {}
    last = objective.startswith("last_")
    for study, trial, value in zip(rows["study"], rows["trial"], rows[measure_of(objective)], strict=True):
        before = found.get((study, trial))
        if last or before is None or (value is not None and value < before):
            found[study, trial] = None if value is None else float(value)
    return found


def own_objective(about: Iterable[dict[str, Any]]) -> str:
    """What the trials of these studies are ranked by: the objective they share where it is no PER, else `best_per`."""
    objectives = {row.get("objective") or "best_per" for row in about}
    (objective, *others) = objectives or {"best_per"}
    return "best_per" if others or is_per(objective) or objective_of(objective) is None else objective


def ranked_by(by: str | None, pareto: str | None, studies: pa.Table) -> tuple[list[str], list[str]]:
    """The columns to rank by, then those of the front, as texts for `Order`; and a note where the first is a choice."""
    order = by or own_objective(studies.to_pylist())
    said = by or pareto or order == "best_per"
    note = [] if said else [f"ranked by {order}, the objective; --by best_per ranks by the PER"]
    return [_full_name(text) for text in ([order, *pareto.split(",")] if pareto else [order])], note


def _full_name(text: str) -> str:
    """`val_loss desc` as `best_val_loss desc`: what an epoch measures, alone, means its lowest value."""
    name, *rest = text.split() or [""]
    return " ".join([f"best_{name}" if name in MEASURES else name, *rest])
