"""The seeds of each configuration: one mean for it, one rank, and whether the first is better by more than luck."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from results.columns import remark, row_name
from results.statistics import student_t
from results.store.columns import unknown_columns
from results.verdicts.luck import Lead, Luck, lead
from results.verdicts.repeats import chosen_trials, repeats_among

Row = dict[str, Any]
Key = tuple[Any, ...]


def ended(row: Mapping[str, Any]) -> bool:
    """Whether a trial ran to its end, so that its PER is a result of its configuration."""
    return bool(row["status"] == "completed")


class Seeds:
    """The seeds of configurations: trials that have the same configuration and data set but different seeds.

    `varied` are the settings in which the trials differ. `column` is the PER that counts. `luck` says how far a PER
    depends on the seed; without it, the repeats among `rows` do. `restless` is the restlessness of a trial's curve.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        about: Mapping[str, Row],
        varied: Sequence[str],
        column: str = "best_per",
        luck: Luck | None = None,
        restless: Callable[[Row], float | None] = lambda row: None,
    ) -> None:
        self.column = column
        self.luck = luck if luck is not None else Luck(repeats_among(rows, about))
        self._about, self._restless = about, restless
        data = {study: row["data_fingerprint"] or study for study, row in about.items()}
        self._keys = {
            (row["study"], row["trial"]): (data.get(row["study"]), *(row[name] for name in varied), *_alone(row))
            for row in rows
        }
        members: dict[Key, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
        chosen = chosen_trials(rows)
        for row in rows:
            # A trial that was stopped or failed had less training: its PER is not a sample of the same quantity. One
            # that was chosen for its PER, and then confirmed, is no fair sample either.
            if ended(row) and row[column] is not None and (row["study"], row["trial"]) not in chosen:
                members[self.key(row)][row["seed"]].append(row[column])
        # The same seed, trained twice, is one sample.
        self._draws = {key: [fmean(v) for v in seeds.values()] for key, seeds in members.items()}
        self.several = any(len(draws) > 1 for draws in self._draws.values())

    def key(self, row: Row) -> Key:
        """A key that is equal for two trials of the same configuration on the same data set."""
        return self._keys[row["study"], row["trial"]]

    def draws(self, row: Row) -> list[float]:
        """One value per seed of the trial's configuration; only the trial's own where it has not completed."""
        draws = self._draws.get(self.key(row), [])
        return draws if ended(row) and draws else [row[self.column]]

    def value(self, row: Row) -> float:
        """What its configuration is ranked by: the mean over its seeds."""
        return fmean(self.draws(row))

    def interval(self, row: Row) -> tuple[int, float | None, float | None, float | None]:
        """Number of seeds, mean, and the 95% interval of the mean (Student's t) where there are two or more."""
        draws = self.draws(row)
        n = len(draws)
        if n < 2:
            return n, None, None, None
        mean = fmean(draws)
        half = student_t(0.975, n - 1) * math.sqrt(sum((x - mean) ** 2 for x in draws) / (n - 1) / n)
        return n, mean, mean - half, mean + half

    def configurations(self, ranked: Sequence[Row]) -> list[Row]:
        """One row for each configuration, lowest mean first: that of a trial that ended and is no replicate, if any."""
        rows: dict[Key, list[Row]] = defaultdict(list)
        for row in ranked:
            rows[self.key(row)].append(row)
        first = [min(same, key=lambda row: (not ended(row), row["origin"] == "replicate")) for same in rows.values()]
        return sorted(first, key=lambda row: (self.value(row), row["study"], row["trial"]))

    def compare(self, first: Row, second: Row) -> Lead:
        """By how much the first's mean is lower than the second's, and what luck explains; both have ended."""
        spreads = []
        for row in (first, second):
            about = self._about.get(row["study"], {})
            phonemes, data = about.get("data_val_phonemes"), about.get("data_fingerprint") or row["study"]
            spreads.append(self.luck.spread(self.value(row), data, phonemes, self._restless(row)))
        return lead(self.draws(first), self.draws(second), spreads)

    def notes(self, ranked: Sequence[Row]) -> list[str]:
        """Whether the first configuration is better than the next by more than luck; `ranked` has trials in order."""
        rows = self.configurations(ranked)
        notes = self._not_compared(rows)
        whole = [row for row in rows if ended(row)]
        if len(whole) < 2:
            if len(rows) > 1:
                notes.append(f"no verdict: {len(whole)} of {len(rows)} configurations ran to their end; it needs two")
            return notes
        leader, tied, margin, source = self._lead(whole)
        if tied:
            names = ", ".join(row_name(row) for row in tied[:5])
            more = f" and {len(tied) - 5} more" if len(tied) > 5 else ""
            text = f"differences below {margin:.4f} can be chance; {source}"
            notes.append(f"a tie with {row_name(leader)}: {names}{more} ({text})")
        else:
            found = self.compare(leader, whole[1])
            text = f"more than chance explains ({found.margin:.4f}; {found.source})"
            notes.append(f"{row_name(leader)} leads by {found.difference:.4f}, {text}")
        return notes

    def ties(self, ranked: Sequence[Row]) -> list[Row]:
        """The trials that `notes` calls a tie: one for each configuration, the first of those that ended left out."""
        whole = [row for row in self.configurations(ranked) if ended(row)]
        return self._lead(whole)[1] if len(whole) > 1 else []

    def _not_compared(self, rows: Sequence[Row]) -> list[str]:
        """A note where a trial that did not run to its end is ranked first, or before the first that did."""
        before = []
        for row in rows:
            if ended(row):
                break
            before.append(row)
        if not before or len(rows) < 2:
            return []
        names = ", ".join(f"{row_name(row)} ({remark(row)})" for row in before[:3])
        more = f" and {len(before) - 3} more" if len(before) > 3 else ""
        other = next((row for row in rows if row is not before[0]), None)
        command = f"; at a common epoch: tuner compare {row_name(before[0])} {row_name(other)}" if other else ""
        return [f"not compared with the others, because they did not run to their end: {names}{more}{command}"]

    def _lead(self, whole: Sequence[Row]) -> tuple[Row, list[Row], float, str]:
        """The first, those that are tied with it, the largest margin, and where its s.d. is from."""
        leader, *others = whole
        tied, margin, source = [], 0.0, ""
        for row in others:
            found = self.compare(leader, row)
            if found.tie:
                tied.append(row)
                if found.margin > margin:
                    margin, source = found.margin, found.source
        return leader, tied, margin, source


def _alone(row: Row) -> list[Any]:
    """What sets a run apart that is no replicate of any other: not every setting is known, or it went on from another's
    state, and shares its first epochs with that one."""
    heir = row.get("from_trial") is not None
    return [row["study"], row["trial"]] if heir or unknown_columns(row) else []
