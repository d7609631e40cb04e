"""Files about single utterances: which to leave out (`--skip`), and labels made elsewhere (`--labels`).

A row names an utterance by `session` and `trial`, and where these are not enough by `split` (train, val, test or
holdout, as the source has it) and `block`. A trial is the number that the source gives, or the name of its group in an
HDF5 file (`trial_0003`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.errors import InputError
from trainable.data.labels import row_phonemes
from trainable.data.packed import Unusable
from trainable.data.rows import columns_of, first_problems, read_rows

PARTITIONS = ("train", "val", "test", "holdout")
"""What a source calls its parts; `holdout` has no labels, whatever it says."""
SKIP_FILE = "CSV, TSV or JSON lines (.jsonl) with session,trial,reason (docs/data.md)"
KEY = {"session", "trial"}


@dataclass(frozen=True)
class Identity:
    """Which utterance of a source it is."""

    session: str
    part: str
    """train, val, test or holdout, as the source has it."""
    where: str
    """Its file and place there, for lines about it."""
    trial: int | None = None
    block: int | None = None
    name: str = ""
    """What else a row may call its trial."""


@dataclass
class UtteranceRow:
    """A row about an utterance."""

    where: str
    session: str
    trial: str
    split: str
    block: str
    value: Any
    found: list[str] = field(default_factory=list)
    """The places of the utterances that it was used for."""

    def is_about(self, one: Identity) -> bool:
        """Whether split and block, where the row has them, are those of the utterance."""
        return self.split in ("", one.part) and self.block in ("", str(one.block))

    def __str__(self) -> str:
        more = "".join(f", {key} {value}" for key, value in (("split", self.split), ("block", self.block)) if value)
        return f"{self.where}: session {self.session}, trial {self.trial}{more}"


class UtteranceRows:
    """The rows of a file by session and trial; remembers which of them were used."""

    def __init__(self, file: str | Path, rows: list[UtteranceRow]) -> None:
        self.file = file
        self.rows = rows
        self._by_trial: dict[tuple[str, str], list[UtteranceRow]] = {}
        for row in rows:
            self._by_trial.setdefault((row.session, row.trial), []).append(row)

    def find(self, one: Identity) -> UtteranceRow | None:
        """The first row about an utterance, which counts as used from now on."""
        for trial in (one.name, str(one.trial)):
            for row in self._by_trial.get((one.session, trial), ()):
                if row.is_about(one):
                    if one.where not in row.found:
                        row.found.append(one.where)
                    return row
        return None

    def unused(self) -> list[UtteranceRow]:
        """Rows that no utterance was looked up with."""
        return [row for row in self.rows if not row.found]

    def of_several(self) -> list[UtteranceRow]:
        """Rows that were used for more than one utterance."""
        return [row for row in self.rows if len(row.found) > 1]


def read_skip(file: str | Path) -> UtteranceRows:
    """The utterances that a file lists with the reason why they are left out; `InputError` with all its problems."""

    def reason(row: dict[str, Any]) -> str:
        given = row.get("reason")
        if not isinstance(given, str) or not given.strip():
            raise Unusable("no reason; say why it is left out")
        return " ".join(given.split())

    rows = read_rows(file, SKIP_FILE)
    if not KEY | {"reason"} <= set(columns_of(rows)):
        what = f"columns {', '.join(columns_of(rows))}" if rows else "no rows in it"
        raise InputError(f"{file}: {what}; give {SKIP_FILE}")
    return _utterance_rows(file, rows, reason)


def labels_by_utterance(file: str | Path, rows: list[tuple[str, dict[str, Any]]]) -> UtteranceRows | None:
    """Rows of a label file with session, trial and phonemes; None where it has labels of texts."""
    if not KEY | {"phonemes"} <= set(columns_of(rows)):
        return None
    return _utterance_rows(file, rows, row_phonemes)


def _utterance_rows(
    file: str | Path, rows: list[tuple[str, dict[str, Any]]], value: Callable[[dict[str, Any]], Any]
) -> UtteranceRows:
    found: list[UtteranceRow] = []
    problems = []
    known: dict[tuple[str, ...], str] = {}
    for where, row in rows:
        try:
            key = (_session(row), _trial(row), _split(row), _block(row))
            made = UtteranceRow(where, *key, value(row))
        except (Unusable, KeyError) as error:
            problems.append(f"{where}: {f'no {error.args[0]}' if isinstance(error, KeyError) else error}")
            continue
        if key in known:
            problems.append(f"{where}: the same utterance as in {known[key].rsplit(': ', 1)[-1]}")
        known.setdefault(key, where)
        found.append(made)
    if problems:
        raise InputError(first_problems(file, problems))
    return UtteranceRows(file, found)


def _session(row: dict[str, Any]) -> str:
    session = str(row["session"]).strip()
    if not session:
        raise Unusable("session is empty")
    return session


def _trial(row: dict[str, Any]) -> str:
    trial = str(row["trial"]).strip()
    if not trial:
        raise Unusable("trial is empty")
    return _plain_number(trial)


def _plain_number(text: str) -> str:
    """A number without leading zeros and without the `.0` that spreadsheets write; another text as it is."""
    whole = re.fullmatch(r"([+-]?\d+)(\.0*)?", text)
    return str(int(whole[1])) if whole else text


def _split(row: dict[str, Any]) -> str:
    split = str(row.get("split") or "").strip()
    if split and split not in PARTITIONS:
        raise Unusable(f"split {split[:20]!r} is not allowed; give one of {', '.join(PARTITIONS)}")
    return split


def _block(row: dict[str, Any]) -> str:
    block = row.get("block")
    text = "" if block is None else _plain_number(str(block).strip())
    if text and not re.fullmatch(r"-?\d+", text):
        raise Unusable(f"block {text[:20]!r} is not a number")
    return text
