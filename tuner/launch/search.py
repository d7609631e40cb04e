"""From what a user asked for to a finished search: check everything first, then run, then show the table."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from results.store.events import LOG_NAME, EventLog
from results.store.lock import StudyLock
from results.trials import load_run_or_trial, read_log
from search_spaces import InputError, RunConfig, Space
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import Searcher
from search_spaces.stopping import Stopping, rule_text
from tuner.launch.closing import finish
from tuner.simulation.rule_fit import check_fit
from tuner.study import budgets, checkpoints, objectives, provenance
from tuner.study.faults import PatientLog, Watchdog
from tuner.study.searchers import warm_start


@dataclass(frozen=True)
class Request:
    """What `tuner search` was asked for; None means "as the space says" or "as before"."""

    results_dir: Path
    data: Path
    trials: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    target_per: float | None = None
    no_improvement: int | None = None
    then: str | None = None
    seed: int = 0
    searcher: str | None = None
    objectives: str | None = None
    stopping: str | None = None
    start: tuple[str, ...] = ()
    warm_start: tuple[str, ...] = ()
    retries: int | None = None
    cpus: int | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    """"auto": as many trials on a card as a measurement finds best; only a search can."""
    concurrent: int | None = None
    address: str | None = None
    custom: Mapping[str, float] | None = None
    """Of Ray's custom resources, for each trial."""
    force_unlock: bool = False
    hung_after: float | None = None
    stage_data: bool = False
    """Send the data to every node of the cluster."""
    checkpoint_every: str | None = None
    best_weights: str | None = None
    checkpoint_budget: int | None = None
    log: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    notify_on: str | None = None
    storage: str | None = None


RESOURCES = ("cpus_per_trial", "gpus_per_trial", "concurrent", "custom")
RETRIES = 1


def free_name(results_dir: Path, wanted: str) -> str:
    """`wanted`, or `wanted-2`, `wanted-3`, ... : the first that names no study yet."""
    name, n = wanted, 1
    while (results_dir / name).exists():
        n += 1
        name = f"{wanted}-{n}"
    return name


def check_name(name: str) -> None:
    """Raises InputError for a study name that could not be a folder's name everywhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InputError(
            f"study {name!r}: is not allowed as a name; give letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, 100 at most"
        )


def new_settings(space: Space, study: str, request: Request, dataset: Any) -> dict[str, Any]:
    """The fields of a `study_started` event of a search."""
    common = _common_settings(study, request, dataset)
    budget = budgets.merged(space.budget.model_dump(), budgets.given(request))
    searcher = chosen("searcher", Searcher, space.searcher, request.searcher)
    stopping = chosen("stopping", Stopping, space.stopping, request.stopping)
    check_fit(stopping, space, budget, "--stopping" if request.stopping else f"{space.name}: stopping")
    goals = objectives.chosen(space, request.objectives, searcher["kind"], common["resources"]["gpus_per_trial"])
    objectives.check_rule(stopping, goals)
    return {
        **common,
        "space": space.as_dict(),
        "searcher": searcher,
        "stopping": stopping,
        "checkpoints": checkpoints.chosen(space.checkpoints, request),
        **goals,
        "budget": budgets.check(budget, budgets.given(request), common["resources"]["gpus_per_trial"], space.name),
    }


def planned_settings(
    plan: Sequence[Mapping[str, Any]], study: str, request: Request, dataset: Any, **more: Any
) -> dict[str, Any]:
    """The fields of a `study_started` event of a plan: a list of {run, parent, origin, config}, each run to its end.

    `more` are further fields, such as `origin_note`.
    """
    return {
        **_common_settings(study, request, dataset),
        "space": None,
        "plan": list(plan),
        "searcher": {"kind": "plan"},
        "stopping": {"kind": "none"},
        "objective": "best_per",
        "start_points": [],
        "budget": budgets.merged({"trials": len(plan)}, {"hours": request.hours}),
        **more,
    }


def _common_settings(study: str, request: Request, dataset: Any) -> dict[str, Any]:
    return {
        "study": study,
        "data": {
            "path": str(request.data.resolve()),
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "val_phonemes": int(dataset.val.label_lengths.sum()),
            "features": dataset.n_features,
            "classes": dataset.n_classes,
            "days": len(dataset.days),
        },
        "code": provenance.code(),
        "packages": provenance.packages(),
        "host": provenance.host(),
        "seed": request.seed,
        "retries": RETRIES if request.retries is None else request.retries,
        "hung_after": Watchdog.factor if request.hung_after is None else request.hung_after,
        "resources": trial_resources(request),
        "checkpoints": checkpoints.chosen({}, request),
    }


def chosen(name: str, kinds: Any, default: Any, given: str | None) -> dict[str, Any]:
    """The space's own searcher or stopping rule, or the one that was given: a kind, perhaps with settings after it.

    What is not given has the kind's default, whatever the space says.
    """
    if given is None:
        settings: dict[str, Any] = default.model_dump(mode="json")
        return settings
    return parse_settings(given, kinds, name)


def default_resources(request: Request) -> dict[str, Any]:
    """What a trial gets where nobody says otherwise: a core, and a whole card where this machine has one.

    `concurrent` None is as many at once as fit. On a cluster the driver's own machine says nothing about cards.
    """
    card = request.address is None and any(Path("/dev").glob("nvidia[0-9]*"))
    return {"cpus_per_trial": 1.0, "gpus_per_trial": 1.0 if card else 0.0, "concurrent": None}


def trial_resources(request: Request) -> dict[str, Any]:
    """The resources of a new study: those asked for, else the defaults."""
    if request.gpus_per_trial == "auto":
        raise InputError("--gpus-per-trial auto: only 'tuner search' measures it; give a number")
    return merged_resources(request, default_resources(request))


def merged_resources(request: Request, before: Mapping[str, Any]) -> dict[str, Any]:
    """The resources asked for; those in force `before` where nothing was: what "auto" chose is kept."""
    asked = {key: getattr(request, key) for key in RESOURCES}
    return {**before, **{key: value for key, value in asked.items() if value not in (None, "auto")}}


class _Lowest:
    """Answers like an Optuna trial with the low end of each range; enough to see one configuration of a space."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return low

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[0]


