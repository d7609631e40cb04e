"""The paths of a trial's checkpoint files; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialPaths:
    """The files in a trial's checkpoint folder."""

    folder: Path

    @property
    def last(self) -> Path:
        """The full state, from which the trial can continue."""
        return self.folder / "last.pt"

    @property
    def previous(self) -> Path:
        """The state before that one, in case the last is damaged."""
        return self.folder / "previous.pt"

    @property
    def best(self) -> Path:
        """The evaluated weights of the best epoch."""
        return self.folder / "best.pt"

    @property
    def states(self) -> tuple[Path, Path]:
        """The files from which a trial can continue, the newest first."""
        return self.last, self.previous

    def leftovers(self) -> list[Path]:
        """Partly written files of killed processes, and of one that is writing now."""
        return list(self.folder.glob(".*.pt.*"))
