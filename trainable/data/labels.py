"""Phoneme labels from text: by g2p_en, as in the reference, or from a file of pronunciations.

The rules are those of `cffan/neural_seq_decoder`: a text keeps letters, hyphens, apostrophes and blanks, loses double
hyphens, and is lower case; a blank between words is SIL; stress digits are dropped; one SIL ends the sentence. g2p_en
takes an apostrophe at the end of a word for a word of its own, which has no phonemes: its text ends in two SIL. The
labels that results are compared on have them, so they stay.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from search_spaces.wording import reason_of
from trainable.data.packed import Unusable
from trainable.data.phonemes import CLASSES, SILENCE

Labeller = Callable[[str], list[int]]
"""Class ids of a text; raises `Unusable`, without a place, where it has none."""
HELD_OUT = "held out"
"""The text in the '24 competition where the real one is kept back."""
MOST_PROBLEMS = 20
UNREAD = "text that g2p_en cannot read"
NLTK_DATA = "averaged_perceptron_tagger averaged_perceptron_tagger_eng cmudict"

_IDS = {name: number for number, name in enumerate(CLASSES) if number}
_KEPT = re.compile(r"[^a-zA-Z\- ']")
_STRESS = re.compile(r"[0-9]")


def clean_text(text: str) -> str:
    """The text as it is pronounced and looked up.

    >>> clean_text(" Well -- it's the boys'. ")
    "well  it's the boys'"
    """
    return _KEPT.sub("", text.strip()).replace("--", "").lower()


def is_held_out(text: str) -> bool:
    """Whether a text means that the real text is kept back; it must not be used for scoring."""
    return clean_text(text).strip() == HELD_OUT


def phoneme_ids(phonemes: str | list[str]) -> list[int]:
    """Class ids of ARPABET names, with or without stress, separated by blanks; `Unusable` for any other name.

    >>> phoneme_ids("HH AH0 L OW1 SIL")
    [16, 3, 21, 25, 40]
    """
    names = phonemes.split() if isinstance(phonemes, str) else phonemes
    plain = [_STRESS.sub("", str(name)).upper() for name in names]
    unknown = [name for name, bare in zip(names, plain, strict=True) if bare not in _IDS]
    if unknown:
        raise Unusable(f"{str(unknown[0])[:20]!r} is not an ARPABET phoneme or SIL", "unknown phoneme")
    return [_IDS[name] for name in plain]


def labeller(file: str | Path | None = None) -> Labeller:
    """Labels by the pronunciations in `file`, or else by g2p_en; `InputError` where it cannot be made."""
    return _from_file(Path(file)) if file is not None else _from_g2p()


def _from_g2p() -> Labeller:
    or_file = "or give --labels FILE with the phonemes of each text"
    quiet = io.StringIO()  # g2p_en downloads what it lacks when it is imported, and NLTK prints how that fails
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            from g2p_en import G2p
    except ImportError:
        raise InputError(
            f"labels from text need g2p_en, which is not installed; pip install 'b2t-tuner[g2p]', {or_file}"
        ) from None
    missing = f"g2p_en lacks its NLTK data; run python -m nltk.downloader {NLTK_DATA}, {or_file}"
    try:
        g2p = G2p()
        g2p("a test")  # the tagger is loaded by the first text only
    except LookupError:
        raise InputError(missing) from None

    @cache
    def label(text: str) -> list[int]:
        lost = [sign for sign in text if sign.isalnum() and _KEPT.match(sign)]
        if lost:
            raise Unusable(f"text {text[:60]!r} has {lost[0]!r}, which g2p_en does not pronounce", UNREAD)
        cleaned = clean_text(text)
        if not cleaned.strip(" -'"):
            raise Unusable(f"text {text[:60]!r} has nothing to pronounce", UNREAD)
        return _ids_of(g2p(cleaned), text)

    return label


def _ids_of(sounds: list[str], text: str) -> list[int]:
    """Class ids of what g2p_en returns for a sentence: phonemes with stress, ' ' between words, punctuation."""
    ids = []
    for sound in sounds:
        name = SILENCE if sound == " " else _STRESS.sub("", sound)
        if not re.match(r"[A-Z]+", name):
            continue
        if name not in _IDS:
            raise Unusable(f"text {text[:60]!r}: g2p_en says {name!r}, which is no phoneme", UNREAD)
        ids.append(_IDS[name])
    return [*ids, _IDS[SILENCE]]


def _from_file(file: Path) -> Labeller:
    known: dict[str, list[int]] = {}
    problems = []
    for where, text, phonemes in _entries(file):
        try:
            ids = phoneme_ids(phonemes)
        except Unusable as error:
            problems.append(f"{where}: {error}")
            continue
        if not ids:
            problems.append(f"{where}: no phonemes")
        elif known.setdefault(clean_text(text), ids) != ids:
            problems.append(f"{where}: text {text[:60]!r} has other phonemes further up")
    if problems:
        more = len(problems) - MOST_PROBLEMS
        raise InputError(problems[:MOST_PROBLEMS] + ([f"{file}: and {more} more problems"] if more > 0 else []))
    if not known:
        raise InputError(f"{file}: no labels in it; give a CSV file with the columns text,phonemes, or JSON lines")

    def label(text: str) -> list[int]:
        try:
            return known[clean_text(text)]
        except KeyError:
            raise Unusable(f"text {text[:60]!r} is not in {file}", "text without a label in the label file") from None

    return label


def _entries(file: Path) -> Iterator[tuple[str, str, Any]]:
    """(place, text, phonemes) of each line of a label file: JSON lines if it ends in .jsonl, else CSV with a header."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix == ".jsonl":
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield (f"{file}: line {number}", *_fields(json.loads(line)))
                return
            rows = csv.DictReader(lines)
            if not {"text", "phonemes"} <= set(rows.fieldnames or ()):
                raise InputError(f"{file}: columns {', '.join(rows.fieldnames or ()) or 'none'}; needs text,phonemes")
            for row in rows:
                yield (f"{file}: line {rows.line_num}", *_fields(row))
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, TypeError, KeyError) as error:
        what = error.strerror if isinstance(error, OSError) else reason_of(error)
        raise InputError(
            f"{file}: cannot be read as labels ({what}); give CSV with columns text,phonemes, or JSON lines (.jsonl)"
        ) from None


def _fields(row: Any) -> tuple[str, Any]:
    text, phonemes = row["text"], row["phonemes"]
    if not isinstance(text, str) or not isinstance(phonemes, str | list):
        raise TypeError("text and phonemes are not texts")
    return text, phonemes