STARTS_FROM_A_STUDY = 3
"""How many of a study's best trials `--start STUDY` begins with."""


def start_points(
    space: Space, results_dir: Path, wanted: Sequence[str], *, own: bool = True
) -> tuple[list[dict[str, Any]], list[str]]:
    """The parameters of the space's own start points and of `wanted` ones, and notes on what had to move.

    `wanted` names runs, STUDY/TRIAL, or a STUDY for its best trials: recorded and imported ones count.
    """
    from results.store.tables import load_tables

    found = [(name, space.start_params(name)) for name in space.start_points if own]
    for name in wanted:
        names = [name]
        if (results_dir / name / LOG_NAME).exists():
            trials = load_tables(results_dir, [name], ("trials",))[0]["trials"].to_pylist()
            ranked = sorted((t["best_per"], t["trial"]) for t in trials if t["best_per"] is not None)
            names = [f"{name}/{trial}" for _, trial in ranked[:STARTS_FROM_A_STUDY]]
            if not names:
                raise InputError(f"--start {name}: no trial of that study has a PER; name a run or another study")
        found += [(each, space.params_of(load_run_or_trial(each, results_dir).config)) for each in names]
    unique: list[dict[str, Any]] = []
    for _, (params, _) in found:
        if params not in unique:
            unique.append(params)
    return unique, [f"start point {name}: {note}" for name, (_, notes) in found for note in notes]


def check_data(space: Space, starts: Sequence[Mapping[str, Any]], dataset: Any) -> None:
    """Raises InputError if the space's configurations cannot be trained on the data at all."""
    from trainable.data.dataset import check_features, check_trainable

    check_features(dataset)
    check_trainable(_first_config(space, starts), dataset)


def _first_config(space: Space, starts: Sequence[Mapping[str, Any]]) -> RunConfig:
    return space.config(starts[0] if starts else space.suggest(_Lowest()), 0)


