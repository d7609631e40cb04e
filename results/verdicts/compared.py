"""The verdict on trials that are named, as `tuner compare` gives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.columns import remark, row_name, varying
from results.store.replay import schema
from results.store.tables import load_tables
from results.verdicts.common import CommonPlace, all_ended, common_place, compare_at
from results.verdicts.repeats import Curves, folder_luck
from results.verdicts.seeds import Seeds

Row = dict[str, Any]
Curve = Sequence[Row]


def verdict(results_dir: str | Path, rows: Sequence[Row], curves: Sequence[Curve]) -> list[str]:
    """Notes on whether these trials differ by more than chance, or why that cannot be said.

    `rows` are of the trials table, `curves` the rows of the epochs table of each. Trials that all ran to their ends are
    compared by the means over the seeds of their configurations, which all trials of their studies give; others at the
    last place that all of them reached.
    """
    studies = list(dict.fromkeys(row["study"] for row in rows))
    tables, _ = load_tables(results_dir, studies, ("studies", "trials"))
    about = {row["study"]: row for row in tables["studies"].to_pylist()}
    data = {about[study]["data_fingerprint"] for study in studies}
    if len(data) > 1:
        return [f"no verdict: the trials ran on {len(data)} different data sets; PERs on different data say nothing"]
    luck = folder_luck(results_dir, tables["trials"].to_pylist(), about)
    if all_ended(rows):
        trials = tables["trials"]
        varied = varying(trials)
        every = trials.select(list(dict.fromkeys([*schema("trials").names, *varied]))).to_pylist()
        seeds = Seeds(every, about, varied, "best_per", luck, Curves(results_dir).restless)
        names = {(row["study"], row["trial"]) for row in rows}
        mine = sorted((r for r in every if (r["study"], r["trial"]) in names), key=lambda row: row["best_per"])
        return seeds.notes(mine)
    place = common_place(rows, curves)
    open_ones = ", ".join(f"{row_name(row)} ({remark(row)})" for row in rows if row["status"] != "completed")
    why = f"not trained to the end: {open_ones}"
    if isinstance(place, str):
        return [f"no verdict: which is better cannot be said; {place}; {why}"]
    return [_at(place, rows, luck, about[studies[0]]["data_val_phonemes"]), f"{why}; how the trials end is not known"]


def _at(place: CommonPlace, rows: Sequence[Row], luck: Any, phonemes: int | None) -> str:
    """One sentence: which trial is ahead at a place, and of which others."""
    order = sorted(range(len(rows)), key=lambda index: place.best[index])
    first, second = order[0], order[1]
    found = compare_at(place, first, second, luck, phonemes)
    text = f"at {place.text}, the last that all reached, {row_name(rows[first])}"
    if found.tie:
        tied = [i for i in order[1:] if compare_at(place, first, i, luck, phonemes).tie]
        names = ", ".join(row_name(rows[i]) for i in tied)
        return f"{text} is tied with {names} (differences below {found.margin:.4f} can be chance; {found.source})"
    return f"{text} leads by {found.difference:.4f}, more than chance explains ({found.margin:.4f}; {found.source})"
