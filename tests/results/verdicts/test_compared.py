"""Trials are compared where they can be, and the text says where they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results.store.tables import load_tables
from results.verdicts.common import CommonPlace, common_place
from results.verdicts.compared import verdict

LONG = [0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.38, 0.37]


def written(root: Path, studies: Any, *trials: list[Any], name: str = "a", data: str = "f0") -> None:
    events = [studies.started(data={"fingerprint": data, "val_phonemes": 3450})]
    studies.write_log(root / name, [*events, *(event for trial in trials for event in trial)])


def said(root: Path, *names: str) -> list[str]:
    return verdict(root, *read(root, *names))


def read(root: Path, *names: str) -> tuple[list[Any], list[Any]]:
    """Rows and curves of trials."""
    tables, _ = load_tables(root)
    every = {table: tables[table].to_pylist() for table in ("trials", "epochs")}
    rows = [next(row for row in every["trials"] if f"{row['study']}/{row['trial']}" == name) for name in names]
    curves = [[e for e in every["epochs"] if (e["study"], e["trial"]) == (r["study"], r["trial"])] for r in rows]
    return rows, curves


@pytest.mark.parametrize("status", ["stopped", "interrupted", "diverged"])
def test_a_trial_that_was_cut_short_is_compared_at_a_common_epoch(tmp_path: Path, studies: Any, status: str) -> None:
    """Epoch 9 of one against epoch 2 of another is no lead; at epoch 2 the one that was cut short is ahead."""
    config = studies.config(model_hidden=64)
    written(
        tmp_path, studies, studies.trial(0, LONG, config=config), studies.trial(1, [0.7, 0.5], status=status, seed=0)
    )
    first, why = said(tmp_path, "a/0", "a/1")
    assert first.startswith("at epoch 2, the last that all reached, a/1 leads by 0.3000, more than chance explains (")
    assert why.startswith("not trained to the end: a/1 (")
    assert why.endswith("how the trials end is not known")
    assert "3,450 phonemes" in first


def test_schedules_of_different_lengths_are_compared_at_a_common_share(tmp_path: Path, studies: Any) -> None:
    """Half of a long schedule against half of a short one, whatever the epochs."""
    short = studies.trial(0, [0.7, 0.5, 0.4, 0.3], config=studies.config(training_batches=400))
    for event in short:
        if event["event"] == "epoch":
            event["schedule_fraction"] = event["epoch"] / 4
    long = studies.trial(1, [0.9, 0.8, 0.7, 0.6, 0.3], status="stopped", config=studies.config(training_batches=1000))
    written(tmp_path, studies, short, long)
    place = common_place(*read(tmp_path, "a/0", "a/1"))
    assert isinstance(place, CommonPlace)
    assert (place.text, place.best) == ("50% of the schedule", [0.5, 0.3])
    assert said(tmp_path, "a/0", "a/1")[0].startswith("at 50% of the schedule, the last that all reached, a/1 leads")


def test_no_common_place_is_no_verdict(tmp_path: Path, studies: Any) -> None:
    """A first evaluation far beyond the share that the other reached, and a trial without a PER, cannot be compared."""
    coarse = studies.trial(0, [0.5, 0.3], config=studies.config(training_batches=200))
    for event in coarse:
        if event["event"] == "epoch":
            event["schedule_fraction"] = event["epoch"] / 2
    early = studies.trial(1, [0.9], status="stopped", config=studies.config(training_batches=1000))
    written(tmp_path, studies, coarse, early, studies.trial(2, [None], status="diverged"))
    assert said(tmp_path, "a/0", "a/1")[0].startswith(
        "no verdict: which is better cannot be said; a/0: no evaluation near 10% of the schedule"
    )
    assert "a/2: no evaluation with a PER" in said(tmp_path, "a/0", "a/2")[0]


def test_trials_on_different_data_have_no_verdict(tmp_path: Path, studies: Any) -> None:
    """Two fingerprints: PERs say nothing about each other."""
    for name in ("a", "b"):
        written(tmp_path, studies, studies.trial(0, LONG), name=name, data=name)
    assert said(tmp_path, "a/0", "b/0") == [
        "no verdict: the trials ran on 2 different data sets; PERs on different data say nothing"
    ]


def test_trials_that_ended_are_compared_by_the_means_of_their_seeds(tmp_path: Path, studies: Any) -> None:
    """Each ran its whole schedule: the configurations' means count, with all the seeds of the study."""
    other = studies.config(model_hidden=64)
    written(
        tmp_path,
        studies,
        studies.trial(0, [0.5, 0.30], seed=0),
        studies.trial(1, [0.5, 0.32], seed=1),
        studies.trial(2, [0.9, 0.60], seed=0, config=other),
    )
    (note,) = said(tmp_path, "a/0", "a/2")
    assert note.startswith("a/0 leads by 0.2900, more than chance explains")
