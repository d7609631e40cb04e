"""The best-config table: which configuration is best, by how much, and whether the difference is more than chance.

What counts as a tie: two results that differ by less than 1.96 (with few seeds: Student's t) times the standard error
of their difference, s.d. * sqrt(1/n1 + 1/n2). The seed s.d. is measured where configurations were trained with several
seeds (pooled over them, 3 degrees of freedom or more). Otherwise it is assumed: 0.51 * sqrt(p (1 - p) / N) for a PER p
on N validation phonemes, which gives the published 0.0013 at p = 0.2046 and N = 24,700 (10 seeds of the '24
bidirectional GRU on 880 sentences). All trials of a study use the same validation sentences, so the sampling error of
the sentences, which is larger, is common to all trials and is left out.
"""

from __future__ import annotations

import fnmatch
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa

from results.measured import ranked_by, with_measures
from results.output import Sheet, format_value, render
from results.query import query
from results.statistics import student_t
from results.store.columns import unknown_columns
from results.store.replay import column_array, schema
from results.store.tables import load_tables
from search_spaces.errors import InputError
from search_spaces.measures import objective_of
from search_spaces.wording import nearest_or

PUBLISHED_PHONEMES = 24_700
_SPREAD = 0.51
_SHOWN = ("best_per", "best_epoch", "last_per", "epochs", "status", "origin", "gpu_seconds", "cpu_seconds")
_FIXED = frozenset(schema("trials").names)
_PER_COLUMNS = ("best_per", "last_per")

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass
class Best:
    """The answer of `best`: a row for each trial shown, `notes` to print below it, `problems` found in the files.

    `headers` are shorter column names for a terminal; `hide` are columns that are left out there. `schema` has the
    columns' Arrow types. `ties` are the trials, (study, number) each, that the notes call tied with the first.
    """

    sheet: Sheet
    schema: pa.Schema
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    hide: list[str] = field(default_factory=list)
    ties: list[tuple[str, int]] = field(default_factory=list)

    @property
    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        values = zip(*self.sheet.rows, strict=True) if self.sheet.rows else ((),) * len(self.sheet.names)
        arrays = [column_array(list(column), f.type) for column, f in zip(values, self.schema, strict=True)]
        return pa.table(arrays, schema=self.schema)

    def render(self, format: str = "table", *, width: int | None = None, color: bool = False) -> str:
        """The table in a format of `results.output`; in a terminal and in Markdown the notes follow it."""
        text = render(self.sheet, format, width=width, color=color, headers=self.headers, hide=self.hide)
        if format not in ("table", "markdown") or not self.notes:
            return text
        return text + "\n" + "".join(f"{note}\n" if format == "table" else f"- {note}\n" for note in self.notes)


