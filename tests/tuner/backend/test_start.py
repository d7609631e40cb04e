"""A Ray that comes up beside other work: what `Starting` waits for, passes on and ends."""

import subprocess
import sys
import threading

import pytest

from search_spaces import InputError

start = pytest.importorskip("tuner.backend.start")


@pytest.fixture
def slow(monkeypatch):
    """A start that lasts until `go` is set, and then raises `error` if there is one."""
    go, error = threading.Event(), []

    def come_up(address, cpus, gpus):
        assert (address, cpus) == (None, 2)
        go.wait()
        if error:
            raise error[0]

    monkeypatch.setattr(start, "_come_up", come_up)
    monkeypatch.setattr(start.cluster, "room", lambda request: 4)
    yield go, error
    go.set()
    start.stop_ray()


def test_other_work_goes_on_until_it_is_waited_for(slow):
    """The call returns at once; `wait` gives as many trials as fit, or as were asked for, when Ray is there."""
    go, _ = slow
    coming = start.Starting(None, 2)
    assert not coming._there.is_set()
    go.set()
    assert coming.wait(start.Resources()) == 4
    assert coming.wait(start.Resources(concurrent=3)) == 3


def test_the_thread_lives_as_long_as_ray(slow):
    """The kernel ends Ray's processes with the thread that started them: it ends when Ray has been stopped."""
    go, _ = slow
    coming = start.Starting(None, 2)
    go.set()
    coming.wait(start.Resources())
    assert coming._thread.is_alive()
    start.stop_ray()
    coming._thread.join(60)
    assert not coming._thread.is_alive()


def test_what_keeps_ray_from_starting_is_raised_where_it_is_waited_for(slow):
    """The error of the start, in the thread that waits; `stop_ray` then ends what there is."""
    go, error = slow
    error.append(InputError("Ray could not be started"))
    coming = start.Starting(None, 2)
    go.set()
    with pytest.raises(InputError, match="could not be started"):
        coming.wait(start.Resources())
    start.stop_ray()


def test_ctrl_c_before_ray_is_there_leaves_nothing_of_it(slow, monkeypatch):
    """`stop_ray` while it still comes up waits until it is there, and only then ends it."""
    go, _ = slow
    order = []
    coming = start.Starting(None, 2)
    monkeypatch.setattr(start.ray, "shutdown", lambda: order.append(coming._there.is_set()))
    stopping = threading.Thread(target=start.stop_ray)
    stopping.start()
    assert order == []
    go.set()
    stopping.join(60)
    assert order == [True]


def test_a_search_begins_without_what_it_does_not_need():
    """Before Ray starts, the command has loaded no scikit-learn, SciPy, pandas or plotly: each is a second or so."""
    heavy = ("sklearn", "scipy", "pandas", "plotly", "matplotlib", "torch", "ray")
    show = f"import sys, tuner.commands.search; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_worker_loads_little_before_its_first_epoch():
    """What Tune gives a worker brings neither the searcher, nor the tables, nor what the driver shows, with it."""
    heavy = ("optuna", "sklearn", "duckdb", "tuner.callbacks", "results.best")
    loads = "import sys, tuner.backend.actor, tuner.backend.worker, tuner.study.study"
    show = f"{loads}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
