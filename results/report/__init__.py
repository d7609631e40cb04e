"""The report: one HTML file about one or several studies, which opens anywhere and needs nothing else.

- `load` reads the studies, `render` makes the page, `write` puts it in its place in one step
- `Extras` is what needs torch or Optuna, made by whoever calls (`tuner.analysis.report`)
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from results.report.facts import Extras, Facts, load, started_with
from results.report.page import render
from search_spaces.errors import InputError

__all__ = ["Extras", "Facts", "load", "render", "started_with", "write"]


def write(path: str | Path, page: str) -> int:
    """Write a page beside its place and rename it; returns its size in bytes. Raises `InputError` if it cannot."""
    path = Path(path)
    data = page.encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error
    return len(data)
