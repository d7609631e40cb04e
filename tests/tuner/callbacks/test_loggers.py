"""TensorBoard, MLflow and W&B hear what the log says, live and afterwards; a search does not depend on them."""

import importlib.util
import json
import struct
from pathlib import Path

import pytest

from results.store.events import read_events
from search_spaces import InputError, flatten
from tuner.callbacks import loggers
from tuner.callbacks.loggers import METRICS, check_installed, observer, replay
from tuner.commands.options import LOGGERS


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed (an extra of its own)")


def tensorboard_scalars(folder):
    """{trial: {tag: {step: value}}} of all event files under a folder, read record by record."""
    from tensorboardX.proto.event_pb2 import Event

    found, walls = {}, []
    for path in sorted(Path(folder).glob("trial_*/events.*")):
        tags = found.setdefault(int(path.parent.name.removeprefix("trial_")), {})
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 12 + length + 4
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    tags.setdefault(value.tag, {})[event.step] = value.simple_value
                    walls.append(event.wall_time)
                elif value.tag.startswith("_hparams_"):
                    tags.setdefault("hparams", []).append(value.metadata.plugin_data.content)
    return found, walls


def wandb_records(path):
    """The records of an offline run's file: a LevelDB log (blocks of 32 KiB, records in parts) after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, part = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        part += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(part)
            part = b""


@pytest.fixture
def finished(toy):
    """A study that has ended, with its folder."""
    study = toy.create("s")
    toy.drive(study, workers=2)
    study.interrupt("budget")
    return study


def check_tensorboard(study, folder):
    found, walls = tensorboard_scalars(folder)
    assert set(found) == set(study.state.trials)
    events, _ = read_events(study.folder / "events.jsonl")
    last = {event["trial"]: event for event in events if event["event"] == "epoch"}
    for number, trial in study.state.trials.items():
        pers = {epoch: per for epoch, per in trial.pers.items() if per is not None}
        assert found[number].get("per", {}) == pytest.approx(pers)
        if trial.best:
            assert found[number]["best_per"][trial.best[1]] == pytest.approx(trial.best[0])
            measured = {name for name in METRICS if isinstance(last[number].get(name), (int, float))}
            assert {"per", "val_loss", "lr", "batch"} <= measured <= set(found[number])
    return walls


def test_a_replay_to_tensorboard_has_every_epoch(finished, toy):
    """Each trial's curves are those of the log, at the times of the log, with the configuration as hparams."""
    out = toy.folder / "tb"
    assert replay("tensorboard", toy.folder / "s", out) == 12
    walls = check_tensorboard(finished, out)
    times = {event["time"] for event in read_events(toy.folder / "s" / "events.jsonl")[0]}
    assert set(walls) <= times
    found, _ = tensorboard_scalars(out)
    assert any(b"schedule_peak_lr" in content for content in found[0]["hparams"])
    assert any(b"best_per" in content for content in found[0]["hparams"])


def test_live_and_replayed_files_say_the_same(toy):
    """What the observer writes during the search is what a replay of its log writes."""
    study = toy.create("s")
    study.observers.append(hearer := observer("tensorboard", toy.folder / "s"))
    toy.drive(study, workers=2)
    study.interrupt("budget")
    hearer.close()
    replay("tensorboard", toy.folder / "s", toy.folder / "again")
    live, _ = tensorboard_scalars(toy.folder / "s" / "tensorboard")
    again, _ = tensorboard_scalars(toy.folder / "again")
    assert live == again
    check_tensorboard(study, toy.folder / "s" / "tensorboard")


def test_a_resumed_search_goes_on_in_the_same_files(toy):
    """After a kill the observer of the next session fills the same folders: no epoch is missing in the end."""
    study = toy.create("s")
    study.observers.append(first := observer("tensorboard", toy.folder / "s"))
    toy.drive(study, workers=2, events=25)
    first.close()
    study.close()
    from tuner.study.study import Study

    second = observer("tensorboard", toy.folder / "s")
    again = Study.resume(toy.folder / "s", {}, [second])
    toy.drive(again, workers=2)
    again.interrupt("budget")
    second.close()
    check_tensorboard(again, toy.folder / "s" / "tensorboard")


@needs("mlflow")
def test_mlflow_gets_runs_with_parameters_curves_and_ends(finished, toy):
    """A run for each trial: its configuration, its PER by epoch at the log's times, and how it ended."""
    from mlflow.tracking import MlflowClient

    out = toy.folder / "ml"
    replay("mlflow", toy.folder / "s", out)
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id], max_results=1000)
    assert len(runs) == 12
    ends = {"completed": "FINISHED", "stopped": "FINISHED", "diverged": "FAILED"}
    for run in runs:
        trial = finished.state.trials[int(run.data.tags["trial"])]
        assert run.info.status == ends[trial.status]
        assert run.data.tags["status"] == trial.status
        assert run.data.params["schedule_peak_lr"] == str(trial.config.schedule.peak_lr)
        known = {name for name, value in flatten(trial.config).items() if value is not None}
        assert len(run.data.params) == len(known)
        history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "per")}
        assert history == {epoch: per for epoch, per in trial.pers.items() if per is not None}
        assert run.info.start_time == round(trial.started * 1000)


