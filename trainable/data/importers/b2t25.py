"""The Brain-to-Text '25 HDF5 layout: `SESSION/data_{train,val,test}.hdf5`, one group per utterance.

In a group `trial_0000`: datasets `input_features` [n_time_steps, features] and, where the text is known,
`seq_class_ids` (class ids, padded with 0) and `transcription` (character codes, ended by 0); attributes `n_time_steps`,
`seq_len`, `sentence_label`, `block_num`, `trial_num`, `session`. The class ids are those of `CLASSES`. The test files
have no labels, and some sessions have no validation file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from search_spaces.errors import InputError
from search_spaces.parsing.feature_choice import COLUMNS, SUBSETS
from trainable.data.importers.hdf5 import array, attribute, content, has, member
from trainable.data.importers.intake import Intake, Progress, each_once, listed
from trainable.data.importers.listed import Identity
from trainable.data.importers.reading import (
    check_file,
    files_below,
    reading,
    text_of,
    text_of_codes,
    unpad,
    unusable,
    whole_number,
)
from trainable.data.importers.shapes import Shapes
from trainable.data.labels import clean_text
from trainable.data.packed import SPLITS


def import_into(intake: Intake, src: Path, *, sessions: str | Path | None = None, features: str | None = None) -> None:
    """Add every utterance under `src`: sessions in the order of their names, in each train, val, then test.

    `sessions` is a file that lists those to import; `features` is `columns`' choice. Left out and counted: damaged
    files and objects, links that lead nowhere, a session's second folder, utterances whose shape is not that of the
    others, whose arrays are shorter than their attributes say, whose label does not fit `seq_len`, or that lack one in
    train or val.
    """
    names = {_name(split) for split in SPLITS}
    files = files_below(src, names.__contains__, intake.ledger.skip, intake.ledger.notice) if src.is_dir() else []
    folders = [folder for folder in sorted({file.parent for file in files}) if folder != src]
    if not folders:
        raise InputError(f"{src}: no session folders with SESSION/{_name('train')} in it; give their parent")
    found = {folder.name: folder for folder in each_once(folders, lambda folder: folder.name, intake.ledger)}
    for folder in list(found.values()):
        says = _session_of(folder)
        if says != folder.name and says in found:  # a copy under another name
            intake.ledger.skip(unusable(str(folder), "session in two places", f"it is {says}, {found[says]} is used"))
            del found[folder.name]
    chosen = listed(sorted(found), sessions)
    there = {file: split for session in chosen for split in SPLITS if (file := found[session] / _name(split)) in files}
    shapes = _see_shapes(there, intake.progress)
    for done, session in enumerate(chosen):
        intake.progress(done, len(chosen), session)
        for split in SPLITS:
            file = found[session] / _name(split)
            if file in there:
                with intake.leaving_out():
                    _add_file(intake, file, session, split, features, shapes)
            elif split != "test":
                intake.ledger.notice(f"session without {file.name}", session)
    intake.progress(len(chosen), len(chosen), "done")


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
        with suppress(Exception), _opened(folder / _name(split)) as opened:  # what is wrong with it, its import tells
            value = attribute(opened[min(opened)], "session", "")
            if value is not None:
                return text_of(value, "", "session") or folder.name
    return folder.name


@contextmanager
def _opened(file: Path) -> Iterator[h5py.File]:
    check_file(file)
    with reading(str(file), "cannot be read as HDF5", "copy it again"):
        opened = h5py.File(file, "r")
    try:
        yield opened
    finally:
        with suppress(Exception):  # closing a damaged file may fail; what was read was checked
            opened.close()


def _see_shapes(files: Collection[Path], progress: Progress) -> Shapes:
    """The shapes of all utterances; what cannot be read says nothing here, its import tells."""
    shapes = Shapes("input_features", "n_time_steps")
    for done, file in enumerate(files):
        progress(done, len(files), f"shapes of {file.parent.name}")
        with suppress(Exception), _opened(file) as opened:
            for key in opened:
                with suppress(Exception):
                    stored = opened[key]["input_features"]
                    shapes.see(stored.shape, stored.dtype, opened[key].attrs.get("n_time_steps"))
    return shapes


def _add_file(intake: Intake, file: Path, session: str, part: str, features: str | None, shapes: Shapes) -> None:
    with _opened(file) as opened:
        with reading(str(file)):
            keys = sorted(opened)
        if not keys:
            raise unusable(str(file), "no utterances in it")
        splits = intake.splits(part, session, len(keys))
        for key, split in zip(keys, splits, strict=True):
            one = Identity(session, part, f"{file}: {key}", name=key)
            with intake.leaving_out():
                intake.check_listed(one)
                _add_trial(intake, member(opened, key, one.where), one, split, features, shapes)


def _add_trial(intake: Intake, group: Any, one: Identity, split: str, features: str | None, shapes: Shapes) -> None:
    where = one.where
    if not isinstance(group, h5py.Group) or not has(group, "input_features", where):
        with reading(where):
            names: Sequence[str] = sorted(group) if isinstance(group, h5py.Group) else []
        raise unusable(where, "no input_features", f"it has {', '.join(names[:5]) or 'nothing'}")
    numbers = {key: attribute(group, key, where) for key in ("block_num", "trial_num")}
    block, trial = (0 if value is None else whole_number(value, where, key) for key, value in numbers.items())
    one = replace(one, block=block, trial=trial)
    intake.check_listed(one)
    stored = array(group, "input_features", where)
    bins = shapes.check(stored.shape, stored.dtype, attribute(group, "n_time_steps", where), where)
    chosen = columns(features, stored.shape[1], where)
    labels = _labels(group, where) if intake.asked.labels is None else ()
    text = _text(intake, group, where)
    with reading(where):
        values, rest = stored[:bins][:, chosen], stored[bins:]
    intake.add(one, values, labels, split=split, text=text)
    for what in (shapes.after(rest), shapes.odd_type(stored.dtype), _other_session(group, one)):
        if what:
            intake.ledger.notice(what, where)


def _other_session(group: h5py.Group, one: Identity) -> str:
    value = attribute(group, "session", one.where)
    says = one.session if value is None else text_of(value, one.where, "session")
    return "" if says in ("", one.session) else "session is not the name of the folder"


def _labels(group: h5py.Group, where: str) -> np.ndarray:
    """Class ids without padding; none for an unlabelled utterance."""
    if not has(group, "seq_class_ids", where):
        return np.zeros(0, dtype=np.int64)
    ids = content(array(group, "seq_class_ids", where), where)
    return unpad(ids, attribute(group, "seq_len", where), where, "seq_class_ids", "seq_len")


def _text(intake: Intake, group: h5py.Group, where: str) -> str:
    """The sentence: its attribute, or else its character codes; that they differ is noticed."""
    sentence = attribute(group, "sentence_label", where)
    said = ""
    if has(group, "transcription", where):
        said = text_of_codes(content(array(group, "transcription", where), where), where, "transcription")
    text = said if sentence is None else text_of(sentence, where, "sentence_label")
    if said and clean_text(text) != clean_text(said):
        intake.ledger.notice("sentence_label is not what transcription says", where)
    return text
