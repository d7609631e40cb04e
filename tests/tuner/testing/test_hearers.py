"""Every hearer keeps the contract, and one that breaks a clause is told which and how."""

from __future__ import annotations

import importlib.util
import io
import shutil
import threading
import time

import pytest
from rich.console import Console

from tuner.callbacks import loggers, notify, storage
from tuner.callbacks.background import Background, Follower
from tuner.callbacks.progress import Progress
from tuner.commands.options import LOGGERS
from tuner.testing import hearers
from tuner.testing.contracts import ContractBroken


def progress(folder, terminal):
    """The progress display; it is given the state of the driver, here of a follower."""
    follower = Follower(folder)
    shown = Progress(Console(file=io.StringIO(), force_terminal=terminal), lambda: follower.state, 2)

    def hear(event):
        follower.take(event)
        shown.event(event)
        shown.render()

    return hear


MADE = {
    "progress": lambda folder: progress(folder, False),
    "progress in a terminal": lambda folder: progress(folder, True),
    "notify": lambda folder: notify.notifier(folder, ("true",), notify.KINDS),
    "storage in a journal": lambda folder: storage.observer(folder, str(folder.parent / "journal.log")),
    "storage in SQLite": lambda folder: storage.observer(folder, f"sqlite:///{folder.parent / 'a.db'}"),
    **{kind: lambda folder, kind=kind: loggers.observer(kind, folder) for kind in LOGGERS},
}


@pytest.fixture(scope="module")
def mlflow_file(tmp_path_factory):
    """An empty database of MLflow's, which takes it seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    loggers.MLflow(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", "another", False)
    return folder / "mlflow.db"


def test_every_kind_is_here():
    """Every logger of `--log`, and all else that a search starts: a new one gets a line in MADE, so the contract."""
    assert set(LOGGERS) <= set(MADE)
    assert {"notify", "storage in SQLite", "progress"} <= set(MADE)


@pytest.mark.parametrize("clause", hearers.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", MADE)
def test_hearers_keep_the_contract(name, clause, monkeypatch, request):
    """Every hearer of the program, every clause."""
    package = loggers.PACKAGES.get(name)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (an extra of its own)")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    make = MADE[name]
    if name == "mlflow":
        ready = request.getfixturevalue("mlflow_file")
        make = lambda folder: shutil.copy(ready, folder.parent) and MADE[name](folder)  # noqa: E731
    {each.name: each for each in hearers.contract(name, make)}[clause.__name__]()


def test_a_third_partys_hearer_runs_the_suite():
    """A function in the background, as a script would add to `Study.observers`."""
    heard = []
    for clause in hearers.contract("mine", lambda folder: Background("mine", heard.append)):
        clause()
    assert {event["event"] for event in heard} >= {"study_started", "study_resumed", "epoch", "trial_ended"}


def meddles(folder):
    """Writes into the event."""

    def hear(event):
        if event["event"] == "epoch":
            event["per"] = 0.0

    return hear


def strict(folder):
    """Knows the kinds of today, and no others."""
    known = {
        *("study_started", "study_resumed", "study_ended", "stop_requested", "checkpoints_dropped"),
        *("trial_started", "epoch", "trial_ended", "marked", "study_changed"),
    }

    def hear(event):
        if event["event"] not in known:
            raise KeyError(event["event"])

    return hear


def from_the_start(folder):
    """Does not look back."""
    seen = []

    def hear(event):
        seen.append(event["event"])
        assert seen[0] == "study_started", "the study has a history"

    return hear


def in_the_background(folder):
    """Fails in its thread at the first end of a trial."""
    return Background("background", lambda event: 1 / (event["event"] != "trial_ended"))


class Once:
    """Cannot be closed twice."""

    def __init__(self, folder):
        self.file = io.StringIO()

    def __call__(self, event):
        self.file.write(str(event))

    def close(self):
        self.file.write("end")
        self.file.close()


class Goes:
    """Leaves its thread running."""

    def __init__(self, folder):
        self._over = threading.Event()
        threading.Thread(target=self._over.wait, args=(60,), name="goes on", daemon=True).start()

    def __call__(self, event):
        time.sleep(0)

    def close(self):
        """Forgets the thread."""


@pytest.mark.parametrize(
    ("make", "clause", "words"),
    [
        (meddles, "changes_nothing", "(epoch) was changed"),
        (in_the_background, "changes_nothing", "it warned: warning: background: ZeroDivisionError"),
        (strict, "passes_over_what_it_does_not_know", "raised KeyError: 'of_a_later_version'"),
        (from_the_start, "joins_a_search_that_goes_on", "the study has a history"),
        (Once, "can_be_closed_at_any_time", "raised ValueError: I/O operation on closed file"),
        (Goes, "leaves_no_thread_behind", "threads go on: ['goes on']"),
    ],
)
def test_a_broken_hearer_is_told_what_it_breaks(make, clause, words):
    """Each kind of mistake fails its clause, with the hearer, what must hold and what happened in the message."""
    found = {each.name: each for each in hearers.contract("broken", make)}[clause]
    with pytest.raises(ContractBroken) as error:
        found()
    assert str(error.value).startswith(f"hearer broken: {found.says} Here")
    assert words in str(error.value)
