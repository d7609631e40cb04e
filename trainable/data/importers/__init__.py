"""Importers: recorded data on disk, in the formats labs have, into the packed data folder.

The contract of an importer, which the suite `tuner.testing.importers` checks clause by clause: a recording that is as
it should be becomes a whole data folder, the same each time, and stays as it is; `dev_split` is carried out by
`intake.splits`, and no utterance is lost or doubled; `intake.progress` is called up to the end, and what it raises is
passed on, so that Ctrl-C leaves nothing behind; what cannot be used is left out with `intake.leaving_out()`; a
damaged recording is imported as far as it goes or refused with `InputError`, and raises nothing else.

Each kind is one module with a function `import_into(intake, src, **options)`; `KINDS` lists them. A module is loaded
when it is used, so that its own dependencies are not needed before. The layouts are described in docs/data.md.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from trainable.data.dataset import open_dataset, write_dataset
from trainable.data.importers.intake import Asked, Intake, Ledger, Progress
from trainable.data.importers.listed import labels_by_utterance, read_skip
from trainable.data.labels import LABEL_FILE, text_labels
from trainable.data.rows import read_rows

__all__ = ["KINDS", "Kind", "Progress", "import_dataset"]

COMMON = ("bin_ms", "dev_split", "labels", "name", "seed", "skip", "strict")


@dataclass(frozen=True)
class Kind:
    """A format that can be imported."""

    module: str
    purpose: str
    bin_ms: float
    """Width of a bin where the caller does not give `bin_ms`; no format records it."""
    from_text: bool = False
    """Whether labels are made from texts."""


KINDS = {
    "b2t25": Kind(
        module="trainable.data.importers.b2t25",
        purpose="Brain-to-Text '25 HDF5: a folder of sessions with data_train.hdf5, data_val.hdf5, data_test.hdf5",
        bin_ms=20.0,
    ),
    "b2t24-mat": Kind(
        module="trainable.data.importers.b2t24",
        purpose="Brain-to-Text '24 MATLAB files: competitionData with train, test and competitionHoldOut in it",
        bin_ms=20.0,
        from_text=True,
    ),
    "reference-pickle": Kind(
        module="trainable.data.importers.reference_pickle",
        purpose="the pickle that neural_seq_decoder trains on (ptDecoder_ctc)",
        bin_ms=20.0,
    ),
    "arrays": Kind(
        module="trainable.data.importers.arrays",
        purpose="a folder of SESSION.npz files, for any other recording",
        bin_ms=20.0,
        from_text=True,
    ),
}
"""What `tuner data import KIND` can read."""


def import_dataset(
    kind: str,
    src: str | Path,
    out: str | Path,
    *,
    progress: Progress | None = None,
    name: str | None = None,
    bin_ms: float | None = None,
    dev_split: float = 0.0,
    seed: int = 0,
    strict: bool = False,
    labels: str | Path | None = None,
    skip: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Import recordings of a kind (`KINDS`) at `src` into a new packed data folder `out`.

    One session at most is in memory at a time; after an error or Ctrl-C, `out` is not there. `bin_ms` is the width of a
    bin, `KINDS[kind].bin_ms` unless given; `dev_split` and `seed` are those of `Intake.splits`; `labels` is a file of
    labels made elsewhere, `skip` one of utterances to leave out (docs/data.md); `options` are the importer's own. Files
    and utterances that cannot come in are left out: with `strict`, they raise instead.
    Returns path, kind, fingerprint, features, sessions, utterances (split -> count), bins, bin_ms, remarks, noticed,
    skipped and listed (rows of reason, count, example; listed are those that `skip` names), and lines (one for each
    that was left out, up to a limit).
    Raises `InputError` with every problem found: unknown kind or option, unreadable source, no training utterances,
    `out` exists.
    """
    if kind not in KINDS:
        raise InputError(f"{kind}: not a kind of recording that can be imported; give one of {', '.join(KINDS)}")
    src = Path(src)
    if not src.exists():
        what = f"is a link that leads nowhere, to {src.readlink()}" if src.is_symlink() else "does not exist"
        raise InputError(f"{src}: {what}; give the folder or file to import")
    import_into = importlib.import_module(KINDS[kind].module).import_into
    parameters = inspect.signature(import_into).parameters.values()
    known = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = ", ".join([*COMMON, *known])
        raise InputError([f"{kind}: option {key} is not allowed; allowed are {allowed}" for key in unknown])
    width = KINDS[kind].bin_ms if bin_ms is None else bin_ms
    ledger = Ledger()
    files = {key: file for key, file in (("labels", labels), ("skip", skip)) if file is not None}
    given = {"bin_ms": width, "dev_split": dev_split, "seed": seed, **files, **options}
    asked = replace(_asked(kind, labels, skip), dev_split=dev_split, seed=seed)
    source: dict[str, Any] = {"kind": kind, "path": str(src.resolve()), "options": _plain(given)}
    with write_dataset(out, name=name, source=source, bin_ms=width) as writer:
        intake = Intake(writer, ledger, progress or (lambda done, total, what: None), asked)
        import_into(intake, src, **options)
        if strict and ledger.left_out:
            raise InputError(ledger.all_lines())
        counts, remarks = writer.counts(), [*intake.remarks(), *intake.finish(strict)]
        if counts["train"] == 0:
            left_out = "".join(f"; {row['count']} skipped: {row['reason']}" for row in ledger.rows("skipped"))
            raise InputError([f"{src}: no training utterances found{left_out}", *ledger.lines[:5]])
        source["remarks"], source["skipped"] = remarks, ledger.left_out
        source["listed"] = ledger.rows("listed")
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
        "remarks": remarks,
        "noticed": ledger.rows("noticed"),
        "skipped": ledger.rows("skipped"),
        "listed": ledger.rows("listed"),
        "lines": ledger.all_lines(),
    }


def _asked(kind: str, labels: str | Path | None, skip: str | Path | None) -> Asked:
    """What the files of labels and of utterances to leave out ask; `InputError` where they cannot be read."""
    listed = None if skip is None else read_skip(skip)
    if labels is None:
        return Asked(skip=listed)
    rows = read_rows(labels, LABEL_FILE)
    by_utterance = labels_by_utterance(labels, rows)
    if by_utterance is not None:
        return Asked(labels=by_utterance, skip=listed)
    if not KINDS[kind].from_text:
        raise InputError(
            f"{labels}: has labels of texts, but {kind} has labels of its own; "
            "give a file with session,trial,phonemes to replace them"
        )
    return Asked(text_labels=text_labels(Path(labels), rows), skip=listed)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON has them."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
