"""An importer of another package runs the contract, and one that breaks a clause is told which and how.

The program's own run it in tests/trainable/data/test_formats.py, beside what writes their recordings.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from trainable.data.importers import KINDS, Kind
from trainable.data.importers.intake import unusable
from trainable.data.importers.listed import Identity
from tuner.testing import importers
from tuner.testing.contracts import ContractBroken


def write(folder):
    """Eight utterances of one session as text files: the split, the labels, then a row of numbers for each bin."""
    rng = np.random.default_rng(0)
    for number in range(8):
        rows = "\n".join(" ".join(f"{x:.3f}" for x in rng.normal(size=4)) for _ in range(12))
        (folder / f"{number}.txt").write_text(f"{'val' if number > 5 else 'train'}\n{1 + number} 40\n{rows}\n")
    return folder, {}


def read(path):
    """The content of a file: (split, labels, features)."""
    try:
        split, labels, *rows = path.read_text(encoding="utf-8").splitlines()
        features = np.array([[float(x) for x in row.split()] for row in rows], np.float32)
        found = [int(label) for label in labels.split()]
    except (ValueError, OverflowError) as error:
        raise unusable(str(path), "is no recording", type(error).__name__) from error
    if split not in ("train", "val", "test") or features.ndim != 2 or not np.isfinite(features).all():
        raise unusable(str(path), "is no recording")
    return split, found, features


def well(intake, src):
    """Imports every file, in the order of their names."""
    files = sorted(src.glob("*.txt"))
    for done, path in enumerate(files):
        intake.progress(done, len(files), path.name)
        with intake.leaving_out():
            number = int(path.stem)
            one = Identity("a", "", str(path), number, 0)
            intake.check_listed(one)
            split, labels, features = read(path)
            split = intake.splits(split, "a", 6)[number if split == "train" and number < 6 else 0]
            intake.add(one, features, labels, split=split, text="")
    intake.progress(len(files), len(files), "done")


@pytest.fixture
def register(monkeypatch):
    """Puts an importer into KINDS as `mine`, as a package of one's own would."""

    def put(import_into):
        module = ModuleType("mine_importer")
        module.import_into = import_into
        monkeypatch.setitem(sys.modules, "mine_importer", module)
        monkeypatch.setitem(KINDS, "mine", Kind("mine_importer", "text files, one for each utterance", 20.0))

    return put


@pytest.mark.parametrize("clause", importers.CHECKS, ids=lambda check: check.__name__)
def test_a_third_partys_importer_runs_the_suite(clause, register):
    """A module that is no part of the program, put into `KINDS`."""
    register(well)
    {each.name: each for each in importers.contract("mine", write)}[clause.__name__]()


def mute(intake, src):
    """Says nothing of its progress."""
    well(SimpleNamespace(**{**_parts(intake), "progress": lambda *_: None}), src)


def fragile(intake, src):
    """Takes every file for a good one."""
    for path in sorted(src.glob("*.txt")):
        split, labels, *rows = path.read_text().splitlines()
        features = np.array([[float(x) for x in row.split()] for row in rows], np.float32)
        number = int(path.stem)
        split = intake.splits(split, "a", 6)[number if split == "train" else 0]
        one = Identity("a", "", str(path), number, 0)
        intake.add(one, features, list(map(int, labels.split())), split=split, text="")


def tidy(intake, src):
    """Removes what it has read."""
    well(intake, src)
    sorted(src.glob("*.txt"))[0].unlink()


def deaf(intake, src):
    """Imports as the files say, whatever is to be held out."""
    well(SimpleNamespace(**{**_parts(intake), "splits": lambda split, session, count: [split] * count}), src)


def swallows(intake, src):
    """Takes an interruption for a file that cannot be read."""

    def progress(*told):
        try:
            intake.progress(*told)
        except BaseException:
            return

    well(SimpleNamespace(**{**_parts(intake), "progress": progress}), src)


def _parts(intake):
    names = ("progress", "splits", "add", "leaving_out", "check_listed")
    return {name: getattr(intake, name) for name in names}


def keeps(intake, src):
    """Does not ask which utterances are to be left out."""
    well(SimpleNamespace(**{**_parts(intake), "check_listed": lambda one: None}), src)


@pytest.mark.parametrize(
    ("import_into", "clause", "words"),
    [
        (mute, "tells_its_progress", "never calls progress"),
        (fragile, "survives_damage", "txt "),
        (tidy, "does_the_same_again", ""),
        (deaf, "holds_out_what_is_asked", "with dev_split 0.25 there are"),
        (keeps, "leaves_out_what_is_listed", "is still there"),
        (swallows, "leaves_nothing_when_it_is_stopped", "goes on after KeyboardInterrupt"),
    ],
)
def test_a_broken_importer_is_told_what_it_breaks(import_into, clause, words, register):
    """Each kind of mistake fails its clause, with the importer, what must hold and what happened in the message."""
    register(import_into)
    found = {each.name: each for each in importers.contract("mine", write)}[clause]
    with pytest.raises(ContractBroken) as error:
        found()
    assert str(error.value).startswith(f"importer mine: {found.says} Here")
    assert words in str(error.value)
