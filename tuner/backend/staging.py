"""Copies the data to nodes that cannot read the data folder: one copy per node, verified, and removed afterwards.

An actor beside the driver reads the data folder in pieces; a node writes the pieces into its own local folder
(TUNER_STAGE, else /tmp/tuner-data-<user>) and checks the hash before a trial uses the copy. An interrupted copy is
continued. A copy belongs to the studies that use it: the last one that ends removes it. The copy of a killed or
interrupted search is used again when it is resumed; after a week, the next search on that node removes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from trainable.data.intact import open_intact
from trainable.data.stamps import STAMP_FILE
from tuner.backend import cluster
from tuner.backend.worker import Place, Work, train_job
from tuner.study.request import Request

PIECE = 32 << 20
"""Bytes in one piece."""
PATIENCE = 6 * 3600.0
"""Seconds that the nodes have to copy the data."""
KEPT_SECONDS = 7 * 86400.0
"""A copy whose studies have given no sign of life for this long is removed."""


@dataclass(frozen=True)
class Stage:
    """What a worker needs to get the data on its node."""

    server: str
    """Name of the actor that reads the data."""
    fingerprint: str
    user: str
    """Names the study, the same when it is resumed."""


class DataServer:
    """The actor beside the driver: reads files of the data folder, nothing else."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        files = [path for path in sorted(self._folder.iterdir()) if path.is_file() and path.name != STAMP_FILE]
        self._files = {path.name: path.stat().st_size for path in files}

    def files(self) -> dict[str, int]:
        """Name -> bytes."""
        return self._files

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A piece of a file that `files` names."""
        if name not in self._files:
            raise KeyError(name)
        with (self._folder / name).open("rb") as file:
            file.seek(offset)
            return file.read(size)


Read = Callable[[str, int, int], bytes]


def local_root() -> Path:
    """This node's folder for copies. Raises InputError if other users can write to it."""
    given = os.environ.get("TUNER_STAGE")
    root = Path(given) if given else Path(tempfile.gettempdir()) / f"tuner-data-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = root.lstat().st_uid
    except OSError as error:
        raise InputError(f"{root}: cannot be made ({error.strerror}); set TUNER_STAGE on the node") from error
    if owner != os.getuid() or root.is_symlink():
        raise InputError(f"{root}: belongs to another user; set TUNER_STAGE on the node to a folder of your own")
    return root


def copy_here(stage: Stage, files: Mapping[str, int], read: Read) -> Path:
    """The data folder on this node, copied by `read` if it is not there yet; of several processes one copies.

    An interrupted copy is continued. Raises InputError where there is not enough space, or if the copy does not have
    the expected fingerprint.
    """
    root = local_root()
    target = root / stage.fingerprint
    with _locked(root, stage.fingerprint):
        _prune(root)
        users = root / f"{stage.fingerprint}.users"
        users.mkdir(exist_ok=True)
        (users / stage.user).touch()
        if not target.exists():
            part = root / f"{stage.fingerprint}.part"
            _copy(part, files, read)
            _check(part, stage.fingerprint)
            part.rename(target)
    return target


def _copy(part: Path, files: Mapping[str, int], read: Read) -> None:
    part.mkdir(exist_ok=True)
    have = {name: (part / name).stat().st_size if (part / name).exists() else 0 for name in files}
    missing, free = sum(files.values()) - sum(have.values()), shutil.disk_usage(part).free
    if missing > free:
        raise InputError(
            f"{part.parent}: {missing / 1e9:.1f} GB must be copied but only {free / 1e9:.1f} GB are free; "
            "free some space, or set TUNER_STAGE on the node to a folder with more"
        )
    for name, size in files.items():
        with (part / name).open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            while file.tell() < size:
                piece = read(name, file.tell(), min(PIECE, size - file.tell()))
                if not piece:
                    raise InputError(
                        f"{name}: became shorter while it was copied; do not change the data during a search"
                    )
                file.write(piece)


def _check(part: Path, fingerprint: str) -> None:
    try:
        found = open_intact(part).fingerprint
    except (InputError, OSError, ValueError) as error:
        shutil.rmtree(part)
        raise InputError(f"{part}: the copy is not a data folder ({error}); run the command again") from error
    if found != fingerprint:
        shutil.rmtree(part)
        raise InputError(
            f"{part}: the copy has other data (fingerprint {found[:12]}); do not change the data during a search"
        )


def remove_here(stage: Stage) -> None:
    """The study `stage.user` no longer needs the copy; with the last study it is removed. Safe while it is read."""
    root = local_root()
    with _locked(root, stage.fingerprint):
        users = root / f"{stage.fingerprint}.users"
        (users / stage.user).unlink(missing_ok=True)
        if users.exists() and not any(users.iterdir()):
            _remove(root, stage.fingerprint)


