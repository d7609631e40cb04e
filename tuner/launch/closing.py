"""The summary at the end of a search: its best configurations, why it ended, and the next commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from results.best import best
from results.confirmed import confirmed
from results.pareto import front
from results.store.paths import StudyPaths, where_option
from search_spaces.checkpoints import size_text
from tuner.planned.lineage import lineage_table
from tuner.study import budgets, checkpoints
from tuner.study.settings import StudySettings
from tuner.study.study import Study, read_past
from tuner.study.trial_state import TrialState


def finish(study: Study, reason: str, results_dir: Path, part_of: str | None = None) -> int:
    """Print the best configurations, why the search ended and the next commands; returns the exit status.

    `part_of` is the command that goes on where the study is a step of something larger, which says what is next.
    """
    name = study.folder.name
    trials = study.state.trials.values()
    failed = [t for t in trials if t.status == "failed"]
    print()
    if study.settings.lineage:
        print(lineage_table(results_dir, name).render("table"))
    else:
        fresh = confirmed(results_dir, [name]) if study.settings.confirms else None
        several = front(results_dir, [name]) if study.settings.costs else None
        print((fresh or several or best(results_dir, [name], top=10)).render("table"))
    if used := sum(checkpoints.files_of(study.folder).values()):
        print(f"\ncheckpoints: {size_text(used)} in {StudyPaths(study.folder).checkpoints}")
    where = where_option(results_dir)
    if reason == "interrupted":
        print(f"\n{go_on(name, results_dir, part_of)}")
        return 130
    if study.common_cause:
        again = part_of or f"tuner resume {quote(name)}{where}"
        print(
            f"error: {len(failed)} trials failed alike before any had trained an epoch, so no more were started: "
            f"{study.common_cause}. When that is mended, go on with: {again}",
            file=sys.stderr,
        )
        return 1
    if part_of is None:
        _next_steps(study, reason, where)
    if failed and len(failed) == len(trials):
        print(f"error: every trial failed; error of the first: {failed[0].error}", file=sys.stderr)
        return 1
    return 0


def _next_steps(study: Study, reason: str, where: str) -> None:
    """Print why a search ended and the next commands; `where` is an option."""
    name = study.folder.name
    for line in advice(study, reason, where):
        print(f"\n{line}")
    how = "--pareto" if study.settings.costs else "--top 5"
    print(f"\nnext: tuner best {study.settings.confirms or name} {how}{where}")
    if study.settings.space and study.state.leader:
        print(f"      tuner confirm {name} --top 5 --seeds 5{where}   (is the lead real? trains them with new seeds)")
    print(f"      tuner report {name} --out {name}.html{where}   (one page: the best, curves, what mattered)")
    print(f'      tuner query "select schedule_kind, min(best_per), count(*) from trials group by 1 order by 2"{where}')


def go_on(name: str, results_dir: Path, part_of: str | None = None) -> str:
    """The line that says how a study that was stopped by hand continues; `part_of` as of `finish`."""
    resume = part_of or f"tuner resume {quote(name)}{where_option(results_dir)}"
    return f"stopped by you; everything reported is kept. Continue with: {resume}"


def over(folder: Path, changed: Mapping[str, Any]) -> Study | None:
    """The study, if a resume with these changes of settings would have nothing to run; None if it would.

    Nothing is written: the study is asked as the resume would find it. One that a driver did not end, because it died,
    is not over.
    """
    past = read_past(folder)
    if past.state.ended is None or (past.state.ended == "interrupted" and past.state.waiting):
        return None
    study = Study(folder, _Unwritten(), [])
    study.state = past.state
    ended = past.state.ended
    resumed = {"event": "study_resumed", "seq": past.seq + 1, "time": time.time(), "elapsed": 0.0, "changed": changed}
    study.state.apply(resumed)
    if not study.done:
        return None
    study.state.ended = ended
    return study


class _Unwritten:
    """The log of a study that only answers questions."""

    def append(self, event: str, **_: Any) -> dict[str, Any]:
        """Nothing may be written."""
        raise AssertionError(event)

    def slept(self, seconds: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def tell_over(study: Study, results_dir: Path) -> int:
    """Say that there is nothing to continue, and show the result; returns the exit status of `finish`."""
    name, state = study.folder.name, study.state
    budget = study.settings.budget.trials
    of = f" of {budget}" if budget else ""
    print(
        f"{name} is finished: {state.ended_trials}{of} trials have ended, and nothing is left to run.", file=sys.stderr
    )
    print("Nothing was changed.", file=sys.stderr)
    reason = study.reached or "budget"
    status = finish(study, reason, results_dir)
    if reason not in budgets.REASONS and study.settings.plan is None:
        print(f"      tuner resume {quote(name)} --trials N{where_option(results_dir)}   (more trials)")
    return status


def advice(study: Any, reason: str, where: str) -> list[str]:
    """Lines at the end of a search that reached a limit: which limit, and how to continue; `where` is an option."""
    if reason not in budgets.REASONS:
        return []
    state, limit = study.state, budgets.REASONS[reason]
    value, spent = getattr(study.settings.budget, limit), state.spent
    said = {
        "wall_time": ("the time limit is reached", "--hours H"),
        "gpu_hours": (f"{spent.gpu_seconds / 3600:.3g} of {value:g} GPU-hours are used", "--gpu-hours H"),
        "batches": (f"{spent.batches:,} of {value or 0:,} batches are trained", "--batches N"),
        "utterances": (f"{spent.utterances:,} of {value or 0:,} utterances are used", "--utterances N"),
        "target_per": (f"the target is reached: PER {spent.best_per:.4f}, wanted {value:g}", "--target-per P"),
        "no_improvement": (
            f"no improvement in the last {spent.since_best} trials: PER {spent.best_per:.4f}",
            "--no-improvement N",
        ),
    }
    what, option = said[reason]
    name = study.folder.name
    waiting, paused = len(state.waiting), len(state.paused)
    kept = f" ({waiting} interrupted trial{'s' if waiting > 1 else ''} will continue)" if waiting else ""
    kept += f" ({paused} paused may continue)" if paused else ""
    lines = [f"{what}. Continue with: tuner resume {name} {option}{where}{kept}"]
    if not any(trial.status == "completed" for trial in state.trials.values()):
        lines += _under_one_trial(study.settings, state.trials.values(), reason)
    return lines


def _under_one_trial(settings: StudySettings, trials: Iterable[TrialState], reason: str) -> list[str]:
    """Lines for a search in which no trial ended: the time that one trial takes, from the epochs so far."""
    if reason not in ("wall_time", "gpu_hours"):
        return []
    furthest = max(trials, key=lambda trial: trial.epoch / trial.config.epochs, default=None)
    limit = budgets.REASONS[reason]
    budget = f"{getattr(settings.budget, limit):g} {'GPU-hours' if limit == 'gpu_hours' else 'hours'}"
    if furthest is None or not furthest.epoch:
        return [f"{budget} are not enough for one trial, nor for one epoch; give more"]
    if furthest.status in ("stopped", "diverged", "failed"):
        return []
    share = settings.resources.gpus_per_trial if limit == "gpu_hours" else 1.0
    whole = furthest.seconds / furthest.epoch * furthest.config.epochs * share / 3600
    return [
        f"{budget} are not enough for one trial: trial {furthest.number} reached epoch {furthest.epoch} of "
        f"{furthest.config.epochs}; the whole trial takes about {whole:.2g}"
    ]
