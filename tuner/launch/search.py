"""Runs a search: check everything first, then run, then show the best configurations."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from results.store import remote, sealed
from results.store.events import EventLog
from results.store.lock import StudyLock
from results.store.paths import StudyPaths, check_name, find_studies
from results.store.tables import compact
from results.store.telling import tell
from results.trials import read_log
from search_spaces import InputError, Space
from search_spaces.stopping import rule_text
from trainable.data.intact import WatchedData, open_intact
from tuner.backend import cluster, staging
from tuner.backend.nodewatch import NodeWatch
from tuner.backend.raywords import RayWords
from tuner.callbacks import observers
from tuner.callbacks.progress import Progress
from tuner.callbacks.sealing import Sealing
from tuner.launch import changes, sharing
from tuner.launch.checks import check_data, check_writable, start_points
from tuner.launch.closing import finish, go_on, over, tell_over
from tuner.launch.new_study import new_settings, notes_on, planned_settings
from tuner.simulation.forecast import in_short
from tuner.simulation.ladder_forecast import ladder_line
from tuner.study import budgets
from tuner.study.faults import PatientLog, Watchdog
from tuner.study.request import Request
from tuner.study.searchers import warm_start
from tuner.study.searchers.telling import make_searcher
from tuner.study.settings import StudySettings
from tuner.study.study import Past, Study
from tuner.study.trial_state import OPEN
from tuner.study.upkeep import Upkeep


def search(space: Space, study_name: str, request: Request) -> int:
    """Run a new search; returns the exit status."""
    folder = new_folder(request.results_dir, study_name)
    starts, notes = start_points(space, request.results_dir, request.start)
    dataset = open_intact(request.data)
    notes += check_data(space, starts, dataset)
    packing: list[dict[str, Any]] = []
    if sharing.wanted(space, request):
        new_settings(
            space, study_name, replace(request, gpus_per_trial=1.0), dataset
        )  # checks the input before anything is measured
        config = sharing.largest(space, starts, dataset)
        share, packing = sharing.measured_share(config, request, dataset.fingerprint)
        request = replace(request, gpus_per_trial=share)
    settings = new_settings(space, study_name, request, dataset).changed({"start_points": starts})
    if packing:
        settings = settings.changed({"resources": settings.resources.changed({"packing": packing})})
        best = next(each for each in packing if each["count"] == round(1 / share))
        budgets.check_fits(settings.budget, best["count"] / best["trials_per_hour"], share)
    if request.warm_start or not request.part_of:  # the first search of a campaign stands alone
        told, more = warm_start.wanted(space, request.results_dir, request.warm_start, settings)
        settings, notes = settings.changed({"warm_start": told}), notes + more
    notes += notes_on(settings)
    return _run(folder, request, settings, notes)


def run_plan(
    study_name: str, request: Request, make_plan: Callable[[Any], Sequence[Mapping[str, Any]]], **more: Any
) -> int:
    """Run a new study of `make_plan(dataset)`, every entry to its end; `more` are settings; returns the exit status."""
    folder = new_folder(request.results_dir, study_name)
    dataset = open_intact(request.data)
    return _run(folder, request, planned_settings(make_plan(dataset), study_name, request, dataset, **more), [])


def new_folder(results_dir: Path, study_name: str) -> Path:
    """The folder of a new study; raises InputError if its name is not allowed or exists."""
    check_name(study_name)
    folder = results_dir / study_name
    if folder.exists():
        raise InputError(
            f"{folder}: the study '{study_name}' exists; continue it with --resume (or 'tuner resume {study_name}'), "
            "or choose another name with --study"
        )
    return folder


def resume(study_name: str, request: Request, space: Space | None = None) -> int:
    """Continue a study from where its log ends, in `space` from now on if given; returns the exit status."""
    folder = find_studies(request.results_dir, [study_name])[0]
    with StudyLock(folder, force=request.force_unlock) as lock:
        if not changes.asks(request, space) and (study := over(folder, {})) is not None:
            return tell_over(study, request.results_dir)
        settings, changed, notes, past = changes.settle(folder, request, space)
        if changed and (study := over(folder, changed)) is not None:
            return tell_over(study, request.results_dir)
        return _run(folder, request, settings, notes, changed, lock, past)


def data_of(results_dir: Path, study_name: str) -> Path:
    """The data folder of a study. Raises InputError, with the nearest name, for an unknown study."""
    return Path(StudySettings.read(read_log(find_studies(results_dir, [study_name])[0])[0]).data.path or "")


def _run(
    folder: Path,
    request: Request,
    settings: StudySettings,
    notes: list[str],
    changed: Mapping[str, Any] | None = None,
    lock: StudyLock | None = None,
    past: Past | None = None,
) -> int:
    """Start Ray, run the study, show its table; returns the exit status.

    For a resumed study, `changed` and the `lock` held are given, and its `past` where the log was read already. Where
    Ctrl-C ends more than the search (a second one, while Ray is stopped or the tables are written), how to go on is
    said before it leaves.
    """
    holder: list[Study] = []
    try:
        reason = _session(holder, folder, request, settings, notes, changed, lock, past)
        return finish(holder[0], reason, request.results_dir, request.part_of)
    except KeyboardInterrupt:
        if holder:
            print(go_on(folder.name, request.results_dir, request.part_of), file=sys.stderr)
        raise


def _session(
    holder: list[Study],
    folder: Path,
    request: Request,
    settings: StudySettings,
    notes: list[str],
    changed: Mapping[str, Any] | None,
    lock: StudyLock | None,
    past: Past | None,
) -> str:
    """Start Ray and run the study, which is put into `holder` once there is one; returns why it ended."""
    from tuner.backend import start

    check_writable(request.results_dir)
    staging.check(request)
    listening, more = observers.carried(request, None if changed is None else settings.listeners)
    notes = notes + more
    wanted = settings.resources
    resources = start.Resources(wanted.cpus_per_trial, wanted.gpus_per_trial, wanted.concurrent, wanted.custom or {})
    cores = request.cpus or len(os.sched_getaffinity(0))
    if request.address is None and resources.cpus_per_trial > cores:
        raise InputError(f"--cpus-per-trial {resources.cpus_per_trial:g}: there are {cores} cores; give that or less")
    with contextlib.ExitStack() as stack:
        print(
            "starting Ray ..." if request.address is None else f"joining Ray at {request.address} ...", file=sys.stderr
        )
        stack.callback(start.stop_ray)
        coming = start.Starting(request.address, request.cpus)
        from tuner.backend import ray_backend  # loads Tune, while Ray comes up

        if settings.space is not None:  # and what the searcher needs: of SciPy that is a second
            make_searcher(Space.from_dict(settings.space), settings, {})
        concurrent = coming.wait(resources)
        words = RayWords()
        words.catch()
        ready = staging.prepare(request, settings.data.fingerprint, folder, resources.request())
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        progress = Progress(Console(stderr=True), lambda: holder[0].state if holder else None, concurrent)
        if lock is None:  # the folder of a new study is made only when Ray has started
            lock = stack.enter_context(StudyLock(folder))
        words.to(StudyPaths(folder).ray_words)
        stack.enter_context(remote.mirrored(folder))
        hearers = observers.start(folder, listening)
        for hearer in hearers:
            stack.callback(hearer.close)
        told: list[Callable[[dict[str, Any]], None]] = [progress.event, *hearers]
        written = EventLog(StudyPaths(folder).log)
        log = PatientLog(written, lock)
        stack.callback(log.close)
        if changed is None:
            study = Study.create(folder, settings, told, log)
        else:
            if past is not None and (past.problems or past.seq != written.last_seq):
                past = None  # opening the log mended its last line
            study = Study.resume(folder, changed, told, log, past)
        holder.append(study)
        tell([*log.problems, *study.problems], "warning")
        for line in changes.describe(changed or {}, study.state):
            print(line, file=sys.stderr)
        _announce(study, concurrent)
        upkeep = Upkeep(study)
        study.observers.append(upkeep.event)
        stack.callback(upkeep.close)
        study.observers.append(Sealing(study))
        with progress:
            watchdog = Watchdog(study.settings.hung_after, slept=lambda s: _slept(study, s))
            data = WatchedData(request.data, study.settings.data.fingerprint)
            look = stack.enter_context(_node_watch(study, request, resources.request()))
            reason = ray_backend.run(
                study, request.data, resources, concurrent, ready.work, log.hurry, watchdog, data.check, look
            )
        ready.finish(reason)
        try:
            compact(folder)
            sealed.remove(folder)
        except InputError as error:  # the log is complete, and the tables can be made from it again
            print(f"warning: {error}", file=sys.stderr)
    return reason


@contextlib.contextmanager
def _node_watch(study: Study, request: Request, trial: Mapping[str, float]) -> Iterator[Callable[[], None]]:
    """What the driver checks on a cluster; a local Ray has no nodes to lose."""
    if request.address is None:
        yield lambda: None
        return
    asks = ", ".join(f"{need:g} {name}" for name, need in trial.items() if need)
    seconds = None if request.give_up_after is None else request.give_up_after * 60
    with NodeWatch(
        study.folder.name, request.address, asks, lambda: cluster.reachable(cluster.nodes(trial)), seconds
    ) as watch:
        yield watch.look


def _slept(study: Study, seconds: float) -> None:
    study.slept(seconds)
    text = f"the driver did not run for {seconds:.0f} s (suspended?): this time counts for no trial and not for --hours"
    print(f"note: {text}", file=sys.stderr, flush=True)


def _announce(study: Study, concurrent: int) -> None:
    settings = study.settings
    what = f"space {settings.space['name']}" if settings.space else f"{len(settings.plan or ())} planned runs"
    print(
        f"study {settings.study}: {what}, data {settings.data.name}, "
        f"budget {budgets.text(settings.budget)}, searcher {settings.searcher.kind}, "
        f"stopping {rule_text(settings.stopping.as_dict())}, {concurrent} at once",
        file=sys.stderr,
    )
    if study.state.trials:
        ended = sum(t.status not in OPEN for t in study.state.trials.values())
        waiting = len(study.state.trials) - ended
        print(f"resuming: {ended} trials had ended, {waiting} continue from their checkpoints", file=sys.stderr)
    elif study.state.lengths and study.state.space is not None:
        print(f"plan: {ladder_line(study.state.space, settings)}; 'tuner plan' has more", file=sys.stderr)
    elif settings.space and (text := in_short(settings, concurrent)):
        print(f"plan: {text}; 'tuner plan' has more", file=sys.stderr)
