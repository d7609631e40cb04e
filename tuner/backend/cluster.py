"""A running Ray cluster: join it, send the program to it, and check every node before the first trial.

A search on a cluster usually fails because a node cannot read the data or the results folder, or has another version of
torch. This is found here in seconds and reported in one line, before anything is logged or trained.

What runs on the nodes (`look`) is part of the program, which Ray sends as `py_modules`: it need not be installed
there. The nodes need Python, Ray and the libraries.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import platform
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from trainable.data.intact import open_intact
from tuner.study.ray_messages import said

ROOMS = ("search_spaces", "trainable", "results", "tuner")
"""The program's packages."""
LIBRARIES = ("torch", "ray", "optuna", "numpy", "pyarrow", "pydantic")
"""Packages that must have the driver's version on every node: they compute, or read files of another node."""
PATIENCE = 120.0
"""Seconds that the nodes have to answer; the first answer of a node starts a process and unpacks the program."""
CONNECT_SECONDS = 5.0
"""That a node has to take a connection."""
WORKER_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without a GPU sees none
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def authentication() -> dict[str, str]:
    """Environment variables to set before Ray is imported: a cluster's token is used where there is one.

    Ray asks for a token by default, but a driver that joins by address looks for one only under RAY_AUTH_MODE=token.
    """
    places = (os.environ.get("RAY_AUTH_TOKEN_PATH"), Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_MODE" not in os.environ and (
        "RAY_AUTH_TOKEN" in os.environ or any(place and Path(place).is_file() for place in places)
    ):
        return {"RAY_AUTH_MODE": "token"}
    return {}


def room_folders() -> list[Path]:
    """The folder of the program's packages: a checkout, or site-packages of an environment."""
    found = []
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        assert spec is not None and spec.origin is not None  # noqa: S101  the packages import each other
        found.append(Path(spec.origin).resolve().parent)
    return found


