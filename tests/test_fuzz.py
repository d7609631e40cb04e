"""The short version of benchmarks/fuzz.py, and hundreds of flipped bits of a log."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import fuzz
from benchmarks.fuzz_edits import apply
from benchmarks.fuzz_sound import make_study
from results.store import replay
from results.store.bulk import replay_file
from results.store.events import read_events
from search_spaces.errors import InputError
from trainable.data.importers.intake import Intake
from trainable.data.importers.shapes import Shapes
from tuner.study.state import StudyState


def test_no_input_of_a_few_crashes_hangs_or_changes_silently(capsys: pytest.CaptureFixture[str]) -> None:
    """An input of each area comes to an answer; the table counts them."""
    status = fuzz.main(["--inputs", str(len(fuzz.AREAS)), "--seed", "3"])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert all(f"| {area} | 1 |" in out for area in fuzz.AREAS)


def test_no_spoilt_object_of_a_recording_costs_another_utterance(capsys: pytest.CaptureFixture[str]) -> None:
    """Of each layout, a dozen recordings with something odd in them: no crash, and every other utterance comes in."""
    areas = [option for area in fuzz.LAYOUTS for option in ("--area", area)]
    status = fuzz.main(["--inputs", "48", "--seed", "11", *areas])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert all(f"| {area} | 12 |" in out for area in fuzz.LAYOUTS)


def test_an_import_that_ends_at_a_broken_object_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an importer that fails at an odd shape, and one that ends at the first broken object, both are found."""
    check = Shapes.check

    def failing(self: Shapes, shape: tuple[int, ...], *more: Any) -> int:
        if tuple(shape) != (60, 8):
            raise ZeroDivisionError("planted")
        return check(self, shape, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Shapes, "check", failing)
        counts, found = fuzz.run(12, 1, ["hdf5"], 30.0, lambda _: None)
    assert counts["hdf5"].outcomes["crash"] > 0
    assert any("ZeroDivisionError: planted" in each.where for each in found)
    with monkeypatch.context() as patch:
        patch.setattr(Intake, "leaving_out", lambda self: contextlib.nullcontext())
        counts, _ = fuzz.run(12, 1, ["hdf5"], 30.0, lambda _: None)
    assert counts["hdf5"].outcomes["silent change"] > 0
    capsys.readouterr()


def test_what_is_wrong_is_found_and_reduced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a reader that fails at damaged lines, and one that says nothing of them, both are found, with few edits."""

    def failing(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    with monkeypatch.context() as patch:
        patch.setattr("results.store.lines.LineScanner._note", failing)
        counts, found = fuzz.run(12, 1, ["log"], 30.0, lambda _: None)
    assert counts["log"].outcomes["crash"] > 0
    assert "ZeroDivisionError: planted" in found[0].where
    assert len(found[0].edits) == 1
    with monkeypatch.context() as patch:
        patch.setattr("results.store.lines.LineScanner._note", lambda *_: None)
        counts, _ = fuzz.run(12, 1, ["log"], 30.0, lambda _: None)
    assert counts["log"].outcomes["silent change"] > 0
    capsys.readouterr()


def test_of_hundreds_of_flipped_bits_none_is_silent(tmp_path: Path) -> None:
    """However one bit of the log is flipped, tables and state are read; where they differ, a line says so."""
    make_study(tmp_path / "results" / "s")
    path = tmp_path / "results" / "s" / "events.jsonl"
    whole = path.read_bytes()

    def facts() -> tuple[object, list[str]]:
        problems: list[str] = []
        tables = replay_file(path, path.stat().st_size, problems).replay.tables(running=False, study="s")
        events, noted = read_events(path)
        assert noted == problems
        state = StudyState(searching=False)
        try:
            problems += state.replay(events, "log")
        except InputError as error:  # a study that does not begin with its settings
            problems += error.problems
        trials = {n: (t.status, t.pers, t.attempt, t.params) for n, t in state.trials.items()}
        return ([tables[name].to_pylist() for name in replay.TABLES], trials, state.spent.best_per), problems

    sound, problems = facts()
    assert problems == []
    rng = random.Random(0)
    for bit in rng.sample(range(8 * len(whole)), 250):
        path.write_bytes(apply(whole, [("flip", bit, b"")]))
        found, problems = facts()
        assert problems or found == sound, f"bit {bit}"
