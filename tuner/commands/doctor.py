"""`tuner doctor`: whether this machine, and a cluster, have what a search needs, a line for each check."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import click
import psutil
from packaging.requirements import Requirement

from results.store.paths import where_option
from search_spaces import InputError
from search_spaces.checkpoints import size_text
from tuner.backend import cluster
from tuner.backend.packing import mps_note
from tuner.commands.options import json_option, results_option
from tuner.launch.checks import check_writable

OK, WARNING, PROBLEM = "ok", "warning", "problem"
PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest Python that the suite is run with."""
LEAST_DISK, SOME_DISK = 2e8, 5e9
"""Bytes: with fewer a search cannot run, or is soon without room for checkpoints."""
OBJECTS = 2e8
"""Bytes of /dev/shm that Ray wants for its objects: twice what a local Ray is given."""
TRIAL_MEMORY = 1e9
"""Bytes that a trial's process takes with torch, and a small model."""


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands (ok, warning or problem: a search would not run), and what to do."""

    name: str
    state: str
    found: str
    todo: str = ""


@click.command(epilog="Example: tuner doctor; tuner doctor --address auto --format json")
@click.option("--address", help="Also look at the nodes of the Ray cluster at HOST:PORT, or auto.")
@json_option
@results_option
def doctor(address: str | None, form: str, results_dir: Path) -> None:
    """Check what a search needs: Python, torch, card, Ray, disk, memory, the results folder, the versions.

    One line for each check: ok, warning or problem, and what to do about it. Nothing is started or written (--address
    joins the cluster). Exit status: 0, or 1 if something would keep a search from running.
    """
    checks = list(examine(results_dir))
    if address is not None:
        checks += examine_cluster(address)
    if form == "json":
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        for line in _lines(checks):
            click.echo(line)
        click.echo(f"\n{_next(checks, results_dir)}")
    if any(check.state == PROBLEM for check in checks):
        raise click.exceptions.Exit(1)


def examine(results_dir: Path) -> Iterator[Check]:
    """All checks of this machine, in order."""
    checks: tuple[Callable[[], Check], ...] = (
        python,
        requirements,
        constraints,
        torch_works,
        card,
        ray_works,
        cores,
        lambda: disk("results folder", _existing(results_dir)),
        lambda: writable(results_dir),
        lambda: disk("/tmp", Path("/tmp")),  # noqa: S108  where Ray's session is
        shared_memory,
        files,
    )
    for check in checks:
        yield check()


def python(version: Sequence[int] = tuple(sys.version_info[:3])) -> Check:
    """The version of Python."""
    own = tuple(version[:2])
    text = ".".join(map(str, version[:3]))
    if own < PYTHONS[0]:
        return Check("Python", PROBLEM, text, "use Python 3.11, 3.12 or 3.13")
    if own > PYTHONS[1]:
        return Check("Python", WARNING, text, "newer than what is tested; if something fails, use Python 3.13")
    return Check("Python", OK, f"{text}, {platform.system()} {platform.machine()}")


def requirements(wanted: Sequence[str] | None = None, version: Callable[[str], str] = metadata.version) -> Check:
    """Whether the packages that the program needs are there, in versions that it allows."""
    name = "packages"
    if wanted is None:
        try:
            wanted = metadata.requires("b2t-tuner") or []
        except metadata.PackageNotFoundError:
            return Check(
                name, WARNING, "b2t-tuner is not installed here, so what it needs is not known", "pip install -e ."
            )
    wrong, missing = [], []
    for each in map(Requirement, wanted):
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        try:
            has = version(each.name)
        except metadata.PackageNotFoundError:
            missing.append(each.name)
            continue
        if not each.specifier.contains(has, prereleases=True):
            wrong.append(f"{each.name} {has}, not {each.specifier}")
    if wrong or missing:
        found = "; ".join([*([f"missing: {', '.join(missing)}"] if missing else []), *wrong])
        return Check(name, PROBLEM, found, "install them: make setup, or pip install -e . -c constraints.txt")
    return Check(name, OK, "everything that the program needs is installed")


def constraints(path: Path | None = None, version: Callable[[str], str] = metadata.version) -> Check:
    """Which packages have another version than the tested one."""
    path = path or Path(__file__).resolve().parents[2] / "constraints.txt"
    if not path.is_file():
        return Check("versions", OK, "no constraints.txt beside the program to compare with")
    other = []
    for line in path.read_text().splitlines():
        if match := re.match(r"^([\w.-]+)==([^\s;]+)", line):
            try:
                has = version(match[1])
            except metadata.PackageNotFoundError:
                continue
            if has.split("+")[0] != match[2]:
                other.append(f"{match[1]} {has} (tested: {match[2]})")
    if other:
        shown = ", ".join(other[:4]) + (f" and {len(other) - 4} more" if len(other) > 4 else "")
        return Check("versions", WARNING, shown, "if something fails: pip install -e . -c constraints.txt")
    return Check("versions", OK, "those that were tested (constraints.txt)")


def torch_works() -> Check:
    """Whether torch can be imported and computes."""
    try:
        import torch

        torch.ones(2).sum()
    except Exception as error:  # a broken installation raises OSError, ImportError or worse
        return Check("torch", PROBLEM, _first_line(error), "install torch 2.7 or newer: https://pytorch.org")
    return Check("torch", OK, f"{torch.__version__}, {torch.get_num_threads()} threads")


def card(devices: Sequence[Path] | None = None) -> Check:
    """The CUDA cards that torch can use, and whether MPS lets trials share one."""
    devices = sorted(Path("/dev").glob("nvidia[0-9]*")) if devices is None else devices
    try:
        import torch
    except Exception:  # as above; that line tells it
        return Check("card", WARNING, "unknown without torch")
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(each) for each in range(torch.cuda.device_count())]
        text = ", ".join(f"{each.name}, {each.total_memory / 2**30:.0f} GiB" for each in cards)
        mps = mps_note()
        if mps == "with MPS":
            return Check("card", OK, f"{text}; {mps}")
        advice = "to put several trials on a card, start MPS first: nvidia-cuda-mps-control -d"
        return Check("card", OK, f"{text}; {mps}", advice if shutil.which("nvidia-cuda-mps-control") else "")
    if devices:
        build = f"torch {torch.__version__} cannot use it"
        return Check(
            "card", WARNING, f"there is a card ({devices[0].name}), and {build}", "install a CUDA build of torch"
        )
    if torch.backends.mps.is_available():
        return Check("card", OK, "Apple's GPU, which is not used; trials train on the CPU")
    return Check("card", OK, "none; trials train on the CPU")


def ray_works() -> Check:
    """Whether Ray and Tune can be imported; none is started."""
    try:
        import ray
        from ray import tune

        assert tune  # noqa: S101  imported to see that it can be
    except Exception as error:  # as for torch
        return Check("Ray", PROBLEM, _first_line(error), "install Ray 2.50 or newer: pip install 'ray[tune]'")
    return Check("Ray", OK, ray.__version__)


def cores() -> Check:
    """Cores and memory: as many trials at once as there are cores, each in a process with torch."""
    count, free = len(os.sched_getaffinity(0)), psutil.virtual_memory().available
    found = f"{count} cores, {size_text(free)} of memory free"
    fit = int(free / TRIAL_MEMORY)
    if fit < 1:
        return Check("cores", PROBLEM, found, f"a trial takes about {size_text(int(TRIAL_MEMORY))}: end other programs")
    if fit < count:
        return Check("cores", WARNING, found, f"memory for about {fit} trials: add --concurrent {fit}")
    return Check("cores", OK, f"{found}, load {os.getloadavg()[0]:.1f}")


def disk(name: str, folder: Path) -> Check:
    """The room on the disk of a folder."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(name, PROBLEM, f"{folder}: {error.strerror}", "choose another one with --results")
    found = f"{size_text(free)} free in {folder}"
    if free < LEAST_DISK:
        return Check(name, PROBLEM, found, "make room")
    if free < SOME_DISK:
        return Check(name, WARNING, found, "checkpoints of large models need more: make room, or --checkpoint-budget")
    return Check(name, OK, found)


