"""The best configurations of a study, trained again with new seeds to their end: a plan for a separate study.

The study is separate so that the log, searcher and budget of the search do not change, and so that the PER for which a
configuration was chosen is not part of its mean (`results.confirmed` joins the two studies).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from results.confirmed import confirms
from results.output import clock
from results.store.paths import study_folder
from results.store.tables import load_tables
from results.trials import read_log
from search_spaces import InputError, RunConfig, flatten, to_dict
from search_spaces.config import EMAConfig, NoAveraging, SWAConfig
from tuner.study.settings import StudySettings


def fresh_seeds(study_seed: int, count: int, seed: int) -> list[int]:
    """`count` training seeds that no trial of the search has used; another `seed` gives other ones.

    The first seeds do not depend on `count`. Trials of a search have seeds from the same family under another key
    (`tuner.study.study`).
    """
    return [
        int(np.random.SeedSequence([study_seed, seed, number, 2**31 + 1]).generate_state(1)[0])
        for number in range(count)
    ]


def leaders(results_dir: Path, study: str, top: int) -> list[tuple[int, dict[str, Any]]]:
    """The `top` configurations of a study by best_per: (trial number, configuration), best first.

    A configuration that ran with several seeds counts once. Recorded results and failed trials are left out. Of several
    averages the one that was the best is given, so that nothing is chosen again on the validation split. Raises
    InputError where the study has none, or is a confirmation itself.
    """
    tables, _ = load_tables(results_dir, [study], ("trials",))
    folder = results_dir / study
    if other := confirms(folder):
        raise InputError(
            f"{study}: is itself a confirmation of {other}; give {other}, and another --seed for more seeds"
        )
    _, events = read_log(folder)
    configs = {event["trial"]: event["config"] for event in events if event["event"] == "trial_started"}
    rows = tables["trials"].select(["trial", "best_per", "best_average", "status", "origin"]).to_pylist()
    averages = {row["trial"]: row["best_average"] for row in rows}
    ranked = sorted(
        (row["best_per"], row["trial"])
        for row in rows
        if row["best_per"] is not None
        and row["status"] not in ("failed", "diverged")
        and row["origin"] != "recorded"
        and row["trial"] in configs
    )
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for _, number in ranked:
        config = RunConfig.model_validate(configs[number])
        key = repr({path: value for path, value in flatten(config).items() if path != "training.seed"})
        found.setdefault(key, (number, to_dict(as_chosen(config, averages[number]))))
    if not found:
        raise InputError(f"{study}: no trial that was trained here has a PER; search first, or continue the search")
    return list(found.values())[:top]


def as_chosen(config: RunConfig, average: str | None) -> RunConfig:
    """`config` with only the weights called `average` ("raw", "swa", or a decay), where it lets several compete.

    SWA with a rate of its own stays as it is where the raw weights were better: its rate is part of the training.
    """
    averaging = config.averaging
    given: EMAConfig | SWAConfig | NoAveraging = NoAveraging()
    if average is None or isinstance(averaging, NoAveraging):
        return config
    if isinstance(averaging, EMAConfig):
        if averaging.decays is None:
            return config
        if average != "raw":
            given = EMAConfig(decay=float(average), warmup=averaging.warmup)
    elif not averaging.or_raw or (average == "raw" and averaging.lr is not None):
        return config
    elif average != "raw":
        given = averaging.model_copy(update={"or_raw": False})
    return config.model_copy(update={"averaging": given})


def note_on_heirs(results_dir: Path, study: str, chosen: Sequence[tuple[int, Any]]) -> str | None:
    """A note on configurations that continued another trial (pbt), which cannot be repeated exactly; else None."""
    _, events = read_log(results_dir / study)
    heirs = {event["trial"] for event in events if event["event"] == "trial_started" and "from_trial" in event}
    named = [f"{study}/{number}" for number, _ in chosen if number in heirs]
    if not named:
        return None
    return f"{', '.join(named)} continued other trials; here their final settings are used from the first batch"


def make_plan(study: str, chosen: Sequence[tuple[int, dict[str, Any]]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The entries of the planned study: every configuration with the first seed, then with the second, and so on.

    So an interrupted confirmation has about the same number of seeds for each configuration.
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


def cost(results_dir: Path, study: str, plan: Sequence[Mapping[str, Any]], at_once: int | None) -> str:
    """What a confirmation of `study` costs, in a line: trials, batches, utterances, and the training time.

    The time is that which the epochs of the same configurations took in the study; with `at_once` trials beside each
    other also the wall time. It is left out where no time was recorded.
    """
    trials = load_tables(results_dir, [study], ("trials",))[0]["trials"]
    rows = trials.select(["trial", "epochs", "train_seconds"]).to_pylist()
    pace = {f"{study}/{row['trial']}": (row["train_seconds"] or 0) / row["epochs"] for row in rows if row["epochs"]}
    configs = [(entry["parent"], RunConfig.model_validate(entry["config"])) for entry in plan]
    batches = [config.training.batches for _, config in configs]
    per_batch = [config.training.batch_size * config.training.accumulation for _, config in configs]
    count = len({parent for parent, _ in configs})
    text = (
        f"{count} configurations x {len(configs) // count} new seeds = {len(configs)} trials to their end, "
        f"{sum(batches):,} batches, {sum(map(mul, batches, per_batch)):,} utterances"
    )
    seconds = [pace.get(parent, 0.0) * config.epochs for parent, config in configs]
    if not all(seconds):
        return text
    text += f"; about {clock(sum(seconds))} of training, by the times of {study}"
    if at_once is None or at_once == 1:
        return text
    return text + f", {clock(max(sum(seconds) / at_once, *seconds))} with {at_once} at once"


def check_resumed(results_dir: Path, name: str, study: str, top: int | None, seeds: int | None) -> None:
    """Raises InputError if the study `name` is not a confirmation of `study` with these options."""
    settings = StudySettings.read(read_log(study_folder(results_dir, name))[0])
    if settings.confirms != study:
        raise InputError(f"--study {name}: that study is not a confirmation of {study}; choose another name")
    plan = settings.plan or []
    has = {
        "top": len({entry["parent"] for entry in plan}),
        "seeds": len({entry["config"]["training"]["seed"] for entry in plan}),
    }
    wrong = [key for key, value in (("top", top), ("seeds", seeds)) if value is not None and value != has[key]]
    if wrong:
        raise InputError(
            f"--{key}: the study {name} was started with {has[key]}; leave it out, or give another --study and --seed"
            for key in wrong
        )
