"""A Ray that comes up beside other work: what `Starting` waits for, passes on and ends."""

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
