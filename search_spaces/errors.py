"""The exception for all bad input: what was wrong, where, what is allowed, what to do.

The command line prints its lines without a traceback and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Iterable

from search_spaces.redact import redacted


class InputError(ValueError):
    """One or more problems with the user's input, each a complete line. Keys and passwords in URLs are hidden.

    >>> str(InputError("small.yaml: stopping.grace: 0 is not allowed; give 1 or more"))
    'small.yaml: stopping.grace: 0 is not allowed; give 1 or more'
    """

    exit_status = 2
    """Exit status of the command line."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        lines = [problems] if isinstance(problems, str) else list(problems)
        self.problems = [redacted(line) for line in lines]
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[str]]]:
        # Workers send these errors to the driver. Without this, unpickling would give one joined string.
        return (type(self), (self.problems,))
