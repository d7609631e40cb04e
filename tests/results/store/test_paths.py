"""Where a study keeps what."""

from __future__ import annotations

from pathlib import Path

from results.store.paths import StudyPaths


def test_the_layout_of_a_study(tmp_path: Path) -> None:
    """The names on the disk, which studies of earlier versions have too."""
    paths = StudyPaths(tmp_path / "an4")
    found = [paths.log, paths.lock, paths.beat, paths.held, paths.requests, *paths.tables.values()]
    found += [*paths.trial(3).states, paths.trial(3).best]
    assert [path.relative_to(paths.folder).as_posix() for path in found] == [
        *("events.jsonl", "lock", "lock.beat", "lock.held", "requests"),
        *("studies.parquet", "trials.parquet", "epochs.parquet"),
        *("checkpoints/3/last.pt", "checkpoints/3/previous.pt", "checkpoints/3/best.pt"),
    ]
    assert str(StudyPaths(Path()).trial(3).best) == "checkpoints/3/best.pt"


def test_the_trials_that_have_checkpoints(tmp_path: Path) -> None:
    """In the order of their numbers; none where nothing has been written, and nothing else that lies there."""
    paths = StudyPaths(tmp_path)
    assert paths.trials == {}
    for name in ("10", "2", "notes"):
        (paths.checkpoints / name).mkdir(parents=True)
    assert list(paths.trials.items()) == [(2, paths.trial(2)), (10, paths.trial(10))]
    (paths.checkpoints / "2" / ".last.pt.4711.ab.tmp").touch()
    assert [path.name for path in paths.trial(2).leftovers()] == [".last.pt.4711.ab.tmp"]
