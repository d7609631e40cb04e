"""The repeats of a results folder: configurations that were trained with several seeds.

A trial that was confirmed is left out: it was chosen for its PER, so that its distance from the mean of its new seeds
is not that of a seed like any other.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.columns import FIXED
from results.store.columns import unknown_columns
from results.store.made import open_parquet
from results.store.paths import StudyPaths, find_studies
from results.store.tables import load_tables
from results.verdicts.luck import Luck, Repeats, restlessness
from search_spaces.errors import InputError
from search_spaces.measures import objective_of

Row = Mapping[str, Any]
Name = tuple[str, int]


def chosen_trials(rows: Iterable[Row]) -> set[Name]:
    """The trials, (study, number) each, that replicates which ended name as their parent: they were confirmed."""
    found = set()
    for row in rows:
        study, slash, trial = (row["parent"] or "").rpartition("/")
        if slash and trial.isdigit() and row["origin"] == "replicate" and _counts(row):
            found.add((study, int(trial)))
    return found


class Curves:
    """The curves of trials of a results folder, each study's table of epochs read once, when it is needed."""

    def __init__(self, results_dir: str | Path) -> None:
        self._root = Path(results_dir)
        self._tables: dict[str, pa.Table | None] = {}

    def restless(self, row: Row) -> float | None:
        """The restlessness of a trial's curve; None where its epochs cannot be read or are too few."""
        study = str(row["study"])
        if study not in self._tables:
            self._tables[study] = self._load(study)
        table = self._tables[study]
        if table is None:
            return None
        mine = table.filter(pc.equal(table["trial"], row["trial"])).sort_by("epoch")
        return restlessness(mine["per"].to_pylist())

    def _load(self, study: str) -> pa.Table | None:
        """The epochs of a study: from their file, else as they are shown; None where that cannot be done."""
        with contextlib.suppress(OSError, pa.ArrowException):
            return _read(self._root / study, "epochs", ["trial", "epoch", "per"])
        with contextlib.suppress(OSError, InputError):
            return load_tables(self._root, [study], ("epochs",))[0]["epochs"]
        return None


def repeats_among(
    rows: Iterable[Row], about: Mapping[str, Row], restless: Callable[[Row], float | None] = lambda row: None
) -> list[Repeats]:
    """The configurations of these trials that have two seeds or more.

    `about` has the rows of the studies table by study, `restless` gives the restlessness of a trial's curve.
    """
    rows = list(rows)
    groups: dict[Any, dict[Any, list[Row]]] = defaultdict(lambda: defaultdict(list))
    chosen = chosen_trials(rows)
    for row in rows:
        if _counts(row) and not unknown_columns(row) and (row["study"], row["trial"]) not in chosen:
            groups[data_of(row, about), _settings(row)][row["seed"]].append(row)
    found = []
    for (data, _), seeds in groups.items():
        if len(seeds) > 1:
            members = [row for same in seeds.values() for row in same]
            steps = [step for step in map(restless, members) if step is not None]
            phonemes = about.get(members[0]["study"], {}).get("data_val_phonemes")
            pers = tuple(fmean(row["best_per"] for row in same) for same in seeds.values())
            found.append(Repeats(data, phonemes, pers, fmean(steps) if steps else None))
    return found


def folder_luck(results_dir: str | Path, rows: Sequence[Row] = (), about: Mapping[str, Row] | None = None) -> Luck:
    """What all studies of a results folder say about luck.

    `rows` and `about` are the trials and the studies that were read already; of the others counts what their files of
    tables have. One whose files cannot be read adds nothing; other commands tell what is wrong with it.
    """
    trials, known = list(rows), dict(about or {})
    for folder in find_studies(results_dir):
        if folder.name not in known:
            with contextlib.suppress(OSError, pa.ArrowException, IndexError):
                study, mine = _read(folder, "studies").to_pylist()[0], _read(folder, "trials").to_pylist()
                known[folder.name] = study
                trials += mine
    return Luck(repeats_among(trials, known, Curves(results_dir).restless))


def data_of(row: Row, about: Mapping[str, Row]) -> str:
    """The data set of a trial: its fingerprint; for a study without one, the study itself."""
    return str(about.get(row["study"], {}).get("data_fingerprint") or row["study"])


def _read(folder: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    with open_parquet(StudyPaths(folder).tables[table]) as file:
        return pq.ParquetFile(file).read(columns)


def _counts(row: Row) -> bool:
    return row["status"] == "completed" and row["best_per"] is not None


def _settings(row: Row) -> tuple[tuple[str, Any], ...]:
    """The configuration of a trial; what is null counts as what is not there."""
    return tuple(sorted((k, v) for k, v in row.items() if v is not None and k not in FIXED and objective_of(k) is None))
