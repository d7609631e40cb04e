"""The numbers of a report on one study: read from the tables once, used by text and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from results.measured import objective_values, own_objective
from results.store.columns import STOPPED_BY_HAND
from results.store.events import scan_events
from results.store.paths import StudyPaths, find_studies
from results.store.tables import load_tables

Row = dict[str, Any]
HIGHLIGHTED = 7
"""Number of trials with their own colour: as many as colour-blind readers can distinguish."""
STATUSES = ("completed", "stopped", "diverged", "failed", "interrupted", "paused", "running")


@dataclass
class ReportCurve:
    """One trial's epochs: `epoch` from 1, `per` and `raw` (raw weights) with NaN where there is no number."""

    epoch: np.ndarray
    per: np.ndarray
    raw: np.ndarray
    seconds: np.ndarray
    reported: np.ndarray
    """Unix seconds."""


@dataclass
class Extras:
    """Parts of the report that need torch or Optuna; the report leaves out what is missing.

    `importance` has the rows of `tuner importance`; `importance_note` says why it is empty, or that its two methods
    disagree. `rates` has the learning rates of a trial as (batch, rate) at enough points to draw them. `best_yaml` is
    the best trial's configuration as a run file, `rerun` the command that trains it again. `errors` says what the best
    checkpoint gets wrong: `about` (a sentence), `per`, `phonemes` (phoneme, said, substituted, deleted, inserted,
    wrong, heard: the phoneme that it is read as most often) and `days` (day, per, utterances); where it is empty,
    `errors_note` says why.
    """

    importance: list[Row] = field(default_factory=list)
    importance_note: str = ""
    rates: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    best_yaml: str = ""
    rerun: str = ""
    errors: Row = field(default_factory=dict)
    errors_note: str = ""


@dataclass(frozen=True)
class Averaged:
    """What the averages of a trial were worth at the last epoch at which all of them were evaluated."""

    trial: int
    raw: float
    """PER of the raw weights."""
    by_decay: dict[float, float]
    """Decay -> PER of that average."""
    luck: float | None
    """How much lower the best of them is for having been chosen on the split; None where that is not known."""


@dataclass
class Facts:
    """One study: its row of `studies`, its rows of `trials`, a curve per trial that reported, and the rungs."""

    study: str
    about: Row
    trials: list[Row]
    curves: dict[int, ReportCurve]
    rungs: list[int]
    problems: list[str] = field(default_factory=list)
    objective: str = "best_per"
    """What the trials are ranked by."""
    scores: dict[int, float | None] = field(default_factory=dict)
    """Trial -> its objective, where that is not `best_per`."""
    averaged: list[Averaged] = field(default_factory=list)
    """The trials that tracked averages."""
    cards: list[str] = field(default_factory=list)
    """The names of the cards that trained."""
    confirmed: int | None = None
    """The trial that comes first by its mean over new seeds; None where none was trained with any."""
    by_hand: set[int] = field(default_factory=set)
    """Trials that somebody stopped: no rule judged them."""

    @property
    def measure(self) -> str:
        """The objective in words: `best PER`, `best val_loss`."""
        return "best PER" if self.objective == "best_per" else self.objective.replace("_", " ", 1)

    def score(self, row: Mapping[str, Any]) -> float | None:
        """What a trial is ranked by, lower is better; None where it is not known."""
        value: float | None = row["best_per"] if self.objective == "best_per" else self.scores.get(row["trial"])
        return value

    @property
    def ranked(self) -> list[Row]:
        """The trials whose objective is known, the best first."""
        rows = [(score, row["trial"], row) for row in self.trials if (score := self.score(row)) is not None]
        return [row for _, _, row in sorted(rows, key=lambda each: each[:2])]

    @property
    def first(self) -> Row | None:
        """The trial that the study ends with: the first by new seeds, else the best; None where none has a value."""
        ranked = self.ranked
        return next((row for row in ranked if row["trial"] == self.confirmed), ranked[0] if ranked else None)

    @property
    def leaders(self) -> list[Row]:
        """The trials with a colour of their own."""
        return self.ranked[:HIGHLIGHTED]

    @property
    def marks(self) -> list[tuple[str, str]]:
        """What people say of the study and of its trials (`tuner tag`, `tuner note`): (of what, text) each."""
        found = [(name, self.about.get(name) or "") for name in ("tags", "notes")]
        for row in self.trials:
            said = "; ".join(filter(None, (row.get("tags"), row.get("notes"))))
            found.append((f"trial {row['trial']}", said))
        return [(of, said) for of, said in found if said]

    @property
    def space(self) -> Row:
        """The definition of the search space; empty where the runs were given by hand."""
        return dict(json.loads(self.about.get("space_definition") or "null") or {})

    @property
    def device(self) -> tuple[str, float]:
        """The device in which a trial's time is counted, and its share of it: ("GPU", 0.25) or ("CPU", 1.0)."""
        gpus = self.about.get("gpus_per_trial") or 0.0
        return ("GPU", gpus) if gpus else ("CPU", self.about.get("cpus_per_trial") or 1.0)

    def counts(self) -> dict[str, int]:
        """Status -> number of trials with it."""
        statuses = [str(row["status"]) for row in self.trials]
        return {name: statuses.count(name) for name in STATUSES if name in statuses}


@dataclass(frozen=True)
class SpentBudget:
    """Epochs trained, and those not trained because a rule stopped trials early, with the device seconds of both.

    The seconds saved are those of the remaining epochs of each stopped trial, at the mean time of its epochs so far.
    `planned` is the number of epochs of all trials, had none been stopped.
    """

    epochs: int
    saved: int
    seconds: float
    seconds_saved: float

    @property
    def planned(self) -> int:
        """Epochs if no trial had been stopped."""
        return self.epochs + self.saved


