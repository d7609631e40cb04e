"""Searchers beside each other in simulated searches, over a model of recorded whole runs; plain Ray Tune too.

    python benchmarks/searchers.py                                      # quickstart on synthetic `small`, 24 trials
    python benchmarks/searchers.py --bank benchmarks/data/searchers/quickstart-an4.parquet          # the same on AN4
    python benchmarks/searchers.py --searchers gp "gp explore=0" "tpe ends=0" --stopping "asha at=horizon" --repeats 40

The bank are whole runs of a space, drawn at random (`bank.py`). A Gaussian process is fitted to them: the PER and the
validation loss at equal shares of a run, by the settings. What it leaves is noise, and drawn anew for each trial: a
forest with the residuals of the nearest run, as in `tuner simulate --surrogate`, would let a searcher find the lucky
runs of the bank again. The first line says how well runs that the model has not seen are ranked.

The rule, the study and the searchers are the program's own. `ray_tune` is Optuna's sampler with its defaults under
Ray's real ASHA (grace 2, reduction 2), told as Tune tells it: the last PER of a trial, stopped or not. The columns: the
best PER (mean over seeds) at shares of the batches of whole runs, and how much lower it is than the first searcher's at
half of them, with the standard error.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program, this file's own folder comes first
from search_spaces import Space, load_space
from search_spaces.stopping import DEFAULT_STOPPING, rule_text
from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.simulate import NOWHERE, MemoryLog, _Loop, study_settings
from tuner.simulation.surrogate import SHARES, Surrogate, SurrogateTrials

ROOT = Path(__file__).parents[1]
RAY = "ray_tune"
AT = (0.25, 0.5, 0.65)
"""Shares of the batches of whole runs at which searches are compared."""
Trace = tuple[np.ndarray, np.ndarray]
"""(batches so far, best PER so far), one for each epoch."""


class Smooth(Surrogate):
    """The curves by a Gaussian process; what it leaves of a run's end is the noise."""

    def __init__(self, bank: Bank) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        self._kernel: Any = None
        super().__init__(bank)
        end, rows = len(SHARES) - 1, self._features
        kernel = ConstantKernel(1.0) * RBF(np.ones(rows.shape[1]), (0.05, 50)) + WhiteKernel(0.05, (1e-4, 1))
        ends = self._curves[:, end]
        with warnings.catch_warnings():  # a length at its upper bound: the setting does not matter
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(rows, ends).kernel_
        self._kernel, share = fitted.k1, fitted.k2.noise_level
        self._middle, self._scale = self._curves.mean(axis=0), self._curves.std(axis=0)
        inverse = np.linalg.inv(self._kernel(rows) + share * np.eye(len(rows)))
        self._weights = inverse @ ((self._curves - self._middle) / self._scale)
        self.left_out = ends - self._weights[:, end] / np.diag(inverse) * self._scale[end]
        """Each run's end as the others predict it (Rasmussen and Williams 2006, equation 5.12)."""
        self._residuals = np.zeros_like(self._curves)
        self.noise = float(np.sqrt(share) * self._scale[end])

    @property
    def score(self) -> float:
        """Spearman's correlation of the ends of runs with what the others predict."""
        from scipy.stats import spearmanr

        return float(spearmanr(self.left_out, self._curves[:, len(SHARES) - 1])[0])

    def _predicted(self, features: np.ndarray) -> np.ndarray:
        if self._kernel is None:  # the forest, which is made first
            return super()._predicted(features)
        found: np.ndarray = self._kernel(features, self._features) @ self._weights * self._scale + self._middle
        return found


def ours(model: Surrogate, space: Space, searcher: Mapping[str, Any], given: argparse.Namespace, seed: int) -> Trace:
    """A search of this program."""
    from tuner.study.study import Study

    starts = [space.start_params(name)[0] for name in space.start_points]
    settings = study_settings(given.rule, given.trials, seed, searcher, space.as_dict())
    table, log = SurrogateTrials(model), MemoryLog()
    study = Study.create(NOWHERE, settings.changed({"start_points": starts}), [], log, source=table)
    trace = _Loop(True, table, study, log, None).run(given.workers, seed).trace
    return trace.batches, trace.best


