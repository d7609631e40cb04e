"""A plain layout for any recording: a folder of `SESSION.npz`, one a session (docs/data.md has an example).

For a session's n utterances: `features` [total bins, features], one utterance after the other; `bins` [n], their
lengths; `split` [n], or one for all: train, val or test. Labels are one of `phonemes` [n] (ARPABET names separated by
blanks), `labels` [n, longest] (class ids, padded with 0), or made from `text` [n]. `text`, `block` [n] and `trial` [n]
may be there. Files are read without pickle, so object arrays are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from search_spaces.wording import reason_of
from trainable.data.importers.intake import Intake, each_once, listed, unpad, unusable
from trainable.data.labels import Labeller, labeller, phoneme_ids
from trainable.data.packed import SPLITS, Unusable

NEEDED = ("features", "bins", "split")
OPTIONAL = ("phonemes", "labels", "text", "block", "trial")


def import_into(
    intake: Intake, src: Path, *, labels: str | Path | None = None, sessions: str | Path | None = None
) -> None:
    """Add every utterance under `src`: sessions in the order of their names, utterances as they stand in their file.

    `labels` is a label file for files that have `text` and no labels (g2p_en without it); `sessions` is a file that
    lists the sessions to import. Left out and counted: files of another layout, a session's second file, utterances
    with an unknown split or a label that does not fit.
    """
    files = sorted(src.rglob("*.npz")) if src.is_dir() else []
    if not files:
        raise InputError(f"{src}: no SESSION.npz in it; give the folder of the sessions")
    found = {file.stem: file for file in each_once(files, lambda file: file.stem, intake.ledger)}
    names = listed(sorted(found), sessions)
    made: list[Labeller] = []

    def from_text(text: str) -> list[int]:
        if not made:
            made.append(labeller(labels))
        return made[0](text)

    for done, session in enumerate(names):
        intake.progress(done, len(names), session)
        with intake.leaving_out():
            _add_file(intake, found[session], session, from_text)
    intake.progress(len(names), len(names), "done")


def _add_file(intake: Intake, file: Path, session: str, from_text: Labeller) -> None:
    content = _read(file)
    named = [str(split) for split in content["split"]]
    splits: dict[int, str] = {}
    for partition in SPLITS:
        rows = [i for i, split in enumerate(named) if split == partition]
        splits |= dict(zip(rows, intake.splits(partition, session, len(rows)), strict=True))
    ends = np.cumsum(content["bins"])
    for i, end in enumerate(ends):
        where = f"{file}: utterance {i}"
        with intake.leaving_out():
            if i not in splits:
                raise unusable(where, "split is not allowed", f"{named[i][:20]!r}; give one of {', '.join(SPLITS)}")
            intake.add(
                content["features"][end - content["bins"][i] : end],
                _label(content, i, where, from_text),
                split=splits[i],
                session=session,
                text=str(content["text"][i]).strip() if "text" in content else "",
                block=int(content["block"][i]) if "block" in content else 0,
                trial=int(content["trial"][i]) if "trial" in content else i,
                where=where,
            )


def _label(content: dict[str, np.ndarray], i: int, where: str, from_text: Labeller) -> Any:
    if "labels" in content:
        return unpad(content["labels"][i], None, where, "labels", "the part before the padding")
    try:
        if "phonemes" in content:
            return phoneme_ids(str(content["phonemes"][i]))
        text = str(content["text"][i]).strip() if "text" in content else ""
        return from_text(text) if text else []
    except Unusable as error:
        raise Unusable(f"{where}: {error}", error.reason) from None


def _read(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, checked against one another; `Unusable` if they are not of this layout."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as stored:  # numpy leaves a damaged file open
            has = list(stored.files)
            content = {key: stored[key] for key in (*NEEDED, *OPTIONAL) if key in has}
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        what = reason_of(error)[:80]
        raise unusable(str(file), "cannot be read as .npz", f"{what}; copy it again") from None
    missing = [key for key in NEEDED if key not in content]
    if missing:
        raise unusable(str(file), "not of the layout", f"no {', '.join(missing)}; it has {', '.join(has[:6])}")
    features, bins = content["features"], content["bins"]
    if features.ndim != 2 or features.dtype.kind not in "iuf":
        raise unusable(str(file), "not of the layout", f"features are {features.dtype} {list(features.shape)}")
    if bins.ndim != 1 or bins.dtype.kind not in "iu" or (bins < 1).any() or int(bins.sum()) != len(features):
        raise unusable(str(file), "not of the layout", f"bins do not add up to the {len(features)} of features")
    if content["split"].ndim == 0:
        content["split"] = np.repeat(content["split"], len(bins))
    for key in ("split", *OPTIONAL):
        if key in content and (content[key].ndim != (2 if key == "labels" else 1) or len(content[key]) != len(bins)):
            raise unusable(str(file), "not of the layout", f"{key} does not have an entry for each of {len(bins)}")
    content["bins"] = bins.astype(np.int64)
    return content
