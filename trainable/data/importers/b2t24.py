"""The Brain-to-Text '24 layout: `competitionData/{train,test,competitionHoldOut}/t12.YYYY.MM.DD.mat`, one a session.

In a file, for its n utterances: `sentenceText` [n], padded with blanks; `blockIdx` [n, 1]; cell arrays `tx1`..`tx4`
(threshold crossings at four thresholds) and `spikePow` (spike-band power) [1, n] of [bins, 256]. The first 128 columns
are area 6v, the others area 44. Features are z-scored over all bins of a block in a file, as the reference does, which
also takes the first 128 of tx1 and spikePow. Labels are made from the text (`trainable.data.labels`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from search_spaces.errors import InputError
from search_spaces.wording import reason_of
from trainable.data.importers.intake import Intake, each_once, listed, unusable
from trainable.data.labels import Labeller, is_held_out, labeller
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
    labels: str | Path | None = None,
    sessions: str | Path | None = None,
) -> None:
    """Add every utterance under `src`: sessions by date, in each train, test, then the hold-out.

    `areas` and `thresholds` choose features; `log_features` takes log(1 + x) before z-scoring; `labels` is a label file
    instead of g2p_en; `sessions` is a file that lists the sessions to import. Left out and counted: files that are not
    of this layout, a session's second file, utterances of the wrong shape, with features that are not finite, or with a
    text that has no label. Hold-out utterances come in without labels.
    """
    for key, value, allowed in (("areas", areas, tuple(AREAS)), ("thresholds", thresholds, THRESHOLDS)):
        if value not in allowed:
            raise InputError(f"{key}: {value} is not allowed; give one of {', '.join(allowed)}")
    files = [file for file in sorted(src.rglob("*.mat")) if file.parent.name in FOLDERS] if src.is_dir() else []
    if not files:
        raise InputError(f"{src}: no .mat files in train, test or competitionHoldOut; give the folder competitionData")
    files = each_once(files, lambda file: f"{file.parent.name}/{file.name}", intake.ledger)
    found = {(file.stem, file.parent.name): file for file in files}
    names = listed(sorted({file.stem for file in files}), sessions)
    label = labeller(labels)
    intake.own_val = False
    for done, session in enumerate(names):
        intake.progress(done, len(names), session)
        for folder, partition in FOLDERS.items():
            file = found.get((session, folder))
            if file is not None:
                with intake.leaving_out():
                    _add_file(intake, file, session, partition, (areas, thresholds, log_features), label)
            elif partition == "train":
                intake.ledger.notice(f"session without {folder} file", session)
    intake.progress(len(names), len(names), "done")


def _add_file(
    intake: Intake, file: Path, session: str, partition: str, choice: tuple[str, str, bool], label: Labeller
) -> None:
    areas, thresholds, log_features = choice
    texts, blocks, crossings, power = _read(file, thresholds)
    splits = intake.splits(partition, session, len(texts))
    utterances: dict[int, np.ndarray] = {}
    for i in range(len(texts)):
        with intake.leaving_out():
            utterances[i] = _features(crossings[i], power[i], AREAS[areas], log_features, f"{file}: trial {i}")
        crossings[i] = power[i] = None  # one copy of a session at a time
    moments = _block_moments(utterances, blocks)
    for i, features in utterances.items():
        where = f"{file}: trial {i}"
        with intake.leaving_out():
            mean, sd = moments[blocks[i]]
            unlabelled = partition == "holdout" or is_held_out(texts[i])
            intake.add(
                (features - mean) / (sd + TINY),
                [] if unlabelled else _label(label, texts[i], where),
                split=splits[i],
                session=session,
                text=texts[i],
                block=blocks[i],
                trial=i,
                where=where,
                held_out=unlabelled,
            )


def _label(label: Labeller, text: str, where: str) -> list[int]:
    try:
        return label(text)
    except Unusable as error:
        raise Unusable(f"{where}: {error}", error.reason) from None


def _read(file: Path, thresholds: str) -> tuple[list[str], list[int], list[Any], list[Any]]:
    """Texts, blocks, and threshold crossings and power by utterance, of one file; `Unusable` if it is no such file."""
    wanted = ("sentenceText", "blockIdx", thresholds, "spikePow")
    try:
        content: Mapping[str, Any] = loadmat(str(file), variable_names=list(wanted))
    except NotImplementedError:
        raise unusable(str(file), "a MATLAB 7.3 file", "save it with -v7") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in scipy's reader
        what = reason_of(error)[:80]
        raise unusable(str(file), "cannot be read as a MATLAB file", f"{what}; copy it again") from None
    missing = [key for key in wanted if key not in content]
    if missing:
        raise unusable(str(file), "not of the '24 layout", f"no {', '.join(missing)} in it")
    texts = [str(text).strip() for text in np.ravel(content["sentenceText"])]
    blocks, crossings, power = (np.ravel(content[key]) for key in ("blockIdx", thresholds, "spikePow"))
    counts = {"sentenceText": len(texts), "blockIdx": len(blocks), thresholds: len(crossings), "spikePow": len(power)}
    if len(set(counts.values())) > 1 or not texts or crossings.dtype != object or power.dtype != object:
        counted = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise unusable(str(file), "not of the '24 layout", f"one entry of each for an utterance, but it has {counted}")
    if blocks.dtype.kind not in "iuf" or not np.isfinite(blocks).all():
        raise unusable(str(file), "not of the '24 layout", "blockIdx are not numbers")
    return texts, [int(block) for block in blocks], list(crossings), list(power)


def _features(crossings: Any, power: Any, area: slice, log_features: bool, where: str) -> np.ndarray:
    """float64 [bins, 2 x channels of the area], not yet z-scored."""
    both = [np.asarray(crossings), np.asarray(power)]
    shapes = [array.shape for array in both]
    if any(a.ndim != 2 or a.shape[1] != COLUMNS or a.dtype.kind not in "biuf" for a in both) or shapes[0] != shapes[1]:
        raise unusable(where, f"threshold crossings and power are not [bins, {COLUMNS}]", f"{shapes[0]}, {shapes[1]}")
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


def _block_moments(utterances: Mapping[int, np.ndarray], blocks: list[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each feature over all bins of each block."""
    moments = {}
    for block in {blocks[i] for i in utterances}:
        everything = np.concatenate([features for i, features in utterances.items() if blocks[i] == block])
        moments[block] = everything.mean(axis=0), everything.std(axis=0)
    return moments
