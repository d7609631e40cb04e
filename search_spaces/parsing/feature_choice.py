"""Which of the recorded features a run uses: ranges of columns, and subsets of the '25 recordings by name.

`0:64,256:320` are the columns 0 to 63 and 256 to 319, as in Python. The names are those of `SUBSETS`; they mean
columns of recordings with 512 features (Card et al. 2024; the order of the columns is in the README of
Neuroprosthetics-Lab/nejm-brain-to-text, whose `feature_subset` is a list of columns).
"""

from __future__ import annotations

import re

ARRAYS = ("6v-ventral", "4", "55b", "6v-dorsal")
"""The four arrays of 64 electrodes in the order of the columns: threshold crossings, then spike-band power."""
COLUMNS = 512

SUBSETS: dict[str, tuple[range, ...]] = {
    "tx": (range(COLUMNS // 2),),
    "power": (range(COLUMNS // 2, COLUMNS),),
    **{
        name: tuple(range(half + 64 * number, half + 64 * (number + 1)) for half in (0, COLUMNS // 2))
        for number, name in enumerate(ARRAYS)
    },
}
"""All threshold crossings, all spike-band power, and both of one array."""

_SPAN = re.compile(r"(\d*):(\d*)")


def parse_features(choice: str) -> list[str]:
    """The parts of a choice, without blanks. Raises ValueError for one that means nothing in any recording."""
    parts = [part.strip() for part in choice.split(",")]
    for part in parts:
        span = _SPAN.fullmatch(part)
        if not span and part not in SUBSETS:
            raise ValueError(f"{part!r} is not allowed; give A:B, or some of {', '.join(SUBSETS)}, joined by commas")
        if span and span[1] and span[2] and int(span[1]) >= int(span[2]):
            raise ValueError(f"{part!r} has no features; give A:B with A below B")
    return parts


def chosen_features(choice: str | None, count: int) -> list[int] | None:
    """The columns of a choice, rising, of `count` there are; None for all. Raises ValueError if one is not there."""
    if choice is None:
        return None
    columns: set[int] = set()
    for part in parse_features(choice):
        if part in SUBSETS:
            if count != COLUMNS:
                raise ValueError(f"{part} means columns of {COLUMNS} features, the data have {count}; give A:B")
            columns.update(column for span in SUBSETS[part] for column in span)
            continue
        first, last = part.split(":")
        begin, end = int(first or 0), int(last or count)
        if not 0 <= begin < end <= count:
            raise ValueError(f"{part} is not in the data, which have the features 0:{count}")
        columns.update(range(begin, end))
    return sorted(columns)


def number_of_features(choice: str | None, count: int) -> int:
    """How many of `count` features a choice has. Raises ValueError as `chosen_features` does."""
    columns = chosen_features(choice, count)
    return count if columns is None else len(columns)
