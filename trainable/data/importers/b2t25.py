"""The Brain-to-Text '25 HDF5 layout: `SESSION/data_{train,val,test}.hdf5`, one group per utterance.

In a group `trial_0000`: datasets `input_features` [n_time_steps, features] and, where the text is known,
`seq_class_ids` (class ids, padded with 0) and `transcription` (character codes, ended by 0); attributes `n_time_steps`,
`seq_len`, `sentence_label`, `block_num`, `trial_num`, `session`. The class ids are those of `CLASSES`. The test files
have no labels, and some sessions have no validation file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from search_spaces.errors import InputError
from search_spaces.parsing.feature_choice import COLUMNS, SUBSETS
from trainable.data.importers.intake import Intake, each_once, listed, text_of_codes, unpad, unusable
from trainable.data.packed import SPLITS


def import_into(intake: Intake, src: Path, *, sessions: str | Path | None = None, features: str | None = None) -> None:
    """Add every utterance under `src`: sessions in the order of their names, in each train, val, then test.

    `sessions` is a file that lists those to import; `features` is `columns`' choice. Left out and counted: damaged
    files, a session's second folder, utterances whose arrays are shorter than their attributes say, whose label does
    not fit `seq_len`, or that lack one in train or val.
    """
    files = sorted(src.rglob("data_*.hdf5")) if src.is_dir() else []
    folders = sorted({file.parent for file in files if file.name in {_name(split) for split in SPLITS}})
    folders = [folder for folder in folders if folder != src]
    if not folders:
        raise InputError(f"{src}: no session folders with SESSION/{_name('train')} in it; give their parent")
    found = {folder.name: folder for folder in each_once(folders, lambda folder: folder.name, intake.ledger)}
    for folder in list(found.values()):
        says = _session_of(folder)
        if says != folder.name and says in found:  # a copy under another name
            intake.ledger.skip(unusable(str(folder), "session in two places", f"it is {says}, {found[says]} is used"))
            del found[folder.name]
    names = listed(sorted(found), sessions)
    for done, session in enumerate(names):
        intake.progress(done, len(names), session)
        for split in SPLITS:
            file = found[session] / _name(split)
            if file.is_file():
                with intake.leaving_out():
                    _add_file(intake, file, session, split, features)
            elif split != "test":
                intake.ledger.notice(f"session without {file.name}", session)
    intake.progress(len(names), len(names), "done")


def columns(features: str | None, count: int, where: str) -> np.ndarray | slice:
    """Which of `count` features a choice means: `A:B`, or names of '25 subsets joined by commas.

    Names are tx, power (all threshold crossings, all spike-band power) and those of an array (both kinds): `SUBSETS`.
    Raises `InputError` where the choice means nothing, `Unusable` where it lies outside.
    """
    if features is None:
        return slice(None)
    span = re.fullmatch(r"(\d*):(\d*)", features)
    if span:
        first, last = int(span[1] or 0), int(span[2] or count)
        if not 0 <= first < last <= count:
            raise unusable(where, f"no features {features}", f"the columns are 0:{count}")
        return slice(first, last)
    names = [name.strip() for name in features.split(",")]
    wrong = [name for name in names if name not in SUBSETS]
    if wrong:
        raise InputError(f"features: {wrong[0]!r} is not allowed; give A:B, or some of {', '.join(SUBSETS)}")
    if count != COLUMNS:
        raise unusable(where, f"no features {features}", f"needs {COLUMNS} columns, it has {count}; give A:B")
    return np.array(sorted({column for name in names for part in SUBSETS[name] for column in part}))


def _name(split: str) -> str:
    return f"data_{split}.hdf5"


def _session_of(folder: Path) -> str:
    """The session a folder holds, as its first utterance says, or else by the folder's name."""
    for split in SPLITS:
        try:
            with h5py.File(folder / _name(split), "r") as opened:
                session = opened[min(opened)].attrs.get("session")
        except (OSError, ValueError, KeyError):
            continue
        if session is not None:
            return session.decode(errors="replace") if isinstance(session, bytes) else str(session)
    return folder.name


def _add_file(intake: Intake, file: Path, session: str, partition: str, features: str | None) -> None:
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise unusable(str(file), "cannot be read as HDF5", str(error).split(";")[0][:80] + "; copy it again") from None
    with opened:
        keys = sorted(opened)
        if not keys:
            raise unusable(str(file), "no utterances in it")
        splits = intake.splits(partition, session, len(keys))
        for key, split in zip(keys, splits, strict=True):
            with intake.leaving_out():
                _add_trial(intake, opened[key], f"{file}: {key}", session, split, features)


def _add_trial(intake: Intake, group: Any, where: str, session: str, split: str, features: str | None) -> None:
    if not isinstance(group, h5py.Group) or "input_features" not in group:
        has: Sequence[str] = sorted(group) if isinstance(group, h5py.Group) else []
        raise unusable(where, "no input_features", f"it has {', '.join(has[:5]) or 'nothing'}")
    stored = group["input_features"]
    try:
        bins = int(group.attrs.get("n_time_steps", stored.shape[0]))
        if stored.ndim != 2 or not 0 < bins <= stored.shape[0]:
            raise unusable(where, "n_time_steps is not within input_features")
        chosen = columns(features, stored.shape[1], where)
        utterance = {
            "features": stored[:bins][:, chosen],
            "labels": _labels(group, where),
            "text": _text(group),
            "block": int(group.attrs.get("block_num", 0)),
            "trial": int(group.attrs.get("trial_num", 0)),
        }
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise unusable(where, "an attribute or dataset of the wrong type", str(error)[:60]) from None
    except OSError as error:
        raise unusable(where, "cannot be read", str(error)[:60]) from None
    intake.add(**utterance, split=split, session=session, where=where)


def _labels(group: Any, where: str) -> np.ndarray:
    """Class ids without padding; none for an unlabelled utterance."""
    if "seq_class_ids" not in group:
        return np.zeros(0, dtype=np.int64)
    return unpad(group["seq_class_ids"][:], group.attrs.get("seq_len"), where, "seq_class_ids", "seq_len")


def _text(group: Any) -> str:
    """The sentence: its attribute, or else its character codes."""
    sentence = group.attrs.get("sentence_label")
    if sentence is not None:
        return sentence.decode(errors="replace") if isinstance(sentence, bytes) else str(sentence)
    return text_of_codes(group["transcription"][:]) if "transcription" in group else ""
