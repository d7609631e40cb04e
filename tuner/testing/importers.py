"""The contract of an importer: a kind in `KINDS` of `trainable/data/importers` with a function `import_into`."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from search_spaces import InputError
from trainable.data.dataset import Dataset, open_dataset, verify
from trainable.data.importers import KINDS, import_dataset
from trainable.data.packed import UTTERANCES_FILE
from tuner.testing.contracts import Clause, clauses, hold

Write = Callable[[Path], tuple[Path, Mapping[str, Any]]]
"""Writes a small recording into a folder; returns its path and the importer's own options for it."""


@dataclass(frozen=True)
class ImporterUnderTest:
    """An importer by its kind, and what writes recordings for it."""

    kind: str
    write: Write
    damages: int
    """Damaged recordings that are tried."""

    def run(self, folder: Path, out: str = "out", damage: Callable[[Path], None] | None = None, **more: Any) -> Any:
        """Write the recording into `folder/source`, damage it, and import it; returns what `import_dataset` does."""
        source = folder / "source"
        source.mkdir(exist_ok=True)
        path, options = self.write(source)
        if damage is not None:
            damage(source)
        return import_dataset(self.kind, path, folder / out, **{**options, **more})


def contract(kind: str, write: Write, *, damages: int = 30) -> list[Clause]:
    """The clauses for the importer `kind`, which must be in `KINDS`.

    `write(folder)` writes a small recording that is as it should be, with at least four training utterances in a
    session, the same at every call; it returns its path and the importer's own options. `damages` damaged copies of it
    are tried.
    """
    return clauses(ImporterUnderTest(kind, write, damages), f"importer {kind}", CHECKS)


def _hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _utterances(dataset: Dataset) -> list[tuple[str, bytes, tuple[int, ...]]]:
    """(session, features, labels) of every utterance of every split, in some order."""
    return sorted(
        (dataset.days[split.day[i]], split.features(i).tobytes(), tuple(map(int, split.label(i))))
        for split in dataset.splits.values()
        for i in range(len(split))
    )


def makes_a_data_folder(subject: ImporterUnderTest) -> None:
    """A recording that is as it should be becomes a whole data folder: finite numbers, labels that are phonemes, at
    least one utterance to train on, nothing left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = subject.run(Path(folder), strict=True)
        dataset = verify(Path(folder, "out"))
        hold(result["fingerprint"] == dataset.fingerprint, "the fingerprint it returns is not that of the folder")
        hold(result["utterances"]["train"] > 0, "no utterance to train on")
        hold(not result["skipped"], f"leaves out {result['skipped']}")
        for name, split in dataset.splits.items():
            for i in range(len(split)):
                features, label = split.features(i), split.label(i)
                hold(np.isfinite(features).all(), f"{name} {i}: features that are no finite numbers")
                hold(((label >= 1) & (label < dataset.n_classes)).all(), f"{name} {i}: labels {label} are no phonemes")
                hold(name == "test" or len(label), f"{name} {i}: no labels")


def does_the_same_again(subject: ImporterUnderTest) -> None:
    """The same recording gives the same data folder, and the recording stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        path, options = subject.write(source)
        before = _hashes(source)
        found = [import_dataset(subject.kind, path, Path(folder, name), **options) for name in ("first", "second")]
        hold(found[0]["fingerprint"] == found[1]["fingerprint"], "two imports give two fingerprints")
        hold(_hashes(source) == before, "the recording was changed")


def tells_its_progress(subject: ImporterUnderTest) -> None:
    """Calls `progress` with (done, total, what), never more done than there is, and at the end with all."""
    told: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        subject.run(Path(folder), progress=lambda done, total, what: told.append((done, total)))
    hold(told, "never calls progress")
    hold(all(0 <= done <= total for done, total in told), f"tells {told}")
    hold(told[-1][0] == told[-1][1], f"ends with {told[-1][0]} of {told[-1][1]}")


def leaves_nothing_when_it_is_stopped(subject: ImporterUnderTest) -> None:
    """After Ctrl-C or an error no data folder is there, and nothing beside it."""
    for error in (KeyboardInterrupt, OSError):
        with tempfile.TemporaryDirectory() as folder:

            def stop(done: int, total: int, what: str, error: type[BaseException] = error) -> None:
                if done:
                    raise error("stopped by the suite")

            try:
                subject.run(Path(folder), progress=stop)
            except error:
                pass
            else:
                hold(False, f"goes on after {error.__name__}")
            left = sorted(path.name for path in Path(folder).iterdir() if path.name != "source")
            hold(not left, f"leaves {left} after {error.__name__}")


def holds_out_what_is_asked(subject: ImporterUnderTest) -> None:
    """`dev_split` moves training utterances to val; every utterance is there once, as without it."""
    with tempfile.TemporaryDirectory() as folder:
        subject.run(Path(folder), "plain")
        subject.run(Path(folder), "split", dev_split=0.25)
        plain, split = (open_dataset(Path(folder, name)) for name in ("plain", "split"))
        before, counts = ({name: len(part) for name, part in each.splits.items()} for each in (plain, split))
        moved = counts["val"] and 0 < counts["train"] < before["train"]
        hold(moved, f"with dev_split 0.25 there are {counts}, without it {before}")
        hold(_utterances(plain) == _utterances(split), "utterances are lost, doubled or changed")


