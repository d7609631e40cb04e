"""A study as a history: its trials with their curves, the parent of each trial, and whether two of them differ.

A PER has two random errors: from the seed, and from the sentences on which it was measured. Two trials of a study use
the same sentences, so a difference is compared with the error of the seeds alone (`results.verdicts.luck`); the
interval of one PER has both. The error of the sentences is 1.71 * sqrt(p (1 - p) / N). This gives 0.0044 for the 880
sentences of the '24 test set (N = 24,700 phonemes, p = 0.2046), as a bootstrap did; the factor is above 1 because
errors come in bursts.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from results.output import format_value
from results.store.columns import unknown_columns
from results.store.replay import schema
from results.store.tables import load_tables
from results.verdicts.luck import PUBLISHED_PHONEMES, Luck, Spread, lead, restlessness
from results.verdicts.repeats import chosen_trials, folder_luck

_FIXED = frozenset(schema("trials").names)
_BURSTS = 1.71
Row = dict[str, Any]
_EPOCH_COLUMNS = ("trial", "epoch", "batch", "per", "val_loss", "lr", "blank_share", "schedule_fraction")


@dataclass(frozen=True)
class Comparison:
    """`after` against `before`: the difference of their PERs (negative: `after` is better) and what chance explains.

    `source` says where the seed s.d. is from.
    """

    before: Row
    after: Row
    difference: float
    margin: float
    source: str

    @property
    def verdict(self) -> str:
        """`better`, `worse` or, inside the margin, `tie`."""
        if abs(self.difference) <= self.margin:
            return "tie"
        return "better" if self.difference < 0 else "worse"


@dataclass
class RunHistory:
    """One study. `trials` are rows of the trials table by number, `curves` each trial's epochs in order."""

    study: Row
    trials: list[Row]
    curves: dict[int, list[Row]]
    settings: list[str]
    problems: list[str] = field(default_factory=list)
    luck: Luck = field(default_factory=Luck)

    @classmethod
    def load(cls, results_dir: str | Path, study: str) -> RunHistory:
        """Read a study. Raises `InputError` if there is no such study."""
        tables, problems = load_tables(results_dir, [study])
        trials = sorted(tables["trials"].to_pylist(), key=lambda row: row["trial"])
        curves: dict[int, list[Row]] = defaultdict(list)
        for row in tables["epochs"].select(_EPOCH_COLUMNS).to_pylist():
            curves[row["trial"]].append(row)
        for curve in curves.values():
            curve.sort(key=lambda row: row["epoch"])
        settings = [name for name in tables["trials"].column_names if name not in _FIXED]
        about = tables["studies"].to_pylist()[0]
        luck = folder_luck(results_dir, trials, {study: about})
        return cls(about, trials, dict(curves), settings, problems, luck)

    def name(self, row: Row) -> str:
        """The name of a trial: that of its run, with its number where several trials are the same run."""
        if not row["run"]:
            return f"trial {row['trial']}"
        return f"{row['run']} (trial {row['trial']})" if self._runs[row["run"]] > 1 else str(row["run"])

    def curve(self, row: Row) -> list[Row]:
        """The trial's epochs in order; empty where only a result is known."""
        return self.curves.get(row["trial"], [])

    def horizon(self, row: Row) -> int | None:
        """Length of the trial's schedule in batches."""
        return row.get("schedule_horizon") or row.get("training_batches")

    def key(self, row: Row) -> str:
        """A key that is equal for two trials of the same configuration with any seeds.

        A run with a setting that nobody knows is like no other.
        """
        alone = [row["trial"]] if unknown_columns(row) else []
        return json.dumps([row[name] for name in self.settings] + alone)

    def changes(self, before: Row, after: Row) -> list[tuple[str, Any, Any]]:
        """(column, old, new) of the settings that differ; not what only the old one's kind of schedule, say, has, and
        not what is unknown of one of them.
        """
        found = []
        unknown = unknown_columns(before) | unknown_columns(after)
        for name in self.settings:
            if name in unknown:
                continue
            old, new = before[name], after[name]
            kind = f"{name.split('_')[0]}_kind"
            gone = new is None and kind in before and before[kind] != after[kind]
            if old != new and not gone:
                found.append((name, old, new))
        return found

    def came_from(self, row: Row) -> Row | None:
        """The trial this one was changed from; None for the first.

        The run it names as its parent. Without one: for a trial of a search, the best that had an earlier number; for
        a run of unknown descent, the earlier one with the fewest settings changed, the later on ties.
        """
        if row["parent"]:
            return next((other for other in self.trials if other["run"] == row["parent"]), None)
        earlier = [other for other in self.trials if other["trial"] < row["trial"]]
        if row["origin"] == "start_point" or not earlier:
            return None
        if row["origin"] == "recorded" or row["run"]:
            return None if self.has_parents else min(reversed(earlier), key=lambda o: len(self.changes(o, row)))
        known = [other for other in earlier if other["best_per"] is not None]
        return min(known, key=lambda other: other["best_per"], default=None)

    @cached_property
    def has_parents(self) -> bool:
        """Whether any trial names the run it came from."""
        return any(row["parent"] for row in self.trials)

    @cached_property
    def _runs(self) -> Counter[str]:
        return Counter(row["run"] for row in self.trials if row["run"])

    @cached_property
    def _twins(self) -> dict[str, list[Row]]:
        twins = defaultdict(list)
        for row in self.trials:
            twins[self.key(row)].append(row)
        return twins

    def twins(self, row: Row) -> list[Row]:
        """All trials of its configuration, itself included."""
        return self._twins[self.key(row)]

    def unusable(self, row: Row) -> str | None:
        """Why its PER is not a result of its configuration; None if it is."""
        if row["status"] != "completed":
            return str(row["status"])
        if row["best_per"] is None:
            return "no result"
        return None

    def rival(self, row: Row) -> Row | None:
        """The trial to compare with: its parent, or the nearest ancestor that has a result."""
        seen = {row["trial"]}
        before = self.came_from(row)
        while before is not None and before["trial"] not in seen:
            seen.add(before["trial"])
            usable = [other for other in self.twins(before) if other is not row and not self.unusable(other)]
            if not self.unusable(before):
                return before
            if usable and self.key(before) != self.key(row):
                return usable[0]
            before = self.came_from(before)
        return None

    @cached_property
    def _draws(self) -> dict[str, list[float]]:
        """Configuration -> one PER per seed; the same seed run twice is one draw, and what was confirmed is none."""
        seeds: dict[str, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
        chosen = chosen_trials(self.trials)
        for row in self.trials:
            if not self.unusable(row) and (row["study"], row["trial"]) not in chosen:
                seeds[self.key(row)][row["seed"]].append(row["best_per"])
        return {key: [fmean(pers) for pers in draws.values()] for key, draws in seeds.items()}

    def draws(self, row: Row) -> list[float]:
        """One PER per seed of its configuration; only its own where it is not usable."""
        return [row["best_per"]] if self.unusable(row) else self._draws.get(self.key(row), [row["best_per"]])

    @property
    def phonemes(self) -> int:
        """Number of reference phonemes behind each PER; that of the published test set where the study has none."""
        return self.study["data_val_phonemes"] or PUBLISHED_PHONEMES

    def spread(self, row: Row) -> Spread:
        """The s.d. of a PER like this trial's over seeds."""
        data = self.study["data_fingerprint"] or row["study"]
        restless = restlessness([epoch["per"] for epoch in self.curve(row)])
        return self.luck.spread(self.value(row), data, self.study["data_val_phonemes"], restless)

    def value(self, row: Row) -> float:
        """Its PER, the mean over the seeds of its configuration; only for trials with a best_per."""
        return fmean(self.draws(row))

    def interval(self, row: Row) -> float:
        """Half the 95% interval of `value` as an estimate for new sentences and seeds."""
        sentences = _BURSTS**2 * _variance(row["best_per"]) / self.phonemes
        return 1.96 * math.sqrt(self.spread(row).sd ** 2 / len(self.draws(row)) + sentences)

    def compare(self, before: Row, after: Row) -> Comparison:
        """Two trials that have a PER."""
        found = lead(self.draws(after), self.draws(before), [self.spread(after), self.spread(before)])
        return Comparison(before, after, -found.difference, found.margin, found.source)

    def phases(self) -> list[tuple[str, list[Row]]]:
        """The parts of the history in order: as the runs say, else by the trials' origin or the kind of schedule."""
        parts: dict[str, list[Row]] = {}
        for row in self.trials:
            parts.setdefault(self._phase(row), []).append(row)
        return list(parts.items())

    def _phase(self, row: Row) -> str:
        if row["phase"]:
            return str(row["phase"])
        if any(other["phase"] for other in self.trials):
            return "Without a phase"
        if row["origin"] == "start_point":
            return "Start points"
        if row["origin"] == "searched":
            options = json.loads(self.study["searcher_options"] or "null") or {}
            first = row["trial"] < options.get("startup_trials", 0)
            return "First trials, drawn at random" if first else f"Proposed by the searcher ({self.study['searcher']})"
        if row["origin"] == "replicate":
            return "Replicates"
        averaging = row.get("averaging_kind")
        return f"Schedule {row.get('schedule_kind') or 'not known'}" + (
            f" with {averaging}" if averaging not in (None, "none") else ""
        )


def _variance(per: float) -> float:
    """The probability that one phoneme is wrong; never exactly 0."""
    p = min(max(per, 0.01), 0.99)
    return p * (1 - p)


def dotted(column: str) -> str:
    """`schedule_peak_lr` as run files write it: `schedule.peak_lr`."""
    return column.replace("_", ".", 1)


def shown(value: Any, column: str) -> str:
    """A setting's value for people."""
    return "none" if value is None else format_value(value, column)


def change_text(changes: Sequence[tuple[str, Any, Any]], most: int = 6) -> str:
    """`schedule.peak_lr 4e-3 to 1.5e-3, ... and 3 more`."""
    texts = [f"{dotted(name)} {shown(old, name)} to {shown(new, name)}" for name, old, new in changes[:most]]
    more = f" and {len(changes) - most} more" if len(changes) > most else ""
    return ", ".join(texts) + more
