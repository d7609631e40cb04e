"""Which settings matter: found where there is something to find, with stopped trials and conditions treated right."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.store.events import EventLog
from search_spaces import InputError, to_dict
from tuner.analysis.importance import APART, disagreements, importance, scored


class _Draws:
    """Random samples, as an Optuna trial gives them."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return math.exp(self._rng.uniform(math.log(low), math.log(high))) if log else self._rng.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self._rng.randint(low, high)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._rng.choice(choices)


@pytest.fixture
def study(toy: Any) -> Any:
    """Writes a study over the toy space: `study(trials)`, each (params, pers, status)."""

    def make(trials: list[tuple[dict[str, Any], list[float], str]], name: str = "s") -> Path:
        with_log = EventLog(toy.folder / "results" / name / "events.jsonl")
        with_log.append("study_started", study=name, space=toy.space.as_dict(), objective="best_per")
        for number, (params, pers, status) in enumerate(trials):
            config = to_dict(toy.space.config(params, number))
            about = {"trial": number, "attempt": 1}
            with_log.append("trial_started", **about, seed=number, params=params, config=config)
            for epoch, per in enumerate(pers, 1):
                with_log.append("epoch", **about, epoch=epoch, batch=epoch, per=per, val_loss=3 * per)
            with_log.append("trial_ended", **about, status=status)
        with_log.close()
        return toy.folder / "results"

    return make


def sampled(toy: Any, count: int) -> list[dict[str, Any]]:
    return [toy.space.suggest(_Draws(seed)) for seed in range(count)]


def test_the_setting_that_decides_stands_above_chance_and_the_others_do_not(toy: Any, study: Any) -> None:
    """Where the PER is a function of the peak rate alone, both methods say so."""
    trials = [
        (params, [0.1 + 0.3 * abs(math.log10(params["schedule.peak_lr"] / 0.01))], "completed")
        for params in sampled(toy, 60)
    ]
    rows = {row["dimension"]: row for row in importance(study(trials), "s")}
    first = next(iter(rows.values()))
    assert first["dimension"] == "schedule.peak_lr"
    assert first["ped_anova"] > 2 * first["chance"] and first["fanova"] > 0.8 and first["note"] == ""
    others = [row for row in rows.values() if row["dimension"] != "schedule.peak_lr"]
    assert all(row["fanova"] < 0.2 for row in others)
    assert sum(row["note"] == "not above chance" for row in others) >= len(others) - 1


def test_a_conditional_setting_is_judged_among_the_trials_that_have_it(toy: Any, study: Any) -> None:
    """Its condition is named, its trials are counted, and it matters there although most trials lack it."""
    trials = []
    for params in sampled(toy, 80):
        decay = params.get("1-averaging.decay")
        per = 0.5 if decay is None else 0.2 + 0.2 * abs(math.log10(decay / 0.01))
        trials.append((params, [per], "completed"))
    row = next(r for r in importance(study(trials), "s") if r["dimension"] == "1-averaging.decay")
    assert row["active"] == "averaging.kind = ema"
    assert row["trials"] == sum("1-averaging.decay" in params for params, _, _ in trials)
    assert row["ped_anova"] > row["chance"] and row["fanova"] > 0.7


def test_a_trial_is_scored_where_others_have_been_too(toy: Any, study: Any) -> None:
    """A trial stopped at 0.6 beats one that went on at 0.7 then: what came later does not count against it."""
    [params] = sampled(toy, 1)
    trials = [
        (params, [0.6], "stopped"),
        (params, [0.7, 0.3], "completed"),
        (params, [0.5, 0.2], "completed"),
        (params, [0.65, 0.4], "diverged"),
        (params, [0.1], "failed"),
    ]
    space, samples, score = scored(study(trials), "s")
    assert space.name == toy.space.name
    assert len(samples) == 4
    assert np.allclose(score, [1 / 3, 2 / 3, 0, 1])


def test_trials_that_emit_only_blanks_are_told_apart_by_their_loss(toy: Any, study: Any) -> None:
    """Equal PERs rank by validation loss, as the stopping rule ranks them."""
    [params] = sampled(toy, 1)
    results = study([(params, [1.0], "stopped")])
    log = EventLog(results / "s" / "events.jsonl")
    about = {"trial": 1, "attempt": 1}
    config = to_dict(toy.space.config(params, 1))
    log.append("trial_started", **about, seed=1, params=params, config=config)
    log.append("epoch", **about, epoch=1, batch=1, per=1.0, val_loss=2.0)
    log.append("trial_ended", **about, status="stopped")
    log.close()
    assert scored(results, "s")[2].tolist() == [1.0, 0.0]


def test_samples_are_those_the_searcher_drew(toy: Any, study: Any) -> None:
    """They are found again from the configuration, relative and complemented ones and conditions included."""
    drawn = sampled(toy, 20)
    _, samples, _ = scored(study([(params, [0.5], "completed") for params in drawn]), "s")
    for params, sample in zip(drawn, samples, strict=True):
        assert sample.keys() == params.keys()
        for name, value in params.items():
            assert sample[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9))


def test_few_trials_give_no_number_and_say_why(toy: Any, study: Any) -> None:
    """Nine trials are not enough."""
    rows = importance(study([(params, [0.5], "completed") for params in sampled(toy, 9)]), "s")
    assert {row["ped_anova"] for row in rows} == {None}
    assert all("10 or more are needed" in row["note"] for row in rows)


def test_a_study_without_a_space_or_without_results_is_one_line(toy: Any, study: Any) -> None:
    """Runs chosen by hand have no dimensions to judge; a study that has just begun has no trials."""
    results = study([], "begun")
    with pytest.raises(InputError, match="no trial has ended"):
        importance(results, "begun")
    log = EventLog(results / "hand" / "events.jsonl")
    log.append("study_started", study="hand", space=None)
    log.close()
    with pytest.raises(InputError, match="has no search space"):
        importance(results, "hand")


def test_chance_is_a_share_too(toy: Any, study: Any) -> None:
    """Where nothing decides, the level of chance ends with the axis, and no setting is above it for that."""
    draw = random.Random(3)
    trials = [(params, [0.5 + 0.1 * draw.random()], "completed") for params in sampled(toy, 40)]
    rows = [row for row in importance(study(trials), "s") if row["ped_anova"] is not None]
    assert rows
    assert all(0 <= row[name] <= 1 for row in rows for name in ("ped_anova", "chance", "fanova"))
    assert max(row["chance"] for row in rows) > 0.5


def test_where_the_methods_disagree_the_reason_is_said() -> None:
    """A setting that only ruins trials is fANOVA's; one that only the best share is PED-ANOVA's; the rest is silent."""
    near = {"path": "a.x", "ped_anova": 0.5, "fanova": 0.5 + APART}
    ruins, best = {"path": "b.x", "ped_anova": 0.1, "fanova": 0.6}, {"path": "c.x", "ped_anova": 0.6, "fanova": 0.1}
    unknown = {"path": "d.x", "ped_anova": None, "fanova": None}
    first, second = disagreements([near, ruins, best, unknown])
    assert first.startswith("b.x: PED-ANOVA 0.10, fANOVA 0.60: it tells bad trials from the others")
    assert second.startswith("c.x: PED-ANOVA 0.60, fANOVA 0.10: the best trials have certain values of it")