def leaves_out_what_is_listed(subject: ImporterUnderTest) -> None:
    """An utterance that the user lists with `skip` is left out and counted, and no other is lost.

    The others' features may change: where they are scaled over a block, the one that is left out no longer counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        subject.run(Path(folder), "plain")
        plain = open_dataset(Path(folder, "plain"))
        row = int(plain.train.utterance[0])
        about = pq.read_table(Path(folder, "plain", UTTERANCES_FILE)).slice(row, 1).to_pylist()[0]
        session, trial = plain.days[about["day"]], about["trial"]
        skip = Path(folder, "skip.csv")
        skip.write_text(f"session,trial,reason\n{session},{trial},of the suite\n")
        result = subject.run(Path(folder), "less", skip=skip)
        left, some = (
            [(session, len(features), labels) for session, features, labels in _utterances(each)]
            for each in (plain, open_dataset(Path(folder, "less")))
        )
        counted = sum(row["count"] for row in result["listed"])
        hold(len(some) < len(left), f"session {session}, trial {trial} is still there")
        hold(counted == len(left) - len(some), f"{len(left) - len(some)} are left out, {counted} are counted")
        hold(not Counter(some) - Counter(left), "other utterances are changed")


def refuses_in_a_line(subject: ImporterUnderTest) -> None:
    """What is not there, an unknown option and a data folder that exists are refused with InputError, each in a line;
    the folder stays.
    """
    with tempfile.TemporaryDirectory() as folder:
        subject.run(Path(folder))
        before = _hashes(Path(folder, "out"))
        _refused(lambda: subject.run(Path(folder)), "a data folder that exists")
        hold(_hashes(Path(folder, "out")) == before, "a data folder that was there is changed")
        _refused(lambda: subject.run(Path(folder), "other", no_such_option=1), "an unknown option")
        _refused(lambda: import_dataset(subject.kind, Path(folder, "nowhere"), Path(folder, "other")), "no recording")
        Path(folder, "empty").mkdir()
        _refused(lambda: import_dataset(subject.kind, Path(folder, "empty"), Path(folder, "other")), "an empty folder")
        hold(not Path(folder, "other").exists(), "a data folder is there after an error")


def _refused(run: Callable[[], Any], what: str) -> None:
    try:
        run()
    except InputError as error:
        lines = [line for line in error.problems if "\n" in line or not line.strip()]
        hold(not lines, f"{what}: not one line each: {lines}")
        return
    hold(False, f"{what} is taken")


def survives_damage(subject: ImporterUnderTest) -> None:
    """A damaged recording (bytes changed, cut off, taken out) is imported as far as it goes, or refused with
    InputError; nothing else is raised, and what is imported is whole.
    """
    rng = random.Random(0)
    for number in range(subject.damages):
        with tempfile.TemporaryDirectory() as folder:
            how: list[str] = []
            try:
                subject.run(Path(folder), damage=lambda source, how=how: how.append(_damage(source, rng)))  # type: ignore[misc]
            except InputError as error:
                hold(all("\n" not in line for line in error.problems), f"{how[0]}: {error.problems}")
                hold(not Path(folder, "out").exists(), f"{how[0]}: a data folder is there after an error")
            except Exception as error:
                raise AssertionError(f"damage {number}, {how[0]}: {type(error).__name__}: {error}") from error
            else:
                verify(Path(folder, "out"))


def _damage(source: Path, rng: random.Random) -> str:
    """Damage one file of a recording; returns how."""
    path = rng.choice([each for each in sorted(source.rglob("*")) if each.is_file()])
    content = bytearray(path.read_bytes())
    how = rng.choice(("changed", "cut", "taken out", "empty"))
    place = rng.randrange(max(1, len(content)))
    if how == "changed":
        for _ in range(rng.choice((1, 8))):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif how == "cut":
        del content[place:]
    elif how == "taken out":
        del content[place : place + rng.choice((1, 64, 1024))]
    else:
        content.clear()
    path.write_bytes(bytes(content))
    return f"{path.name} {how} (at byte {place})"


def is_described(subject: ImporterUnderTest) -> None:
    """`KINDS` says what can be imported, and how wide a bin is where nothing else is known."""
    kind = KINDS[subject.kind]
    hold(len(kind.purpose) > 10 and "\n" not in kind.purpose, f"its purpose is {kind.purpose!r}")
    hold(kind.bin_ms > 0, f"its bins are {kind.bin_ms} ms wide")


CHECKS: tuple[Callable[[ImporterUnderTest], None], ...] = (
    makes_a_data_folder,
    does_the_same_again,
    tells_its_progress,
    leaves_nothing_when_it_is_stopped,
    holds_out_what_is_asked,
    leaves_out_what_is_listed,
    refuses_in_a_line,
    survives_damage,
    is_described,
)
"""The clauses; the docstring of each says what must hold."""