def ray_tune(model: Surrogate, space: Space, given: argparse.Namespace, seed: int) -> Trace:
    """A search of plain Ray Tune."""
    import optuna
    from ray.tune.schedulers import ASHAScheduler

    from benchmarks.rivals import ray_rule

    longest = max(len(run.rows) for run in model.bank.runs)
    scheduler = ASHAScheduler("epoch", "per", "min", max_t=longest, grace_period=2, reduction_factor=2)
    rule = ray_rule(scheduler, seed)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    order, queue, found = itertools.count(), [], []

    def begin(now: float) -> None:
        trial = study.ask()
        params = space.suggest(trial)
        run = model.run(str(trial.number), params, space.config(params, seed * 1000 + trial.number))
        heapq.heappush(queue, (now + run.rows[0]["seconds"], next(order), trial, run, 0))

    for _ in range(given.workers):
        begin(0.0)
    while queue:
        now, _, trial, run, place = heapq.heappop(queue)
        row, last = run.rows[place], place + 1 == len(run.rows)
        found.append((row["batch"] - (run.rows[place - 1]["batch"] if place else 0), row["per"]))
        if rule(trial.number, row, last) or last:
            study.tell(trial, row["per"])
            if len(study.trials) < given.trials:
                begin(now)
        else:
            heapq.heappush(queue, (now + run.rows[place + 1]["seconds"], next(order), trial, run, place + 1))
    batches, pers = np.array(found).T
    return np.cumsum(batches), np.minimum.accumulate(pers)


def at(trace: Trace, batches: float) -> float:
    """The best PER after so many batches; 1 before the first epoch."""
    place = int(np.searchsorted(trace[0], batches, side="right"))
    return float(trace[1][place - 1]) if place else 1.0


def table(traces: Mapping[str, list[Trace]], whole: float) -> list[dict[str, Any]]:
    """A row for each searcher; `whole` are the batches of whole runs of all trials."""
    rows = []
    first = np.array([at(trace, whole / 2) for trace in next(iter(traces.values()))])
    for name, each in traces.items():
        less = first - np.array([at(trace, whole / 2) for trace in each])
        row = {"searcher": name, "batches": round(np.mean([trace[0][-1] for trace in each]))}
        row |= {f"at {share:g}": round(float(np.mean([at(trace, share * whole) for trace in each])), 4) for share in AT}
        row["end"] = round(float(np.mean([trace[1][-1] for trace in each])), 4)
        rows.append(row | {"less": f"{less.mean():+.4f} ({less.std(ddof=1) / np.sqrt(len(less)):.4f})"})
    return rows


def main() -> None:
    """Simulate the searches and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bank = ROOT / "benchmarks/data/searchers/quickstart-small.parquet"
    parser.add_argument("--bank", type=Path, default=bank, help="whole runs of the space, with params")
    parser.add_argument("--space", default="quickstart", help="the space of the runs")
    names = [RAY, "tpe startup_trials=4", "tpe startup_trials=4 ends=0", "gp", "gp explore=0", "random"]
    parser.add_argument("--searchers", nargs="+", default=names, help="searchers with settings, and ray_tune")
    parser.add_argument("--stopping", default=rule_text(DEFAULT_STOPPING.model_dump()), help="this program's rule")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=24, help="searches for each, seeds 0, 1, ...")
    given = parser.parse_args()

    import optuna

    from results.output import Sheet, render
    from search_spaces.parsing.given import parse_settings
    from search_spaces.searchers import Searcher
    from tuner.commands.options import parse_rule

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given.rule, space = parse_rule(given.stopping, "--stopping"), load_space(given.space)
    model = Smooth(read_curves(given.bank, ROOT, space=space).whole())
    runs = model.bank.runs
    print(
        f"{len(runs)} runs; ranked unseen: {model.score:.3f}; noise of the PER: {100 * model.noise:.1f} %", flush=True
    )
    traces: dict[str, list[Trace]] = {}
    for name in given.searchers:
        settings = None if name == RAY else parse_settings(name, Searcher, "searcher")
        traces[name] = [
            ray_tune(model, space, given, seed) if settings is None else ours(model, space, settings, given, seed)
            for seed in range(given.repeats)
        ]
    rows = table(traces, given.trials * float(np.median([run.batches for run in runs])))
    print(render(Sheet.of(rows), "table"), end="")


if __name__ == "__main__":
    main()
