"""What the files of the 23 recorded runs tell of a run of that name: its recorded PER, what is assumed, the remarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from search_spaces import load_run
from search_spaces.recorded import LINEAGE


@dataclass(frozen=True)
class Told:
    """`per` is the recorded PER, `about` what is said of it; `note` is by hand, `remarks` are the program's."""

    per: float | None
    about: str
    note: str
    remarks: tuple[str, ...]
    assumed: tuple[str, ...]


def told(row: Mapping[str, Any]) -> Told | None:
    """What is told of the trial's run; None for a run that is not one of the recorded ones."""
    known = row["run"] in LINEAGE and row["origin"] in ("recorded", "replicate")
    return _read(row["run"]) if known else None


@cache
def _read(name: str) -> Told:
    run = load_run(name)
    recorded = run.recorded
    about = [recorded.get("decoder") or "decoder unknown"] if recorded.get("per") is not None else []
    about += ["approximate"] if recorded.get("approximate") else []
    remarks = [text for text in (recorded.get("note", ""), *run.remarks) if text]
    return Told(recorded.get("per"), ", ".join(about), run.notes, tuple(remarks), tuple(run.assumed))
