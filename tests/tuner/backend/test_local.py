"""A local Ray that does not come up: tried again with more patience, then one line with the cause."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray")

from ray._private import services

from tuner.backend import local, ray_private

TIMED_OUT = Exception("The current node timed out during startup. This could happen because\nsome of the raylet failed")


@pytest.fixture
def ours(monkeypatch):
    """Ray's own settings as they were, after the test."""
    monkeypatch.setenv(ray_private.PORT_WAIT, "30")
    monkeypatch.setattr(services, "get_node", services.get_node)


def test_a_busy_machine_gets_a_second_try(tmp_path, ours, capsys):
    """The first try times out: a line says why, the files and processes it left go, and the second waits longer."""
    tried, left = [], []

    def init(**options):
        tried.append((os.environ[ray_private.PORT_WAIT], options["num_cpus"]))
        Path(options["_temp_dir"]).mkdir(exist_ok=True)
        if len(tried) == 1:
            (Path(options["_temp_dir"]) / "left").touch()
            wait = "import time; time.sleep(600)"
            left.append(subprocess.Popen([sys.executable, "-c", wait, f"--session={options['_temp_dir']}/session"]))
            raise TIMED_OUT
        assert not (Path(options["_temp_dir"]) / "left").exists()

    local.start(tmp_path, 2, None, init)
    assert tried == [("30", 2), (str(local.PATIENCE), 2)]
    assert not psutil.pid_exists(left[0].pid)
    (line,) = capsys.readouterr().err.splitlines()
    assert "timed out during startup" in line and "tried again with more patience" in line


def test_a_ray_that_never_comes_up_is_one_line(tmp_path, ours):
    """Twice in vain: a failed job (exit status 1) with Ray's own last error, not its time and file."""
    logs = tmp_path / "ray" / "session_2026" / "logs"

    def init(**options):
        logs.mkdir(parents=True)
        error = "[2026-11-26 08:04:26,121 E 93 117] (gcs_server) redis.cc:204: cannot bind: Address in use"
        (logs / "gcs_server.out").write_text(f"{error}\n[2026-11-26 08:04:27,121 I 93 117] (gcs_server) x.cc:1: ok")
        raise TIMED_OUT

    with pytest.raises(local.RayNotThere) as error:
        local.start(tmp_path, 1, None, init)
    (problem,) = error.value.problems
    assert "\n" not in problem
    assert "tried twice: The current node timed out" in problem and "Ray says: cannot bind: Address in use" in problem
    assert error.value.exit_status == 1


def test_the_limit_on_open_files_is_raised_as_far_as_allowed():
    """A soft limit of 64 is no matter while the hard one is higher."""
    code = (
        "import resource; from tuner.backend import local;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2048));"
        "print(local.open_files(), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2048 (2048, 2048)\n"


@pytest.mark.ray
def test_too_few_open_files_are_named(tmp_path, real_space, tiny_data):
    """A real start under a hard limit of 32 open files: exit status 1, one line with the limit and how to raise it."""
    command = [sys.executable, "-m", "tuner", "search", real_space, "--data", tiny_data, "--study", "s"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))  # noqa: E731
    environment = {**os.environ, ray_private.PORT_WAIT: "3"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, preexec_fn=limit, env=environment
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "may open 32 files, Ray wants 4096" in line and "ulimit -n" in line
    assert "this is a bug" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_ray_s_start_leaves_our_handler_of_sigterm():
    """Ray's own exits with status 15, during the start and after it; a search that is told to end leaves with 130."""

    def ours(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with local.own_sigterm():
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        assert signal.getsignal(signal.SIGTERM) is ours
        with pytest.raises(KeyboardInterrupt), local.own_sigterm():
            signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
