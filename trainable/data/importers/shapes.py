"""What shape the utterances of a source have: one that differs from the others is found, also where it comes first.

An importer shows all shapes first (`see`), without reading features, and then has each utterance checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from trainable.data.importers.reading import unusable, whole_number

LEAST_TURNED = 3
"""So many lengths at least among the columns, and one among the rows, mean that rows and columns are exchanged."""


class Shapes:
    """Counts of the shapes and types of features [bins, features]."""

    def __init__(self, key: str, steps_key: str) -> None:
        """`key` is what the source calls the features, `steps_key` their length in bins."""
        self.key = key
        self.steps_key = steps_key
        self._agreeing: Counter[int] = Counter()  # columns of utterances whose rows are what the length says
        self._columns: Counter[int] = Counter()
        self._rows: set[int] = set()
        self._types: Counter[str] = Counter()

    def see(self, shape: Sequence[int], dtype: np.dtype, steps: object = None) -> None:
        """Count one utterance; what is broken in itself says nothing about the others."""
        if len(shape) != 2 or 0 in shape or dtype.kind not in "iuf":
            return
        rows, columns = (int(length) for length in shape)
        length = _number(steps)
        if length is not None and columns == length != rows:
            return
        self._types[dtype.kind] += 1
        self._rows.add(rows)
        self._columns[columns] += 1
        if rows == length:
            self._agreeing[columns] += 1

    @property
    def features(self) -> int | None:
        """The number of features of most utterances; None where rows and columns may be exchanged everywhere."""
        if self._agreeing:
            return self._agreeing.most_common(1)[0][0]
        if not self._columns or (len(self._rows) == 1 and len(self._columns) >= LEAST_TURNED):
            return None
        return self._columns.most_common(1)[0][0]

    def check(self, shape: Sequence[int], dtype: np.dtype, steps: object, where: str) -> int:
        """The length of an utterance in bins; `Unusable` where shape, length and the other utterances disagree."""
        key, wanted = self.key, self.features
        if dtype.kind not in "iuf":
            raise unusable(where, f"{key} are not real numbers", str(dtype))
        if len(shape) != 2 or 0 in shape:
            raise unusable(where, f"{key} is not [bins, features]", f"its shape is {list(shape)}")
        rows, columns = shape
        length = rows if steps is None else whole_number(steps, where, self.steps_key)
        if columns != wanted and (columns == length != rows or rows == wanted or wanted is None):
            raise unusable(
                where, f"{key} looks transposed", f"it is {rows} x {columns}; rows are bins, columns are features"
            )
        if columns != wanted:
            raise unusable(
                where,
                "another number of features than the other utterances",
                f"{columns}, most have {wanted}; a data set has one number of features",
            )
        if not 0 < length <= rows:
            raise unusable(where, f"{self.steps_key} is not within {key}", f"{length}, but it has {rows} rows")
        return length

    def odd_type(self, dtype: np.dtype) -> str:
        """What to notice of a type that differs from most utterances' in kind; empty where there is nothing."""
        usual = self._types.most_common(1)[0][0] if self._types else dtype.kind
        name = {"i": "integers", "u": "integers", "f": "fractions"}
        if name.get(dtype.kind) == name[usual]:
            return ""
        return f"{self.key} are {name.get(dtype.kind, dtype.name)}, of most utterances {name[usual]}"

    def after(self, rest: np.ndarray) -> str:
        """What to notice of rows after the length; empty where there are none."""
        if not len(rest):
            return ""
        what = "rows with data" if np.any(rest) else "rows of zeros"
        return f"{self.key} has {what} after {self.steps_key}; they are cut off"


def _number(steps: object) -> int | None:
    try:
        return None if steps is None else whole_number(steps, "", "")
    except ValueError:
        return None
