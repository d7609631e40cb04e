"""The Python that stands in for `python` in tests (`tests/warm/`): what it starts is what `python` would start."""

from __future__ import annotations

import shutil
import subprocess

import psutil
import pytest

AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
NODE = """
import os, sys
import psutil
from tuner.backend import start
import ray

start.start_ray(None, 1, start.Resources())

@ray.remote(runtime_env={"env_vars": {"ASKED": "yes"}})
class Worker:
    def asked(self):
        return os.environ["ASKED"], os.getpid()

worker = Worker.remote()
answer, number = ray.get(worker.asked.remote())
assert answer == "yes"
(node,) = [process.pid for process in psutil.Process().children() if process.name() == "raylet"]
print(start.scratch(), node, number, flush=True)
sys.stdin.read()
"""


def agents():
    """Ray's agents below this process, by their title."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            found[process.cmdline()[0]] = process
        except (IndexError, psutil.NoSuchProcess):  # it has just ended
            continue
    return {title: process for title, process in found.items() if title in AGENTS}


def gone(process):
    """Whether it has ended, also where nobody asks how."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.ray
def test_ray_s_processes_are_forked_and_end_with_their_node(warm_python, forked_ray, wait):
    """A worker and the agents come from servers that have imported what they need, not from Pythons of their own, and
    the worker has the variables that were asked for. When Ray's node is killed all of them end, and so do the programs
    that the node had started for them.
    """
    if not forked_ray:
        pytest.skip("Ray's processes are Pythons of their own here")
    command = [warm_python, "-c", NODE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            scratch, *numbers = program.stdout.readline().split()
            node, worker = (psutil.Process(int(number)) for number in numbers)
            found = agents()
            assert set(found) == AGENTS
            forked, asked = [worker, *found.values()], node.children()
            assert all("server.py" in process.parent().cmdline()[1] for process in forked)
            assert len(asked) == len(forked)
            node.kill()
            wait(lambda: all(map(gone, forked + asked)))
        finally:
            program.kill()
    shutil.rmtree(scratch)
