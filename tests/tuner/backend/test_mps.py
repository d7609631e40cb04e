"""The MPS daemon of a search; a script stands in for NVIDIA's program, the processes, locks and kills are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tuner.backend import mps

DAEMON = """#!/bin/sh
echo "$1 pipe=$CUDA_MPS_PIPE_DIRECTORY threads=$CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" >> "$SAID"
[ "$1" = -d ] || { read line; echo "said $line" >> "$SAID"; }
[ ! -e "$SAID.refuse" ] || { echo "Cannot find MPS control daemon process"; exit 1; }
"""
WORKER = """
import os, sys
from tuner.backend import mps
print(mps.join(sys.argv[1], float(sys.argv[2])), flush=True)
print(os.environ.get("CUDA_MPS_PIPE_DIRECTORY"), flush=True)
sys.stdin.readline()
"""


class Node:
    """A machine with the daemon's program in its PATH, and workers on it."""

    def __init__(self, folder: Path) -> None:
        self.said, self.workers = folder / "said", []
        program = folder / "bin" / mps.CONTROL
        program.parent.mkdir()
        program.write_text(DAEMON)
        program.chmod(0o755)
        self.temporary = Path(tempfile.mkdtemp())  # short: a test's own folder is too long for a socket's path
        self.environment = {**os.environ, "SAID": str(self.said), "TMPDIR": str(self.temporary)}
        self.environment["TUNER_MPS_LINGER"] = "0"
        self.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        for name in ("CUDA_MPS_PIPE_DIRECTORY", "TUNER_NO_MPS"):
            self.environment.pop(name, None)

    def worker(self, key: str = "a", share: float = 0.25, **environment: str) -> tuple[Any, str, str]:
        """(process, what it says of MPS, its pipe directory)."""
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, key, str(share)], env={**self.environment, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        self.workers.append(process)
        return process, process.stdout.readline().strip(), process.stdout.readline().strip()

    def calls(self) -> list[str]:
        """What the daemon's program was called with and told."""
        return self.said.read_text().splitlines() if self.said.exists() else []


@pytest.fixture
def node(tmp_path: Path, wait: Any) -> Any:
    made = Node(tmp_path)
    yield made
    for process in made.workers:
        process.kill()
        process.wait()
    wait(lambda: not list(made.temporary.iterdir()))  # no guardian is left
    made.temporary.rmdir()


def test_workers_of_a_search_share_one_daemon_that_ends_with_the_last(node: Any, wait: Any) -> None:
    """Two workers, one start; the daemon stays while one of them lives, and goes with it, its folder too."""
    first, said, pipe = node.worker()
    second, _, other = node.worker()
    assert said == "MPS: up to 50 % of the card's threads"
    assert pipe == other and len(f"{pipe}/control") < 108 and Path(pipe).parent.stat().st_mode & 0o077 == 0
    assert [line.split()[0] for line in node.calls()] == ["-d"]
    assert "threads= " in node.calls()[0] + " "  # no limit for the daemon itself
    first.communicate("\n")
    assert Path(pipe).is_dir()
    second.communicate("\n")
    wait(lambda: "said quit" in node.calls())
    wait(lambda: not Path(pipe).exists())


def test_a_killed_worker_leaves_no_daemon(node: Any, wait: Any) -> None:
    """kill -9 of the only worker: the daemon is told to quit all the same."""
    process, _, pipe = node.worker()
    process.send_signal(signal.SIGKILL)
    wait(lambda: "said quit" in node.calls() and not Path(pipe).exists())


def test_a_daemon_that_ended_is_started_again(node: Any, wait: Any) -> None:
    """After a pause without workers the next one has a daemon again."""
    process, _, pipe = node.worker()
    process.communicate("\n")
    wait(lambda: not Path(pipe).parent.exists())
    _, said, again = node.worker()
    assert said.startswith("MPS") and again == pipe
    assert [line.split()[0] for line in node.calls()].count("-d") == 2


def test_two_searches_have_a_daemon_each(node: Any) -> None:
    """One that ends does not end the other's."""
    assert node.worker("a")[2] != node.worker("b")[2]


def test_a_daemon_that_does_not_start_is_said_and_trials_run_without(node: Any) -> None:
    """Its own words are passed on, and no client looks for a daemon that is not there."""
    Path(f"{node.said}.refuse").touch()
    _, said, pipe = node.worker()
    assert said.endswith("did not start: Cannot find MPS control daemon process") and pipe == "None"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PATH": "/nowhere"}, "is not installed"),
        ({"TUNER_NO_MPS": "1"}, "TUNER_NO_MPS is set"),
        ({"CUDA_MPS_PIPE_DIRECTORY": "/theirs"}, "the daemon that CUDA_MPS_PIPE_DIRECTORY names"),
    ],
)
def test_without_a_daemon_of_its_own_a_search_says_why(node: Any, environment: dict[str, str], said: str) -> None:
    """Not installed, not wanted, or somebody else's is there: none is started."""
    assert said in node.worker(**environment)[1]
    assert node.calls() == []


def test_a_whole_card_needs_no_daemon(node: Any) -> None:
    """A trial that shares with nobody starts nothing and says nothing."""
    assert node.worker(share=1.0)[1:] == ("", "None")
    assert node.calls() == []
