"""The leaders of a study again with fresh seeds, each to its end: a plan for a study of its own.

A study of its own, so that the search's log, searcher and budget stay what they were, and so that the lucky draw a
leader was chosen for takes no part in its mean (`results.confirmed` joins the two).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from results.confirmed import confirms
from results.store.paths import study_folder
from results.store.tables import load_tables
from results.trials import read_log
from search_spaces import InputError, RunConfig, flatten, to_dict
from tuner.study.settings import StudySettings


def fresh_seeds(study_seed: int, count: int, seed: int) -> list[int]:
    """`count` training seeds that no trial of the search has had; another `seed` gives other ones.

    The first seeds do not depend on `count`. Trials of a search have seeds from the same family under another key
    (`tuner.study.study`).
    """
    return [
        int(np.random.SeedSequence([study_seed, seed, number, 2**31 + 1]).generate_state(1)[0])
        for number in range(count)
    ]


def leaders(results_dir: Path, study: str, top: int) -> list[tuple[int, dict[str, Any]]]:
    """The `top` configurations of a study by best_per: (trial number, configuration), best first.

    A configuration that ran with several seeds counts once. Recorded results and failed trials are left out. Raises
    InputError where the study has none, or is a confirmation itself.
    """
    tables, _ = load_tables(results_dir, [study], ("trials",))
    folder = results_dir / study
    if other := confirms(folder):
        raise InputError(
            f"{study}: runs leaders of {other} again itself; give {other}, and another --seed for more seeds"
        )
    _, events = read_log(folder)
    configs = {event["trial"]: event["config"] for event in events if event["event"] == "trial_started"}
    ranked = sorted(
        (row["best_per"], row["trial"])
        for row in tables["trials"].select(["trial", "best_per", "status", "origin"]).to_pylist()
        if row["best_per"] is not None
        and row["status"] not in ("failed", "diverged")
        and row["origin"] != "recorded"
        and row["trial"] in configs
    )
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for _, number in ranked:
        config = RunConfig.model_validate(configs[number])
        key = repr({path: value for path, value in flatten(config).items() if path != "training.seed"})
        found.setdefault(key, (number, to_dict(config)))
    if not found:
        raise InputError(f"{study}: no trial that was trained here has a PER; search first, or let the search go on")
    return list(found.values())[:top]


def note_on_heirs(results_dir: Path, study: str, chosen: Sequence[tuple[int, Any]]) -> str | None:
    """A line on leaders whose first epochs were another trial's (pbt), which no configuration repeats; else None."""
    _, events = read_log(results_dir / study)
    heirs = {event["trial"] for event in events if event["event"] == "trial_started" and "from_trial" in event}
    named = [f"{study}/{number}" for number, _ in chosen if number in heirs]
    if not named:
        return None
    return f"{', '.join(named)} went on from other trials; here the settings they ended with hold from the first batch"


def make_plan(study: str, chosen: Sequence[tuple[int, dict[str, Any]]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The entries of the planned study: every leader with the first seed, then with the second, and so on.

    So a confirmation that is cut short has about as many seeds of each leader.
    """
    return [
        {
            "run": None,
            "parent": f"{study}/{number}",
            "origin": "replicate",
            "config": {**config, "training": {**config["training"], "seed": seed}},
        }
        for seed in seeds
        for number, config in chosen
    ]


def check_resumed(results_dir: Path, name: str, study: str, top: int | None, seeds: int | None) -> None:
    """Raises InputError if the study `name` does not confirm what is asked for."""
    settings = StudySettings.read(read_log(study_folder(results_dir, name))[0])
    if settings.confirms != study:
        raise InputError(f"--study {name}: that study does not run leaders of {study} again; choose another name")
    plan = settings.plan or []
    has = {
        "top": len({entry["parent"] for entry in plan}),
        "seeds": len({entry["config"]["training"]["seed"] for entry in plan}),
    }
    wrong = [key for key, value in (("top", top), ("seeds", seeds)) if value is not None and value != has[key]]
    if wrong:
        raise InputError(
            f"--{key}: the study {name} was begun with {has[key]}; leave it out, or confirm again by --study and --seed"
            for key in wrong
        )
