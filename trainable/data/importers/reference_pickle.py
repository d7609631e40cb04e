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
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from trainable.data.importers.intake import Intake, read_sessions
from trainable.data.importers.listed import Identity
from trainable.data.importers.reading import check_file, reading, text_of, text_of_codes, unpad, unusable
from trainable.data.importers.shapes import Shapes
from trainable.data.pickles import load_plain

PARTS = {"train": "train", "val": "val", "test": "test", "competition": "holdout"}
LABELS = (("phonemes", "phoneLens"), ("text", "textLens"))


def import_into(intake: Intake, src: Path, *, sessions: str | Path | None = None) -> None:
    """Add every utterance of the pickle `src`: by day, in each train, val, test, then competition.

    `sessions` is a file with the names of the days, in order; without it they are day00, day01, ... Left out and
    counted: days of another layout, utterances whose arrays are shorter than their lengths say or whose label does not
    fit its length. A day that is None is noticed.
    """
    check_file(src)
    intake.progress(0, 1, f"reading {src.name}")
    content = load_plain(src, mapped=True)
    parts = [part for part in PARTS if isinstance(content, dict) and isinstance(content.get(part), list | tuple)]
    if "train" not in parts:
        has = ", ".join(map(repr, list(content)[:6])) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{src}: no list of days under 'train'; it has {has}; give the reference's ptDecoder_ctc")
    intake.own_val = "val" in parts
    count = max(len(content[part]) for part in parts)
    shapes = _see_shapes([day for part in parts for day in content[part]])
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
                _add_day(intake, day, where, session, PARTS[part], shapes)
            days[number] = None  # what is written is not needed any more
    intake.progress(count, count, "done")


def _see_shapes(days: Sequence[Any]) -> Shapes:
    shapes = Shapes("sentenceDat", "timeSeriesLens")
    for day in days:
        with suppress(Exception):  # what is no day says nothing here; its import tells
            lengths = day.get("timeSeriesLens")
            for i, stored in enumerate(day["sentenceDat"]):
                with suppress(Exception):
                    features = np.asarray(stored)
                    shapes.see(features.shape, features.dtype, None if lengths is None else lengths[i])
    return shapes


def _add_day(intake: Intake, day: Any, where: str, session: str, part: str, shapes: Shapes) -> None:
    if not isinstance(day, dict) or not _is_list(day.get("sentenceDat")):
        has = ", ".join(map(str, list(day)[:6])) if isinstance(day, dict) else type(day).__name__
        raise unusable(where, "no sentenceDat", f"it has {has}")
    count = len(day["sentenceDat"])
    keys = next((pair for pair in LABELS if pair[0] in day), None)
    if keys is None and part != "holdout" and intake.asked.labels is None:
        raise unusable(where, "no labels", f"none of {', '.join(pair[0] for pair in LABELS)} in it")
    for key in ("transcriptions", "timeSeriesLens", *(keys or ())):
        if key in day and (not _is_list(day[key]) or len(day[key]) != count):
            raise unusable(where, "lists of different lengths", f"{key} does not have {count} entries")
    splits = intake.splits(part, session, count)
    for i, split in enumerate(splits):
        one = Identity(session, part, f"{where} utterance {i}", trial=i, block=0)
        with intake.leaving_out():
            intake.check_listed(one)
            _add_utterance(intake, day, i, keys, one, split, shapes)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim >= 1)


def _add_utterance(
    intake: Intake,
    day: Mapping[str, Sequence[Any]],
    i: int,
    keys: tuple[str, str] | None,
    one: Identity,
    split: str,
    shapes: Shapes,
) -> None:
    where, held_out = one.where, one.part == "holdout"
    with reading(where, "a value of the wrong type"):
        features = np.asarray(day["sentenceDat"][i])
        steps = day["timeSeriesLens"][i] if "timeSeriesLens" in day else None
        bins = shapes.check(features.shape, features.dtype, steps, where)
        text = _text(day["transcriptions"][i], where) if "transcriptions" in day else ""
        labels = np.zeros(0, np.int64)
        if keys is not None and not held_out and intake.asked.labels is None:
            length = day[keys[1]][i] if keys[1] in day else None
            labels = unpad(day[keys[0]][i], length, where, *keys)
    intake.add(one, features[:bins], labels, split=split, text=text, held_out=held_out)
    for what in (shapes.after(features[bins:]), shapes.odd_type(features.dtype)):
        if what:
            intake.ledger.notice(what, where)


def _text(stored: Any, where: str) -> str:
    if isinstance(stored, list | tuple):
        return text_of_codes(stored, where, "transcriptions")
    return text_of(stored, where, "transcriptions")