def _prune(root: Path) -> None:
    """Remove copies that no study has used for a week."""
    for users in root.glob("*.users"):
        for user in users.iterdir():
            if time.time() - user.stat().st_mtime > KEPT_SECONDS:
                user.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process is removing it
            if not any(users.iterdir()) and time.time() - users.stat().st_mtime > 60:
                _remove(root, users.name.removesuffix(".users"))


def _remove(root: Path, fingerprint: str) -> None:
    for name in (fingerprint, f"{fingerprint}.part", f"{fingerprint}.users"):
        shutil.rmtree(root / name, ignore_errors=True)


@contextlib.contextmanager
def _locked(root: Path, fingerprint: str) -> Iterator[None]:
    # One lock for all copies of a node would let a small one wait for a large one.
    with (root / f"{fingerprint[:16]}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def begin(data: Path, fingerprint: str, study: Path, where: Sequence[Mapping[str, Any]]) -> Stage:
    """Send the data to every node of `where`; returns what workers need. Raises InputError with a line for each node
    that could not take them.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    user = hashlib.sha256(f"{os.uname().nodename}:{study.resolve()}".encode()).hexdigest()[:16]
    stage = Stage(f"tuner-data-{user}", fingerprint, user)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": stage.server, "num_cpus": 0, "max_concurrency": 4, "scheduling_strategy": here}
    _served[stage] = ray.remote(DataServer).options(**options).remote(str(data.resolve()))
    problems = []
    for node, answer in cluster.on_every_node(_obtain_there, (stage,), where, PATIENCE):
        if isinstance(answer, Exception):
            problems.append(f"node {node['address']}: {cluster.why(answer)}")
    if problems:
        raise InputError(problems)
    return stage


_served: dict[Stage, Any] = {}
"""The actors' handles: an actor ends with its handle."""


def end(stage: Stage, where: Sequence[Mapping[str, Any]]) -> None:
    """The study has ended: its copies are removed where no other study uses them. Lost nodes are ignored."""
    for _ in cluster.on_every_node(_remove_there, (stage,), where):
        pass
    _served.pop(stage, None)


def _obtain_there(stage: Stage, node: str) -> str:
    return str(obtain(stage))


def _remove_there(stage: Stage, node: str) -> None:
    remove_here(stage)


def obtain(stage: Stage) -> Path:
    """The data folder on this node: an existing copy, or a new one, as on a node that joined later."""
    import ray

    server = ray.get_actor(stage.server)

    def read(name: str, offset: int, size: int) -> bytes:
        piece: ray.ObjectRef[bytes] = server.read.remote(name, offset, size)
        return ray.get(piece)

    files: ray.ObjectRef[dict[str, int]] = server.files.remote()
    return copy_here(stage, ray.get(files), read)


@dataclass(frozen=True)
class Ready:
    """A cluster whose nodes were checked, and the function that its workers run."""

    work: Work
    stage: Stage | None = None
    where: tuple[Mapping[str, Any], ...] = ()

    def finish(self, reason: str) -> None:
        """The driver's session has ended: copies are removed, unless the study was interrupted and may be resumed."""
        if self.stage is not None and reason != "interrupted":
            end(self.stage, self.where)


def check(request: Request) -> None:
    """Raises InputError for an option that needs a cluster when there is none."""
    if request.give_up_after is not None and request.address is None:
        raise InputError("--give-up-after: a local Ray has no nodes to lose; leave it out, or give --address")
    if request.stage_data and request.address is None:
        raise InputError("--stage-data: a local Ray reads --data where it is; leave it out, or give --address")


def prepare(request: Request, fingerprint: str, study: Path, trial: Mapping[str, float]) -> Ready:
    """Before the first trial: check every node that can run a `trial`, and copy the data to it if requested.

    A local Ray needs neither. Raises InputError with a line for each problem on a node.
    """
    if request.address is None:
        return Ready(train_job)
    where = tuple(cluster.nodes(trial))
    cluster.preflight(request.data, fingerprint, request.results_dir, where, staged=request.stage_data)
    if not request.stage_data:
        return Ready(train_job)
    size = sum(path.stat().st_size for path in request.data.iterdir() if path.is_file())
    print(f"sending the data ({size / 1e6:.1f} MB) to {len(where)} nodes ...", file=sys.stderr)
    stage = begin(request.data, fingerprint, study, where)
    return Ready(functools.partial(train_staged, stage), stage, where)


def train_staged(stage: Stage, job: Any, place: Place) -> Iterator[dict[str, Any]]:
    """`train_job` on the node's own copy of the data."""
    return train_job(job, dataclasses.replace(place, data=str(obtain(stage))))
