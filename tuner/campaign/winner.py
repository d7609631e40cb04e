"""Which configuration won: the leaders of searches, and of a confirmation the lowest mean over its fresh seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from results.store.tables import load_tables
from search_spaces import InputError, RunConfig, flatten
from tuner.planned.confirm import leaders

_MANY = 10_000


@dataclass(frozen=True)
class Winner:
    """The confirmed winner."""

    parent: str
    """The trial whose configuration it is, as STUDY/TRIAL."""
    pers: tuple[float, ...]
    """best_per of each fresh seed, in the order of the trials."""
    decoder: int
    """The trial of the confirmation with the lowest of them, whose weights are taken away."""

    @property
    def mean(self) -> float:
        """The mean over the fresh seeds."""
        return fmean(self.pers)


def ranked(results_dir: Path, studies: Sequence[str]) -> list[tuple[str, int, dict[str, Any]]]:
    """The configurations of several searches by best_per, each once: (study, trial, configuration), best first."""
    tables, _ = load_tables(results_dir, studies, ("trials",))
    rows = tables["trials"].select(["study", "trial", "best_per"]).to_pylist()
    pers = {(row["study"], row["trial"]): row["best_per"] for row in rows}
    found = [(study, *each) for study in studies for each in _leaders(results_dir, study)]
    found.sort(key=lambda each: pers[each[0], each[1]])
    once: dict[str, tuple[str, int, dict[str, Any]]] = {}
    for each in found:
        settings = flatten(RunConfig.model_validate(each[2]))
        once.setdefault(repr({path: value for path, value in settings.items() if path != "training.seed"}), each)
    return list(once.values())


def best_first(results_dir: Path, study: str, by_loss: bool) -> list[tuple[int, dict[str, Any]]]:
    """The configurations of a search in short runs, by their lowest validation loss.

    Early on many PERs are near 1, and the loss tells more (docs/early-stopping.md). Where losses cannot be compared, it
    does not decide alone: then by the better of their ranks by PER and by loss.
    """
    found = _leaders(results_dir, study)
    tables, _ = load_tables(results_dir, [study], ("epochs",))
    losses: dict[int, float] = {}
    for row in tables["epochs"].select(["trial", "val_loss"]).to_pylist():
        if row["val_loss"] is not None:
            losses[row["trial"]] = min(losses.get(row["trial"], row["val_loss"]), row["val_loss"])
    lowest = sorted((number for number, _ in found), key=lambda number: (losses.get(number, float("inf")), number))
    rank = {number: place for place, number in enumerate(lowest)}
    if by_loss:
        return sorted(found, key=lambda each: rank[each[0]])
    order = sorted(range(len(found)), key=lambda place: (min(place, rank[found[place][0]]), place))
    return [found[place] for place in order]


def longer_is_better(results_dir: Path, study: str) -> bool:
    """Whether the best of the longer runs is better than the same configuration was in the short one."""
    tables, _ = load_tables(results_dir, [study], ("trials",))
    rows = [row for row in tables["trials"].to_pylist() if row["best_per"] is not None]
    best = min(rows, key=lambda row: (row["best_per"], row["trial"]))
    before, _, number = best["parent"].rpartition("/")
    trials = load_tables(results_dir, [before], ("trials",))[0]["trials"].select(["trial", "best_per"]).to_pylist()
    short = next((row["best_per"] for row in trials if row["trial"] == int(number)), None)
    return short is None or bool(best["best_per"] < short)


def _leaders(results_dir: Path, study: str) -> list[tuple[int, dict[str, Any]]]:
    """Of one search; none where nothing has a PER yet."""
    try:
        return leaders(results_dir, study, _MANY)
    except InputError:
        return []


def winner(results_dir: Path, study: str) -> Winner:
    """The winner of a confirmation: among the configurations with most seeds that ended, the lowest mean.

    Raises InputError where no trial has ended.
    """
    tables, _ = load_tables(results_dir, [study], ("trials",))
    rows = tables["trials"].select(["trial", "parent", "best_per", "status"]).to_pylist()
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["trial"]):
        if row["status"] == "completed" and row["best_per"] is not None:
            groups[row["parent"]].append(row)
    if not groups:
        raise InputError(f"{study}: no trial with a fresh seed has ended; 'tuner show {study}/0' has the reason")
    most = max(len(group) for group in groups.values())
    found = [
        Winner(
            parent,
            tuple(row["best_per"] for row in group),
            min(group, key=lambda row: (row["best_per"], row["trial"]))["trial"],
        )
        for parent, group in groups.items()
        if len(group) == most
    ]
    return min(found, key=lambda each: (each.mean, each.parent))
