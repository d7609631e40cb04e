"""The Pareto front of a study's own objectives: the trials that no other trial beats in all of them."""

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
    """`best` for the objectives of the studies, the PER first.

    Only trials that ran to their end count: the time of a stopped trial is not the cost of its configuration. Raises
    `InputError` where the studies have a single objective, or different ones.
    """
    rows = load_tables(results_dir, studies, ("studies",))[0]["studies"].to_pylist()
    searched = {(row["objective"], row["costs"]) for row in rows}
    names = ", ".join(row["study"] for row in rows)
    if len(searched) != 1:
        raise InputError(
            f"--pareto: {names or 'no study'}: have different objectives; name one study, or the columns: "
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
    found.notes.append("stopped trials are left out: their time is not the cost of their configuration")
    return found
