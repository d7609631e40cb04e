"""Phoneme labels from text: by g2p_en, as in the reference, or from a file of pronunciations.

The rules are those of `cffan/neural_seq_decoder`: a text keeps letters, hyphens, apostrophes and blanks, loses double
hyphens, and is lower case; a blank between words is SIL; stress digits are dropped; one SIL ends the sentence. g2p_en
takes an apostrophe at the end of a word for a word of its own, which has no phonemes: its text ends in two SIL. The
labels that results are compared on have them, so they stay.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from search_spaces.wording import reason_of
from trainable.data.packed import Unusable
from trainable.data.phonemes import CLASSES, SILENCE
from trainable.data.rows import columns_of, first_problems, read_rows

Labeller = Callable[[str], list[int]]
"""Class ids of a text; raises `Unusable`, without a place, where it has none."""
HELD_OUT = "held out"
"""The text in the '24 competition where the real one is kept back."""
LABEL_FILE = "CSV, TSV or JSON lines (.jsonl) with text,phonemes or session,trial,phonemes (docs/data.md)"
UNREAD = "text that g2p_en cannot read"
NLTK_DATA = "averaged_perceptron_tagger averaged_perceptron_tagger_eng cmudict"

_IDS = {name: number for number, name in enumerate(CLASSES) if number}
_KEPT = re.compile(r"[^a-zA-Z\- ']")
_STRESS = re.compile(r"[0-9]")
_RESOURCE = re.compile(r"Resource\W+(?:\[?93m)?(\w+)\W+(?:0m\W)?")
"""The resource that NLTK does not find, in quotes or, in older versions, in colour."""


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
    g2p = _g2p()

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


def _g2p() -> Any:
    """A working G2p of g2p_en; `InputError` with what is missing, in a line, where there is none."""
    or_file = "or give --labels FILE with the phonemes (docs/data.md)"
    quiet = io.StringIO()  # g2p_en downloads what it lacks when it is imported, and NLTK prints how that fails
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            from g2p_en import G2p

            g2p = G2p()
            g2p("a test")  # the tagger is loaded by the first text only
    except ImportError as error:
        if error.name == "g2p_en":
            raise InputError(
                "labels from text need g2p_en, which is not installed; "
                f"pip install '.[g2p]' in the checkout of b2t-tuner, {or_file}"
            ) from None
        raise InputError(
            f"labels from text need g2p_en, which is installed but cannot be imported ({reason_of(error)}); "
            f"pip install '.[g2p]' in the checkout of b2t-tuner brings what it needs, {or_file}"
        ) from None
    except LookupError as error:
        named = _RESOURCE.search(str(error))  # NLTK's text is a page
        what = f"NLTK's {named[1]}" if named else "its NLTK data"
        raise InputError(f"g2p_en lacks {what}; run python -m nltk.downloader {NLTK_DATA}, {or_file}") from None
    except Exception as error:  # of NLTK, at whatever it finds in its folders
        damaged = next((file for file in _nltk_files() if not _is_whole(file)), None)
        what = f"{damaged} is damaged or cut short; remove it" if damaged else f"{reason_of(error)}; remove them"
        raise InputError(
            f"g2p_en cannot read NLTK's data: {what} and run python -m nltk.downloader {NLTK_DATA}, {or_file}"
        ) from None
    return g2p


def _nltk_files() -> list[Path]:
    """The zip files of NLTK's data that g2p_en uses."""
    from nltk.data import path

    return [
        file for folder in path for name in NLTK_DATA.split() for file in sorted(Path(folder).glob(f"*/{name}.zip"))
    ]


def _is_whole(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as opened:
            return opened.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError):
        return False


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
    return text_labels(file, read_rows(file, LABEL_FILE))


def text_labels(file: Path, rows: list[tuple[str, dict[str, Any]]]) -> Labeller:
    """Labels by the rows of a label file with the columns text and phonemes; `InputError` with all their problems."""
    columns = columns_of(rows)
    if not rows:
        raise InputError(f"{file}: no labels in it; give {LABEL_FILE}")
    if not {"text", "phonemes"} <= set(columns):
        raise InputError(f"{file}: columns {', '.join(columns) or 'none'}; give {LABEL_FILE}")
    known: dict[str, list[int]] = {}
    problems = []
    for where, row in rows:
        try:
            text, ids = row["text"], row_phonemes(row)
            if not isinstance(text, str):
                raise Unusable("text is not a text")
        except (Unusable, KeyError) as error:
            problems.append(f"{where}: {error if isinstance(error, Unusable) else f'no {error.args[0]}'}")
            continue
        if known.setdefault(clean_text(text), ids) != ids:
            problems.append(f"{where}: text {text[:60]!r} has other phonemes further up")
    if problems:
        raise InputError(first_problems(file, problems))

    def label(text: str) -> list[int]:
        try:
            return known[clean_text(text)]
        except KeyError:
            raise Unusable(f"text {text[:60]!r} is not in {file}", "text without a label in the label file") from None

    return label


def row_phonemes(row: dict[str, Any]) -> list[int]:
    """Class ids of the column phonemes of a row; `Unusable`, without a place, where they are none."""
    phonemes = row["phonemes"]
    if not isinstance(phonemes, str | list):
        raise Unusable("phonemes are not a text or a list")
    ids = phoneme_ids(phonemes)
    if not ids:
        raise Unusable("no phonemes")
    return ids
