"""Loggers for TensorBoard, MLflow and Weights & Biases. They only read events.

A trial is a run with the configuration as parameters and the numbers of each epoch as metrics; the names are those of
the tables. During a search they are observers (`observer`), each in a thread of its own; `replay` writes the same from
a study's log afterwards.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from results.store.columns import EPOCHS
from results.store.events import scan_events
from results.store.paths import StudyPaths
from search_spaces import InputError
from tuner.callbacks.background import Background, Follower
from tuner.study.trial_state import TrialState

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""Kind of logger -> the package that it needs."""
METRICS = (*(column.name for column in EPOCHS if column.type == "float64"), "batch", "infeasible")
_MLFLOW_BATCH = 900
"""Metrics sent together; MLflow takes 1,000 at most."""
_MLFLOW_STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "paused": "KILLED"}

Facts = Mapping[str, Any]


class Sink(Protocol):
    """One tool that runs are written to. For a trial that continues after an interruption, `begin` is called again.

    As a hearer it keeps the contract of `Study`'s observers.
    """

    def begin(self, trial: int, params: Facts, tags: Facts, epochs_done: int, time: float) -> None:
        """An attempt at a trial starts; `time` in unix seconds, here and below."""

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, float], time: float) -> None:
        """An epoch was reported."""

    def end(self, trial: int, status: str, result: Facts, time: float) -> None:
        """The attempt ended, with best_per, best_epoch and last_per where there are any."""

    def finish(self) -> None:
        """The last call: write everything that is still buffered."""


def check_installed(kinds: Sequence[str]) -> None:
    """Raises InputError, a line for each kind of logger whose package is not installed."""
    problems = [
        f"{kind}: the package {PACKAGES[kind]} is not installed; pip install '.[{kind}]' in the checkout of b2t-tuner"
        for kind in dict.fromkeys(kinds)
        if importlib.util.find_spec(PACKAGES[kind]) is None
    ]
    if problems:
        raise InputError(problems)


def observer(kind: str, folder: Path) -> Background:
    """An observer of the study in `folder` that writes to TensorBoard, MLflow or W&B in the background.

    TensorBoard files lie in `<study>/tensorboard`; MLflow goes to MLFLOW_TRACKING_URI, or to `mlflow.db` beside the
    studies; W&B runs lie in `<study>/wandb`, and are sent at once if WANDB_API_KEY or WANDB_MODE=online is set.
    """
    check_installed([kind])
    out = folder.parent if kind == "mlflow" else folder / "tensorboard" if kind == "tensorboard" else folder
    tellers: list[_Teller] = []  # made in the thread, because importing and connecting take seconds
    follower = Follower(folder)

    def handle(event: Facts) -> None:
        follower.take(event)
        if not tellers:
            server = os.environ.get("MLFLOW_TRACKING_URI") if kind == "mlflow" else None
            tellers.append(_Teller(_open(kind, out, follower, server), follower))
        tellers[0].tell(event)

    return Background(f"--log {kind}", handle, lambda: tellers[0].sink.finish() if tellers else None)


def replay(kind: str, folder: Path, out: Path) -> int:
    """Write a study's log to a new or empty folder `out`; returns the number of trials.

    Raises InputError if the package is not installed, `out` is not empty or there is no such study. W&B does not store
    past times: its curves have the times of this export.
    """
    check_installed([kind])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not empty; give a new or empty folder")
    follower = Follower(folder)
    teller: _Teller | None = None
    for event in scan_events(StudyPaths(folder).log, []):
        follower.take(event)
        teller = teller or _Teller(_open(kind, out, follower, None, patient=True), follower)
        teller.tell(event)
    if teller is None:
        raise InputError(f"{StudyPaths(folder).log}: has no events; there is nothing to write")
    teller.sink.finish()
    return len(follower.state.trials)


def _open(kind: str, out: Path, follower: Follower, server: str | None, patient: bool = False) -> Sink:
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    settings = follower.state.settings
    if kind == "tensorboard":
        return TensorBoard(out)
    if kind == "mlflow":
        return MLflow(server or f"sqlite:///{out / 'mlflow.db'}", out / "mlflow-artifacts", settings.study, patient)
    identity = f"{settings.study} {follower.created} {settings.host}"
    return WandB(out, settings.study, hashlib.sha256(identity.encode()).hexdigest()[:12])