@functools.cache
def source_fingerprint() -> str:
    """sha256 of the names and bytes of the program's source files, which identifies the version of the program."""
    digest = hashlib.sha256()
    for folder in room_folders():
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".yaml") and p.is_file()):
            digest.update(f"{folder.name}/{path.relative_to(folder).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of Python (without the patch level) and the libraries (without local parts such as +cu126); "none" if missing."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def program() -> dict[str, Any]:
    """The runtime environment that brings the program to every node."""
    return {
        "py_modules": [str(folder) for folder in room_folders()],
        "excludes": ["**/__pycache__"],
        "env_vars": dict(WORKER_ENVIRONMENT),
    }


def join(address: str) -> None:
    """Connect to the cluster at `address` (HOST:PORT, or "auto" for the one of this machine or Ray job).

    The program is sent along: workers import this code, whatever is installed on their node. Raises InputError if there
    is no cluster, or it refuses the connection.
    """
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    # A Ray job has an environment of its own, which may set the same fields: then this one is used.
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
    try:
        ray.init(address=address, runtime_env=program(), logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(_refusal(address, error)) from error


def _refusal(address: str, error: BaseException) -> str:
    texts, cause = [], error
    while cause is not None:
        texts.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__  # type: ignore[assignment]
    whole = " ".join(texts)
    if said("token wanted", whole):
        return (
            f"--address {address}: the cluster asks for its token; copy the head's ~/.ray/auth_token here, "
            "or set RAY_AUTH_TOKEN (RAY_AUTH_MODE=disabled if it was started without)"
        )
    if mismatch := said("other version", whole):
        ray_there, python_there, ray_here, python_here = mismatch.groups("?")
        return (
            f"--address {address}: the cluster has Ray {ray_there} and Python {python_there}, here are Ray {ray_here} "
            f"and Python {python_here}; use the cluster's versions of Python and Ray here"
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"--address {address}: {first}; is Ray running there ('ray status'), and can this machine reach it?"


@dataclass(frozen=True)
class Expected:
    """What every node must find."""

    data: str
    """Absolute path of the data folder; "" if the data are shipped."""
    fingerprint: str
    probe: str
    """A file in the results folder that the driver wrote."""
    nonce: str
    """What is in it."""
    versions: Mapping[str, str]
    source: str


def look(expected: Expected, node: str) -> list[str]:
    """Runs on a node: the problems there, a sentence each; writes `<probe>.<node>` beside the probe as its answer."""
    found = [
        _data_problem(expected.data, expected.fingerprint) if expected.data else None,
        _results_problem(Path(expected.probe), expected.nonce, node),
        *_version_problems(expected),
    ]
    return [problem for problem in found if problem]


def _data_problem(data: str, fingerprint: str) -> str | None:
    if not Path(data).exists():
        return f"{data} is not there; share it with all nodes, or add --stage-data"
    try:
        found = open_intact(Path(data)).fingerprint
    except (InputError, OSError) as error:
        return f"{data} cannot be read ({str(error).splitlines()[0]}); share it with all nodes, or add --stage-data"
    if found == fingerprint:
        return None
    return (
        f"{data} is another data set there (fingerprint {found[:12]}, here {fingerprint[:12]}); "
        "share one folder with all nodes, or add --stage-data"
    )


def _results_problem(probe: Path, nonce: str, node: str) -> str | None:
    advice = "choose a results folder that all nodes share, with --results"
    try:
        if probe.read_text() != nonce:
            return f"{probe.parent} is another folder there than here; {advice}"
    except OSError:
        return f"{probe.parent} is not the driver's folder there (a file just written here is not found); {advice}"
    try:
        probe.with_name(f"{probe.name}.{node}").write_text(nonce)
    except OSError as error:
        return f"{probe.parent} cannot be written there ({error.strerror}); {advice}"
    return None


def _version_problems(expected: Expected) -> Iterator[str]:
    here = versions()
    for name, wanted in expected.versions.items():
        if here[name] == "none":
            yield f"{name} is not installed for its Ray's Python; install {name} {wanted} there"
        elif here[name] != wanted:
            yield f"{name} is {here[name]} there and {wanted} here; install the same version"
    if source_fingerprint() != expected.source:
        yield "has another version of this program; uninstall b2t-tuner there: a search sends its own"


@contextmanager
def probe_file(results_dir: Path) -> Iterator[tuple[Path, str]]:
    """A hidden file with a random text in the results folder, and the text; the file and its answers are removed at the
    end.

    The folder is made where missing, and removed again if it is empty.
    """
    made = [folder for folder in (results_dir, *results_dir.parents) if not folder.exists()]
    results_dir.mkdir(parents=True, exist_ok=True)
    nonce = secrets.token_hex(16)
    probe = results_dir / f".tuner-probe-{nonce[:8]}"
    try:
        with probe.open("w") as file:
            file.write(nonce)
            file.flush()
            os.fsync(file.fileno())
        yield probe, nonce
    finally:
        for path in results_dir.glob(f"{probe.name}*"):
            path.unlink(missing_ok=True)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def trials_at_once(request: Mapping[str, float], resources: Mapping[str, float]) -> int:
    """How many trials with `request` a node with `resources` can run. A fraction of a GPU is on one GPU."""
    fits = []
    for name, need in request.items():
        have = resources.get(name, 0.0)
        if need > 0:
            whole = name == "GPU" and need < 1
            fits.append(int(1 / need + 1e-9) * int(have) if whole else int(have / need + 1e-9))
    return min(fits, default=1)


def nodes(request: Mapping[str, float]) -> list[dict[str, Any]]:
    """The live nodes that can run a trial: {id, address, port, holds: how many at once}, by address.

    A head node without cores, as clusters often have, gets no trial and needs no data.
    """
    import ray

    found = [
        {
            "id": node["NodeID"],
            "address": node["NodeManagerAddress"],
            "port": node["NodeManagerPort"],
            "holds": trials_at_once(request, node["Resources"]),
        }
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted((node for node in found if node["holds"]), key=lambda node: (node["address"], node["id"]))


def reachable(where: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the nodes that take a connection: Ray may need over a minute to believe that a host is cut off."""

    def takes(node: Mapping[str, Any]) -> bool:
        try:
            socket.create_connection((node["address"], node["port"]), CONNECT_SECONDS).close()
        except OSError:
            return False
        return True

    if not where:
        return []
    with ThreadPoolExecutor(min(len(where), 32)) as pool:
        return [node for node, there in zip(where, pool.map(takes, where), strict=True) if there]


def room(request: Mapping[str, float]) -> int:
    """How many trials this Ray can run at once. Raises InputError, naming the option, if no node can run one."""
    import ray

    if holds := sum(node["holds"] for node in nodes(request)):
        return holds
    living = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    flags = {"CPU": "--cpus-per-trial", "GPU": "--gpus-per-trial"}
    for name, need in request.items():
        most = max((resources.get(name, 0.0) for resources in living), default=0.0)
        if need > most and name in flags:
            where = "this Ray has" if len(living) == 1 else "no node of this Ray has more than"
            raise InputError(f"{flags[name]} {need:g}: {where} {most:g} {name}s; give {most:g} or less")
        if need > most:
            known = sorted(
                {n for resources in living for n in resources if not n.startswith(("node:", "object_store"))}
            )
            raise InputError(
                f"--trial-resource {name}={need:g}: no node has that much of it (the most is {most:g}); "
                f"this Ray has {', '.join(known)}"
            )
    asked = ", ".join(f"{need:g} {name}" for name, need in request.items() if need)
    raise InputError(f"no node has all the resources of a trial ({asked}); give less, or start such a node")


def on_every_node(
    function: Any, arguments: Sequence[Any], where: Sequence[Mapping[str, Any]], patience: float = PATIENCE
) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Call `function(*arguments, node id)` on each node; yields (node, what it returned or the exception).

    Ray lists a node for up to a minute after it was lost. Such a node is told on standard error and left out.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(function)
    pending: list[tuple[Mapping[str, Any], Any]] = []
    for node in where:
        pinned = NodeAffinitySchedulingStrategy(node["id"], soft=False)
        options = task.options(num_cpus=0, scheduling_strategy=pinned, max_retries=1)
        pending.append((node, options.remote(*arguments, node["id"])))
    end = time.monotonic() + patience
    for node, answer in pending:
        try:
            yield node, ray.get(answer, timeout=max(0.1, end - time.monotonic()))
        except Exception as error:
            if _lost(node, error):
                print(f"node {node['address']} was lost; the search continues without it", file=sys.stderr)
            else:
                yield node, error


def _lost(node: Mapping[str, Any], error: Exception) -> bool:
    """Whether a call failed because its node is no longer in the cluster."""
    import ray

    if isinstance(error, ray.exceptions.TaskUnschedulableError | ray.exceptions.NodeDiedError):
        return True
    return not any(each["Alive"] for each in ray.nodes() if each["NodeID"] == node["id"])


def preflight(
    data: Path, fingerprint: str, results_dir: Path, where: Sequence[Mapping[str, Any]], *, staged: bool = False
) -> None:
    """Check every node of `where`. Raises InputError with a line for each problem on a node.

    `staged` data are copied to the nodes, so they need not be there.
    """
    with probe_file(results_dir) as (probe, nonce):
        expected = Expected(
            "" if staged else str(data.resolve()),
            fingerprint,
            str(probe.resolve()),
            nonce,
            versions(),
            source_fingerprint(),
        )
        problems, answered = [], 0
        for node, answer in on_every_node(look, (expected,), where):
            answered += 1
            if isinstance(answer, Exception):
                problems.append(f"node {node['address']}: {why(answer)}")
                continue
            problems += [f"node {node['address']}: {problem}" for problem in answer]
            reply = probe.with_name(f"{probe.name}.{node['id']}")
            if not answer and not reply.exists():
                problems.append(
                    f"node {node['address']}: files that it writes to {results_dir} do not arrive here; "
                    "choose a results folder that all nodes share, with --results"
                )
    if where and not answered:
        problems = ["no node that can run a trial is left in the cluster ('ray status' lists them); start one"]
    if problems:
        raise InputError(problems)


def why(error: Exception) -> str:
    """A node's exception as a sentence for the user, without the node's name."""
    import ray

    cause = getattr(error, "cause", None)
    if isinstance(cause, InputError):
        return cause.problems[0]
    text = str(error)
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return f"did not answer in {PATIENCE:g} s; is it overloaded ('ray status')?"
    if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
        return f"could not unpack the program ({text.strip().splitlines()[-1]}); check its disk"
    if missing := said("library missing", text):
        return f"lacks a library ({missing[1]}); install the driver's version there"
    return f"failed ({text.strip().splitlines()[-1]}); see 'ray status'"
