"""The report: one HTML file about one or more studies, which needs no other file and no network.

- `load` reads the studies, `render` makes the page, `write` writes the file in one step
- `Extras` are the parts that need torch or Optuna; the caller makes them (`tuner.analysis.report`)
"""

from __future__ import annotations

from pathlib import Path

from results.report.facts import Extras, Facts, load, started_with
from results.report.page import render
from search_spaces.common import atomic

__all__ = ["Extras", "Facts", "load", "render", "started_with", "write"]


def write(path: str | Path, page: str) -> int:
    """Write a page in one step; returns its size in bytes. Raises `InputError` if it cannot be written."""
    data = page.encode()
    atomic.write(path, data, advice="choose another place")
    return len(data)
