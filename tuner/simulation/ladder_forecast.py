"""The cost of a search with several lengths: it follows from the budget alone (`search_spaces.lengths.ladder`)."""

from __future__ import annotations

from typing import Any

from results.output import Sheet, clock
from search_spaces import Space
from search_spaces.lengths.ladder import run_costs, run_counts
from tuner.simulation.forecast import Forecast
from tuner.study.settings import StudySettings


def ladder_forecast(
    space: Space, settings: StudySettings, concurrent: int, seconds_per_batch: float | None = None
) -> Forecast:
    """A row for each length, and the total. Raises InputError for a budget that does not pay for one run of each."""
    counts, costs = run_counts(space, settings.budget.as_dict()), run_costs(space, "batches")
    resources = settings.resources
    rows: list[dict[str, Any]] = [
        {"length": f"{length:g}", "trials": n, "batches_each": each, "batches": n * each}
        for length, n, each in zip(space.lengths, counts, costs, strict=True)
    ]
    total = sum(row["batches"] for row in rows)
    rows.append({"length": "in all", "trials": sum(counts), "batches_each": None, "batches": total})
    notes = [f"the best of each length run again, whole, at the next; {counts[-1]} at the longest"]
    seconds = None
    if seconds_per_batch is not None:
        name, held = (
            ("gpu_hours", resources.gpus_per_trial)
            if resources.gpus_per_trial
            else ("core_hours", resources.cpus_per_trial)
        )
        for row in rows:
            row[name] = round(row["batches"] * seconds_per_batch * held / 3600, 3)
        # Each length waits for the last runs of the one before.
        wall = sum(-(-n // concurrent) * each for n, each in zip(counts, costs, strict=True)) * seconds_per_batch
        seconds = (total * seconds_per_batch / concurrent, wall)
        notes.append(f"about {clock(seconds[0])} to {clock(seconds[1])} of wall time with {concurrent} at once")
    ended = float(sum(counts))
    return Forecast(Sheet.of(rows), notes, "none", ended, (ended, ended), (total, total), total, seconds)


def ladder_line(space: Space, settings: StudySettings) -> str:
    """In one line: `10 runs of 50 batches, 2 of 100, 1 of 200`."""
    counts, costs = run_counts(space, settings.budget.as_dict()), run_costs(space, "batches")
    first, *others = [f"{n} of {each:,}" for n, each in zip(counts, costs, strict=True)]
    return ", ".join([first.replace(" of ", " runs of ") + " batches", *others])
