"""Hosts of our own on one machine, each with its own network, processes, name, `/tmp` and `/dev/shm`, and a bridge.

    fabric (a network namespace with the bridge br0)
      |-- v0 -- eth0 10.77.0.1  host h0
      |-- v1 -- eth0 10.77.0.2  host h1
      ...

Made of Linux namespaces, as root. Nothing of this machine's own network is touched, and nothing in the hosts reaches
beyond the bridge. They share the root file system and one folder, which all see as `/mnt`; a host can be started
without a part of it. A link can be cut and mended, a host killed as by a loss of power.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

RAY = Path(sys.executable).with_name("ray")
ROOT = Path(__file__).resolve().parents[1]
SHARED = Path("/mnt")
"""Where every host sees the shared folder."""
PORT = 6379
WAIT = 120.0
"""Seconds that a node has to come up: the machine may be busy."""
_SETUP = """
exec 8< "$3" 9< "$4"
mount --bind "$1" /mnt && mount -t tmpfs tmpfs /tmp && chmod 1777 /tmp && mount -t tmpfs tmpfs /dev/shm || exit 1
[ -d "$3" ] || { mkdir -p "$3" && mount -c --bind /proc/self/fd/8 "$3"; } || exit 1
[ -d "$4" ] || { mkdir -p "$4" && mount -c --bind /proc/self/fd/9 "$4"; } || exit 1
exec 8<&- 9<&-
mount -t proc proc /proc && hostname "$2" && ip link set lo up && shift 4 || exit 1
for hidden; do mount -t tmpfs tmpfs "$hidden" || exit 1; done
echo ready
exec sleep 86400
"""
"""What a new host does first. The program and its Python stay in sight where they lie in a folder that is covered."""


@functools.cache
def why_not() -> str | None:
    """Why there can be no hosts here; None if there can."""
    if os.geteuid() != 0:
        return "hosts are made of namespaces, which takes root"
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} missing (packages iproute2, util-linux)"
    try:
        with Hosts() as hosts:
            hosts.add()
            hosts.add()
            done = hosts[1].run(["ip", "-4", "-o", "addr", "show", "eth0"])
            return None if "10.77.0.2" in done.stdout else f"no network between namespaces: {done.stderr.strip()}"
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        return f"namespaces are not allowed here ({error})"


@dataclass
class Host:
    """One host."""

    number: int
    root: subprocess.Popen[str]
    """The process that holds its namespaces together (`unshare`)."""
    pid: int
    """The first process in them; all others end with it."""
    fabric: int
    environment: dict[str, str]
    ray: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Its host name."""
        return f"h{self.number}"

    @property
    def address(self) -> str:
        """Its IP address."""
        return f"10.77.0.{self.number + 1}"

    def inside(self, command: Sequence[Any]) -> list[str]:
        """The command line that runs `command` on the host."""
        namespaces = ["-n", "-m", "-p", "-u", "-i"]
        there = ["sh", "-c", 'cd /mnt && exec "$@"', "sh", *map(str, command)]
        return ["nsenter", "-t", str(self.pid), *namespaces, "--", *there]

    def run(self, command: Sequence[Any], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end."""
        options = {"capture_output": True, "text": True, "env": self.environment, "timeout": 300, **options}
        return subprocess.run(self.inside(command), check=False, **options)

    def start(self, command: Sequence[Any], **options: Any) -> subprocess.Popen[str]:
        """Start a command on the host, in a session of its own."""
        options = {"text": True, "env": self.environment, "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen(self.inside(command), start_new_session=True, **options)

    def tuner(self, *arguments: Any, output: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        """`tuner` of this checkout on the host, in the shared folder; both its outputs go to `output`."""
        environment = {**self.environment, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tuner", *arguments]
        return self.start(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

    def cut(self) -> None:
        """Pull its cable out."""
        _ip(self.fabric, "link", "set", f"v{self.number}", "down")

    def mend(self) -> None:
        """Put its cable in again."""
        _ip(self.fabric, "link", "set", f"v{self.number}", "up")

    @property
    def up(self) -> bool:
        """Whether it has power, and was given a Ray."""
        return self.root.poll() is None and self.ray is not None

    def end_ray(self) -> None:
        """End its Ray, and whatever that has left."""
        self.run(["pkill", "-9", "-f", "ray"])
        if self.ray is not None:
            self.ray.wait(30)

    def kill(self) -> None:
        """End it with all its processes, as by a loss of power."""
        self.root.kill()  # with --kill-child: the first process goes too, and with it all others of its namespace
        self.root.wait(30)
        if self.ray is not None:
            self.ray.wait(30)


@dataclass
class Hosts:
    """Some hosts, and the Ray cluster on them; a context manager that removes all of it."""

    environment: Mapping[str, str] = field(default_factory=dict)
    dashboard: bool = False

    def __post_init__(self) -> None:
        """Make the shared folder and the bridge."""
        self.folder = Path(tempfile.mkdtemp(prefix="hosts-"))
        """What all hosts see as `/mnt`."""
        (self.folder / "token").write_text("t" * 64)
        (self.folder / "token").chmod(0o600)
        self._hosts: list[Host] = []
        self._fabric = subprocess.Popen(["unshare", "-n", "--", "sleep", "86400"], stdin=subprocess.DEVNULL)
        try:
            _until(lambda: _namespace(self._fabric.pid, "net") != _namespace(os.getpid(), "net"), self._fabric)
            _ip(self._fabric.pid, "link", "add", "br0", "type", "bridge")
            _ip(self._fabric.pid, "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, number: int) -> Host:
        return self._hosts[number]

    @property
    def count(self) -> int:
        """How many hosts there are, the killed ones included."""
        return len(self._hosts)

    @property
    def address(self) -> str:
        """Of the cluster's head, the first host."""
        return f"{self._hosts[0].address}:{PORT}"

    def add(self, hidden: Sequence[Path] = ()) -> Host:
        """A further host, on the bridge; it sees nothing in the folders `hidden`, which begin with `/mnt`."""
        number = len(self._hosts)
        options = ["-n", "-m", "-p", "-u", "-i", "--fork", "--kill-child", "--propagation", "private"]
        arguments = [str(self.folder), f"h{number}", str(ROOT), sys.prefix, *map(str, hidden)]
        root = subprocess.Popen(
            ["unshare", *options, "--", "sh", "-c", _SETUP, "sh", *arguments],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert root.stdout is not None
        if root.stdout.readline() != "ready\n":
            root.kill()
            raise RuntimeError(f"host {number} could not be set up: exit status {root.wait()}")
        (first,) = psutil.Process(root.pid).children()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH", "TUNER_", "TMPDIR"))}
        ray = {
            "RAY_AUTH_TOKEN_PATH": str(SHARED / "token"),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",
        }
        host = Host(number, root, first.pid, self._fabric.pid, {**kept, **ray, **self.environment})
        self._hosts.append(host)
        ends = (f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", str(first.pid))
        _ip(self._fabric.pid, "link", "add", *ends)
        _ip(self._fabric.pid, "link", "set", f"v{number}", "master", "br0", "up")
        _ip(first.pid, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip(first.pid, "link", "set", "eth0", "up")
        # Leads nowhere; Ray asks the kernel by it which address this host has.
        _ip(first.pid, "route", "add", "default", "via", "10.77.0.254")
        return host

    def begin(self, host: Host, cpus: float = 1, **resources: float) -> None:
        """`ray start` on a host, not waited for: the first one is the head, the others join it."""
        where = ["--address", self.address]
        if host.number == 0:
            where = ["--head", "--port", str(PORT), f"--include-dashboard={'true' if self.dashboard else 'false'}"]
            where += ["--dashboard-host", "0.0.0.0"] if self.dashboard else []
        options = ["--node-ip-address", host.address, "--num-cpus", f"{cpus:g}", "--num-gpus", "0"]
        options += ["--object-store-memory", "80000000", "--resources", json.dumps(resources)]
        with (self.folder / f"ray-{host.name}.log").open("wb") as log:
            host.ray = subprocess.Popen(
                host.inside([RAY, "start", *where, *options, "--disable-usage-stats", "--block"]),
                env=host.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def wait(self, *hosts: Host) -> None:
        """Until Ray runs on these hosts. Raises RuntimeError with what it said where it does not."""
        for host in hosts:
            log = self.folder / f"ray-{host.name}.log"
            assert host.ray is not None
            _until(lambda log=log: "Ray runtime started" in log.read_text(errors="replace"), host.ray, log)

    def close(self) -> None:
        """End every host and remove what they wrote."""
        for host in reversed(self._hosts):
            host.kill()
        self._fabric.kill()
        self._fabric.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def _until(holds: Any, process: subprocess.Popen[Any], log: Path | None = None) -> None:
    end = time.monotonic() + WAIT
    while not holds():
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(errors="replace") if log else f"exit status {process.poll()}"
            raise RuntimeError(f"did not come up: {said}")
        time.sleep(0.05)


def _namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def _ip(pid: int, *arguments: str) -> None:
    """`ip` in the network namespace of a process."""
    done = subprocess.run(["nsenter", "-t", str(pid), "-n", "--", "ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
