"""The Brain-to-Text '24 layout: `competitionData/{train,test,competitionHoldOut}/t12.YYYY.MM.DD.mat`, one a session.

In a file, for its n utterances: `sentenceText` [n], padded with blanks; `blockIdx` [n, 1]; cell arrays `tx1`..`tx4`
(threshold crossings at four thresholds) and `spikePow` (spike-band power) [1, n] of [bins, 256]. The first 128 columns
are area 6v, the others area 44. Features are z-scored over all bins of a block in a file, as the reference does, which
also takes the first 128 of tx1 and spikePow. Labels are made from the text (`trainable.data.labels`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from search_spaces.errors import InputError
from trainable.data.importers.intake import Intake, each_once, listed
from trainable.data.importers.listed import Identity
from trainable.data.importers.reading import check_file, files_below, reading, text_of, unusable, whole_number
from trainable.data.labels import Labeller, is_held_out
from trainable.data.packed import Unusable

FOLDERS = {"train": "train", "test": "test", "competitionHoldOut": "holdout"}
"""Part of the source by the folder's name."""
AREAS = {"6v": slice(0, 128), "44": slice(128, 256), "all": slice(0, 256)}
THRESHOLDS = ("tx1", "tx2", "tx3", "tx4")
COLUMNS = 256
TINY = 1e-8
"""Added to the standard deviation of a block, so that a silent channel becomes 0."""


def import_into(
    intake: Intake,
    src: Path,
    *,
    areas: str = "6v",
    thresholds: str = "tx1",
    log_features: bool = False,
    sessions: str | Path | None = None,
) -> None:
    """Add every utterance under `src`: sessions by date, in each train, test, then the hold-out.

    `areas` and `thresholds` choose features; `log_features` takes log(1 + x) before z-scoring; `sessions` is a file
    that lists the sessions to import. Left out and counted: files that are not of this layout, a session's second file,
    utterances of the wrong shape, with features that are not finite, or with a text that has no label. They play no
    part in the z-scores of their block. Hold-out utterances come in without labels.
    """
    for key, value, allowed in (("areas", areas, tuple(AREAS)), ("thresholds", thresholds, THRESHOLDS)):
        if value not in allowed:
            raise InputError(f"{key}: {value} is not allowed; give one of {', '.join(allowed)}")
    ledger = intake.ledger
    files = files_below(src, lambda name: name.endswith(".mat"), ledger.skip, ledger.notice) if src.is_dir() else []
    files = [file for file in files if file.parent.name in FOLDERS]
    if not files:
        raise InputError(f"{src}: no .mat files in train, test or competitionHoldOut; give the folder competitionData")
    files = each_once(files, lambda file: f"{file.parent.name}/{file.name}", ledger)
    found = {(file.stem, file.parent.name): file for file in files}
    names = listed(sorted({file.stem for file in files}), sessions)
    intake.from_text()  # that it cannot be done is known before anything is read
    intake.own_val = False
    for done, session in enumerate(names):
        intake.progress(done, len(names), session)
        for folder, partition in FOLDERS.items():
            file = found.get((session, folder))
            if file is not None:
                with intake.leaving_out():
                    _add_file(intake, file, session, partition, (areas, thresholds, log_features))
            elif partition == "train":
                ledger.notice(f"session without {folder} file", session)
    intake.progress(len(names), len(names), "done")