class _Teller:
    """Passes events to a sink. A trial from an earlier session is begun before its first event."""

    def __init__(self, sink: Sink, follower: Follower) -> None:
        self.sink = sink
        self._follower = follower
        self._begun: set[int] = set()

    def tell(self, event: Facts) -> None:
        """One event, already applied by the follower."""
        kind, when = event["event"], event["time"]
        if kind not in ("trial_started", "epoch", "trial_ended"):
            return
        trial = self._follower.state.trials[event["trial"]]
        if kind == "trial_started":
            self._begin(trial, event["from_epoch"], when)
        elif trial.number not in self._begun:
            if kind == "trial_ended" and event["status"] == "interrupted":
                return  # the resuming driver closes the attempt of the killed one; the trial continues in a moment
            self._begin(trial, trial.epoch, when)
        if kind == "epoch":
            metrics = {name: float(event[name]) for name in METRICS if _is_number(event.get(name))}
            self.sink.epoch(trial.number, event["epoch"], metrics, when)
        elif kind == "trial_ended":
            self._begun.remove(trial.number)
            self.sink.end(trial.number, event["status"], _result(trial, event), when)

    def _begin(self, trial: TrialState, epochs_done: int, when: float) -> None:
        params = {name.replace(".", "_"): _plain(value) for name, value in trial.known.items()}
        known = {name: value for name, value in params.items() if value is not None}
        study = self._follower.state.settings.study
        tags = {"study": study, "trial": trial.number, "origin": trial.origin, "seed": trial.seed}
        self._begun.add(trial.number)
        self.sink.begin(trial.number, known, tags, epochs_done, when)


def _result(trial: TrialState, event: Facts) -> dict[str, Any]:
    best = trial.best
    found = {
        "best_per": best[0] if best else event.get("best_per"),  # recorded runs have a result and no epochs
        "best_epoch": best[1] if best else None,
        "last_per": trial.pers.get(trial.epoch, event.get("last_per")),
    }
    return {name: value for name, value in found.items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else str(list(value))


class TensorBoard:
    """TensorBoard event files, a folder for each trial; the HParams page has the configurations."""

    def __init__(self, out: Path) -> None:
        from tensorboardX import SummaryWriter

        self._out = out
        self._make: Callable[..., Any] = SummaryWriter
        self._writers: dict[int, Any] = {}

    def begin(self, trial: int, params: Facts, tags: Facts, epochs_done: int, time: float) -> None:
        """Open the trial's folder; epochs of an earlier attempt after its checkpoint are hidden."""
        from tensorboardX.summary import hparams

        folder = str(self._out / f"trial_{trial:04d}")
        purge = epochs_done + 1 if (self._out / f"trial_{trial:04d}").exists() else None
        # tensorboardX names files by the second: an attempt that follows at once must not overwrite the last one.
        suffix = f".{round(time * 1e6)}"
        writer = self._make(folder, purge_step=purge, flush_secs=10, filename_suffix=suffix)
        self._writers[trial] = writer
        for part in hparams({**params, "origin": tags["origin"]}, {"best_per": 0.0, "last_per": 0.0})[:2]:
            writer.file_writer.add_summary(part, walltime=time)

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, float], time: float) -> None:
        """A point of each curve."""
        for name, value in metrics.items():
            self._writers[trial].add_scalar(name, value, epoch, walltime=time)

    def end(self, trial: int, status: str, result: Facts, time: float) -> None:
        """The results that the HParams page ranks by."""
        writer = self._writers.pop(trial)
        step = result.get("best_epoch", 0)
        for name in ("best_per", "last_per"):
            if name in result:
                writer.add_scalar(name, result[name], step, walltime=time)
        writer.add_text("status", status, step, walltime=time)
        writer.close()

    def finish(self) -> None:
        """Close what is open."""
        for writer in self._writers.values():
            writer.close()