def best(
    results_dir: str | Path,
    studies: Sequence[str] | None = None,
    top: int = 10,
    where: str | None = None,
    by: str | None = None,
    group_by: str | None = None,
    pareto: str | None = None,
    columns: Sequence[str] | None = None,
) -> Best:
    """The `top` trials of the studies, lowest `by` first.

    `by` is a numeric column of the trials table, or a measure of the epochs (`val_loss` or `best_val_loss`: the lowest
    over a trial's epochs; `last_val_loss`); `NAME desc` for the highest first. The default is `best_per`, or the
    objective of the studies where that is another measure. `where` is an SQL condition on the
    trials table. `group_by` keeps the best trial of each value of a column (or of several, separated by commas), and
    counts them. `pareto` names two or more columns (each may have ` desc`) and keeps the Pareto front of them. Of the
    configuration, the columns that vary among the trials considered are shown, or the `columns` named (patterns such
    as `schedule_*` are allowed).

    Raises `InputError` for an unknown column, a condition that is not valid SQL, and a folder without studies.
    """
    if top < 1:
        raise InputError(f"top: {top} is not allowed; give 1 or more")
    tables, problems = load_tables(results_dir, studies, ("studies", "trials"))
    wanted, note = ranked_by(by, pareto, tables["studies"])
    trials = with_measures(tables["trials"], [text.split()[0] for text in wanted if text], results_dir, studies)
    measured = [name for name in trials.column_names if name not in tables["trials"].column_names]
    if where:
        trials = _filtered(results_dir, studies, trials, where)
    varied = varying(trials)
    chosen = varied if columns is None else choose_columns(columns, trials.column_names)
    groups = [_known(name.strip(), trials.column_names, "group_by") for name in (group_by or "").split(",") if group_by]
    shown_columns = dict.fromkeys([*schema("trials").names, *measured, *varied, *chosen, *groups])
    rows = trials.select(list(shown_columns)).to_pylist()
    notes = note if rows else ["no trials" + (" meet the condition" if where else " yet")]
    about = {row["study"]: row for row in tables["studies"].to_pylist()}
    key, *others = [Order(text, trials.schema) for text in wanted]
    targets = others if pareto else [key]
    ranked = [row for row in rows if all(order.value(row) is not None for order in targets)]
    ranked.sort(key=lambda row: [*(order.value(row) for order in targets), row["study"], row["trial"]])
    notes += _left_out(rows, ranked, targets)
    ties: list[Row] = []
    seeds = Seeds(rows, about, varied, key.column if key.column in _PER_COLUMNS else "best_per")
    if pareto:
        shown = _front(ranked, targets)
        notes.append(f"{len(shown)} of {len(ranked)} trials are on the Pareto front of {pareto}")
    elif groups:
        shown = _best_of_each(ranked, groups)
    else:
        shown = ranked
        notes += seeds.notes(ranked, key)
        ties = seeds.ties(ranked, key)
    notes += _mixed_data(ranked, about)
    answer = _answer(
        shown[:top], trials.schema, [*groups, key.column, *(o.column for o in targets)], chosen, seeds, notes, problems
    )
    answer.ties = [(row["study"], row["trial"]) for row in ties]
    return answer


def verdict(results_dir: str | Path, trials: Sequence[tuple[str, int]]) -> list[str]:
    """Notes on whether these trials, (study, number) each, differ in best_per, by the rule at the top of this file.

    The seeds of all trials of their studies count. Empty where fewer than two configurations have a PER.
    """
    studies = list(dict.fromkeys(study for study, _ in trials))
    tables, _ = load_tables(results_dir, studies, ("studies", "trials"))
    varied = varying(tables["trials"])
    rows = tables["trials"].select(list(dict.fromkeys([*schema("trials").names, *varied]))).to_pylist()
    about = {row["study"]: row for row in tables["studies"].to_pylist()}
    key = Order("best_per", tables["trials"].schema)
    ranked = [row for row in rows if (row["study"], row["trial"]) in trials and key.value(row) is not None]
    ranked.sort(key=lambda row: [row["best_per"], row["study"], row["trial"]])
    return Seeds(rows, about, varied, key.column).notes(ranked, key) + _mixed_data(ranked, about)


