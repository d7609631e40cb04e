"""The folders of studies, and the names that they may have."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results.store.columns import TABLES
from search_spaces.common.trial_paths import TrialPaths
from search_spaces.errors import InputError
from search_spaces.wording import nearest_or, show

RESULTS = Path("results") / "studies"
"""The results folder, unless --results or TUNER_RESULTS names another."""


@dataclass(frozen=True)
class StudyPaths:
    """The files and folders of a study. With the empty folder `Path()` they are given relative to the study."""

    folder: Path

    @property
    def log(self) -> Path:
        """The event log, from which everything else is made."""
        return self.folder / "events.jsonl"

    @property
    def tables(self) -> dict[str, Path]:
        """The Parquet files by the name of the table."""
        return {name: self.folder / f"{name}.parquet" for name in TABLES}

    @property
    def sealed(self) -> Path:
        """The folder of what is sealed of a log that still grows."""
        return self.folder / "sealed"

    @property
    def lock(self) -> Path:
        """Held by the driver that runs the study."""
        return self.folder / "lock"

    @property
    def beat(self) -> Path:
        """That driver's heartbeat."""
        return self.folder / "lock.beat"

    @property
    def held(self) -> Path:
        """Used instead of the lock on a file system that has none."""
        return self.folder / "lock.held"

    @property
    def requests(self) -> Path:
        """The folder of requests to the driver (`tuner stop`)."""
        return self.folder / "requests"

    @property
    def ray_words(self) -> Path:
        """Ray's own messages while the study ran, if there are any."""
        return self.folder / "ray.log"

    @property
    def checkpoints(self) -> Path:
        """The folder of the trials' folders."""
        return self.folder / "checkpoints"

    def trial(self, number: int) -> TrialPaths:
        """The checkpoint files of a trial."""
        return TrialPaths(self.checkpoints / str(number))

    @property
    def trials(self) -> dict[int, TrialPaths]:
        """The trials that have a folder of checkpoints, by their number; links are ignored."""
        found = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return {
            number: self.trial(number)
            for number in sorted(int(path.name) for path in found if path.name.isdigit() and not path.is_symlink())
        }


def where_option(results_dir: Path) -> str:
    """` --results FOLDER`, quoted for a shell, for a printed command; nothing for the usual folder."""
    return "" if results_dir == RESULTS else f" --results {shlex.quote(str(results_dir))}"


def free_name(results_dir: Path, wanted: str) -> str:
    """`wanted`, or `wanted-2`, `wanted-3`, ... : the first that names no study yet."""
    name, n = wanted, 1
    while (results_dir / name).exists():
        n += 1
        name = f"{wanted}-{n}"
    return name


def check_name(name: str) -> None:
    """Raises InputError for a study name that is not a valid folder name on every system."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InputError(
            f"study {name!r}: is not allowed as a name; give letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, at most 100 characters"
        )


def is_name(name: str) -> bool:
    """Whether a folder in a results folder may have this name: one level, not hidden, not too long."""
    return 0 < len(os.fsencode(name)) <= 255 and not name.startswith(".") and not {"/", "\0"} & set(name)


def study_folder(results_dir: Path, study: str) -> Path:
    """The folder of the study in the results folder, whether it exists or not.

    Raises InputError for a path outside of it (`../other`, `/etc`) and for names that a folder cannot have.
    """
    if not is_name(study):
        raise InputError(
            f"study {show(study)}: is not a study's name; give the name of a folder in {results_dir}, without '/' and "
            "no leading dot ('tuner best' lists the studies)"
        )
    return results_dir / study


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path, its symbolic links followed, lies outside of a folder."""
    return not path.resolve().is_relative_to(folder.resolve())


def refuse_links_out(study: Path) -> None:
    """Raises InputError if a study's folder, log or checkpoints are links to a place outside of the results folder.

    Changing or removing files there would affect files outside of the results folder.
    """
    paths = StudyPaths(study)
    for path in (study, paths.log, paths.checkpoints):
        if leads_out(path, study.parent):
            raise InputError(
                f"{path}: is a link out of the results folder, to {path.resolve()}; nothing is changed there: "
                "give its own results folder with --results"
            )


def find_studies(results_dir: str | Path, studies: Sequence[str] | None = None) -> list[Path]:
    """The study folders of a results folder, by name, or the ones named in the order given.

    Raises `InputError` for a folder without studies, and for each unknown name, with the nearest one.
    """
    root = Path(results_dir)
    try:
        found = {p.name: p for p in sorted(root.iterdir()) if not p.name.startswith(".") and _is_study(p)}
    except OSError as error:
        raise InputError(
            f"{root}: is not a results folder ({error.strerror}); run a search first or name another"
        ) from error
    if not found:
        raise InputError(f"{root}: has no studies; run a search first or name another results folder")
    if studies is None:
        return list(found.values())
    problems = []
    for study in dict.fromkeys(studies):
        if study not in found:
            hint = nearest_or(study, found, f"there are: {', '.join(found)}")
            problems.append(f"{root}: there is no study {study!r}; {hint}")
    if problems:
        raise InputError(problems)
    return [found[study] for study in dict.fromkeys(studies)]


def _is_study(folder: Path) -> bool:
    paths = StudyPaths(folder)
    return any(path.is_file() for path in (paths.log, *paths.tables.values()))
