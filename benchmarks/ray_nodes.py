"""Ray nodes of our own, as `ray start` makes them; what was started is ended, and nobody else's Ray is touched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    """A port nobody listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Nodes:
    """A Ray cluster on this machine: the first `start` makes the head, further ones join it."""

    def __init__(self, dashboard: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))  # Ray's socket paths must be short
        self.address = f"127.0.0.1:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}" if dashboard else None
        self.processes: list[subprocess.Popen] = []
        token = self.folder / "token"
        token.touch(mode=0o600)
        token.write_text("t" * 64)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH"))},
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",
        }

    def start(self, cpus: float, *, gpus: int = 0, resources: dict | None = None, within: tuple[str, ...] = ()) -> int:
        """Start a node and wait until it is up; `within` is a command that runs it, such as unshare. Its number."""
        number = len(self.processes)
        if number:
            where = ["--address", self.address]
        else:
            port, host = self.address.rsplit(":", 1)[1], "127.0.0.1"
            where = ["--head", "--port", port, "--node-ip-address", host]
            where += [f"--include-dashboard={'true' if self.dashboard else 'false'}"]
            if self.dashboard:
                where += ["--dashboard-port", self.dashboard.rsplit(":", 1)[1]]
            where += ["--temp-dir", str(self.folder / "ray")]
        if number:
            where += ["--node-ip-address", f"127.0.0.{number + 1}"]
        options = ["--num-cpus", str(cpus), "--num-gpus", str(gpus), "--object-store-memory", "80000000"]
        options += ["--resources", json.dumps(resources or {}), "--disable-usage-stats", "--block"]
        with (self.folder / f"node{number}.log").open("w") as log:
            process = subprocess.Popen(
                [*within, str(RAY), "start", *where, *options],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )
        self.processes.append(process)
        end = time.monotonic() + 300
        while "Ray runtime started" not in (said := (self.folder / f"node{number}.log").read_text()):
            assert process.poll() is None and time.monotonic() < end, said
            time.sleep(0.1)
        return number

    def kill(self, number: int) -> None:
        """SIGKILL to a node with all its workers, as a machine that loses power."""
        process = self.processes[number]
        family = [process]
        if psutil.pid_exists(process.pid):
            family += psutil.Process(process.pid).children(recursive=True)
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait(30)

    def close(self) -> None:
        """End every node and remove what they wrote."""
        for number in reversed(range(len(self.processes))):
            self.kill(number)
        shutil.rmtree(self.folder, ignore_errors=True)