class Order:
    """A column to rank by: `NAME` (lowest first) or `NAME desc`."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        words = text.split()
        if len(words) not in (1, 2) or (len(words) == 2 and words[1].lower() not in ("asc", "desc")):
            raise InputError(f"by: {text!r} is not allowed; give a column, or a column and desc")
        self.column = _known(words[0], schema.names, "by")
        kind = schema.field(self.column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            raise InputError(f"by: {self.column} has {kind} values; give a column of numbers, such as best_per")
        self.sign = -1 if len(words) == 2 and words[1].lower() == "desc" else 1

    def value(self, row: Row) -> float | None:
        """The number to sort by, lower is better; None where there is none."""
        value = row[self.column]
        return None if value is None else self.sign * float(value)


def _alone(row: Row) -> list[Any]:
    """What sets a run apart of which not every setting is known: it is no replicate of any other."""
    return [row["study"], row["trial"]] if unknown_columns(row) else []


class Seeds:
    """The spread over seeds, from trials that have the same configuration and data set but different seeds."""

    def __init__(self, rows: Sequence[Row], about: dict[str, Row], varied: Sequence[str], column: str) -> None:
        self.column = column
        self._about = about
        data = {study: row["data_fingerprint"] or study for study, row in about.items()}
        self._keys = {
            (row["study"], row["trial"]): (data.get(row["study"]), *(row[name] for name in varied), *_alone(row))
            for row in rows
        }
        members: dict[Key, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            # A trial that was stopped or failed had less training: its PER is not a sample of the same quantity.
            if row["status"] == "completed" and row[column] is not None:
                members[self.key(row)][row["seed"]].append(row[column])
        # The same seed, trained twice, is one sample.
        self._draws = {key: [fmean(v) for v in seeds.values()] for key, seeds in members.items()}
        several = [draws for draws in self._draws.values() if len(draws) > 1]
        self.degrees = sum(len(draws) - 1 for draws in several)
        squares = sum((x - fmean(draws)) ** 2 for draws in several for x in draws)
        self.sd = math.sqrt(squares / self.degrees) if self.degrees else math.nan
        self.several = bool(several)

    def key(self, row: Row) -> Key:
        """A key that is equal for two trials of the same configuration on the same data set."""
        return self._keys[row["study"], row["trial"]]

    def draws(self, row: Row) -> list[float]:
        """One value per seed of the trial's configuration; only the trial's own where it has not completed."""
        draws = self._draws.get(self.key(row), [])
        return draws if row["status"] == "completed" and draws else [row[self.column]]

    def interval(self, row: Row) -> tuple[int, float | None, float | None, float | None]:
        """Number of seeds, mean, and the 95% interval of the mean (Student's t) where there are two or more."""
        draws = self.draws(row)
        n = len(draws)
        if n < 2:
            return n, None, None, None
        mean = fmean(draws)
        half = student_t(0.975, n - 1) * math.sqrt(sum((x - mean) ** 2 for x in draws) / (n - 1) / n)
        return n, mean, mean - half, mean + half

    def margin(self, leader: Row, other: Row) -> tuple[float, str]:
        """The difference of the means of two configurations that chance explains, and where the s.d. is from."""
        if self.degrees >= 3:
            sd, factor = self.sd, student_t(0.975, self.degrees)
            source = f"seed s.d. {sd:.4f}, measured with {self.degrees} degrees of freedom"
        else:
            sd, factor = self._assumed(leader), 1.96
            source = f"seed s.d. {sd:.4f} is assumed; 'tuner confirm' measures it"
        return factor * sd * math.sqrt(1 / len(self.draws(leader)) + 1 / len(self.draws(other))), source

    def notes(self, ranked: Sequence[Row], key: Order) -> list[str]:
        """Whether the first trial is better than the next by more than chance, by the rule at the top of this file."""
        rows, tied, margin, source = self._lead(ranked, key)
        if not rows:
            return []
        leader, notes = rows[0], []
        value = fmean(self.draws(leader))
        if leader is not ranked[0]:
            n = len(self.draws(leader))
            notes.append(
                f"by the mean over seeds {row_name(leader)}'s configuration leads "
                f"({format_value(value, 'per')}, {n} seed{'s' * (n > 1)})"
            )
        if tied:
            names = ", ".join(row_name(row) for row in tied[:5])
            more = f" and {len(tied) - 5} more" if len(tied) > 5 else ""
            notes.append(
                f"a tie with {row_name(leader)}: {names}{more} (differences below {margin:.4f} can be chance; {source})"
            )
        elif len(rows) > 1:
            gap = fmean(self.draws(rows[1])) - value
            notes.append(f"{row_name(leader)} leads by {gap:.4f}, more than chance explains ({margin:.4f}; {source})")
        return notes

    def ties(self, ranked: Sequence[Row], key: Order) -> list[Row]:
        """The trials that `notes` calls a tie: one for each configuration, also the leader's; the first of `ranked` is
        left out. Empty where the leader is better by more than chance.
        """
        rows, tied, _, _ = self._lead(ranked, key)
        return [row for row in (rows[0], *tied) if row is not ranked[0]] if tied else []

    def _lead(self, ranked: Sequence[Row], key: Order) -> tuple[list[Row], list[Row], float, str]:
        """A row for each configuration, lowest mean over its seeds first; those that are tied with the first; the
        largest margin, and where its s.d. is from. Nothing where `key` is not the column of this object, lowest first.
        """
        if key.column != self.column or key.sign < 0 or len(ranked) < 2:
            return [], [], 0.0, ""
        configurations: dict[Key, Row] = {}
        for row in ranked:
            configurations.setdefault(self.key(row), row)
        means = sorted(((fmean(self.draws(row)), row) for row in configurations.values()), key=itemgetter(0))
        value, leader = means[0]
        rows, tied, margin, source = [row for _, row in means], [], 0.0, ""
        margins: dict[int, tuple[float, str]] = {}  # by the number of seeds: nothing else of a row counts
        for mean, row in means[1:]:
            seeds = len(self.draws(row))
            if seeds not in margins:
                margins[seeds] = self.margin(leader, row)
            difference, source = margins[seeds]
            margin = max(margin, difference)
            if mean - value < difference:
                tied.append(row)
        return rows, tied, margin, source

    def _assumed(self, row: Row) -> float:
        phonemes = self._about.get(row["study"], {}).get("data_val_phonemes") or PUBLISHED_PHONEMES
        p = min(max(row[self.column], 0.01), 0.99)
        return _SPREAD * math.sqrt(p * (1 - p) / phonemes)


def varying(trials: pa.Table) -> list[str]:
    """The configuration columns in which these trials differ.

    A null that only means that the chosen kind has no such key (`optimizer_momentum` of Adam) does not count.
    """
    found = []
    for name in trials.column_names:
        if name not in _FIXED and objective_of(name) is None:
            values = len(trials[name].unique()) - (trials[name].null_count > 0)
            if values > 1 or (values == 1 and trials[name].null_count and not _implied(trials, name)):
                found.append(name)
    return found


def _implied(trials: pa.Table, name: str) -> bool:
    """Whether the column is null because of the kind of its section, where there are several kinds."""
    kind = f"{name.split('_')[0]}_kind"
    if kind not in trials.column_names or kind == name:
        return False
    states = set(zip(trials[kind].to_pylist(), trials[name].is_null().to_pylist(), strict=True))
    kinds = {kind for kind, _ in states}
    return len(states) == len(kinds) > 1


def short_headers(names: Sequence[str]) -> dict[str, str]:
    """Column -> header: `schedule_kind` -> `schedule`, `schedule_peak_lr` -> `peak_lr` where that is unambiguous."""
    short = {n: n.removesuffix("_kind") if n.endswith("_kind") else n.split("_", 1)[-1] for n in names}
    counts: dict[str, int] = defaultdict(int)
    for header in short.values():
        counts[header] += 1
    return {name: header if counts[header] == 1 and header not in _FIXED else name for name, header in short.items()}


def _filtered(results_dir: str | Path, studies: Sequence[str] | None, trials: pa.Table, where: str) -> pa.Table:
    kept = query(results_dir, f"SELECT study, trial FROM trials WHERE (\n{where}\n)", studies, what="where")
    keys = set(zip(kept["study"].to_pylist(), kept["trial"].to_pylist(), strict=True))
    mine = zip(trials["study"].to_pylist(), trials["trial"].to_pylist(), strict=True)
    return trials.filter(pa.array([key in keys for key in mine], pa.bool_()))


def _known(name: str, names: Sequence[str], what: str) -> str:
    if name in names:
        return name
    hint = nearest_or(name, names, "tuner query --schema lists them", cutoff=0.5)
    raise InputError(f"{what}: there is no column {name!r}; {hint}")


def choose_columns(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that patterns such as `schedule_*` match, in their order; InputError for one that matches none."""
    chosen: list[str] = []
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern) or [_known(pattern, names, "columns")]
        chosen += [name for name in matched if name not in chosen]
    return chosen


def _left_out(rows: Sequence[Row], ranked: Sequence[Row], targets: Sequence[Order]) -> list[str]:
    kept = {id(row) for row in ranked}
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        if id(row) not in kept:
            counts[str(row["status"])] += 1
    if not counts:
        return []
    names = " and ".join(order.column for order in targets)
    what = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return [f"not ranked, without {names}: {what}"]


def _front(ranked: Sequence[Row], targets: Sequence[Order]) -> list[Row]:
    front: list[Row] = []
    values: list[list[float]] = []
    for row in ranked:  # sorted by the first target, so that a later row never beats an earlier one
        point = [order.value(row) or 0.0 for order in targets]
        if not any(all(a <= b for a, b in zip(other, point, strict=True)) and other != point for other in values):
            front.append(row)
            values.append(point)
    return front


def _best_of_each(ranked: Sequence[Row], groups: Sequence[str]) -> list[Row]:
    first: dict[tuple[Any, ...], Row] = {}
    for row in ranked:
        kept = first.setdefault(tuple(row[name] for name in groups), {**row, "trials": 0})
        kept["trials"] += 1
    return list(first.values())


def _mixed_data(ranked: Sequence[Row], about: dict[str, Row]) -> list[str]:
    data = {about.get(row["study"], {}).get("data_fingerprint") for row in ranked}
    if len(data) < 2:
        return []
    return [f"the trials ran on {len(data)} different data sets: their PERs cannot be compared; name one study"]


def remark(row: Row) -> str:
    """The note on a trial: what is unusual about it."""
    marks = []
    if row["origin"] == "recorded":
        marks.append("recorded, not trained here")
    elif row["origin"] in ("replicate", "start_point"):
        marks.append(row["origin"].replace("_", " "))
    inherited = row.get("from_trial_epoch") or 0
    if inherited:
        marks.append(f"from trial {row['from_trial']}, epoch {inherited}")
    if row["status"] == "stopped":
        marks.append(f"stopped at epoch {inherited + (row['epochs'] or 0)}")
    elif row["status"] != "completed":
        marks.append(str(row["status"]))
    return ", ".join(marks)


def row_name(row: Row) -> str:
    """A trial as `STUDY/TRIAL`."""
    return f"{row['study']}/{row['trial']}"


def _answer(
    shown: Sequence[Row],
    trials: pa.Schema,
    asked: Sequence[str],
    chosen: Sequence[str],
    seeds: Seeds,
    notes: list[str],
    problems: list[str],
) -> Best:
    types = {"rank": pa.int32(), **{f.name: f.type for f in trials}, "trials": pa.int32(), "seeds": pa.int32()}
    types |= {"mean": pa.float64(), "low": pa.float64(), "high": pa.float64(), "note": pa.string()}
    names = ["rank", "study", "trial", *asked]
    names += ["trials"] if shown and "trials" in shown[0] else []
    names += ["best_per", *(("seeds", "mean", "low", "high") if seeds.several else ()), *_SHOWN, "note", *chosen]
    names = list(dict.fromkeys(names))
    rows = [
        {**row, **dict(zip(("seeds", "mean", "low", "high"), seeds.interval(row), strict=True)), "rank": rank}
        | {"note": remark(row)}
        for rank, row in enumerate(shown, start=1)
    ]
    hide = [name for name in ("gpu_seconds", "cpu_seconds") if not any(row[name] for row in shown)]
    hide += ["status", "origin"]  # the note has what is unusual
    if len({row["study"] for row in shown}) == 1:
        hide.append("study")
    if not any(remark(row) for row in shown):
        hide.append("note")
    hide = [name for name in hide if name not in asked and name not in chosen]
    configuration = [n for n in names if n in trials.names and n not in _FIXED and objective_of(n) is None]
    headers = {**short_headers(configuration), "cpu_seconds": "cpu_s", "gpu_seconds": "gpu_s", "best_epoch": "at_epoch"}
    fields = pa.schema([(name, types[name]) for name in names])
    return Best(Sheet.of(rows, names), fields, notes, problems, headers, hide)
