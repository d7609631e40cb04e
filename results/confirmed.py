"""The best configurations of a search, trained again with new seeds: their ranking, and how much of the lead was luck.

The lowest PER of a search is partly luck, the more so the more trials there are ("overtuning", Schneider, Bischl and
Feurer 2025, arXiv 2506.19540). So a confirmed configuration is ranked only by the mean over its new seeds; the PER for
which it was chosen is shown, but not used. Ties follow the rule of `results.best`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pyarrow as pa

from results.best import Best, Row
from results.columns import choose_columns, remark, row_name, short_headers, varying
from results.output import Sheet, format_value
from results.store.lines import read_line
from results.store.paths import StudyPaths, find_studies
from results.store.replay import schema
from results.store.tables import load_tables
from results.verdicts.repeats import Curves, folder_luck
from results.verdicts.seeds import Seeds

_COLUMNS = ("rank", "study", "trial", "seeds", "mean", "low", "high", "best_per", "luck", "epochs", "status", "origin")
_TYPES = {"rank": pa.int32(), "seeds": pa.int32(), "note": pa.string()} | dict.fromkeys(
    ("mean", "low", "high", "luck"), pa.float64()
)


def confirms(folder: Path) -> str | None:
    """The name of the study that this study confirms; None if it is not a confirmation."""
    try:
        with StudyPaths(folder).log.open("rb") as file:
            line = file.readline()
    except OSError:
        return None
    event = read_line(line).event if b'"confirms"' in line else None
    name = event.get("confirms") if event else None
    return name if isinstance(name, str) else None


def confirmations(results_dir: str | Path, study: str) -> list[str]:
    """The studies of the results folder that confirm `study`."""
    return [folder.name for folder in find_studies(results_dir) if confirms(folder) == study]


def confirmed(
    results_dir: str | Path, studies: Sequence[str], top: int = 10, columns: Sequence[str] | None = None
) -> Best | None:
    """The best-config table of confirmed studies; None where no trial with a new seed has ended.

    First the confirmed configurations, one row each, lowest mean over the new seeds first, with its 95 % interval.
    `best_per` is the PER in the search; `luck` is the mean minus this (null where the searched trial did not run to its
    end, or its run had another length). Then the other trials of the studies named, by their single PER. `studies`
    names searches, confirmations or both; each includes the other.
    """
    root = Path(results_dir)
    find_studies(root, studies)  # raises for an unknown name
    searched = dict.fromkeys(confirms(root / name) or name for name in studies)
    again = {other: name for name in searched for other in confirmations(root, name)}
    if not again:
        return None
    named = dict.fromkeys([*searched, *again, *_parents(root, again)])
    there = [name for name in named if StudyPaths(root / name).log.exists()]
    tables, problems = load_tables(root, there, ("studies", "trials"))
    varied = varying(tables["trials"])
    chosen = varied if columns is None else choose_columns(columns, tables["trials"].column_names)
    wanted = list(dict.fromkeys([*schema("trials").names, *varied, *chosen]))
    rows = tables["trials"].select(wanted).to_pylist()
    fresh = [_as_parent(row) for row in rows if row["study"] in again and row["status"] == "completed"]
    fresh = [row for row in fresh if row["best_per"] is not None and row["trial"] >= 0]
    if not fresh:
        return None
    about = {row["study"]: row for row in tables["studies"].to_pylist()}
    seeds = Seeds(
        fresh, about, varied, "best_per", folder_luck(root, tables["trials"].to_pylist(), about), Curves(root).restless
    )
    own = {(row["study"], row["trial"]): row for row in rows if row["study"] not in again}
    leaders = {(row["study"], row["trial"]): row for row in fresh}
    shown = [_leader_row(own.get(key, {}), row, seeds) for key, row in leaders.items()]
    shown.sort(key=lambda row: (row["mean_of_seeds"], row["study"], row["trial"]))
    ranked = [leaders[row["study"], row["trial"]] for row in shown]
    notes = _notes(shown, ranked, seeds)
    open_seeds = sum(row["study"] in again and row["status"] in ("running", "interrupted", "paused") for row in rows)
    if open_seeds:
        notes.append(
            f"trials with new seeds that have not ended: {open_seeds}; continue with: tuner resume {' or '.join(again)}"
        )
    rest = [row for key, row in own.items() if key not in leaders and row["study"] in studies]
    rest = sorted((r for r in rest if r["best_per"] is not None), key=lambda r: (r["best_per"], r["study"], r["trial"]))
    if rest and len(shown) < top:
        notes.append(f"below rank {len(shown)}: one seed each, ranked by the PER of the search")
    shown += [{**row, "seeds": 0, "note": remark(row)} for row in rest]
    answer = _table(shown[:top], tables["trials"].schema, chosen, notes, problems)
    answer.ties = [(row["study"], row["trial"]) for row in seeds.ties(ranked)]
    return answer


def _parents(root: Path, again: Sequence[str] | dict[str, str]) -> list[str]:
    """The studies whose trials the confirmations repeat: a campaign confirms the leaders of two searches at once."""
    there = [name for name in again if StudyPaths(root / name).log.exists()]
    parents = load_tables(root, there, ("trials",))[0]["trials"]["parent"].unique().to_pylist() if there else []
    return list(dict.fromkeys(str(parent).rpartition("/")[0] for parent in parents if parent and "/" in str(parent)))


def _as_parent(row: Row) -> Row:
    """A replicate, with the name of the trial that it repeats (`parent` is STUDY/TRIAL); trial -1 if there is none."""
    study, _, trial = (row["parent"] or "").rpartition("/")
    return {**row, "study": study, "trial": int(trial) if trial.isdigit() else -1, "parent": None}


def _leader_row(own: Row, fresh: Row, seeds: Seeds) -> Row:
    """What is shown of a confirmed configuration: the searched trial's row, if it is still there, and its seeds."""
    count, mean, low, high = seeds.interval(fresh)
    value = fmean(seeds.draws(fresh))
    row = {**fresh, "best_per": None, "status": None, "epochs": None, "origin": None, **own}
    # A campaign confirms in longer runs; where no length varies, the rows do not have it.
    same = own.get("training_batches") == fresh.get("training_batches")
    luck = value - row["best_per"] if row["status"] == "completed" and same else None
    shown = {"seeds": count, "mean": value if mean is None else mean, "low": low, "high": high, "luck": luck}
    return {**row, **shown, "mean_of_seeds": value, "note": "; ".join(filter(None, ("confirmed", remark(row))))}


