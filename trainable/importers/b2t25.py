"""The Brain-to-Text '25 HDF5 layout: `SESSION/data_{train,val,test}.hdf5`, one group per utterance.

In a group `trial_0000`: datasets `input_features` [n_time_steps, features] and, where the text is known,
`seq_class_ids` (class ids, padded with 0) and `transcription` (character codes, ended by 0); attributes `n_time_steps`,
`seq_len`, `sentence_label`, `block_num`, `trial_num`, `session`. The class ids are those of `CLASSES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from search_spaces.errors import InputError
from trainable.data import DatasetWriter
from trainable.importers import Progress, Skipped
from trainable.packing import SPLITS

MOST_PROBLEMS = 20
"""An import with this many broken utterances is given up."""


def import_into(writer: DatasetWriter, src: Path, skipped: Skipped, progress: Progress) -> None:
    """Add every utterance under `src`: sessions in the order of their names, in each train, val, then test.

    Left out and counted: sessions without a split's file, utterances whose arrays are shorter than their attributes
    say, whose label does not fit `seq_len`, or that lack a label in train or val. Raises `InputError` with all problems
    where features or labels are broken.
    """
    sessions = sorted(folder for folder in src.iterdir() if folder.is_dir()) if src.is_dir() else []
    sessions = [folder for folder in sessions if any(_file(folder, split).is_file() for split in SPLITS)]
    if not sessions:
        raise InputError(f"{src}: no session folders with {_file(Path('SESSION'), 'train')} in it; give their parent")
    problems: list[str] = []
    for done, folder in enumerate(sessions):
        progress(done, len(sessions), folder.name)
        for split in SPLITS:
            file = _file(folder, split)
            if file.is_file():
                problems += _add_file(writer, file, folder.name, split, skipped)
            elif split != "test":
                skipped(f"session without {file.name}", folder.name)
            if len(problems) >= MOST_PROBLEMS:
                raise InputError([*problems[:MOST_PROBLEMS], f"{src}: given up after {MOST_PROBLEMS} problems"])
    if problems:
        raise InputError(problems)
    progress(len(sessions), len(sessions), "done")


def _file(folder: Path, split: str) -> Path:
    return folder / f"data_{split}.hdf5"


def _add_file(writer: DatasetWriter, file: Path, session: str, split: str, skipped: Skipped) -> list[str]:
    """Add the utterances of one file; returns the problems that must stop the import."""
    problems = []
    try:
        with h5py.File(file, "r") as opened:
            for key in sorted(opened):
                where = f"{file}: {key}"
                try:
                    _add_trial(writer, opened[key], where, session, split, skipped)
                except InputError as error:
                    problems += error.problems
                except (TypeError, ValueError):
                    skipped("an attribute or dataset of the wrong type", where)
                if len(problems) >= MOST_PROBLEMS:
                    break
    except OSError as error:
        problems.append(f"{file}: cannot be read as HDF5 ({error}); copy it again")
    return problems


def _add_trial(writer: DatasetWriter, group: Any, where: str, session: str, split: str, skipped: Skipped) -> None:
    if not isinstance(group, h5py.Group) or "input_features" not in group:
        skipped("no input_features", where)
        return
    stored = group["input_features"]
    bins = int(group.attrs.get("n_time_steps", stored.shape[0]))
    if stored.ndim != 2 or not 0 < bins <= stored.shape[0]:
        skipped("n_time_steps is not within input_features", where)
        return
    labels = _labels(group, where, skipped)
    if labels is None:
        return
    if len(labels) == 0 and split != "test":
        skipped(f"no label in {split}", where)
        return
    writer.add(
        stored[:bins],
        labels,
        split=split,
        session=session,
        text=_text(group),
        block=int(group.attrs.get("block_num", 0)),
        trial=int(group.attrs.get("trial_num", 0)),
        where=where,
    )


def _labels(group: Any, where: str, skipped: Skipped) -> np.ndarray | None:
    """Class ids without padding; none for an unlabelled utterance; None, and counted, where they contradict seq_len."""
    if "seq_class_ids" not in group:
        return np.zeros(0, dtype=np.int64)
    padded = group["seq_class_ids"][:]
    length = int(group.attrs.get("seq_len", np.count_nonzero(padded)))
    if not 0 <= length <= len(padded) or (padded[:length] == 0).any() or (padded[length:] != 0).any():
        skipped("seq_len is not the length of seq_class_ids", where)
        return None
    return np.asarray(padded[:length], dtype=np.int64)


def _text(group: Any) -> str:
    """The sentence: its attribute, or else its character codes."""
    sentence = group.attrs.get("sentence_label")
    if sentence is not None:
        return sentence.decode() if isinstance(sentence, bytes) else str(sentence)
    if "transcription" in group:
        codes = group["transcription"][:]
        end = np.flatnonzero(codes == 0)
        return "".join(chr(int(code)) for code in codes[: end[0] if end.size else None])
    return ""
