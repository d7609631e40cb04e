"""The report: one HTML file about one or several studies, which opens anywhere and needs nothing else.

- `load` reads the studies, `render` makes the page, `write` puts it in its place in one step
- `Extras` is what needs torch or Optuna, made by whoever calls (`tuner.analysis.report`)
"""

from __future__ import annotations

from pathlib import Path

from results.report.facts import Extras, Facts, load, started_with
from results.report.page import render
from search_spaces.common import atomic

__all__ = ["Extras", "Facts", "load", "render", "started_with", "write"]


def write(path: str | Path, page: str) -> int:
    """Write a page beside its place and rename it; returns its size in bytes. Raises `InputError` if it cannot."""
    data = page.encode()
    atomic.write(path, data, advice="choose another place")
    return len(data)
