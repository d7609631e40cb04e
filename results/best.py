"""The best-config table: which configuration is best, by how much, and whether the difference is more than luck.

A configuration has one rank: that of the mean over its seeds (`results.verdicts.seeds`). What counts as a tie is told
in `results.verdicts.luck`. Only trials on one data set are in one ranking (`results.verdicts.data_sets`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.columns import FIXED, choose_columns, known_column, remark, short_headers, varying
from results.measured import ranked_by, with_measures
from results.output import Sheet, beyond, render
from results.query import query
from results.store.replay import column_array, schema
from results.store.tables import load_tables
from results.verdicts.data_sets import one_data_set
from results.verdicts.luck import Luck
from results.verdicts.repeats import Curves, folder_luck
from results.verdicts.seeds import Seeds
from search_spaces.errors import InputError
from search_spaces.measures import objective_of

_BLOCKS = 2
"""Blocks of columns that a table in a terminal has at most."""
_SHOWN = ("best_per", "best_epoch", "last_per", "epochs", "status", "origin", "gpu_seconds", "cpu_seconds")
_PER_COLUMNS = ("best_per", "last_per")

Row = dict[str, Any]


@dataclass
class Best:
    """The answer of `best`: a row for each trial shown, `notes` to print below it, `problems` found in the files.

    `headers` are shorter column names for a terminal; `hide` are columns that are left out there. `schema` has the
    columns' Arrow types. `ties` are the trials, (study, number) each, that the notes call tied with the first.
    `settings` are columns of which a terminal shows as many as fit into `_BLOCKS` blocks.
    """

    sheet: Sheet
    schema: pa.Schema
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    hide: list[str] = field(default_factory=list)
    ties: list[tuple[str, int]] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)

    @property
    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        values = zip(*self.sheet.rows, strict=True) if self.sheet.rows else ((),) * len(self.sheet.names)
        arrays = [column_array(list(column), f.type) for column, f in zip(values, self.schema, strict=True)]
        return pa.table(arrays, schema=self.schema)

    def render(self, format: str = "table", *, width: int | None = None, color: bool = False) -> str:
        """The table in a format of `results.output`; in a terminal and in Markdown the notes follow it."""
        hide, notes = self.hide, self.notes
        if format == "table" and self.settings:
            more = beyond(self.sheet.without(hide), _BLOCKS, width, self.headers)
            more = [name for name in more if name in self.settings]
            hide = [*hide, *more]
            if more:
                names = ", ".join(more[:3]) + (", ..." if len(more) > 3 else "")
                text = f"{len(more)} more setting{'s' * (len(more) > 1)} that vary: {names}"
                notes = [*notes, f"{text}; --columns NAME,... shows those named, --format csv all"]
        text = render(self.sheet, format, width=width, color=color, headers=self.headers, hide=hide)
        if format not in ("table", "markdown") or not notes:
            return text
        return text + "\n" + "".join(f"{note}\n" if format == "table" else f"- {note}\n" for note in notes)


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
    wanted, notes = ranked_by(by, pareto, tables["studies"])
    every = with_measures(tables["trials"], [text.split()[0] for text in wanted if text], results_dir, studies)
    measured = [name for name in every.column_names if name not in tables["trials"].column_names]
    trials = _filtered(results_dir, studies, every, where) if where else every
    varied = varying(every)
    chosen = varying(trials) if columns is None else choose_columns(columns, trials.column_names)
    groups = [
        known_column(name.strip(), trials.column_names, "group_by") for name in (group_by or "").split(",") if group_by
    ]
    wanted_columns = list(dict.fromkeys([*schema("trials").names, *measured, *varied, *chosen, *groups]))
    rows = trials.select(wanted_columns).to_pylist()
    notes += [] if rows else ["no trials" + (" meet the condition" if where else " yet")]
    about = {row["study"]: row for row in tables["studies"].to_pylist()}
    key, *others = [Order(text, trials.schema) for text in wanted]
    targets = others if pareto else [key]
    ranked = [row for row in rows if all(order.value(row) is not None for order in targets)]
    ranked.sort(key=lambda row: [*(order.value(row) for order in targets), row["study"], row["trial"]])
    notes += _left_out(rows, ranked, targets)
    if any(objective_of(order.column) or order.column in _PER_COLUMNS for order in targets):
        ranked, left = one_data_set(ranked, about, studies)
        notes += left
    by_per = key.column in _PER_COLUMNS and key.sign > 0
    luck = folder_luck(results_dir, tables["trials"].to_pylist(), about) if by_per else Luck()
    column = key.column if key.column in _PER_COLUMNS else "best_per"
    whole = every.select(wanted_columns).to_pylist() if where else rows
    seeds = Seeds(whole, about, varied, column, luck, Curves(results_dir).restless)
    ties: list[Row] = []
    if pareto:
        shown = _front(ranked, targets)
        notes.append(f"{len(shown)} of {len(ranked)} trials are on the Pareto front of {pareto}")
    elif groups:
        shown = _best_of_each(ranked, groups)
    elif by_per:
        shown = seeds.configurations(ranked)
        notes += _several(shown, ranked, seeds) + seeds.notes(ranked)
        ties = seeds.ties(ranked)
    else:
        shown = ranked
    asked = [*groups, key.column, *(order.column for order in targets)]
    answer = _answer(shown[:top], trials.schema, asked, chosen, seeds, named=columns is not None)
    answer.notes, answer.problems = notes, problems
    answer.ties = [(row["study"], row["trial"]) for row in ties]
    return answer


def _several(shown: Sequence[Row], ranked: Sequence[Row], seeds: Seeds) -> list[str]:
    """Notes where configurations with several seeds are ranked by a mean, and have one row."""
    notes = []
    if any(len(seeds.draws(row)) > 1 for row in shown):
        notes.append("ranked by the mean over seeds where a configuration has several")
    if more := len(ranked) - len(shown):
        notes.append(f"{more} more trial{'s' * (more > 1)} of configurations that have a row already")
    return notes


class Order:
    """A column to rank by: `NAME` (lowest first) or `NAME desc`."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        words = text.split()
        if len(words) not in (1, 2) or (len(words) == 2 and words[1].lower() not in ("asc", "desc")):
            raise InputError(f"by: {text!r} is not allowed; give a column, or a column and desc")
        self.column = known_column(words[0], schema.names, "by")
        kind = schema.field(self.column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            raise InputError(f"by: {self.column} has {kind} values; give a column of numbers, such as best_per")
        self.sign = -1 if len(words) == 2 and words[1].lower() == "desc" else 1

    def value(self, row: Row) -> float | None:
        """The number to sort by, lower is better; None where there is none."""
        value = row[self.column]
        return None if value is None else self.sign * float(value)


def _filtered(results_dir: str | Path, studies: Sequence[str] | None, trials: pa.Table, where: str) -> pa.Table:
    kept = query(results_dir, f"SELECT study, trial FROM trials WHERE (\n{where}\n)", studies, what="where")
    keys = set(zip(kept["study"].to_pylist(), kept["trial"].to_pylist(), strict=True))
    mine = zip(trials["study"].to_pylist(), trials["trial"].to_pylist(), strict=True)
    return trials.filter(pa.array([key in keys for key in mine], pa.bool_()))


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


def _answer(
    shown: Sequence[Row], trials: pa.Schema, asked: Sequence[str], chosen: Sequence[str], seeds: Seeds, named: bool
) -> Best:
    """The rows as a table; `named`: the configuration columns are those that were asked for."""
    types = {"rank": pa.int32(), **{f.name: f.type for f in trials}, "trials": pa.int32(), "seeds": pa.int32()}
    types |= {"mean": pa.float64(), "low": pa.float64(), "high": pa.float64(), "note": pa.string()}
    names = ["rank", "study", "trial", *(("run",) if any(row["run"] for row in shown) else ()), *asked]
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
    if len(rows) > 1 and not named:
        hide += [name for name in chosen if len({repr(row[name]) for row in rows}) == 1]
    if len({row["study"] for row in shown}) == 1:
        hide.append("study")
    if not any(remark(row) for row in shown):
        hide.append("note")
    hide = [name for name in hide if name not in asked and (name in FIXED or not named or name not in chosen)]
    configuration = [n for n in names if n in trials.names and n not in FIXED and objective_of(n) is None]
    headers = {**short_headers(configuration), "cpu_seconds": "cpu_s", "gpu_seconds": "gpu_s", "best_epoch": "at_epoch"}
    fields = pa.schema([(name, types[name]) for name in names])
    settings = [] if named else list(chosen)
    return Best(Sheet.of(rows, names), fields, headers=headers, hide=hide, settings=settings)
