"""The checkpoint files of a trial; imports nothing heavy, for whoever only looks where they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialPaths:
    """The files in a trial's checkpoint folder."""

    folder: Path

    @property
    def last(self) -> Path:
        """The whole state, from which the trial can go on."""
        return self.folder / "last.pt"

    @property
    def previous(self) -> Path:
        """The state before that one, for when the last is damaged."""
        return self.folder / "previous.pt"

    @property
    def best(self) -> Path:
        """The evaluated weights of the best epoch."""
        return self.folder / "best.pt"

    @property
    def states(self) -> tuple[Path, Path]:
        """The files that a trial can go on from, the newest first."""
        return self.last, self.previous

    def leftovers(self) -> list[Path]:
        """Half-written files of processes that were killed, and of one that is writing now."""
        return list(self.folder.glob(".*.pt.*"))
