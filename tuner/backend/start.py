"""Starting Ray, or joining one, and ending it: what must come before everything else of Ray, and loads no Tune.

A local Ray needs a second and more to come up, in which this process only waits: `Starting` lets it do something else.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuner.backend import cluster

# Read by Ray when it is imported or started.
os.environ.update(
    {
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without a GPU sees none
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "0",
        **cluster.authentication(),
    }
)

import ray

from tuner.backend import local
from tuner.backend.private import make_scratch


@dataclass(frozen=True)
class Resources:
    """The resources of one trial, and the number of trials at once (None = as many as fit)."""

    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    concurrent: int | None = None
    custom: Mapping[str, float] = field(default_factory=dict)
    """Custom Ray resources, such as {"accelerator_type:H200": 0.001}, which select the machines for trials."""

    def request(self) -> dict[str, float]:
        """The resources that a trial needs from its node, by Ray's names."""
        return {"CPU": self.cpus_per_trial, "GPU": self.gpus_per_trial, **self.custom}


_scratch: Path | None = None
"""What `start_ray` made and `stop_ray` removes."""
_starting: Starting | None = None
"""A start in the background, which `stop_ray` ends too."""


def scratch() -> Path:
    """The folder for temporary files of the Ray that was started."""
    assert _scratch is not None  # noqa: S101  made by start_ray
    return _scratch


class Starting:
    """A Ray that comes up in a thread; `wait` waits for it. End it by `stop_ray`.

    The thread lives until then: the kernel ends Ray's processes with the thread that started them.
    """

    def __init__(self, address: str | None, cpus: int | None, gpus: int | None = None) -> None:
        """Begin; a cluster is joined where an `address` is given."""
        global _starting
        self._error: BaseException | None = None
        self._there, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(address, cpus, gpus), name="ray", daemon=True)
        _starting = self
        self._thread.start()

    def _run(self, address: str | None, cpus: int | None, gpus: int | None) -> None:
        try:
            _come_up(address, cpus, gpus)
        except BaseException as error:
            self._error = error
        self._there.set()
        self._over.wait()

    def wait(self, resources: Resources) -> int:
        """How many trials run at once, when Ray is there. Raises what `start_ray` raises."""
        self._there.wait()
        if self._error is not None:
            raise self._error
        return _at_once(resources)

    def settle(self) -> None:
        """Wait until it has come up, or failed to."""
        self._there.wait()

    def end(self) -> None:
        """Its processes are gone: let the thread end."""
        self._over.set()


def start_ray(address: str | None, cpus: int | None, resources: Resources, gpus: int | None = None) -> int:
    """Start a local Ray, or join the cluster at `address`; returns how many trials run at once.

    A local Ray uses `cpus` cores and `gpus` GPUs; None = all of the machine.

    Raises InputError if a trial needs more than there is, or Ray does not come up.
    """
    _come_up(address, cpus, gpus)
    return _at_once(resources)


def _come_up(address: str | None, cpus: int | None, gpus: int | None) -> None:
    global _scratch
    _scratch = make_scratch()
    if not ray.is_initialized():
        with local.own_sigterm():
            if address is None:
                local.start(_scratch, cpus, gpus)
            else:
                cluster.join(address)


def _at_once(resources: Resources) -> int:
    limit = cluster.room(resources.request())
    return min(limit, resources.concurrent) if resources.concurrent else limit


def stop_ray() -> None:
    """End the local Ray (or leave the cluster) and remove the scratch folder; one that is coming up is waited for."""
    global _scratch, _starting
    if _starting is not None:
        _starting.settle()
    ray.shutdown()
    if _starting is not None:
        _starting.end()
        _starting = None
    if _scratch is not None:
        shutil.rmtree(_scratch, ignore_errors=True)
    _scratch = None
