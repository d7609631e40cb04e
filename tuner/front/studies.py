"""Existing studies: `tuner.open`, `tuner.studies`, and the object that they and `tuner.search` return."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from results.best import Best, best
from results.columns import varying
from results.confirmed import confirmed
from results.output import visible
from results.query import query
from results.report import write
from results.store.paths import RESULTS, find_studies
from results.store.remote import working_folder
from results.store.tables import load_tables
from results.trials import find_trial, read_log
from search_spaces.errors import InputError
from tuner.front import html
from tuner.front.table import Table
from tuner.front.trials import CURVE, TrialView
from tuner.study.settings import StudySettings

_TRIALS = ("trial", "status", "best_per", "best_epoch", "epochs")
_TOP = 5  # trials that a notebook shows


class StudyView:
    """A study. Everything is read from its folder when it is used, so that a running search is shown in its current
    state.

    Damaged lines and files are Python warnings; `tuner query` prints the same as notes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Where its log, tables and checkpoints are."""

    @property
    def name(self) -> str:
        """Its name, which is that of its folder."""
        return self.folder.name

    @property
    def status(self) -> str:
        """running, completed, interrupted or failed, as in the table `studies`."""
        return str(self._load("studies").to_pylist()[0]["status"])

    @property
    def settings(self) -> StudySettings:
        """The current settings: space, searcher, stopping rule, budget, data, versions."""
        return StudySettings.read(read_log(self.folder)[0])

    @property
    def best(self) -> TrialView:
        """The first trial of `tuner best`: the lowest PER or, after `tuner confirm`, the lowest mean over new seeds.

        Raises InputError while no trial has a PER.
        """
        found = self._ranked(1)
        if not found.sheet.rows:
            raise InputError(f"study {visible(self.name)}: no trial has a PER yet; try again when an epoch has ended")
        first = found.sheet.dicts()[0]
        return self._views([(first["study"], first["trial"])])[0]

    @property
    def ties(self) -> list[TrialView]:
        """The trials that are tied with `best`, as in `tuner best`; one for each configuration. Empty where the best
        one leads by more than chance explains.
        """
        return self._views(self._ranked(1).ties)

    @property
    def notes(self) -> list[str]:
        """The sentences below the table of `tuner best`: ties and by how much, what is not ranked and why."""
        return self._ranked(1).notes

    @property
    def trials(self) -> Table:
        """The trials table: a row for each trial, a column for each setting."""
        table = self._load("trials")
        return Table(table, [*_TRIALS, *varying(table)])

    @property
    def epochs(self) -> Table:
        """The epochs table: a row for each epoch of each trial."""
        return Table(self._load("epochs"), ["trial", *CURVE])

    def trial(self, trial: int | str) -> TrialView:
        """One trial, by its number or the name of its run. Raises InputError, with what there is, for another."""
        found = find_trial(self.folder.parent, self.name, str(trial))
        return TrialView(found.folder, found.row, found)

    def query(self, sql: str) -> Table:
        """The rows of one SELECT (DuckDB's SQL) over the tables `studies`, `trials` and `epochs` of this study.

        It can only read, as `tuner query`. Raises InputError, with the nearest name, for a column that there is not.
        """
        problems: list[str] = []
        found = query(self.folder.parent, sql, [self.name], problems)
        _warn(problems)
        return Table(found)

    def report(self, path: str | os.PathLike[str] = "report.html") -> Path:
        """Write the HTML page of `tuner report` to a file, which is replaced if it exists; returns its path."""
        from tuner.analysis.report import make_page

        target = Path(path)
        write(target, make_page(self.folder.parent, [self.name]))
        return target

    def _load(self, table: str) -> Any:
        tables, problems = load_tables(self.folder.parent, [self.name], (table,))
        _warn(problems)
        return tables[table]

    def _ranked(self, top: int) -> Best:
        """The table of `tuner best STUDY`."""
        found = confirmed(self.folder.parent, [self.name], top) or best(self.folder.parent, [self.name], top)
        _warn(found.problems)
        return found

    def _views(self, names: Sequence[tuple[str, int]]) -> list[TrialView]:
        """Trials, (study, number) each: of this study, or of the one that it is a confirmation of."""
        root, wanted = self.folder.parent, list(dict.fromkeys(study for study, _ in names))
        table = load_tables(root, wanted, ("trials",))[0]["trials"] if wanted else None
        rows = {(row["study"], row["trial"]): row for row in (table.to_pylist() if table is not None else ())}
        return [TrialView(root / name[0], rows[name]) for name in names if name in rows]

    def __repr__(self) -> str:
        return f"<study {visible(self.name)}: {self._state()}>"

    def _state(self) -> str:
        """A short text on its state; does not raise for a folder that no longer exists."""
        try:
            row = self._load("studies").to_pylist()[0]
        except InputError as error:
            return error.problems[0]
        trials = f"{row['trials']} trial{'s' * (row['trials'] != 1)}"
        if row["best_per"] is None:
            return f"{row['status']}, {trials}, no PER yet"
        return f"{row['status']}, {trials}, best PER {row['best_per']:.4f} (trial {row['best_trial']})"

    def _repr_html_(self) -> str:
        head = f"<p><b>{html.text(f'study {self.name}')}</b>: {html.text(self._state())}</p>"
        try:
            found = self._ranked(_TOP)
        except InputError:
            return head
        rows = html.table(found.sheet.without(found.hide), found.headers) if found.sheet.rows else ""
        return head + rows + "".join(f"<p>{html.text(note)}</p>" for note in found.notes)


def open(name: str | os.PathLike[str], results: str | os.PathLike[str] | None = None) -> StudyView:
    """The study of that name.

    `results` is the folder that holds the studies, or the URI of an object store; without it TUNER_RESULTS, or
    results/studies. Raises InputError, with the nearest name, for an unknown study.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"study: {name!r} is not allowed; give the name of a study, such as 'first'")
    return StudyView(find_studies(results_folder(results), [os.fspath(name)])[0])


def studies(results: str | os.PathLike[str] | None = None) -> list[StudyView]:
    """All studies of a results folder (see `open`), by name. Raises InputError for a folder without any."""
    return [StudyView(folder) for folder in find_studies(results_folder(results))]


def results_folder(results: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the studies, from what was given or TUNER_RESULTS; an object store's is brought here."""
    given = os.fspath(results) if results is not None else os.environ.get("TUNER_RESULTS") or os.fspath(RESULTS)
    return working_folder(given) if "://" in given else Path(given)


def _warn(problems: Iterable[str]) -> None:
    for problem in dict.fromkeys(problems):
        warnings.warn(visible(problem), stacklevel=3)