def writable(results_dir: Path) -> Check:
    """Whether studies can be made in the results folder, and locked there."""
    try:
        check_writable(results_dir)
    except InputError as error:
        return Check("writing", PROBLEM, error.problems[0], "or mend its rights")
    existing = _existing(results_dir)
    with tempfile.NamedTemporaryFile(dir=existing, prefix=".tuner-") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return Check(
                "writing", WARNING, f"{existing} has no file locks", "never drive a study from two machines there"
            )
    return Check("writing", OK, f"studies can be made in {results_dir}")


def shared_memory(place: Path = Path("/dev/shm")) -> Check:  # noqa: S108  Ray's own
    """The shared memory in which Ray keeps objects."""
    if not place.is_dir():
        return Check(str(place), OK, "not on this system; Ray uses /tmp")
    free = shutil.disk_usage(place).free
    if free < OBJECTS:
        advice = "Ray falls back to /tmp, which is slower; in a container: docker run --shm-size=1g"
        return Check(str(place), WARNING, f"{size_text(free)} free", advice)
    return Check(str(place), OK, f"{size_text(free)} free")


def files() -> Check:
    """How many files Ray's processes may open."""
    try:
        from tuner.backend.local import FEW, FILES, open_files
    except Exception:  # the line on Ray tells it
        return Check("open files", WARNING, "unknown without Ray")
    allowed = open_files()
    if allowed < FEW:
        return Check("open files", PROBLEM, f"{allowed} allowed", f"ulimit -n {FILES}")
    if allowed < FILES:
        return Check("open files", WARNING, f"{allowed} allowed", f"with many trials at once: ulimit -n {FILES}")
    return Check("open files", OK, f"{allowed} allowed")


