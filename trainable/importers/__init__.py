"""Importers: recorded data on disk, in the formats labs have, into the packed data folder.

Each kind is one module with a function `import_into(writer, src, skipped, progress, **options)`; `KINDS` lists them.
A module is loaded when it is used, so that its own dependencies are not needed before.
"""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from trainable.data import open_dataset, write_dataset

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""


@dataclass(frozen=True)
class Kind:
    """A format that can be imported."""

    module: str
    purpose: str
    bin_ms: float
    """Width of a bin where the caller does not give `bin_ms`; no format records it."""


KINDS = {
    "b2t25": Kind(
        module="trainable.importers.b2t25",
        purpose="Brain-to-Text '25 HDF5: a folder of sessions with data_train.hdf5, data_val.hdf5, data_test.hdf5",
        bin_ms=20.0,
    ),
}
"""What `tuner data import KIND` can read."""


class Skipped:
    """Counts what an importer leaves out, by reason, with one example of each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def __call__(self, reason: str, where: str) -> None:
        """Count something left out for `reason`, found at `where`."""
        self._counts[reason] += 1
        self._examples.setdefault(reason, where)

    def rows(self) -> list[dict[str, Any]]:
        """One {reason, count, example} per reason, most frequent first."""
        return [
            {"reason": reason, "count": count, "example": self._examples[reason]}
            for reason, count in self._counts.most_common()
        ]


def import_dataset(
    kind: str,
    src: str | Path,
    out: str | Path,
    *,
    progress: Progress | None = None,
    name: str | None = None,
    bin_ms: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Import recordings of a kind (`KINDS`) at `src` into a new packed data folder `out`.

    One utterance is in memory at a time; after an error or Ctrl-C, `out` is not there. `bin_ms` is the width of a bin,
    `KINDS[kind].bin_ms` unless given; `options` are the importer's own. Returns path, kind, fingerprint, features,
    sessions, utterances (split -> count), bins, bin_ms and skipped (see `Skipped.rows`).
    Raises `InputError` with every problem found: unknown kind or option, unreadable source, NaN or infinite features,
    labels out of range, differing numbers of features, no training utterances, `out` exists.
    """
    if kind not in KINDS:
        raise InputError(f"{kind}: not a kind of recording that can be imported; give one of {', '.join(KINDS)}")
    src = Path(src)
    if not src.exists():
        raise InputError(f"{src}: does not exist; give the folder or file to import")
    import_into = importlib.import_module(KINDS[kind].module).import_into
    known = [
        key
        for key, what in inspect.signature(import_into).parameters.items()
        if what.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = ", ".join(["bin_ms", "name", *known])
        raise InputError([f"{kind}: option {key} is not allowed; allowed are {allowed}" for key in unknown])
    width = KINDS[kind].bin_ms if bin_ms is None else bin_ms
    skipped = Skipped()
    source = {"kind": kind, "path": str(src.resolve()), "options": {**options, "bin_ms": width}}
    with write_dataset(out, name=name, source=source, bin_ms=width) as writer:
        import_into(writer, src, skipped, progress or (lambda done, total, what: None), **options)
        counts = writer.counts()
        if counts["train"] == 0:
            left_out = "".join(f"; {row['count']} skipped: {row['reason']}" for row in skipped.rows())
            raise InputError(f"{src}: no training utterances found{left_out}")
    dataset = open_dataset(out)
    return {
        "path": str(dataset.path),
        "kind": kind,
        "fingerprint": dataset.fingerprint,
        "features": dataset.n_features,
        "sessions": len(dataset.days),
        "utterances": counts,
        "bins": int(np.sum([split.bins.sum() for split in dataset.splits.values()])),
        "bin_ms": dataset.bin_ms,
        "skipped": skipped.rows(),
    }
