"""The problems of one file, collected, so that all are shown at once."""

from __future__ import annotations

from search_spaces.errors import InputError


class Findings:
    """The problems of one file, collected."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.lines: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Add a problem at a place in the file."""
        self.lines.append(f"{self.label}: {where}: {what}")

    def raise_any(self) -> None:
        """Raise InputError if there are problems."""
        if self.lines:
            raise InputError(dict.fromkeys(self.lines))
