"""The Python that stands in for `python` in tests (`tests/warm/`): what it starts is what `python` would start."""

from __future__ import annotations

import shutil
import subprocess
import sys

import psutil
import pytest

pytest.importorskip("ray")

AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
NODE = """
import os, sys, time
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
ray.kill(worker)
while psutil.pid_exists(number):
    time.sleep(0.02)
(node,) = [process.pid for process in psutil.Process().children() if process.name() == "raylet"]
print(start.scratch(), node, flush=True)
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
def test_agents_of_ray_are_forked_and_end_with_their_node(warm_python, wait):
    """They come from a server that has imported what they need, not from a Python of their own, and serve: a worker
    gets the variables that were asked for. When Ray's node is killed they end, and so do the programs that it had
    started for them.
    """
    if warm_python == sys.executable:
        pytest.skip("nothing is warm here")
    with subprocess.Popen(
        [warm_python, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        try:
            scratch, number = program.stdout.readline().split()
            node = psutil.Process(int(number))
            asked = node.children()
            found = agents()
            assert set(found) == AGENTS
            assert all("server.py" in process.parent().cmdline()[1] for process in found.values())
            node.kill()
            wait(lambda: all(map(gone, (*asked, *found.values()))))
        finally:
            program.kill()
    shutil.rmtree(scratch)
