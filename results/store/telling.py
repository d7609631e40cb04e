"""Problems found in the files that must be shown: readers record them here, and mark those that were shown.

Functions that read return their problems, for the caller to show at the right place. `finish` prints those that were
not shown when a command ends, so that no problem is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

_met: dict[str, bool] = {}
"""Problem -> whether it was said."""


def meet(problems: Iterable[str]) -> None:
    """Note what was met in a file."""
    for line in problems:
        _met.setdefault(line, False)


def said(problems: Iterable[str]) -> None:
    """Note that these lines were shown."""
    for line in problems:
        _met[line] = True


def tell(problems: Iterable[str], what: str = "note") -> None:
    """Print each of these lines on standard error, unless it was said before."""
    for line in problems:
        if not _met.get(line):
            _met[line] = True
            print(f"{what}: {line}", file=sys.stderr, flush=True)


def begin() -> None:
    """A command begins: nothing was met yet."""
    _met.clear()


def finish() -> None:
    """Print what was met and not said."""
    tell([line for line, done in _met.items() if not done])