def load(results_dir: str | Path, studies: Sequence[str]) -> list[Facts]:
    """Read the studies named. Raises `InputError` for an unknown one."""
    import pyarrow.compute as pc

    tables, problems = load_tables(results_dir, studies)
    trials: dict[str, list[Row]] = {study: [] for study in studies}
    for row in tables["trials"].to_pylist():
        trials[row["study"]].append(row)
    rows = {row["study"]: row for row in tables["studies"].to_pylist()}
    # The tables of all studies are stacked: a column that no trial of a study has comes from another study.
    found = []
    for study in dict.fromkeys(studies):
        mine = tables["epochs"].filter(pc.equal(tables["epochs"]["study"], study))
        facts = Facts(study, rows[study], trials[study], *_curves(mine), problems=problems)
        facts.cards = sorted(filter(None, pc.unique(mine["card"]).to_pylist()))
        facts.objective = own_objective([rows[study]])
        facts.averaged = _averaged(mine)
        facts.by_hand = _stopped_by_hand(mine, facts)
        if facts.objective != "best_per":
            values = objective_values(tables["epochs"], facts.objective)
            facts.scores = {row["trial"]: values.get((study, row["trial"])) for row in trials[study]}
        found.append(facts)
    return found


def spent(facts: Facts) -> SpentBudget:
    """What the study used, and what early stopping saved."""
    kind = "gpu_seconds" if facts.device[0] == "GPU" else "cpu_seconds"
    saved, seconds_saved = 0, 0.0
    for row in facts.trials:
        planned, done = planned_epochs(row), row["epochs"] or 0
        if row["status"] == "stopped" and row["trial"] not in facts.by_hand and planned and done:
            saved += max(0, planned - done)
            seconds_saved += max(0, planned - done) * (row[kind] or 0.0) / done
    seconds = sum(row[kind] or 0.0 for row in facts.trials)
    return SpentBudget(sum(row["epochs"] or 0 for row in facts.trials), saved, seconds, seconds_saved)


def planned_epochs(row: Mapping[str, Any]) -> int | None:
    """The epochs a trial was to train; None where its configuration does not say."""
    batches, each = row.get("training_batches"), row.get("training_batches_per_epoch")
    return int(batches // each) if batches and each else None


def started_with(results_dir: str | Path, study: str, wanted: Sequence[int]) -> dict[int, Row]:
    """Trial -> its `trial_started` event, for the trials wanted that are in the log."""
    found: dict[int, Row] = {}
    [folder] = find_studies(results_dir, [study])
    log = StudyPaths(folder).log
    if not log.is_file():
        return found
    for event in scan_events(log, [], wanted=lambda line: b'"trial_started"' in line[:200]):
        if event["event"] == "trial_started" and event.get("trial") in wanted:
            found.setdefault(event["trial"], event)
    return found


def thinned(rows: Sequence[Row], best: int, others: int) -> list[Row]:
    """The `best` first of ranked rows, and `others` evenly spread over the rest, still ranked."""
    rest = rows[best:]
    if len(rest) <= others:
        return list(rows)
    places = np.linspace(0, len(rest) - 1, others).round().astype(int)
    return [*rows[:best], *(rest[place] for place in places)]


def _stopped_by_hand(mine: Any, facts: Facts) -> set[int]:
    import pyarrow.compute as pc

    asked = pc.equal(mine["reason"], STOPPED_BY_HAND)
    while_paused = {row["trial"] for row in facts.trials if row["error"] == STOPPED_BY_HAND}
    return while_paused | set(mine.filter(asked)["trial"].to_pylist())


def _curves(mine: Any) -> tuple[dict[int, ReportCurve], list[int]]:
    import pyarrow.compute as pc

    rungs = sorted({rung for rung in pc.unique(mine["rung"]).to_pylist() if rung is not None})
    columns = [mine[name].to_numpy() for name in ("trial", "epoch")]
    columns += [_floats(mine[name]) for name in ("per", "per_raw", "seconds")]
    columns.append(_floats(pc.divide(mine["reported"].cast("int64").cast("float64"), 1e6)))
    order = np.lexsort((columns[1], columns[0]))
    trial, *values = (column[order] for column in columns)
    if not len(trial):
        return {}, []
    names, first = np.unique(trial, return_index=True)
    parts = [np.split(value, first[1:]) for value in values]
    return {int(name): ReportCurve(*group) for name, *group in zip(names, *parts, strict=True)}, rungs


def _averaged(mine: Any) -> list[Averaged]:
    import pyarrow.compute as pc

    names = ["trial", "epoch", "per", "per_raw", "per_halves", "per_by_decay"]
    last: dict[int, Row] = {}
    for row in mine.filter(pc.is_valid(mine["per_by_decay"])).select(names).to_pylist():
        known = {each["decay"]: each["per"] for each in row["per_by_decay"] if None not in each.values()}
        row["known"], before = known, last.get(row["trial"])
        if known and row["per_raw"] is not None:
            full = before is None or (len(known), row["epoch"]) >= (len(before["known"]), before["epoch"])
            last[row["trial"]] = row if full else last[row["trial"]]
    found = []
    for trial, row in sorted(last.items()):
        luck = None if row["per_halves"] is None else row["per_halves"] - row["per"]
        found.append(Averaged(trial, row["per_raw"], row["known"], luck))
    return found


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(), dtype=float)
