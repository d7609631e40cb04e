"""The pickle that `cffan/neural_seq_decoder` trains on (`ptDecoder_ctc`): {'train': [day, ...], 'test': [...], ...}.

A day is a dict of lists over its utterances: `sentenceDat` [bins, features], `phonemes` (class ids, padded with 0) with
`phoneLens`, `transcriptions` (character codes, ended by 0, or texts) and `timeSeriesLens`. Forks call the labels `text`
and `textLens`, add a third part `val`, and have None for a day without data. The days of all parts are the same days.
`competition` has the words "held out" in the place of its texts, so it comes in without labels.

The file is a stranger's: it is read by `trainable.data.pickles`, and its features stay on the disk until they are
copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from trainable.data.importers.intake import Intake, read_sessions, text_of_codes, unpad, unusable
from trainable.data.pickles import load_plain

PARTS = {"train": "train", "val": "val", "test": "test", "competition": "holdout"}
LABELS = (("phonemes", "phoneLens"), ("text", "textLens"))


def import_into(intake: Intake, src: Path, *, sessions: str | Path | None = None) -> None:
    """Add every utterance of the pickle `src`: by day, in each train, val, test, then competition.

    `sessions` is a file with the names of the days, in order; without it they are day00, day01, ... Left out and
    counted: days of another layout, utterances whose arrays are shorter than their lengths say or whose label does not
    fit its length. A day that is None is noticed.
    """
    intake.progress(0, 1, f"reading {src.name}")
    content = load_plain(src, mapped=True)
    parts = [part for part in PARTS if isinstance(content, dict) and isinstance(content.get(part), list | tuple)]
    if "train" not in parts:
        has = ", ".join(map(repr, list(content)[:6])) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{src}: no list of days under 'train'; it has {has}; give the reference's ptDecoder_ctc")
    intake.own_val = "val" in parts
    count = max(len(content[part]) for part in parts)
    names = read_sessions(sessions) if sessions is not None else [f"day{day:02d}" for day in range(count)]
    if len(names) != count:
        raise InputError(f"{sessions}: {len(names)} sessions; {src} has {count} days, give a name for each")
    for number, session in enumerate(names):
        intake.progress(number, count, session)
        for part in parts:
            days = content[part]
            day = days[number] if number < len(days) else None
            where = f"{src}: {part} day {number}"
            if day is None:
                intake.ledger.notice(f"no data in {part}", f"day {number} ({session})")
                continue
            with intake.leaving_out():
                _add_day(intake, day, where, session, PARTS[part])
            days[number] = None  # what is written is not needed any more
    intake.progress(count, count, "done")


def _add_day(intake: Intake, day: Any, where: str, session: str, partition: str) -> None:
    if not isinstance(day, dict) or not isinstance(day.get("sentenceDat"), list | tuple):
        has = ", ".join(map(str, list(day)[:6])) if isinstance(day, dict) else type(day).__name__
        raise unusable(where, "no sentenceDat", f"it has {has}")
    count = len(day["sentenceDat"])
    keys = next((pair for pair in LABELS if pair[0] in day), None)
    if keys is None and partition != "holdout":
        raise unusable(where, "no labels", f"none of {', '.join(pair[0] for pair in LABELS)} in it")
    for key in ("transcriptions", "timeSeriesLens", *(keys or ())):
        if key in day and (not _is_list(day[key]) or len(day[key]) != count):
            raise unusable(where, "lists of different lengths", f"{key} does not have {count} entries")
    splits = intake.splits(partition, session, count)
    for i, split in enumerate(splits):
        with intake.leaving_out():
            _add_utterance(intake, day, i, keys, f"{where} utterance {i}", session, split, partition == "holdout")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim >= 1)


def _add_utterance(
    intake: Intake,
    day: Mapping[str, Sequence[Any]],
    i: int,
    keys: tuple[str, str] | None,
    where: str,
    session: str,
    split: str,
    held_out: bool,
) -> None:
    try:
        features = np.asarray(day["sentenceDat"][i])
        if features.ndim != 2 or features.dtype.kind not in "iuf":
            raise unusable(where, "features are not [bins, features]", f"{features.dtype} {list(features.shape)}")
        bins = int(day["timeSeriesLens"][i]) if "timeSeriesLens" in day else len(features)
        if not 0 < bins <= len(features):
            raise unusable(where, "timeSeriesLens is not within sentenceDat")
        text = _text(day["transcriptions"][i]) if "transcriptions" in day else ""
        labels = np.zeros(0, np.int64)
        if keys is not None and not held_out:
            length = int(day[keys[1]][i]) if keys[1] in day else None
            labels = unpad(day[keys[0]][i], length, where, *keys)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise unusable(where, "a value of the wrong type", str(error)[:60]) from None
    intake.add(
        features[:bins],
        labels,
        split=split,
        session=session,
        text=text,
        block=0,
        trial=i,
        where=where,
        held_out=held_out,
    )


def _text(stored: Any) -> str:
    return stored.strip() if isinstance(stored, str) else text_of_codes(stored)
