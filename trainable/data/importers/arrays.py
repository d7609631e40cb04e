"""A plain layout for any recording: a folder of `SESSION.npz`, one a session (docs/data.md has an example).

For a session's n utterances: `features` [total bins, features], one utterance after the other; `bins` [n], their
lengths; `split` [n], or one for all: train, val or test. Labels are one of `phonemes` [n] (ARPABET names separated by
blanks), `labels` [n, longest] (class ids, padded with 0), or made from `text` [n]. `text`, `block` [n] and `trial` [n]
may be there. Files are read without pickle, so object arrays are refused.
"""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from trainable.data.importers.intake import Intake, each_once, listed
from trainable.data.importers.listed import Identity
from trainable.data.importers.reading import check_file, files_below, reading, text_of, unpad, unusable, whole_number
from trainable.data.importers.shapes import Shapes
from trainable.data.labels import phoneme_ids
from trainable.data.packed import SPLITS, Unusable

NEEDED = ("features", "bins", "split")
OPTIONAL = ("phonemes", "labels", "text", "block", "trial")


def import_into(intake: Intake, src: Path, *, sessions: str | Path | None = None) -> None:
    """Add every utterance under `src`: sessions in the order of their names, utterances as they stand in their file.

    `sessions` is a file that lists the sessions to import. Files that have `text` and no labels get theirs from the
    text. Left out and counted: files of another layout, a session's second file, utterances with an unknown split or a
    label that does not fit.
    """
    ledger = intake.ledger
    files = files_below(src, lambda name: name.endswith(".npz"), ledger.skip, ledger.notice) if src.is_dir() else []
    if not files:
        raise InputError(f"{src}: no SESSION.npz in it; give the folder of the sessions")
    found = {file.stem: file for file in each_once(files, lambda file: file.stem, ledger)}
    names = listed(sorted(found), sessions)
    shapes = Shapes("features", "bins")
    for name in names:
        with suppress(Exception):  # what cannot be read says nothing here; its import tells
            check_file(found[name])
            for _ in range(len(_header(found[name], "bins")[0])):
                shapes.see(*_header(found[name], "features"))
    for done, session in enumerate(names):
        intake.progress(done, len(names), session)
        with intake.leaving_out():
            _add_file(intake, found[session], session, shapes)
    intake.progress(len(names), len(names), "done")


def _header(file: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in a file, without reading it."""
    with zipfile.ZipFile(file) as opened, opened.open(f"{key}.npy") as stored:
        version = np.lib.format.read_magic(stored)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stored)
        return shape, dtype


def _add_file(intake: Intake, file: Path, session: str, shapes: Shapes) -> None:
    content = _read(file, shapes)
    named = [text_of(split, str(file), "split") for split in content["split"]]
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
            numbers = {"trial": i, "block": 0}
            for key in numbers:
                if key in content:
                    numbers[key] = whole_number(content[key][i], where, key)
            one = Identity(session, named[i], where, numbers["trial"], numbers["block"])
            intake.check_listed(one)
            intake.add(
                one,
                content["features"][end - content["bins"][i] : end],
                _label(content, i, where, intake),
                split=splits[i],
                text=text_of(content["text"][i], where, "text") if "text" in content else "",
            )


def _label(content: dict[str, np.ndarray], i: int, where: str, intake: Intake) -> Any:
    if intake.asked.labels is not None:
        return ()
    if "labels" in content:
        return unpad(content["labels"][i], None, where, "labels", "the part before the padding")
    key = "phonemes" if "phonemes" in content else "text"
    said = text_of(content[key][i], where, key) if key in content else ""
    try:
        return phoneme_ids(said) if key == "phonemes" else intake.from_text()(said) if said else ()
    except Unusable as error:
        raise Unusable(f"{where}: {error}", error.reason) from None


def _read(file: Path, shapes: Shapes) -> dict[str, np.ndarray]:
    """The arrays of a file, checked against one another; `Unusable` if they are not of this layout."""
    check_file(file)
    with (
        reading(str(file), "cannot be read as .npz", "copy it again"),
        file.open("rb") as raw,  # numpy leaves a damaged file open
        np.load(raw, allow_pickle=False) as stored,
    ):
        has = list(stored.files)
        content = {key: stored[key] for key in (*NEEDED, *OPTIONAL) if key in has}
    missing = [key for key in NEEDED if key not in content]
    if missing:
        raise unusable(str(file), "not of the layout", f"no {', '.join(missing)}; it has {', '.join(has[:6])}")
    features, bins = content["features"], content["bins"]
    if features.ndim != 2 or features.dtype.kind not in "iuf":
        raise unusable(str(file), "not of the layout", f"features are {features.dtype} {list(features.shape)}")
    lengths = bins.astype(np.int64) if bins.dtype.kind in "iuf" and np.isfinite(bins).all() else np.zeros(1, np.int64)
    if bins.ndim != 1 or (lengths < 1).any() or (lengths != bins).any() or lengths.sum() != len(features):
        turned = features.shape[1] == lengths.sum() > 0
        why = f"features look transposed, they are {list(features.shape)}" if turned else ""
        why = why or f"bins do not add up to the {len(features)} of features"
        raise unusable(str(file), "not of the layout", why)
    content["bins"] = lengths
    if content["split"].ndim == 0:
        content["split"] = np.repeat(content["split"], len(bins))
    for key in ("split", *OPTIONAL):
        if key in content and (content[key].ndim != (2 if key == "labels" else 1) or len(content[key]) != len(bins)):
            raise unusable(str(file), "not of the layout", f"{key} does not have an entry for each of {len(bins)}")
    shapes.check(features.shape, features.dtype, None, str(file))
    return content
