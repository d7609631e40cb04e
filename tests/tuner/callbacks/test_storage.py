"""`--storage`: a study's copy in an Optuna storage, kept while the search runs."""

import sqlite3

import optuna
import pytest

from results.store.events import read_events
from search_spaces import InputError
from tuner.callbacks import observers
from tuner.callbacks.mirror import OptunaMirror
from tuner.callbacks.storage import AGAIN_SECONDS, Live, check, observer, open_storage


def places(folder):
    return [f"sqlite:///{folder / 'copy.db'}", str(folder / "copy.journal")]


def agrees(trials, folder):
    """Whether a storage has what a copy of the whole log has."""
    wanted = OptunaMirror(optuna.storages.InMemoryStorage(), read_events(folder / "events.jsonl")[0]).study.get_trials()
    names = ("number", "state", "params", "distributions", "values", "intermediate_values", "user_attrs")
    assert [[getattr(t, name) for name in names] for t in trials] == [[getattr(t, n) for n in names] for t in wanted]
    return True


def loaded(url):
    return optuna.load_study(study_name="toy", storage=open_storage(url)).get_trials()


@pytest.mark.parametrize("which", [0, 1])
def test_the_copy_follows_the_search_and_its_resumption(toy, which):
    """Two sessions with the storage, and one without between them: every trial is there once, as the log has it."""
    url = places(toy.folder)[which]
    study = toy.create("s")
    hearer = observer(toy.folder / "s", url)
    study.observers.append(hearer)
    toy.drive(study, workers=2, events=14)
    study.close()
    hearer.close()
    unheard = toy.resume("s")
    toy.drive(unheard, workers=2, events=10)
    unheard.close()
    states = [trial.state for trial in loaded(url)]
    assert 0 < len(states) < len(unheard.state.trials)
    hearer = observer(toy.folder / "s", url)
    events, _ = read_events(toy.folder / "s" / "events.jsonl")
    study = toy.resume("s")
    for event in read_events(toy.folder / "s" / "events.jsonl")[0][len(events) :]:
        hearer(event)
    study.observers.append(hearer)
    toy.drive(study, workers=2)
    study.interrupt("budget")
    hearer.close()
    assert agrees(loaded(url), toy.folder / "s")
    assert len(loaded(url)) == 12


def test_a_locked_storage_costs_one_warning_and_is_caught_up(toy, capsys, monkeypatch):
    """While another program holds the database nothing is written; afterwards the copy is whole again."""
    monkeypatch.setattr("tuner.callbacks.storage._BUSY_SECONDS", 0.05)
    url = places(toy.folder)[0]
    study, clock = toy.create("s"), [0.0]
    live = Live(toy.folder / "s", url, now=lambda: clock[0])
    study.observers.append(live.handle)
    toy.drive(study, events=5)
    holder = sqlite3.connect(toy.folder / "copy.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    toy.drive(study, events=5)
    clock[0] += AGAIN_SECONDS + 1
    toy.drive(study, events=5)
    holder.execute("ROLLBACK")
    err = capsys.readouterr().err
    assert err.count("warning: --storage") == err.count("\n") == 1
    assert "the search continues" in err
    clock[0] += AGAIN_SECONDS + 1
    toy.drive(study, events=3)
    assert agrees(loaded(url), toy.folder / "s")
    holder.execute("BEGIN EXCLUSIVE")
    study.interrupt("interrupted")
    holder.execute("ROLLBACK")
    live.finish()
    assert agrees(loaded(url), toy.folder / "s")
    assert capsys.readouterr().err == ""


def test_another_study_of_that_name_is_left_alone(toy, capsys):
    """A storage that has another study of the same name is not written to; the search is told once."""
    url = places(toy.folder)[1]
    first = toy.create("a")
    hearer = observer(toy.folder / "a", url)
    first.observers.append(hearer)
    toy.drive(first, events=4)
    hearer.close()
    before = loaded(url)
    second = toy.create("b")
    hearer = observer(toy.folder / "b", url)
    second.observers.append(hearer)
    toy.drive(second)
    hearer.close()
    assert "there is another study named toy in it" in capsys.readouterr().err
    assert loaded(url) == before


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sqlight:///x.db", "is not a database that can be used; give sqlite:///FILE.db"),
        ("sqlite:///no/such/folder/x.db", "the folder does not exist"),
        ("sqlite://", "the folder does not exist"),
        ("no/such/folder/x.journal", "a journal file cannot be written there"),
        ("postgresql+nodriver://a:secret@b/c", "is not a database"),
        ("://", "is not a database"),
    ],
)
def test_a_storage_that_cannot_be_is_one_line_before_anything_starts(url, line):
    """A wrong kind, a folder that is not there: one line with what is allowed; a password is never shown."""
    with pytest.raises(InputError) as error:
        check(url)
    assert len(error.value.problems) == 1
    assert line in str(error.value)
    assert "secret" not in str(error.value)
    with pytest.raises(InputError, match="--storage"):
        observers.check([], [], None, url)


@pytest.mark.parametrize(
    "url", ["mysql+nothing://me:secret@host/db", "postgresql://me:se/cret@host/db", "what://host/db?sslpassword=secret"]
)
def test_a_password_is_not_shown(url):
    """What is said of a storage that cannot be used has stars for its user and password."""
    with pytest.raises(InputError) as caught:
        check(url)
    assert "***" in str(caught.value) and "cret" not in str(caught.value)


def test_a_database_that_does_not_answer_is_told_without_its_password(toy, capfd, monkeypatch):
    """The warning of a running search names the place and not who goes there."""
    from tuner.callbacks import storage

    def refuses(url):
        raise OSError(f"cannot connect to {url}")

    monkeypatch.setattr(storage, "open_storage", refuses)
    study = toy.create("s", budget={"trials": 1, "hours": None})
    study.close()
    live = Live(toy.folder / "s", "postgresql://me:secret@host/db")
    live.handle({"event": "epoch", "seq": 2})
    said = capfd.readouterr().err
    assert said.count("postgresql://***@host/db") == 2 and "secret" not in said
