"""Parts of error lines."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

_LOOKS_TYPED = re.compile(r"^\s*([-+.]?[0-9].*|true|false|null|~)\s*$", re.IGNORECASE)


def nearest(word: str, options: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The option most like `word`; None where none is as alike as `cutoff` (0 to 1)."""
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`did you mean X? ` for the nearest option, or an empty text where none is near."""
    near = nearest(word, options)
    return f"did you mean {near}? " if near else ""


def nearest_or(word: str, options: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
    """`did you mean X?` for the nearest option, or `otherwise` where none is near."""
    near = nearest(word, options, cutoff)
    return f"did you mean {near}?" if near else otherwise


def show(value: Any) -> str:
    """A value as it is written in YAML, shortened."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(map(show, value)) + "]"
    elif isinstance(value, str) and (_LOOKS_TYPED.match(value) or not value.strip()):
        text = f'"{value}"'
    else:
        text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def either(options: Sequence[str]) -> str:
    """`a, b or c`."""
    return options[0] if len(options) == 1 else ", ".join(options[:-1]) + " or " + options[-1]


def not_allowed(value: Any, allowed: str) -> str:
    """The middle of every error line: the value, and what to give instead."""
    return f"{show(value)} is not allowed; give {allowed}"


_ADVICE = re.compile(
    r"\b(trust|allow_pickle|weights_only|pickle_module|please|you (can|may|should|have|need)|try (to|using)|set the|"
    r"pip install|https?://|github|upgrade|report (this|it))",
    re.IGNORECASE,
)


def reason_of(error: BaseException) -> str:
    """What a library says is wrong: the first line of its error, without its advice, which is for programmers.

    >>> reason_of(ValueError("Weights only load failed. Do this if you trust the file."))
    'Weights only load failed.'
    """
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    kept = [part for part in re.split(r"(?<=[.!?;])\s+", first) if not _ADVICE.search(part)]
    return " ".join(kept)[:200] or "it holds what is not read here"