class MLflow:
    """An MLflow experiment for the study, a run for each trial."""

    def __init__(self, uri: str, artifacts: Path, study: str, patient: bool) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import logging

        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(study)
        where = artifacts.as_uri() if uri.startswith("sqlite:") else None
        self._experiment = found.experiment_id if found else self._client.create_experiment(study, where)
        self._patient = patient
        self._runs: dict[int, str] = {}
        self._held: dict[int, list[Any]] = {}

    def begin(self, trial: int, params: Facts, tags: Facts, epochs_done: int, time: float) -> None:
        """Make the trial's run, or open the one that an earlier attempt made."""
        from mlflow.entities import Param

        earlier = self._client.search_runs([self._experiment], f"tags.trial = '{trial}'", max_results=1)
        if earlier:
            run = earlier[0].info.run_id
            self._client.update_run(run, status="RUNNING")
        else:
            named = {**tags, "mlflow.runName": f"trial {trial}"}
            run = self._client.create_run(
                self._experiment, start_time=round(time * 1000), tags={key: str(value) for key, value in named.items()}
            ).info.run_id
            self._client.log_batch(run, params=[Param(name, str(value)) for name, value in params.items()])
        self._runs[trial] = run
        self._held[trial] = []

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, float], time: float) -> None:
        """A point of each curve; a replay buffers them and sends them together."""
        from mlflow.entities import Metric

        held = self._held[trial]
        held += [Metric(name, value, round(time * 1000), epoch) for name, value in metrics.items()]
        if not self._patient or len(held) > _MLFLOW_BATCH:
            self._send(trial)

    def _send(self, trial: int) -> None:
        held, self._held[trial] = self._held[trial], []
        for start in range(0, len(held), _MLFLOW_BATCH):
            self._client.log_batch(self._runs[trial], metrics=held[start : start + _MLFLOW_BATCH])

    def end(self, trial: int, status: str, result: Facts, time: float) -> None:
        """The results, and the run's state."""
        from mlflow.entities import Metric

        step = result.get("best_epoch", 0)
        self._held[trial] += [Metric(name, float(value), round(time * 1000), step) for name, value in result.items()]
        self._send(trial)
        run = self._runs.pop(trial)
        self._client.set_tag(run, "status", status)
        self._client.set_terminated(run, _MLFLOW_STATUS.get(status, "FAILED"), end_time=round(time * 1000))

    def finish(self) -> None:
        """Send what is buffered; the runs of trials that continue stay open."""
        for trial in self._runs:
            self._send(trial)


class WandB:
    """A Weights & Biases run for each trial, in a group named after the study.

    Offline unless WANDB_MODE or WANDB_API_KEY is set, so that W&B does not ask for a login during a search.
    """

    def __init__(self, out: Path, study: str, identity: str) -> None:
        import wandb

        self._wandb: Any = wandb  # its types may be installed or not
        self._out, self._study, self._identity = out, study, identity
        self._mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        self._runs: dict[int, Any] = {}

    def begin(self, trial: int, params: Facts, tags: Facts, epochs_done: int, time: float) -> None:
        """Open the trial's run; a later attempt has the same id and continues it."""
        quiet = self._wandb.Settings(silent=True, console="off", x_disable_stats=True)
        self._runs[trial] = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "b2t-tuner"),
            group=self._study,
            name=f"{self._study} {trial}",
            id=f"{self._identity}-{trial}",
            resume=None if self._mode == "offline" else "allow",
            reinit="create_new",  # trials run side by side
            dir=str(self._out),
            mode=self._mode,
            config={**params, **tags},
            settings=quiet,
        )
        # Epochs, not W&B's own steps: an epoch can be reported again by a later attempt.
        self._runs[trial].define_metric("*", step_metric="epoch")

    def epoch(self, trial: int, epoch: int, metrics: Mapping[str, float], time: float) -> None:
        """A point of each curve."""
        self._runs[trial].log({"epoch": epoch, **metrics})

    def end(self, trial: int, status: str, result: Facts, time: float) -> None:
        """The results in the run's summary."""
        run = self._runs.pop(trial)
        run.summary.update({"status": status, **result})
        run.finish(exit_code=0 if status in ("completed", "stopped") else 1)

    def finish(self) -> None:
        """Close the runs of trials that have no end, and wait until W&B's own process has written all there is."""
        for run in self._runs.values():
            run.finish(exit_code=1)
        self._wandb.teardown()