def search(space: Space, study_name: str, request: Request) -> int:
    """Run a new search; returns the exit status."""
    from trainable.data.dataset import open_dataset

    folder = new_folder(request.results_dir, study_name)
    starts, notes = start_points(space, request.results_dir, request.start)
    dataset = open_dataset(request.data)
    check_data(space, starts, dataset)
    packing: list[dict[str, Any]] = []
    if request.gpus_per_trial == "auto":
        new_settings(space, study_name, replace(request, gpus_per_trial=1.0), dataset)  # what is wrong is said first
        share, packing = measured_share(_first_config(space, starts), request)
        request = replace(request, gpus_per_trial=share)
    settings = {**new_settings(space, study_name, request, dataset), "start_points": starts}
    if packing:
        settings["resources"]["packing"] = packing
        best = next(each for each in packing if each["count"] == round(1 / share))
        budgets.check_fits(settings["budget"], best["count"] / best["trials_per_hour"], share)
    if request.warm_start:
        settings["warm_start"], more = warm_start.gather(space, request.results_dir, request.warm_start, settings)
        notes += more
    notes += objectives.notes(settings)
    return _run(folder, request, settings, notes)


def measured_share(config: RunConfig, request: Request) -> tuple[float, list[dict[str, Any]]]:
    """The share of a card that lets most trials of `config` run in an hour, and what was measured, for the log.

    Raises InputError where there is no card to measure on.
    """
    import torch
    from rich.console import Console

    from tuner.backend import packing
    from tuner.callbacks import observers

    if request.address is not None:
        raise InputError("--gpus-per-trial auto: this machine's card says nothing about a cluster's; give a number")
    if config.training.device == "cpu":
        raise InputError("--gpus-per-trial auto: the space trains on the CPU (training.device: cpu); leave it out")
    if not torch.cuda.is_available():
        raise InputError("--gpus-per-trial auto: there is no CUDA card on this machine; leave it out")
    check_writable(request.results_dir)
    observers.check(request.log, request.notify, request.notify_on, request.storage)
    cards, cpus = torch.cuda.device_count(), request.cpus_per_trial or 1.0
    most = int((request.cpus or len(os.sched_getaffinity(0))) / cpus / cards)
    if request.concurrent is not None:
        most = min(most, -(-request.concurrent // cards))
    counts = [count for count in packing.COUNTS if count <= max(1, most)]
    print(f"measuring {', '.join(map(str, counts))} trials on a card ...", file=sys.stderr)
    found = packing.measure(config, request.data, counts, cpus=cpus)
    best = packing.best_packing(found)
    Console(stderr=True).print(packing.table(found, f"trials on a card, {packing.mps_note()}"))
    print(f"chosen: --gpus-per-trial {1 / best.count:g}, {best.count} on a card", file=sys.stderr)
    return 1 / best.count, [each.as_dict() for each in found]


def run_plan(
    study_name: str, request: Request, make_plan: Callable[[Any], Sequence[Mapping[str, Any]]], **more: Any
) -> int:
    """Run a new study of `make_plan(dataset)`, every entry to its end; `more` are settings; returns the exit status."""
    from trainable.data.dataset import check_features, open_dataset

    folder = new_folder(request.results_dir, study_name)
    dataset = open_dataset(request.data)
    check_features(dataset)
    return _run(folder, request, planned_settings(make_plan(dataset), study_name, request, dataset, **more), [])


def new_folder(results_dir: Path, study_name: str) -> Path:
    """The folder of a study to be; raises InputError if its name is not allowed or taken."""
    check_name(study_name)
    folder = results_dir / study_name
    if folder.exists():
        raise InputError(
            f"{folder}: the study '{study_name}' exists; go on with it by --resume (or 'tuner resume {study_name}'), "
            "or choose another name by --study"
        )
    return folder


def resume(study_name: str, request: Request, space: Space | None = None) -> int:
    """Go on with a study where its log ends, in `space` from now on if given; returns the exit status."""
    from tuner.launch import changes

    folder = request.results_dir / study_name
    if not (folder / LOG_NAME).exists():
        raise InputError(f"{folder}: there is no such study; 'tuner best' lists what there is")
    with StudyLock(folder, force=request.force_unlock) as lock:
        settings, changed, notes = changes.settle(folder, request, space)
        return _run(folder, request, settings, notes, changed, lock)


def data_of(results_dir: Path, study_name: str) -> Path:
    """The data folder a study ran on."""
    folder = results_dir / study_name
    if not (folder / LOG_NAME).exists():
        raise InputError(f"{folder}: there is no such study; 'tuner best' lists what there is")
    return Path(read_log(folder)[0]["data"]["path"])


def _run(
    folder: Path,
    request: Request,
    settings: Mapping[str, Any],
    notes: list[str],
    changed: Mapping[str, Any] | None = None,
    lock: StudyLock | None = None,
) -> int:
    """Start Ray, run the study, show its table. Where a study goes on, `changed` and the `lock` held are given."""
    from rich.console import Console

    from results.store import remote
    from results.store.tables import compact
    from tuner.backend import ray_backend, staging
    from tuner.callbacks import observers
    from tuner.callbacks.progress import Progress
    from tuner.launch.changes import describe
    from tuner.study.study import Study

    check_writable(request.results_dir)
    staging.check(request)
    observers.check(request.log, request.notify, request.notify_on, request.storage)
    resources = ray_backend.Resources(
        **{key: settings["resources"][key] for key in RESOURCES if key in settings["resources"]}
    )
    cores = request.cpus or len(os.sched_getaffinity(0))
    if request.address is None and resources.cpus_per_trial > cores:
        raise InputError(f"--cpus-per-trial {resources.cpus_per_trial:g}: there are {cores} cores; give that or less")
    holder: list[Study] = []
    with contextlib.ExitStack() as stack:
        print(
            "starting Ray ..." if request.address is None else f"joining Ray at {request.address} ...", file=sys.stderr
        )
        stack.callback(ray_backend.stop_ray)
        concurrent = ray_backend.start_ray(request.address, request.cpus, resources)
        ready = staging.prepare(request, settings["data"]["fingerprint"], folder, resources.request())
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        progress = Progress(Console(stderr=True), lambda: holder[0].state if holder else None, concurrent)
        if lock is None:  # a new study's folder is not made before Ray is there
            lock = stack.enter_context(StudyLock(folder))
        stack.enter_context(remote.mirrored(folder))
        hearers = observers.start(folder, request.log, request.notify, request.notify_on, request.storage)
        for hearer in hearers:
            stack.callback(hearer.close)
        told: list[Callable[[dict[str, Any]], None]] = [progress.event, *hearers]
        log = PatientLog(EventLog(folder / LOG_NAME), lock)
        stack.callback(log.close)
        if changed is None:
            study = Study.create(folder, settings, told, log)
        else:
            study = Study.resume(folder, changed, told, log)
        holder.append(study)
        for line in [*log.problems, *study.problems]:
            print(f"warning: {line}", file=sys.stderr)
        for line in describe(changed or {}, study.state):
            print(line, file=sys.stderr)
        _announce(study, concurrent)
        upkeep = checkpoints.Upkeep(study)
        study.observers.append(upkeep.event)
        stack.callback(upkeep.close)
        with progress:
            watchdog = Watchdog(study.settings.get("hung_after", Watchdog.factor))
            reason = ray_backend.run(study, request.data, resources, concurrent, ready.work, log.hurry, watchdog)
        ready.finish(reason)
        try:
            compact(folder)
        except InputError as error:  # every table can be made from the log, which is whole
            print(f"warning: {error}", file=sys.stderr)
    return finish(study, reason, request.results_dir)


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


def _announce(study: Any, concurrent: int) -> None:
    from tuner.simulation.forecast import in_short
    from tuner.study.state import OPEN

    settings = study.settings
    what = f"space {settings['space']['name']}" if settings["space"] else f"{len(settings['plan'])} planned runs"
    print(
        f"study {settings['study']}: {what}, data {settings['data']['name']}, "
        f"budget {budgets.text(settings['budget'])}, searcher {settings['searcher']['kind']}, "
        f"stopping {rule_text(settings['stopping'])}, {concurrent} at once",
        file=sys.stderr,
    )
    if study.state.trials:
        ended = sum(t.status not in OPEN for t in study.state.trials.values())
        waiting = len(study.state.trials) - ended
        print(f"resuming: {ended} trials had ended, {waiting} go on from their checkpoints", file=sys.stderr)
    elif settings["space"] and (text := in_short(settings, concurrent)):
        print(f"plan: {text}; 'tuner plan' has more", file=sys.stderr)