def _add_file(intake: Intake, file: Path, session: str, part: str, choice: tuple[str, str, bool]) -> None:
    areas, thresholds, log_features = choice
    texts, blocks, crossings, power = _read(file, thresholds)
    splits = intake.splits(part, session, len(texts))
    utterances: dict[int, tuple[Identity, np.ndarray]] = {}
    for i in range(len(texts)):
        with intake.leaving_out():
            one = Identity(session, part, f"{file}: trial {i}", trial=i)
            intake.check_listed(one)
            one = replace(one, block=whole_number(blocks[i], one.where, "blockIdx"))
            intake.check_listed(one)
            utterances[i] = one, _features(crossings[i], power[i], AREAS[areas], log_features, one.where)
        crossings[i] = power[i] = None  # one copy of a session at a time
    moments = _block_moments(list(utterances.values()))
    for i, (one, features) in utterances.items():
        with intake.leaving_out():
            mean, sd = moments[one.block]
            text = text_of(texts[i], one.where, "sentenceText")
            unlabelled = part == "holdout" or is_held_out(text)
            intake.add(
                one,
                (features - mean) / (sd + TINY),
                () if unlabelled else _label(intake.from_text(), text, one.where),
                split=splits[i],
                text=text,
                held_out=unlabelled,
            )


def _label(label: Labeller, text: str, where: str) -> list[int]:
    try:
        return label(text)
    except Unusable as error:
        raise Unusable(f"{where}: {error}", error.reason) from None


def _read(file: Path, thresholds: str) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Texts, blocks, and threshold crossings and power by utterance, of one file; `Unusable` if it is no such file."""
    wanted = ("sentenceText", "blockIdx", thresholds, "spikePow")
    check_file(file)
    with reading(str(file), "cannot be read as a MATLAB file", "copy it again"):
        try:
            content: Mapping[str, Any] = loadmat(str(file), variable_names=list(wanted))
        except NotImplementedError:
            raise unusable(str(file), "a MATLAB 7.3 file", "save it with -v7") from None
    missing = [key for key in wanted if key not in content]
    if missing:
        raise unusable(str(file), "not of the '24 layout", f"no {', '.join(missing)} in it")
    with reading(str(file), "not of the '24 layout"):
        texts, blocks, crossings, power = (np.ravel(content[key]) for key in wanted)
    counts = {"sentenceText": len(texts), "blockIdx": len(blocks), thresholds: len(crossings), "spikePow": len(power)}
    if len(set(counts.values())) > 1 or not len(texts) or crossings.dtype != object or power.dtype != object:
        counted = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise unusable(str(file), "not of the '24 layout", f"one entry of each for an utterance, but it has {counted}")
    return list(texts), list(blocks), list(crossings), list(power)


def _features(crossings: Any, power: Any, area: slice, log_features: bool, where: str) -> np.ndarray:
    """float64 [bins, 2 x channels of the area], not yet z-scored."""
    with reading(where):
        both = [np.asarray(crossings), np.asarray(power)]
    shapes = [array.shape for array in both]
    if any(array.dtype.kind not in "biuf" for array in both):
        kinds = ", ".join(str(array.dtype) for array in both)
        raise unusable(where, "threshold crossings and power are not real numbers", kinds)
    if any(array.ndim != 2 or array.shape[1] != COLUMNS for array in both) or shapes[0] != shapes[1]:
        turned = shapes[0] == shapes[1] and len(shapes[0]) == 2 and shapes[0][0] == COLUMNS
        what = "; they look transposed" if turned else ""
        raise unusable(
            where, f"threshold crossings and power are not [bins, {COLUMNS}]", f"{shapes[0]}, {shapes[1]}{what}"
        )
    if 0 in shapes[0]:
        raise unusable(where, "no bins")
    features = np.concatenate([array[:, area].astype(np.float64) for array in both], axis=1)
    if not np.isfinite(features).all():
        raise unusable(where, "NaN or infinite features")
    if log_features:
        if features.min() < 0:
            raise unusable(where, "negative features have no logarithm")
        features = np.log1p(features)
    return features


def _block_moments(
    utterances: list[tuple[Identity, np.ndarray]],
) -> dict[int | None, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each feature over all bins of each block."""
    moments = {}
    for block in {one.block for one, _ in utterances}:
        everything = np.concatenate([features for one, features in utterances if one.block == block])
        moments[block] = everything.mean(axis=0), everything.std(axis=0)
    return moments