@needs("mlflow")
def test_mlflow_goes_on_with_the_run_of_an_interrupted_trial(toy, monkeypatch):
    """Two sessions of a study give one run for each trial, in the server that MLFLOW_TRACKING_URI names."""
    from mlflow.tracking import MlflowClient

    from tuner.study.study import Study

    uri = f"sqlite:///{toy.folder / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    study = toy.create("s")
    study.observers.append(first := observer("mlflow", toy.folder / "s"))
    toy.drive(study, workers=2, events=25)
    first.close()
    study.close()
    again = Study.resume(toy.folder / "s", {}, [second := observer("mlflow", toy.folder / "s")])
    toy.drive(again, workers=2)
    again.interrupt("budget")
    second.close()
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id], max_results=1000)
    assert sorted(int(run.data.tags["trial"]) for run in runs) == list(range(12))
    for run in runs:
        trial = again.state.trials[int(run.data.tags["trial"])]
        steps = {m.step for m in client.get_metric_history(run.info.run_id, "per")}
        assert steps == {epoch for epoch, per in trial.pers.items() if per is not None}


@needs("wandb")
def test_wandb_writes_offline_runs(finished, toy, monkeypatch):
    """Without a key nobody is asked for one: a run for each trial lies in the folder, and holds its curve."""
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    out = toy.folder / "wb"
    replay("wandb", toy.folder / "s", out)
    files = sorted((out / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 12
    assert wandb.run is None
    counts = {}
    for path in files:
        kinds = [record.WhichOneof("record_type") for record in wandb_records(path)]
        counts[int(path.stem.rsplit("-", 1)[1])] = kinds.count("history")
    assert counts == {trial.number: len(trial.pers) for trial in finished.state.trials.values()}


def test_recorded_runs_without_epochs_have_their_result(tmp_path):
    """A past run of which only the PER is known gives a run with that result."""
    from tuner.planned.past import add_recorded

    runs = add_recorded(tmp_path, "recorded")
    assert replay("tensorboard", tmp_path / "recorded", tmp_path / "tb") == len(runs) == 23
    found, _ = tensorboard_scalars(tmp_path / "tb")
    known = [run.recorded["per"] for run in runs if run.recorded.get("per") is not None]
    assert sorted(v for tags in found.values() for v in tags.get("best_per", {}).values()) == pytest.approx(
        sorted(known)
    )


def test_a_logger_that_breaks_does_not_stop_a_search(toy, monkeypatch, capfd):
    """An error while it writes is one warning line; the study has the same log as without it."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loggers.TensorBoard, "epoch", full)
    study = toy.create("s")
    study.observers.append(hearer := observer("tensorboard", toy.folder / "s"))
    toy.drive(study)
    hearer.close()
    toy.drive(toy.create("plain"))
    assert toy.decisions("s") == toy.decisions("plain")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: --log tensorboard: OSError: [Errno 28]")


def test_a_package_that_is_missing_is_one_line(monkeypatch):
    """The extra that brings it is named, for each that is missing, before anything starts."""
    monkeypatch.setattr(loggers, "PACKAGES", {"tensorboard": "tensorboardX", "mlflow": "no_ml", "wandb": "no_wb"})
    with pytest.raises(InputError) as caught:
        check_installed(["wandb", "tensorboard", "mlflow", "wandb"])
    assert [line.split("'")[1] for line in caught.value.problems] == [".[wandb]", ".[mlflow]"]


def test_the_command_line_offers_every_logger():
    """--log and --to offer the kinds there are."""
    assert set(LOGGERS) == set(loggers.PACKAGES)


def test_tuner_log_refuses_a_folder_that_holds_something(finished, toy, cli):
    """`tuner log` writes to a new folder, says how to look at it, and mixes with nothing that is there."""
    arguments = ("log", "s", "--to", "tensorboard", "--out", "tb", "--results", toy.folder)
    done = cli(*arguments, cwd=toy.folder)
    assert done.status == 0, done.err
    assert done.out.strip() == "wrote 12 trials to tb; look at them with: tensorboard --logdir tb"
    check_tensorboard(finished, toy.folder / "tb")
    again = cli(*arguments, cwd=toy.folder)
    assert again.status == 2
    assert again.err.strip() == "error: tb: is not empty; give a new or empty folder"
    missing = cli("log", "x", "--to", "tensorboard", "--out", "new", "--results", toy.folder, cwd=toy.folder)
    assert missing.status == 2
    assert not (toy.folder / "new").exists()


@pytest.mark.ray
def test_a_real_search_is_logged_and_told(tuner, tmp_path, tiny_data, real_space):
    """`tuner search --log --notify`: every epoch of the tables is in the event files, and a command gets the end."""
    done = tuner.run(
        "search", real_space, "--data", tiny_data, "--study", "s", "--trials", 2, "--concurrent", 1,
        "--log", "tensorboard", "--notify", "tee notice.json", "--notify-on", "end",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.err
    root = tmp_path / "results" / "studies"
    found, _ = tensorboard_scalars(root / "s" / "tensorboard")
    events, _ = read_events(root / "s" / "events.jsonl")
    logged = {(e["trial"], e["epoch"]): e["per"] for e in events if e["event"] == "epoch"}
    shown = {(trial, epoch): per for trial, tags in found.items() for epoch, per in tags["per"].items()}
    assert shown == pytest.approx(logged)
    assert json.loads((tmp_path / "notice.json").read_text())["reason"] == "budget"
