"""The importance of settings in a search, by PED-ANOVA and fANOVA, with stopped trials included correctly.

A stopped trial has no final PER, and its last PER cannot be compared with those of trials that were trained longer.
Leaving such trials out would keep only the survivors; using their last PER would measure which trials were stopped. So
the score of a trial is the fraction of the other trials that are better *at the last epoch that both reached*, by the
study's objective up to there, ties (only blanks: PER 1.0) by validation loss. Diverged trials are worse than all that
did not diverge; failed and running trials are left out. An equal epoch favours schedules that end early: two trials
with different horizons are compared half way through one of them.

A conditional dimension (EMA's decay) is judged among the trials where it is active, together with the dimensions that
are active in all of these. Every number is a fraction of what those settings explain together, so numbers under two
conditions cannot be compared. `chance` is the maximum of 19 permutations of the scores, as such a fraction, 1 at most:
a setting below it may have no effect (above it, p < 5% for a single setting).

Sources: PED-ANOVA, Watanabe et al. 2023; fANOVA, Hutter et al. 2014; both from Optuna.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import create_trial

from results.store.tables import load_tables
from search_spaces import InputError, Space
from search_spaces.dimensions.dimension import Dimension
from search_spaces.measures import measure_of, objective_of
from search_spaces.parsing.sections import ABSENT
from search_spaces.wording import show
from tuner.study.searchers.method import coded, distribution

LEAST_TRIALS = 10
"""Least number of trials in which a dimension must be active."""
APART = 0.25
"""PED-ANOVA and fANOVA of a setting disagree where they are further apart than this."""
_COUNTED = ("completed", "stopped", "diverged")
_SHUFFLES = 19
_MOST_FANOVA = 300  # trials; its time grows faster than their number
_TREES = 24

Row = dict[str, Any]
Sample = dict[str, Any]


def importance(results_dir: str | Path, study: str) -> list[Row]:
    """A row for each sampled dimension of a study's space, the most important (by PED-ANOVA) first.

    Keys: `dimension` (its name in the space), `path`, `active` (its condition; "" where it always is), `trials` (where
    it is active), `ped_anova`, `chance`, `fanova` (shares from 0 to 1, None where there are fewer than `LEAST_TRIALS`
    trials or they all have one value), `note`. Deterministic. Raises `InputError` for a study without a search space
    or without trials to count.
    """
    space, samples, score = scored(results_dir, study)
    rows: list[Row] = []
    judged: dict[tuple[int, ...], dict[str, Row]] = {}
    for dimension in space.dimensions:
        if not dimension.sampled:
            continue
        name = dimension.name
        members = tuple(index for index, sample in enumerate(samples) if name in sample)
        row: Row = {"dimension": name, "path": dimension.path, "active": condition(dimension)}
        row |= {"trials": len(members), "ped_anova": None, "chance": None, "fanova": None, "note": ""}
        if len(members) < LEAST_TRIALS:
            row["note"] = (
                f"active in {len(members)} trial{'s' * (len(members) != 1)}; {LEAST_TRIALS} or more are needed"
            )
        elif len({repr(samples[index][name]) for index in members}) < 2:
            row["note"] = "had only one value"
        else:
            if members not in judged:
                judged[members] = _judge(space, [samples[i] for i in members], score[list(members)])
            row |= judged[members][name]
            if row["ped_anova"] <= row["chance"]:
                row["note"] = "not above chance"
        rows.append(row)
    return sorted(rows, key=lambda row: -1.0 if row["ped_anova"] is None else row["ped_anova"], reverse=True)


def disagreements(rows: Sequence[Row]) -> list[str]:
    """A sentence for each setting on which PED-ANOVA and fANOVA disagree by more than `APART`: what that means."""
    told = []
    for row in rows:
        if row["ped_anova"] is None or abs(row["ped_anova"] - row["fanova"]) <= APART:
            continue
        if row["fanova"] > row["ped_anova"]:
            why = "it tells bad trials from the others (fANOVA counts all trials), but not the best from the good ones"
        else:
            why = "the best trials have certain values of it (PED-ANOVA), but over all trials it changes the PER little"
        numbers = f"PED-ANOVA {row['ped_anova']:.2f}, fANOVA {row['fanova']:.2f}"
        told.append(f"{row['path']}: {numbers}: {why}")
    return told


def scored(results_dir: str | Path, study: str) -> tuple[Space, list[Sample], np.ndarray]:
    """The space, the samples (dimension name -> sample) of each trial that counts, and its score: float64 [trials].

    The score is the share of the others that are better where both have been, 0 for the best. Raises `InputError`
    for a study without a search space or without trials to count.
    """
    tables, _ = load_tables(results_dir, [study])
    about = tables["studies"].to_pylist()[0]
    definition = json.loads(about["space_definition"] or "null")
    if not definition:
        raise InputError(
            f"{study}: has no search space, because its runs were given by hand; importance needs a search"
        )
    space = Space.from_dict(definition)
    trials = [row for row in tables["trials"].to_pylist() if row["status"] in _COUNTED and row["epochs"]]
    if not trials:
        raise InputError(f"{study}: no trial has ended with a result; wait, or name another study")
    objective = about["objective"] or "best_per"
    column = measure_of(objective) if objective_of(objective) else "per"
    curves = tables["epochs"].select(list(dict.fromkeys(["trial", "epoch", column, "val_loss"])))
    return space, [_sample(space, row) for row in trials], _scores(trials, curves, objective, column)


def condition(dimension: Dimension) -> str:
    """When a dimension is active: `schedule.kind = one_cycle`; empty where it always is."""
    return " and ".join(f"{path} = {' or '.join(map(show, values))}" for path, values in dimension.when.items())


def _sample(space: Space, row: Row) -> Sample:
    """The samples that give a trial's configuration: what the searcher chose, or the nearest it could have."""
    sample: Sample = {}
    for dimension in space.dimensions:
        if not dimension.sampled:
            continue
        active = all(any(_equal(row.get(_column(path)), v) for v in vs) for path, vs in dimension.when.items())
        value = row.get(_column(dimension.path))
        if not active or (value is None and not dimension.takes(None)):
            continue
        other = row.get(_column(dimension.of)) if dimension.of else None
        found = dimension.nearest(dimension.sample(value, other))
        if not _equal(found, ABSENT):
            sample[dimension.name] = found
    return sample


