"""Where studies lie, and the names that they may have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from results.store.columns import TABLES
from results.store.events import LOG_NAME
from search_spaces.errors import InputError


def free_name(results_dir: Path, wanted: str) -> str:
    """`wanted`, or `wanted-2`, `wanted-3`, ... : the first that names no study yet."""
    name, n = wanted, 1
    while (results_dir / name).exists():
        n += 1
        name = f"{wanted}-{n}"
    return name


def check_name(name: str) -> None:
    """Raises InputError for a study name that could not be a folder's name everywhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise InputError(
            f"study {name!r}: is not allowed as a name; give letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, 100 at most"
        )


def find_studies(results_dir: str | Path, studies: Sequence[str] | None = None) -> list[Path]:
    """The study folders of a results folder, by name, or the ones named in the order given.

    Raises `InputError` for a folder without studies, and for each name that is none (the nearest named).
    """
    root = Path(results_dir)
    try:
        found = {p.name: p for p in sorted(root.iterdir()) if not p.name.startswith(".") and _is_study(p)}
    except OSError as error:
        raise InputError(
            f"{root}: is no results folder ({error.strerror}); run a search first or name another"
        ) from error
    if not found:
        raise InputError(f"{root}: holds no studies; run a search first or name another results folder")
    if studies is None:
        return list(found.values())
    problems = []
    for study in dict.fromkeys(studies):
        if study not in found:
            near = difflib.get_close_matches(study, found, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(found)}"
            problems.append(f"{root}: there is no study {study!r}; {hint}")
    if problems:
        raise InputError(problems)
    return [found[study] for study in dict.fromkeys(studies)]


def _is_study(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (LOG_NAME, *(f"{table}.parquet" for table in TABLES)))
