"""The names of Ray that its documentation does not promise, in one place.

An upgrade of Ray may move them without a word. `NAMES` says what each is used for;
tests/tuner/backend/test_ray_private.py looks for each and fails with that line. No other module uses such names
(tests/test_architecture.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = {
    "Trial.temporary_state.ray_actor": "to end the worker of a trial that hangs",
    "Trial.get_pickled_error": "to tell why a worker died",
    "Trial.error_file": "to tell why a worker died, where Ray has no error object",
    "Trial.get_error": "to tell why a worker died, where Ray has neither object nor file",
    "Trial.evaluated_params": "to free the memory of a trial that has ended",
    "TuneController._live_trials": "to forget trials that have ended, once they are no longer live",
    "TuneController._trial_to_actor": "to forget trials that have ended, once their worker has stopped",
    "TuneController._trials": "to forget trials that have ended: Tune keeps all of them, 40 KB each",
    "TuneController._trial_metadata": "to forget trials that have ended: Tune writes them into its snapshots",
    "TuneController._stopped_trials": "to forget trials that have ended",
    "TuneController._failed_trials": "to forget trials that have failed",
    "TuneController._trials_to_cache": "to forget trials that have ended, before Tune's next snapshot",
    "TuneController._callbacks._callbacks": "to forget trials in Tune's own callbacks",
    "ActorHandle._actor_id": "to tell which trial's worker Ray's memory monitor killed",
    "worker.print_to_stdstream": "to write Ray's messages to ray.log instead of the terminal",
    "services.get_node": "to wait longer for a local Ray on a busy machine",
    "Node.start_monitor": "to start a local Ray without its autoscaler, a second sooner",
    "Node.start_api_server": "to start a local Ray without its dashboard's server, a second sooner",
    "Node.start_log_monitor": "to start a local Ray without its reader of logs, a second sooner",
    "init._temp_dir": "to keep Ray's files in a folder of the search's own, closed to other users",
    "config.gcs_server_port_wait_time_s": "to wait longer for a local Ray on a busy machine",
    "config.memory_monitor_refresh_ms": "to switch off Ray's memory monitor in a local Ray",
    "config.prestart_worker_first_driver": "to have no worker of a local Ray before a trial asks for one",
}
"""Where a name is -> what it is used for. `worker` and `services` are modules of `ray._private`, `Node` is
`ray._private.node.Node`, `init` is `ray.init`, `config` are the settings that Ray reads from variables RAY_..."""
SINCE = {"config.gcs_server_port_wait_time_s": "2.60"}
"""Those that older versions of Ray lack: there the first try has Ray's own patience, and so has the second."""

PORT_WAIT = "RAY_gcs_server_port_wait_time_s"
"""Variable of the environment: seconds that Ray's own processes have to come up."""
MEMORY_MONITOR = "RAY_memory_monitor_refresh_ms"
"""Variable of the environment: how often the memory monitor looks; 0 = never."""
EARLY_WORKERS = "RAY_prestart_worker_first_driver"
"""Variable of the environment: whether workers are started before anybody asks for one; 0 = no."""
NOT_NEEDED = ("start_monitor", "start_api_server", "start_log_monitor")
"""Methods of Ray's `Node` that start a process which a search on one machine has no use for: the autoscaler, the server
of the dashboard, and the reader of log files. Each costs a second before the first trial."""


def worker_of(trial: Any) -> Any | None:
    """The actor that runs one of Tune's trials; None before it has started."""
    return trial.temporary_state.ray_actor


def id_of(actor: Any) -> str:
    """An actor's id as Ray's messages have it."""
    name: str = actor._actor_id.hex()
    return name


def error_of(trial: Any) -> str:
    """What Tune knows of the error that ended a trial; "" if that is nothing."""
    error = trial.get_pickled_error()
    if error is None and trial.error_file and Path(trial.error_file).exists():
        return Path(trial.error_file).read_text(errors="replace")
    return str(error or trial.get_error() or "")


def free(trial: Any) -> None:
    """Free what a trial that has ended holds: its configuration."""
    trial.config = {}
    trial.evaluated_params = {}


def forget(controller: Any, trial: Any) -> bool:
    """Make Tune's controller forget a trial that has ended; False if its worker is still being stopped.

    Tune keeps every trial to the end, 40 KB each, and looks through them again and again.
    """
    if trial in controller._live_trials or trial in controller._trial_to_actor or not trial.is_finished():
        return False
    controller._trials.remove(trial)
    controller._trial_metadata.pop(trial.trial_id, None)
    for kept in (controller._stopped_trials, controller._failed_trials, controller._trials_to_cache):
        kept.discard(trial)
    for callback in controller._callbacks._callbacks:
        for each in vars(callback).values():
            if isinstance(each, dict):
                each.pop(trial, None)
            elif isinstance(each, set):
                each.discard(trial)
    return True


def divert_messages(to: Callable[..., None]) -> None:
    """Have Ray's messages to the driver given to `to(data, ...)`; call this after Ray has been started.

    Ray prints them to stdout, whatever `log_to_driver` says, and has no public way to change that. Where the name has
    moved they are printed: a search goes on without.
    """
    import ray._private.worker as worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = to


def be_patient(seconds: int) -> None:
    """Let Ray wait longer for its own processes, in this process, from now on.

    Ray asks for 30 s whether its node has come up, and has no setting for that. Where the name has moved, it stays so.
    """
    os.environ[PORT_WAIT] = str(seconds)
    from ray._private import services

    once = getattr(services, "get_node", None)
    if once is None:
        return

    def get_node(*arguments: Any) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                return once(*arguments)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    services.get_node = get_node


@contextlib.contextmanager
def only_what_runs_trials() -> Iterator[None]:
    """A Ray that is started here starts what it needs to run trials, and nothing else; it has no setting for that."""
    from ray._private.node import Node

    kept = {name: getattr(Node, name) for name in NOT_NEEDED if hasattr(Node, name)}
    for name in kept:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(Node, name, method)


def in_folder(folder: Path) -> dict[str, str]:
    """The argument of `ray.init` that puts all files of a local Ray into `folder`."""
    return {"_temp_dir": str(folder)}
