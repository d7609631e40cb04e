"""Studies of runs that were not trained here: the history kept by hand, and results of other programs.

They are logs like any other, with trials of origin `recorded`, so they are part of every table, query and page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.store.events import EventLog
from results.store.lock import StudyLock
from results.store.paths import StudyPaths, check_name
from results.store.tables import compact
from search_spaces import InputError, Run, RunConfig, load_run, to_dict
from search_spaces.common import atomic
from search_spaces.recorded import LINEAGE
from tuner.study import provenance

INCOMPLETE = ("run16_2", "run18_long_sgdr_swa")
"""The runs whose training is called incomplete in the record."""


@dataclass
class PastTrial:
    """One run: its configuration, and its evaluations in order (none where only a result is known).

    `about` holds the named columns of the trials table (run, parent, phase, purpose, decoder, beam_per, split,
    assumed, note); `epochs` hold columns of the epochs table; `result` holds best_per and last_per for a run without
    epochs.
    """

    config: RunConfig
    status: str
    about: dict[str, Any]
    epochs: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, float] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    """Dotted paths of the settings that are not known: their values in `config` are placeholders."""


def add_recorded(results_dir: Path, study: str) -> list[Run]:
    """Write the recorded runs that come with the program as the study `study`; returns them, oldest first.

    A run without a result in the record has the status `completed` and no PER; one whose training is called incomplete
    is `interrupted`. Raises `InputError` if the study exists.
    """
    runs = [load_run(name) for name in LINEAGE]
    trials = [_recorded(run) for run in runs]
    note = "the 23 runs of the changelog kept by hand; not trained here"
    write_study(results_dir, study, trials, data={"name": "recorded", "path": "not here"}, note=note)
    return runs


def write_study(
    results_dir: Path, study: str, trials: Iterable[PastTrial], *, data: Mapping[str, Any], note: str
) -> None:
    """Make a study folder of `trials` in one step.

    It is written beside its place, under its lock, and renamed. Raises `InputError` for a name that is not allowed, a
    study that exists, and a folder that cannot be written.
    """
    check_name(study)
    trials = list(trials)
    target = results_dir / study
    if target.exists():
        raise InputError(f"{target}: the study '{study}' exists; choose another name with --study")
    with (
        atomic.folder(target, advice="nothing was added") as incoming,
        StudyLock(incoming),
        EventLog(StudyPaths(incoming).log) as log,
    ):
        log.append("study_started", **_settings(study, len(trials), data, note))
        for number, trial in enumerate(trials):
            _append(log, number, trial)
        log.append("study_ended", reason="recorded", host=provenance.host())
    compact(target)


def _settings(study: str, count: int, data: Mapping[str, Any], note: str) -> dict[str, Any]:
    return {
        "study": study,
        "space": None,
        "data": {"fingerprint": None, **data},
        "code": provenance.code(),
        "packages": {},
        "host": provenance.host(),
        "searcher": {"kind": "none"},
        "stopping": {"kind": "none"},
        "objective": "best_per",
        "start_points": [],
        "seed": None,
        "budget": {"trials": count, "hours": None},
        "retries": 0,
        "resources": {"cpus_per_trial": None, "gpus_per_trial": None, "concurrent": None},
        "origin_note": note,
    }


def _append(log: EventLog, number: int, trial: PastTrial) -> None:
    started: dict[str, Any] = {
        "trial": number,
        "seed": None if "training.seed" in trial.unknown else trial.config.training.seed,
        "origin": "recorded",
        "params": {},
        "config": to_dict(trial.config),
        **({"unknown": list(trial.unknown)} if trial.unknown else {}),
        "from_epoch": 0,
        "host": None,
        **trial.about,
    }
    attempt = 1
    log.append("trial_started", attempt=attempt, **started)
    for row in trial.epochs:
        if row.get("attempt", attempt) != attempt:
            attempt = row["attempt"]
            log.append("trial_started", attempt=attempt, **{**started, "from_epoch": row["epoch"] - 1})
        values = {"per": None, "val_loss": None, "rung": None, "decision": "continue", "reason": None, **row}
        log.append("epoch", **{**values, "trial": number, "attempt": attempt})
    known = {name: value for name, value in trial.result.items() if not math.isnan(value)}
    log.append("trial_ended", trial=number, attempt=attempt, status=trial.status, error=None, checkpoint=None, **known)


def _recorded(run: Run) -> PastTrial:
    recorded = run.recorded
    per = recorded.get("per")
    note = " ".join(text if text.endswith((".", "?")) else f"{text}." for text in _notes(run))
    about = {
        "run": run.name,
        "parent": run.parent,
        "phase": run.phase,
        "purpose": run.purpose or None,
        "decoder": recorded.get("decoder"),
        "beam_per": recorded.get("per_beam"),
        "split": recorded.get("split") or None,
        "assumed": ", ".join([*(path.replace(".", "_") for path in run.assumed), *_result_assumed(run)]) or None,
        "note": note or None,
    }
    status = "interrupted" if run.name in INCOMPLETE else "completed"
    return PastTrial(run.config, status, about, result={} if per is None else {"best_per": per, "last_per": per})


def _result_assumed(run: Run) -> list[str]:
    """The columns of its result that were not written down; how a PER was averaged has no column."""
    return [name for name in run.recorded.get("assumed", {}) if name != "averaging"]


def _notes(run: Run) -> list[str]:
    approximate = "The PER is approximate" if run.recorded.get("approximate") else ""
    return [text for text in (run.notes, approximate, run.recorded.get("note", ""), *run.remarks) if text]
