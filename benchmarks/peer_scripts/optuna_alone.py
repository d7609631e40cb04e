"""The search with Optuna alone: its TPE and its median pruner, the defaults, in one process for each worker."""

import multiprocessing
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from benchmarks.peer_scripts.common import epochs_of
from search_spaces import load_space


def search(space: str, data: str, trials: int, workers: int, seed: int, folder: str) -> None:
    """Search `space` on `data`."""
    optuna.create_study(storage=storage(folder), study_name="peer")
    each = [(space, data, trials, seed * workers + worker, folder) for worker in range(workers)]
    started = [multiprocessing.get_context("spawn").Process(target=work, args=given) for given in each]
    for process in started:
        process.start()
    for process in started:
        process.join()


def work(space: str, data: str, trials: int, seed: int, folder: str) -> None:
    """Take part in the search until it has had so many trials."""
    searched = load_space(space)

    def objective(trial: optuna.Trial) -> float:
        best = 1.0
        for epoch, per in epochs_of(searched, searched.suggest(trial), seed, data, folder):
            best = min(best, per)
            trial.report(per, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.load_study(storage=storage(folder), study_name="peer", sampler=sampler)
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.RUNNING)
    study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(trials, states=states)])


def storage(folder: str) -> Any:
    """The journal through which the processes know of each other."""
    return JournalStorage(JournalFileBackend(str(Path(folder) / "journal")))
