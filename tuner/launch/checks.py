"""What is checked before a search begins: start points, the data, the results folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results.store.paths import StudyPaths, is_name
from results.store.tables import load_tables
from results.trials import load_run_or_trial, parse_name, read_log
from search_spaces import InputError, Run, RunConfig, Space
from search_spaces.lengths.scale import scaled_run
from search_spaces.parsing.sections import FILE
from trainable.data.dataset import with_features
from trainable.data.feasible import check_trainable
from tuner.study.request import Request

STARTS_FROM_A_STUDY = 3
"""How many of a study's best trials `--start STUDY` begins with."""


def start_points(
    space: Space, results_dir: Path, wanted: Sequence[str], *, own: bool = True
) -> tuple[list[dict[str, Any]], list[str]]:
    """The parameters of the space's own start points and of `wanted` ones, and notes on values that had to change.

    `wanted` names runs, STUDY/TRIAL, or a STUDY for its best trials: recorded and imported ones count.
    """
    found = [(name, space.start_params(name)) for name in space.start_points if own]
    for name in wanted:
        names = [name]
        if is_name(name) and StudyPaths(results_dir / name).log.exists():
            trials = load_tables(results_dir, [name], ("trials",))[0]["trials"].to_pylist()
            ranked = sorted((t["best_per"], t["trial"]) for t in trials if t["best_per"] is not None)
            names = [f"{name}/{trial}" for _, trial in ranked[:STARTS_FROM_A_STUDY]]
            if not names:
                raise InputError(f"--start {name}: no trial of that study has a PER; name a run or another study")
        found += [(each, _params_of(space, _of_same_length(space, each, results_dir))) for each in names]
    unique: list[dict[str, Any]] = []
    for _, (params, _) in found:
        if params not in unique:
            unique.append(params)
    return unique, [f"start point {name}: {note}" for name, (_, notes) in found for note in notes]


def _of_same_length(space: Space, name: str, results_dir: Path) -> Run:
    """A run or a trial, as long as the runs of a scaled space: a run is made as short, a trial may be it already."""
    run = load_run_or_trial(name, results_dir)
    if space.scale == 1:
        return run
    pair = parse_name(name)
    begun = study_scale(read_log(results_dir / pair[0])[0]) if pair and pair[0] else 1.0
    return replace(run, config=scaled_run(run.config, space.scale / begun))


def study_scale(settings: Mapping[str, Any]) -> float:
    """How long the runs of a study are, as a multiple of those of its space file or of the recorded runs."""
    for scaled in (settings.get("space"), settings.get("lineage")):
        if scaled and "scale" in scaled:
            return float(scaled["scale"])
    return 1.0


def _params_of(space: Space, run: Run) -> tuple[dict[str, Any], list[str]]:
    """The run's parameters in the space, and notes; one is for settings that the run takes for want of knowledge."""
    params, notes = space.params_of(run.config)
    guessed = [path for path in run.assumed if path in {dimension.path for dimension in space.dimensions}]
    if guessed:
        notes = [*notes, f"{', '.join(guessed)}: not known of it, and assumed"]
    return params, notes


def check_data(space: Space, starts: Sequence[Mapping[str, Any]], dataset: Any) -> list[str]:
    """Notes on what differs in the files of weights that trials start from.

    Raises InputError if no configuration of the space can be trained on the data, a choice of features never, or a file
    of weights does not fit the first configuration.
    """
    first = first_config(space, starts)
    check_trainable(first, dataset)
    choices = [c for d in space.dimensions if d.path == "data.features" for c in d.choices]
    for choice in choices:
        with_features(dataset, choice, f"{space.name}: dimensions.data.features")
    files = [c for d in space.dimensions if d.path == FILE for c in d.choices] or [first.training.init_from]
    return [note for file in files if file is not None for note in _start_notes(first, file, dataset)]


def _start_notes(config: RunConfig, file: str, dataset: Any) -> list[str]:
    from trainable.weights.start import start_weights

    training = config.training.model_copy(update={"init_from": file})
    narrowed = with_features(dataset, config.data.features)
    return start_weights(config.model_copy(update={"training": training}), narrowed)[1]


def first_config(space: Space, starts: Sequence[Mapping[str, Any]]) -> RunConfig:
    """One configuration of the space: its first start point, else the low end of every range."""
    return space.config(starts[0] if starts else space.suggest(_Lowest()), 0)


class _Lowest:
    """Samples like an Optuna trial, always the low end of each range: gives one configuration of a space."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[0]


def at_once(request: Request) -> int | None:
    """How many trials will run at once on this machine, as far as that is known before Ray runs; None on a cluster."""
    if request.address is not None:
        return None
    cpus = request.cpus or len(os.sched_getaffinity(0))
    fit = int(cpus / (request.cpus_per_trial or 1))
    share = request.gpus_per_trial
    if isinstance(share, float | int) and share > 0:
        fit = min(fit, int(len(list(Path("/dev").glob("nvidia[0-9]*"))) / share))
    return max(1, min(fit, request.concurrent or fit))


def check_writable(results_dir: Path) -> None:
    """Raises InputError if no study can be made in the results folder; leaves nothing behind."""
    existing = results_dir
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".tuner-"):
            pass
    except OSError as error:
        raise InputError(
            f"{existing}: cannot write there ({error.strerror}); choose another results folder by --results"
        ) from error
