"""The private names of Ray are where `tuner/backend/ray_private.py` looks for them, and mean what it takes them for.

After an upgrade of Ray, a test here fails with the name that has moved and what it was used for.
"""

from __future__ import annotations

import inspect
import mmap
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

import ray
from ray._private import node, services, worker
from ray.actor import ActorHandle
from ray.train._internal import storage as storages
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.search.basic_variant import BasicVariantGenerator

from tuner.backend import ray_private

VARIABLES = (ray_private.PORT_WAIT, ray_private.MEMORY_MONITOR, ray_private.EARLY_WORKERS)
THIS = f"Ray {ray.__version__}"


def settings_of_ray() -> SimpleNamespace:
    """The settings of Ray's own processes that are used here, as far as its programs know them."""
    core = Path(ray.__file__).parent / "core" / "src" / "ray"
    programs = (core / "raylet" / "raylet", core / "gcs" / "gcs_server", Path(node.__file__))
    used = [name.removeprefix("RAY_") for name in VARIABLES]
    found = {}
    for program in programs:
        with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found |= {name: True for name in used if text.find(name.encode()) >= 0}
    return SimpleNamespace(**found)


@pytest.fixture
def controller(tmp_path, monkeypatch):
    """Tune's own controller with one trial, without a Ray."""
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "1")  # else it asks a Ray for its cores
    monkeypatch.setattr(storages, "_get_ray_train_session_dir", lambda: str(tmp_path / "session"))
    storage = storages.StorageContext(storage_path=str(tmp_path), experiment_dir_name="tune")
    made = TuneController(search_alg=BasicVariantGenerator(), storage=storage)
    made.add_trial(Trial("any", stub=True, storage=storage))
    made.get_trials()[0].init_local_path()
    return made


@pytest.fixture
def objects(controller):
    """Where the names of `NAMES` begin."""
    (trial,) = controller.get_trials()
    init = SimpleNamespace(**dict.fromkeys(["_temp_dir"]))
    known = "_temp_dir" in inspect.getsource(ray.init)
    return {
        "Trial": trial,
        "TuneController": controller,
        "ActorHandle": ActorHandle,
        "worker": worker,
        "services": services,
        "Node": node.Node,
        "init": init if known else SimpleNamespace(),
        "config": settings_of_ray(),
    }


@pytest.mark.parametrize("name", ray_private.NAMES)
def test_ray_still_has(name, objects, gone):
    """Each name that the documentation of Ray does not promise; the failure says what no longer works."""
    since = ray_private.SINCE.get(name, "0.0")
    if tuple(map(int, ray.__version__.split(".")[:2])) < tuple(map(int, since.split("."))):
        pytest.skip(f"{THIS} never had it: {name} is there since {since}")
    assert gone(THIS, {name: ray_private.NAMES[name]}, objects) == []


def test_what_is_gone_is_one_line(objects, gone):
    """The line that an upgrade gives: which name, and what it was used for."""
    objects["Trial"] = SimpleNamespace(temporary_state=SimpleNamespace(actor=None))
    names = {"Trial.temporary_state.ray_actor": ray_private.NAMES["Trial.temporary_state.ray_actor"]}
    assert gone("Ray 3.0", names, objects) == [
        "Ray 3.0: Trial.temporary_state.ray_actor is gone; used to end the worker of a trial that hangs"
    ]


def test_a_trial_that_has_ended_is_forgotten_and_a_live_one_is_not(controller):
    """Tune's controller keeps nothing of a trial that has ended; one that still runs stays as it is."""
    (trial,) = controller.get_trials()
    assert not ray_private.forget(controller, trial)
    assert controller.get_trials() == [trial]
    controller._set_trial_status(trial, Trial.TERMINATED)
    controller._live_trials.discard(trial)
    controller._mark_trial_to_checkpoint(trial)
    controller._pending_trials_list.clear()  # as when Tune starts it
    assert ray_private.forget(controller, trial)
    assert controller.get_trials() == []
    kept = [name for name, value in vars(controller).items() if isinstance(value, set | dict | list) and trial in value]
    assert kept == []


def test_a_new_trial_has_no_worker_and_no_error(controller):
    """Before it starts there is nobody to end, and nothing to tell."""
    (trial,) = controller.get_trials()
    assert ray_private.worker_of(trial) is None
    assert ray_private.error_of(trial) == ""


@pytest.mark.parametrize(
    "error", [RuntimeError("its own words"), ray.exceptions.RayActorError(error_msg="its own words")]
)
def test_the_error_of_a_trial_is_read_where_tune_leaves_it(controller, error):
    """In a text file beside the driver at once; in the results, as an object or text, once Tune has copied it there."""
    (trial,) = controller.get_trials()
    trial.handle_error(error)
    assert "its own words" in ray_private.error_of(trial)
    there = Path(trial.storage.trial_fs_path)
    there.mkdir(parents=True)
    for file in Path(trial.local_path).glob("error*"):
        file.rename(there / file.name)
    assert "its own words" in ray_private.error_of(trial)


def test_a_trial_that_is_freed_keeps_no_configuration(controller):
    """What it ran by goes, and only that."""
    (trial,) = controller.get_trials()
    trial.config, trial.evaluated_params = {"job": 1}, {"job": 1}
    number = trial.trial_id
    ray_private.free(trial)
    assert (trial.config, trial.evaluated_params, trial.trial_id) == ({}, {}, number)


def test_messages_are_diverted(monkeypatch):
    """What Ray prints goes to the function that is given."""
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    heard = []
    ray_private.divert_messages(lambda data, **_: heard.append(data))
    worker.print_to_stdstream({"lines": ["x"]}, ignore_prefix=False)
    assert heard == [{"lines": ["x"]}]


def test_a_node_that_comes_late_is_waited_for(monkeypatch):
    """Ray's own look for its node fails at first: it is repeated within the time, and fails after it."""
    answers = [RuntimeError("not there yet"), {"node": 1}]

    def once(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setenv(ray_private.PORT_WAIT, "30")
    monkeypatch.setattr(services, "get_node", once)
    ray_private.be_patient(30)
    assert services.get_node("h:1", "id") == {"node": 1}
    monkeypatch.setattr(services, "get_node", once)
    ray_private.be_patient(-1)
    answers.append(RuntimeError("never"))
    with pytest.raises(RuntimeError, match="never"):
        services.get_node("h:1", "id")


def test_what_a_local_ray_does_not_need_is_left_out_only_while_it_starts():
    """Within, the methods that start those processes do nothing; afterwards they are Ray's own again."""
    before = {name: getattr(node.Node, name) for name in ray_private.NOT_NEEDED}
    with pytest.raises(OSError), ray_private.only_what_runs_trials():
        assert [getattr(node.Node, name)(None, 1) for name in before] == [None] * len(before)
        raise OSError
    assert {name: getattr(node.Node, name) for name in before} == before


@pytest.mark.ray
def test_an_actor_is_known_by_the_id_in_rays_messages(tmp_path):
    """The id is the one in Ray's own name for the actor, and what `ray.init` is given holds all of Ray's files."""
    folder = Path(tempfile.mkdtemp(prefix="rp", dir="/tmp"))  # Ray's socket paths must be short
    own = {"address": "local", "num_cpus": 1, "include_dashboard": False, "log_to_driver": False}
    ray.init(**own, **ray_private.in_folder(folder / "ray"))
    try:
        actor = ray.remote(SimpleNamespace).remote()
        assert ray_private.id_of(actor) in repr(actor)
        assert list((folder / "ray").glob("session_2*"))
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
