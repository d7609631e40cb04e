"""One trial of a study, for scripts and notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results.output import Sheet, format_value, visible
from results.store.tables import load_tables
from results.trials import Trial, find_trial
from search_spaces import RunConfig
from tuner.front import html
from tuner.front.table import Table

CURVE = ("epoch", "per", "per_raw", "val_loss", "train_loss", "lr", "decision")
"""Columns of an epochs table that are displayed."""


class TrialView:
    """One trial of a study, as it was when it was read; `curve` and `checkpoint` are read when they are used.

    `row` is its row of the trials table, with every column of `tuner query --schema`.
    """

    def __init__(self, folder: Path, row: dict[str, Any], found: Trial | None = None) -> None:
        self.folder = folder
        """The folder of its study."""
        self.row = row
        self._loaded = found

    @property
    def number(self) -> int:
        """Its number within the study, from 0."""
        return int(self.row["trial"])

    @property
    def study(self) -> str:
        """The name of its study."""
        return self.folder.name

    @property
    def name(self) -> str:
        """`STUDY/NUMBER`, as every command takes it."""
        return f"{self.study}/{self.number}"

    @property
    def status(self) -> str:
        """running, completed, stopped, paused, diverged, failed or interrupted."""
        return str(self.row["status"])

    @property
    def per(self) -> float | None:
        """The lowest phoneme error rate of its epochs; None while there is none."""
        value: float | None = self.row["best_per"]
        return value

    @property
    def best_epoch(self) -> int | None:
        """The epoch that had `per`, from 1; None while there is none."""
        value: int | None = self.row["best_epoch"]
        return value

    @property
    def seed(self) -> int | None:
        """The seed of its weights, batches and augmentation."""
        value: int | None = self.row["seed"]
        return value

    @property
    def error(self) -> str | None:
        """Why it failed or was stopped; None otherwise."""
        value: str | None = self.row["error"]
        return value

    @property
    def config(self) -> RunConfig:
        """The configuration it was trained with. Raises InputError if the log does not have it."""
        return self._found.config

    @property
    def params(self) -> dict[str, Any]:
        """What the searcher drew, by the names of the space's dimensions."""
        return self._found.params

    @property
    def curve(self) -> Table:
        """Its epochs so far, in order: rows of the epochs table."""
        epochs = load_tables(self.folder.parent, [self.study], ("epochs",))[0]["epochs"]
        # The rows are ordered by trial and epoch.
        numbers = epochs["trial"].to_numpy()
        first, last = numbers.searchsorted(self.number), numbers.searchsorted(self.number, "right")
        return Table(epochs.slice(first, last - first), CURVE)

    @property
    def checkpoint(self) -> Path | None:
        """The file with the weights of its best epoch; None where none is kept."""
        name = self.row["checkpoint"]
        path = self.folder / name if name else None
        return path if path is not None and path.is_file() else None

    @property
    def _found(self) -> Trial:
        if self._loaded is None:
            self._loaded = find_trial(self.folder.parent, self.study, str(self.number))
        return self._loaded

    def __repr__(self) -> str:
        return f"<trial {visible(self.name)}: {self._state()}>"

    def _state(self) -> str:
        at = f" at epoch {self.best_epoch}" if self.best_epoch else ""
        per = "no PER yet" if self.per is None else f"PER {format_value(self.per, 'per')}{at}"
        return f"{self.status}, {per}, {self.row['epochs'] or 0} epochs"

    def _repr_html_(self) -> str:
        rows = [{"setting": name, "value": value} for name, value in self.params.items()]
        drawn = html.curve([row["per"] for row in self.curve])
        table = html.table(Sheet.of(rows, ("setting", "value"))) if rows else ""
        return f"<p><b>{html.text(f'trial {self.name}')}</b>: {html.text(self._state())}</p>{drawn}{table}"
