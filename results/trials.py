"""One trial from a results folder: its row, its epochs, its events, and its run.

A trial is named `STUDY/TRIAL`, where TRIAL is its number or the name of its run.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.output import visible
from results.store.events import scan_events, without_settings
from results.store.lines import EPOCH
from results.store.paths import StudyPaths, find_studies
from results.store.tables import load_tables
from results.store.telling import meet
from search_spaces import InputError, Run, RunConfig, Space, load_run
from search_spaces.parsing.sections import InvalidSettings, merge, nested, validate
from search_spaces.wording import did_you_mean
from search_spaces.writing import run_text


@dataclass(frozen=True)
class Trial:
    """A trial from the tables, and the settings of its study."""

    folder: Path
    """The study's."""
    settings: dict[str, Any]
    """The fields of `study_started`, with what resuming changed."""
    row: dict[str, Any]
    """Of the trials table."""
    epochs: list[dict[str, Any]]
    """Rows of the epochs table, in order."""
    events: list[dict[str, Any]]
    """The trial's lines of the log, epochs left out."""
    params: dict[str, Any]
    config: RunConfig
    unknown: tuple[str, ...] = ()
    """The paths of an imported run's settings that are not known; `config` has placeholders for them."""

    @property
    def study(self) -> str:
        """Its study's name."""
        return self.folder.name

    @property
    def number(self) -> int:
        """Its number within the study."""
        return int(self.row["trial"])

    @property
    def name(self) -> str:
        """`STUDY/TRIAL`, printable."""
        return visible(f"{self.study}/{self.number}")

    @property
    def checkpoints(self) -> dict[str, int]:
        """Checkpoint files by their path in the study folder, with their size in bytes."""
        folder = StudyPaths(self.folder).trial(self.number).folder
        files = sorted(folder.glob("*.pt")) if folder.is_dir() else []
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in files}


def find_trial(results_dir: Path, study: str, trial: str) -> Trial:
    """The trial of a study, by its number or the name of its run. Raises InputError, with the nearest name."""
    folder = find_studies(results_dir, [study])[0]
    tables, _ = load_tables(results_dir, [study], ("trials", "epochs"))
    trials = tables["trials"]
    number = _number(trials.select(["trial", "run"]).to_pylist(), study, trial)
    rows = trials.filter(_equal(trials, number)).to_pylist()
    epochs = tables["epochs"].filter(_equal(tables["epochs"], number)).to_pylist()
    settings, events = read_log(folder, number)
    started = next((event for event in events if event["event"] == "trial_started"), None)
    if started is None:
        raise InputError(f"{StudyPaths(folder).log}: has no start of trial {number}; its configuration is not known")
    return Trial(
        folder=folder,
        settings=settings,
        row=rows[0],
        epochs=sorted(epochs, key=lambda row: int(row["epoch"])),
        events=events,
        params=started["params"],
        config=RunConfig.model_validate(started["config"]),
        unknown=tuple(started.get("unknown") or ()),
    )


def parse_name(name: str) -> tuple[str, str] | None:
    """(study, trial) of `STUDY/TRIAL`; None for a name without a slash, and for that of a file."""
    study, slash, trial = name.rpartition("/")
    return (study, trial) if slash and study and trial and not Path(name).is_file() else None


def load_run_or_trial(name: str, results_dir: Path, overrides: Sequence[str] = ()) -> Run:
    """A run by name or path, as `load_run` reads it, or a trial as `STUDY/TRIAL`; `overrides` change either."""
    pair = parse_name(name)
    if pair is None or name.endswith((".yaml", ".yml")):
        return load_run(name, overrides)
    trial = find_trial(results_dir, *pair)
    # As a file, so that a trial and a saved trial have exactly the same settings.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.yaml"
        path.write_text(trial_run_text(trial), encoding="utf-8")
        return load_run(path, overrides)


def trial_run_text(trial: Trial) -> str:
    """The trial as a run file: the whole configuration, its origin, and its PER."""
    row, data = trial.row, trial.settings.get("data") or {}
    inherited = row.get("from_trial_epoch") or 0
    status = f"{row['status']} after {inherited + (row['epochs'] or 0)} of {trial.config.epochs} epochs"
    purpose = f"Trial {trial.number} of the study {visible(trial.study)} ({row['origin']}, {status})."
    notes = f"Saved from data {data.get('name')}, fingerprint {str(data.get('fingerprint'))[:12]}."
    if inherited:
        notes += (
            f" Its first {inherited} epochs are those of trial {row['from_trial']}, with the settings of that trial."
        )
    recorded: dict[str, Any] = {}
    if row["best_per"] is not None:
        recorded = {
            "per": row["best_per"],
            "decoder": row.get("decoder") or "greedy",
            "split": row.get("split") or "validation",
            "note": f"best epoch {row['best_epoch']}",
        }
    assumed = dict.fromkeys(trial.unknown, "not known of this imported run; the program's own default")
    return run_text(trial.config, purpose=purpose, notes=notes, recorded=recorded, assumed=assumed)


def read_log(folder: Path, trial: int | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The study's settings in force, and the events of one trial (of all for None) other than epochs.

    Only the lines that matter are parsed: a log of a million epochs takes a second or two. Lines that are damaged are
    told and left out; InputError if there is no log or it does not begin with the study's settings.
    """
    path = StudyPaths(folder).log
    mine = re.compile(rb'"trial":\s*%d[,}]' % trial) if trial is not None else re.compile(rb'"trial":')

    def wanted(line: bytes) -> bool:
        return not line.startswith(EPOCH) and (b'"study_' in line[:40] or mine.search(line) is not None)

    settings: dict[str, Any] = {}
    problems: list[str] = []
    events = []
    for event in scan_events(path, problems, wanted=wanted):
        if event["event"] == "study_started":
            settings = {**event}
        elif event["event"] == "study_resumed":
            settings.update({key: new for key, (_, new) in event.get("changed", {}).items()})
        elif event["event"].startswith("trial_") and trial in (None, event["trial"]):
            events.append(event)
    meet(problems)
    if not settings:
        raise InputError(without_settings(path))
    return settings, events


def base_config(settings: Mapping[str, Any]) -> tuple[str, RunConfig] | None:
    """The base run of a study's space with the values fixed there, and its name; None for a study without a space."""
    space = settings.get("space")
    if not space:
        return None
    try:
        return space["base"], validate(merge(space["config_base"], nested(space["fixed"])))
    except InvalidSettings:
        return None


def _equal(table: Any, number: int) -> Any:
    import pyarrow.compute as pc

    return pc.equal(table["trial"], number)


def _number(rows: Sequence[Mapping[str, Any]], study: str, trial: str) -> int:
    """The number of the trial that `trial`, a number or a run's name, means."""
    numbers = {str(row["trial"]): int(row["trial"]) for row in rows}
    names = {str(row["run"]): int(row["trial"]) for row in rows if row["run"] is not None}
    found = numbers.get(trial, names.get(trial))
    if found is not None:
        return found
    if not rows:
        raise InputError(f"{visible(study)}: the study has no trials yet")
    last = max(numbers.values())
    hint = did_you_mean(trial, map(visible, names))
    raise InputError(f"{visible(study)}: there is no trial {trial!r}; {hint}the trials are 0 to {last}")


def find_space(results_dir: Path, study: str) -> Space | None:
    """The space that a study searched; None for one without."""
    rows = load_tables(results_dir, [study], ("studies",))[0]["studies"].to_pylist()
    definition = json.loads(rows[0]["space_definition"] or "null")
    return Space.from_dict(definition) if definition else None
