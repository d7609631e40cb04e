"""`tuner.search` as people call it: a script without a guard, a cell under a running event loop, threads, Ctrl-C."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import tuner

pytestmark = pytest.mark.ray
PAGE = Path(__file__).parents[3] / "docs" / "python.md"

IPYTHON = """
from types import SimpleNamespace

class ZMQInteractiveShell:
    events = SimpleNamespace(register=lambda event, call: None)

def get_ipython():
    return ZMQInteractiveShell()
"""
DISPLAY = """
def clear_output(wait=False):
    print("DISPLAY: cleared")

def HTML(text):
    return text

def display(*what, **more):
    print("DISPLAY:", what)
"""
CELL = """
import asyncio, builtins, os, signal, sys, threading, time
import IPython
builtins.get_ipython = IPython.get_ipython
import tuner

assert not hasattr(sys.modules["__main__"], "__file__")
space = tuner.load_space({space!r})
answers = {{}}

def asked(name, *more, **options):
    try:
        answers[name] = tuner.search(space, *more, data={data!r}, study=name, **options)
    except tuner.InputError as error:
        answers[name] = str(error)

def interrupt(name):
    # Ctrl-C, when the study has an epoch.
    while True:
        try:
            if len(tuner.open(name).epochs):
                return os.kill(os.getpid(), signal.SIGINT)
        except tuner.InputError:
            pass
        time.sleep(0.05)

async def cell():
    # As a notebook runs it: in the main thread, under a running loop.
    threading.Thread(target=interrupt, args=("first",), daemon=True).start()
    try:
        tuner.search(space, data={data!r}, study="first", concurrent=1)
    except KeyboardInterrupt as stopped:
        print("stopped:", stopped)
    before = signal.getsignal(signal.SIGINT)
    study = tuner.resume("first", trials=3)
    assert signal.getsignal(signal.SIGINT) is before
    print("resumed:", repr(study))

async def threads():
    # Two at once under one name, in threads beside the loop: one runs, the other is told why not.
    await asyncio.gather(*(asyncio.to_thread(asked, name, trials=2) for name in ("second", "third")))

asyncio.run(cell())
asyncio.run(threads())
print("answers:", sorted(map(str, answers.values())))
"""


def run(python: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python of its own in a folder, without a terminal and without settings of this user."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNER_")}
    environment["COLUMNS"] = "200"
    command = [python, *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_the_page_runs_as_a_script_without_a_guard(tmp_path, tiny_data, warm_python):
    """The blocks of docs/python.md run one after the other in a script, and print what the page says."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 6
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny").symlink_to(tiny_data)
    (tmp_path / "script.py").write_text("\n".join(blocks), encoding="utf-8")
    done = run(warm_python, "script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    study = tuner.open("first", results=tmp_path / "results" / "studies")
    assert len(study.trials) == 4
    assert study.status == "completed"
    assert study.best.checkpoint is not None and study.best.checkpoint.is_file()
    assert "<study first: completed, 3 trials, best PER" in done.stdout
    assert str(Path("results/studies/first/checkpoints")) in done.stdout
    assert "there is no study 'frist'; did you mean first?" in done.stdout
    assert "did you mean trials?" in done.stdout
    assert "did you mean best_per?" in done.stdout
    assert (tmp_path / "first.html").stat().st_size > 10_000
    assert "3 of 3 ended" in done.stderr  # the progress of the command, as plain lines


def test_a_cell_under_a_running_loop_searches_stops_and_goes_on(tmp_path, tiny_data, real_space, warm_python):
    """Without a file for `__main__`, in what rich and Ray take for a notebook, and under a running event loop a search
    runs; Ctrl-C ends it with what was reported kept; `resume` goes on; in threads one search runs at a time and the
    other is refused in a line. All is plain lines on standard output, and nothing clears the cell.
    """
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython" / "__init__.py").write_text(IPYTHON)
    (tmp_path / "IPython" / "display.py").write_text(DISPLAY)
    code = CELL.format(space=str(real_space), data=str(tiny_data))
    done = run(warm_python, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "stopped: the search was stopped; tuner.open('first') shows it, tuner.resume('first') continues" in done.stdout
    )
    assert re.search(r"resumed: <study first: completed, 3 trials", done.stdout)
    answers = done.stdout.split("answers: ")[1]
    assert re.search(r"<study (second|third): completed, 2 trials", answers)
    assert "a search is running in this process; wait until it has ended" in answers
    assert "DISPLAY" not in done.stdout
    assert done.stdout.count("starting Ray ...") == 3
    assert "1 of 3 ended" in done.stdout and "rank  trial  best_per" in done.stdout
    assert "note: Ctrl-C arrives in the main thread; 'tuner stop STUDY' stops this one" in done.stdout


ALONE = """
import tempfile
import ray, tuner

options = dict(data={data!r}, study="mine", trials=1, retries=0)
with tempfile.TemporaryDirectory(dir="/tmp") as scratch:  # Ray's socket paths must be short
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=scratch)
    try:
        tuner.search({space!r}, **options)
    except tuner.InputError as error:
        print("refused:", error)
    assert ray.is_initialized()
    ray.shutdown()
try:
    tuner.search({space!r}, **options)
except RuntimeError as error:
    print("failed:", error)
"""


def test_a_ray_of_the_program_is_left_alone_and_a_failed_search_raises(tmp_path, tiny_data, real_space, warm_python):
    """Where Ray runs already a search is refused and Ray stays; where every trial fails, the first error is raised."""
    (tmp_path / "real.yaml").write_text((real_space.parent / "real.yaml").read_text())
    space = tmp_path / "kernels.yaml"
    kernels = [8, *range(500, 510)]  # only the first is shorter than the utterances, and it is not drawn
    text = real_space.read_text().replace("start_points: [real.yaml]\n", "")
    space.write_text(text.replace("  averaging.kind", f"  model.kernel: {{choice: {kernels}}}\n  averaging.kind"))
    done = run(warm_python, "-c", ALONE.format(space=str(space), data=str(tiny_data)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "refused: Ray is running in this process" in done.stdout
    assert re.search(r"failed: every trial of the study failed; the first said: .*kernel", done.stdout)
    assert "tuner.open('mine') shows them" in done.stdout