def _column(path: str) -> str:
    return path.replace(".", "_")


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _scores(trials: Sequence[Row], curves: Any, objective: str, column: str) -> np.ndarray:
    number = {row["trial"]: index for index, row in enumerate(trials)}
    trial, epoch = curves["trial"].to_numpy(), curves["epoch"].to_numpy()
    known = np.isin(trial, list(number)) & (epoch > 0)
    at = np.array([number[t] for t in trial[known]], dtype=int), epoch[known] - 1
    shape = len(trials), int(epoch[known].max(initial=1))
    values = []
    for name in (column, "val_loss"):
        value = np.full(shape, np.inf)
        reported = curves[name].to_numpy(zero_copy_only=False)[known].astype(float)
        value[at] = np.where(np.isfinite(reported), reported, np.inf)
        diverged = [row["status"] == "diverged" for row in trials]
        value[diverged] = np.inf
        values.append(value if objective.startswith("last_") else np.minimum.accumulate(value, axis=1))
    per, loss = values
    reached = np.zeros(len(trials), dtype=int)
    np.maximum.at(reached, at[0], at[1])
    score = np.zeros(len(trials))
    everyone = np.arange(len(trials))
    for i in everyone:
        e = np.minimum(reached, reached[i])
        mine, others = per[i, e], per[everyone, e]
        tied = mine == others
        better = (others < mine) | (tied & (loss[everyone, e] < loss[i, e]))
        equal = tied & (loss[everyone, e] == loss[i, e])
        score[i] = better.sum() + 0.5 * (equal.sum() - 1)
    return score / max(1, len(trials) - 1)


def _judge(space: Space, samples: Sequence[Sample], score: np.ndarray) -> dict[str, Row]:
    """Dimension -> PED-ANOVA, chance and fANOVA, for those that are active in all these trials and vary."""
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator  # 1.3 s: scikit-learn

    shared = [name for name in samples[0] if all(name in sample for sample in samples)]
    names = [name for name in shared if len({repr(sample[name]) for sample in samples}) > 1]
    rng = np.random.default_rng(0)
    # The best tenth, but 5 trials or more (and never more than half), is what PED-ANOVA compares with all.
    by_shape = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(0.5, 5 / len(samples))))
    study = _study(space, names, samples)
    shape = _evaluate(by_shape, study, names, score)
    chance = dict.fromkeys(names, 0.0)
    for _ in range(_SHUFFLES):
        for name, value in _evaluate(by_shape, study, names, rng.permutation(score)).items():
            chance[name] = max(chance[name], value)
    few = np.sort(rng.permutation(len(samples))[:_MOST_FANOVA])
    by_forest = FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
    forest = _evaluate(by_forest, _study(space, names, [samples[i] for i in few]), names, score[few])
    whole, explained = sum(shape.values()) or 1.0, sum(forest.values()) or 1.0
    return {
        name: {
            "ped_anova": shape[name] / whole,
            # Where nothing mattered, chance gives one setting more than all of them explain: on this axis, all of it.
            "chance": min(1.0, chance[name] / whole),
            "fanova": forest[name] / explained,
        }
        for name in names
    }


def _study(space: Space, names: Sequence[str], samples: Sequence[Sample]) -> optuna.Study:
    """An Optuna study of these trials, in order; their values are put in by `_evaluate`."""
    study = optuna.create_study(direction="minimize")
    here = [dimension for dimension in space.dimensions if dimension.name in names]
    known = {dimension.name: distribution(dimension) for dimension in here}
    for sample in samples:
        params = {dimension.name: coded(dimension, sample[dimension.name]) for dimension in here}
        study.add_trial(create_trial(params=params, distributions=dict(known), value=0.0))
    return study


def _evaluate(evaluator: Any, study: optuna.Study, names: Sequence[str], score: np.ndarray) -> dict[str, float]:
    """The evaluator's numbers, not normalised, for the study's trials with these scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the numbers of few trials are rough is said by `chance`
        found: dict[str, float] = evaluator.evaluate(
            study, params=list(names), target=lambda trial: float(score[trial.number])
        )
    return {name: max(0.0, float(value)) for name, value in found.items()}