def examine_cluster(address: str) -> list[Check]:
    """Join the cluster, and ask every node what it has; a node must have this machine's versions."""
    try:
        from tuner.backend import ray_backend
    except ImportError:
        return []  # told above
    try:
        cluster.join(address)
    except InputError as error:
        return [Check("cluster", PROBLEM, error.problems[0])]
    try:
        return _nodes()
    finally:
        ray_backend.stop_ray()


def _nodes() -> list[Check]:
    """A line for each node of the cluster that was joined."""
    import ray

    living = [node for node in ray.nodes() if node["Alive"]]
    where = [{"id": node["NodeID"], "address": node["NodeManagerAddress"]} for node in living]
    has = {node["NodeID"]: node["Resources"] for node in living}
    here = cluster.versions()
    found = []
    for node, answer in cluster.on_every_node(has_versions, (), where):
        name, parts = f"node {node['address']}", has[node["id"]]
        text = f"{parts.get('CPU', 0):g} cores, {parts.get('GPU', 0):g} GPUs, {size_text(int(parts.get('memory', 0)))}"
        if isinstance(answer, Exception):
            found.append(Check(name, PROBLEM, f"{text}; {cluster.why(answer)}"))
            continue
        other = [f"{library} {answer[library]} (here {own})" for library, own in here.items() if answer[library] != own]
        if other:
            found.append(Check(name, PROBLEM, f"{text}; {', '.join(other)}", "install the same versions there"))
        else:
            found.append(Check(name, OK, f"{text}; the versions of this machine"))
    return found or [Check("cluster", PROBLEM, "it has no living node", "'ray status' lists them; start one")]


def has_versions(_node: str) -> dict[str, str]:
    """Runs on a node: its versions."""
    return cluster.versions()


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _lines(checks: Sequence[Check]) -> Iterator[str]:
    """The checks as aligned lines, what to do below; without a terminal, click leaves the colours out."""
    width = max(len(check.name) for check in checks)
    colours = {} if "NO_COLOR" in os.environ else {OK: "green", WARNING: "yellow", PROBLEM: "red"}
    for check in checks:
        state = click.style(f"{check.state:<8}", fg=colours.get(check.state))
        yield f"{state}{check.name:<{width}}  {check.found}"
        if check.todo:
            yield f"{'':<{8 + width}}  -> {check.todo}"


def _next(checks: Sequence[Check], results_dir: Path) -> str:
    problems = sum(check.state == PROBLEM for check in checks)
    if problems:
        return f"{problems} problem{'s' * (problems > 1)} to solve before a search can run"
    return f"a search can run; next: tuner studies{where_option(results_dir)}, or tuner search --help"
