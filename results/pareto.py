"""The Pareto front of a study's own objectives: the trials that no other beats in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from results.best import Best, best
from results.store.tables import load_tables
from search_spaces.errors import InputError


def front(
    results_dir: str | Path,
    studies: Sequence[str] | None = None,
    top: int = 10,
    where: str | None = None,
    columns: Sequence[str] | None = None,
) -> Best:
    """`best` over the objectives that the studies were searched for, the PER first.

    Only trials that ran to their end count: the time of one that was stopped early is not its configuration's cost.
    Raises `InputError` where the studies have one objective, or not the same ones.
    """
    rows = load_tables(results_dir, studies, ("studies",))[0]["studies"].to_pylist()
    searched = {(row["objective"], row["costs"]) for row in rows}
    names = ", ".join(row["study"] for row in rows)
    if len(searched) != 1:
        raise InputError(
            f"--pareto: {names or 'no study'}: were searched for different objectives; name one study, or the columns: "
            "--pareto best_per,train_seconds"
        )
    ((objective, costs),) = searched
    if not costs:
        raise InputError(
            f"--pareto: {names}: has one objective, {objective}; name the columns, such as "
            f"--pareto {objective},train_seconds"
        )
    ended = "status = 'completed'" + (f" and (\n{where}\n)" if where else "")
    found = best(
        results_dir, studies, top=top, where=ended, by=objective, pareto=f"{objective},{costs}", columns=columns
    )
    found.notes.append("trials that were stopped early are left out: their time is not their configuration's cost")
    return found
