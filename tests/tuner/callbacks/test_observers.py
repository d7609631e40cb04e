"""What follows a search goes on after a resume, and what may hold a secret is never written."""

from __future__ import annotations

import json

import optuna
import pytest

from results.store.events import read_events
from search_spaces import InputError
from tuner.callbacks import observers
from tuner.callbacks.observers import Listening, carried, kept
from tuner.callbacks.storage import open_storage
from tuner.launch.changes import describe
from tuner.study.request import Request
from tuner.study.settings import StudyListeners, StudySettings
from tuner.study.state import StudyState


def asked(tmp_path, **given) -> Request:
    return Request(results_dir=tmp_path, data=tmp_path, **given)


def resumed(tmp_path, before, **given):
    """What a resume with these options has: the new setting, what follows, the notes."""
    request = asked(tmp_path, **given)
    setting = kept(request, before)
    after = None if setting is None else StudyListeners.model_validate(setting)
    return after, *carried(request, after)


def test_a_killed_searchs_copy_is_finished_by_a_resume_that_gives_no_option(toy):
    """The storage of the first session is the second one's: no trial stays RUNNING in Optuna's database."""
    url = f"sqlite:///{toy.folder / 'copy.db'}"
    request = asked(toy.folder, storage=url)
    study = toy.create("s", listeners=kept(request))
    hearers = observers.start(toy.folder / "s", carried(request, None)[0])
    study.observers += hearers
    toy.drive(study, workers=2, events=15)
    study.close()
    hearers[0].close()
    states = [trial.state.name for trial in optuna.load_study(study_name="toy", storage=open_storage(url)).trials]
    assert "RUNNING" in states
    settings = StudySettings.read(read_events(toy.folder / "s" / "events.jsonl")[0][0])
    listening, notes = carried(asked(toy.folder), settings.listeners)
    assert listening.storage == url
    assert notes == [f"as before: --storage {url} (none ends one: --storage none)"]
    (hearer,) = observers.start(toy.folder / "s", listening)
    study = toy.resume("s")
    study.observers.append(hearer)
    for event in read_events(toy.folder / "s" / "events.jsonl")[0][-1:]:
        hearer(event)
    toy.drive(study, workers=2)
    study.interrupt("budget")
    hearer.close()
    after = optuna.load_study(study_name="toy", storage=open_storage(url)).trials
    assert len(after) == 12
    assert "RUNNING" not in {trial.state.name for trial in after}


def test_what_is_given_again_replaces_and_none_ends(tmp_path, monkeypatch):
    """Each option goes on by itself, is replaced by what is given, and ended by `none`."""
    monkeypatch.chdir(tmp_path)
    first = StudyListeners.model_validate(
        kept(asked(tmp_path, log=("tensorboard",), notify=("true",), notify_on="best", storage="copy.journal"))
    )
    assert first.storage == str(tmp_path / "copy.journal")
    after, now, notes = resumed(tmp_path, first)
    assert after == first
    assert now == Listening(("tensorboard",), ("true",), "best", str(tmp_path / "copy.journal"))
    assert len(notes) == 1 and "--log tensorboard, --notify true" in notes[0]
    after, now, _ = resumed(tmp_path, first, log=("none",), notify=("none",), storage="sqlite:///other.db")
    assert now == Listening(storage="sqlite:///other.db")
    assert (after.log, after.notify, after.notify_on) == ([], [], None)
    assert after.storage == f"sqlite:///{tmp_path}/other.db"
    changed = {"listeners": [first.as_dict(), after.as_dict()]}
    assert describe(changed, StudyState())[0] == "changed from now on: --log: tensorboard -> none"
    with pytest.raises(InputError, match="--log none: is given beside --log wandb"):
        resumed(tmp_path, first, log=("none", "wandb"))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"notify": ("https://hooks.example.org/services/T0/SECRET",)}, "--notify https://hooks.example.org/..."),
        ({"notify": ("curl -H SECRET https://x.org",)}, "--notify curl ..."),
        ({"storage": "mysql+pymysql://me:SECRET@host/db"}, "--storage mysql+pymysql://***@host/db"),
    ],
)
def test_what_may_hold_a_secret_is_named_and_not_written(tmp_path, given, shown, monkeypatch):
    """The setting holds no secret; a resume says that the option must be given again, until it is, or is ended."""
    monkeypatch.setattr("tuner.callbacks.notify.shutil.which", lambda *_, **__: "/usr/bin/curl")
    monkeypatch.setattr("tuner.callbacks.storage.check", lambda url: None)
    setting = kept(asked(tmp_path, **given))
    assert "SECRET" not in json.dumps(setting)
    before = StudyListeners.model_validate(setting)
    after, now, notes = resumed(tmp_path, before)
    assert now == Listening()
    (note,) = notes
    assert note.startswith(f"{shown} was given before and may hold a secret, so it was not stored; give --")
    assert after == before
    assert resumed(tmp_path, before, **given)[1:] == (Listening(**given), [])
    key = next(iter(given))
    ended, _, notes = resumed(tmp_path, before, **{key: "none" if key == "storage" else ("none",)})
    assert (ended.unsaved, notes) == ([], [])


def test_what_cannot_be_used_here_does_not_keep_a_study_from_going_on(tmp_path, monkeypatch):
    """On another machine without the package, a note says that the search goes on without the logger."""
    before = StudyListeners(log=["wandb"], storage="sqlite:///no/such/folder/x.db")
    monkeypatch.setattr("tuner.callbacks.loggers.importlib.util.find_spec", lambda name: None)
    after, now, notes = resumed(tmp_path, before)
    assert (after, now) == (before, Listening())
    assert ["wandb is not installed" in notes[0], "the folder does not exist" in notes[1]] == [True, True]
    assert all(note.endswith("the search goes on without it") for note in notes)


def test_a_study_without_any_has_no_setting(tmp_path):
    """Nothing given, nothing written: a log has the same fields as before."""
    assert kept(asked(tmp_path)) is None
    assert carried(asked(tmp_path), None) == (Listening(), [])