def _notes(shown: Sequence[Row], fresh: Sequence[Row], seeds: Seeds) -> list[str]:
    """Notes: whether the best trial of the search stays first, which differences are ties, how lucky the search was."""
    notes = []
    first = min((row for row in shown if row["best_per"] is not None), key=lambda row: row["best_per"], default=None)
    if first is not None and len(shown) > 1:
        notes.append(_stays(shown, fresh, shown.index(first), seeds))
    notes += seeds.notes(fresh)
    lucks = [row["luck"] for row in shown if row["luck"] is not None]
    if lucks:
        mean = fmean(lucks)
        text = f"with new seeds the PER is {abs(mean):.4f} {'higher' if mean >= 0 else 'lower'} than in the search"
        notes.append(
            f"{text} (mean of {len(lucks)} configuration{'s' * (len(lucks) > 1)})"
            + ("; the lowest of many is partly luck" if mean > 0 else "")
        )
    return notes


def _stays(shown: Sequence[Row], fresh: Sequence[Row], at: int, seeds: Seeds) -> str:
    """One sentence on the trial that was first in the search and is now at position `at`."""
    name = f"{row_name(shown[at])}, first in the search,"
    found = seeds.compare(fresh[0], fresh[1] if at == 0 else fresh[at])
    if at == 0:
        if found.beyond:
            return f"{name} stays first with new seeds"
        lead = f"its lead of {found.difference:.4f} can be chance ({found.margin:.4f})"
        return f"{name} is first with new seeds too, but {lead}"
    ahead = f"{row_name(shown[0])} is {format_value(found.difference, 'per')} better with new seeds"
    if found.beyond:
        return f"{name} was lucky: {ahead}, more than chance explains ({found.margin:.4f})"
    maybe = f"which can be chance ({found.margin:.4f}), so either may be the better one"
    return f"{name} does not stay first: {ahead}, {maybe}"


def _table(
    shown: Sequence[Row], trials: pa.Schema, chosen: Sequence[str], notes: list[str], problems: list[str]
) -> Best:
    names = list(dict.fromkeys([*_COLUMNS, "note", *chosen]))
    types = {**{f.name: f.type for f in trials}, **_TYPES}
    rows = [{**row, "rank": rank} for rank, row in enumerate(shown, start=1)]
    hide = [name for name in ("status", "origin", "epochs") if name not in chosen]
    if len({row["study"] for row in shown}) == 1:
        hide.append("study")
    headers = {**short_headers([name for name in chosen if name in trials.names]), "best_per": "search"}
    fields = pa.schema([(name, types[name]) for name in names])
    return Best(Sheet.of(rows, names), fields, notes, problems, headers, hide)
