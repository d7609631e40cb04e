"""The common part of all importers: splits, what is left out and why, texts that are kept back.

An importer reads one layout and passes on utterance by utterance. What happens to an utterance is decided here, so that
every format is treated the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from trainable.data.importers.lengths import Lengths
from trainable.data.importers.listed import Identity, UtteranceRow, UtteranceRows
from trainable.data.importers.reading import unusable
from trainable.data.labels import Labeller, is_held_out, labeller
from trainable.data.packed import DatasetWriter, Unusable

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""

MOST_LINES = 200
"""Lines kept about what was left out; the rest is counted."""
MOST_NOTES = 10
"""Lines about rows of a file that were not used, and about odd lengths."""


class Listed(Unusable):
    """An utterance that the user wants left out, which is no fault of it."""


class Ledger:
    """What was left out (one line each, counted by reason), and notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.left_out = 0
        self._counts: dict[str, Counter[str]] = {"skipped": Counter(), "noticed": Counter(), "listed": Counter()}
        self._examples: dict[tuple[str, str], str] = {}

    def skip(self, error: Unusable) -> None:
        """Count an item that was left out because of `error`; its line begins with the file and the utterance."""
        for line in error.problems:
            self.left_out += 1
            if len(self.lines) < MOST_LINES:
                self.lines.append(line)
            self._count("skipped", error.reason, _place(line, error.reason))

    def leave(self, error: Listed) -> None:
        """Count an utterance that is left out because the user lists it."""
        self._count("listed", error.reason, _place(error.problems[0], error.reason))

    def notice(self, what: str, where: str) -> None:
        """Count a note: something that is allowed, but useful to know."""
        self._count("noticed", what, where)

    def _count(self, table: str, what: str, where: str) -> None:
        self._counts[table][what] += 1
        self._examples.setdefault((table, what), where)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """One {reason, count, example} per reason of `table` (skipped, noticed or listed), most frequent first."""
        return [
            {"reason": what, "count": count, "example": self._examples[table, what]}
            for what, count in self._counts[table].most_common()
        ]

    def all_lines(self) -> list[str]:
        """The lines, and one that says how many more there were."""
        more = self.left_out - len(self.lines)
        return [*self.lines, *([f"and {more} more like these"] if more > 0 else [])]


def _place(line: str, reason: str) -> str:
    """`FILE: UTTERANCE` of a line `FILE: UTTERANCE: what is wrong`, or `FILE`."""
    return line.split(f": {reason}")[0] if f": {reason}" in line else ": ".join(line.split(": ")[:2])


@dataclass(frozen=True)
class Asked:
    """What the user asks of the utterances of a source."""

    dev_split: float = 0.0
    seed: int = 0
    labels: UtteranceRows | None = None
    """Labels of utterances, made elsewhere; they replace those of the source."""
    text_labels: Labeller | None = None
    """Labels of texts; g2p_en without it."""
    skip: UtteranceRows | None = None


class Intake:
    """Takes utterances from an importer. `own_val` is set by it: whether the source has a validation part."""

    def __init__(self, writer: DatasetWriter, ledger: Ledger, progress: Progress, asked: Asked | None = None) -> None:
        asked = asked or Asked()
        if not 0 <= asked.dev_split < 1:
            raise InputError(
                f"dev_split: {asked.dev_split} is not allowed; give a share of the training utterances, below 1"
            )
        self.writer = writer
        self.ledger = ledger
        self.progress = progress
        self.asked = asked
        self.dev_split = asked.dev_split
        self.seed = asked.seed
        self.own_val = True
        self.lengths = Lengths()
        self._sessions: set[str] = set()
        self._from_text = asked.text_labels

    def splits(self, partition: str, session: str, count: int) -> list[str]:
        """The split of each of the `count` utterances that `session` has in a part of the source.

        With a development split, that share of a session's training utterances is val, and what the source evaluates on
        (its val and test) is test. Without one, a source that has no val lends its test.
        """
        if self.dev_split and partition == "train":
            held = dev_utterances(session, count, self.dev_split, self.seed)
            return ["val" if i in held else "train" for i in range(count)]
        if partition == "holdout" or (self.dev_split and partition == "val"):
            return ["test"] * count
        if partition == "test" and not self.own_val and not self.dev_split:
            return ["val"] * count
        return [partition] * count

    def remarks(self) -> list[str]:
        """What the user must know about the splits."""
        if self.dev_split:
            return []
        if not self.own_val:
            return [
                "val is the source's test set, so a search would select on the test set; "
                "--dev-split 0.1 holds out training utterances instead"
            ]
        if self.writer.counts()["val"] == 0:
            return ["no val utterances, so a search is not possible; --dev-split 0.1 holds out some of train"]
        return []

    def from_text(self) -> Labeller:
        """How labels are made from texts; with labels by utterance none are made. `InputError` if it cannot."""
        if self.asked.labels is not None:
            return lambda text: []
        if self._from_text is None:
            self._from_text = labeller()
        return self._from_text

    @contextmanager
    def leaving_out(self) -> Iterator[None]:
        """Leave out and count what cannot be imported, or should not; other errors are raised."""
        try:
            yield
        except Listed as error:
            self.ledger.leave(error)
        except Unusable as error:
            self.ledger.skip(error)

    def check_listed(self, one: Identity) -> None:
        """Raise if an utterance is on the list of those to leave out: call it before anything of it is read."""
        self._sessions.add(one.session)
        row = self.asked.skip.find(one) if self.asked.skip else None
        if row is not None:
            raise Listed(f"{one.where}: {row.value}", row.value)

    def add(
        self,
        one: Identity,
        features: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        split: str,
        text: str,
        held_out: bool = False,
    ) -> None:
        """Write an utterance, or raise `Unusable`; one whose text is kept back has no text and no labels."""
        where = one.where
        if self.asked.labels is not None:
            labels = self._given_labels(self.asked.labels, one, split)
        if held_out or is_held_out(text):
            if split != "test":
                raise unusable(where, "the text is kept back, so it cannot be used in training or validation")
            self.ledger.notice("text kept back: test utterance without labels", where)
            labels, text = (), ""
        elif len(labels) == 0 and split != "test":
            raise unusable(where, f"no label in {split}")
        self.writer.add(
            features,
            labels,
            split=split,
            session=one.session,
            text=text,
            block=one.block or 0,
            trial=one.trial or 0,
            where=where,
        )
        self.lengths.see(len(features), len(labels), text, where)

    def _given_labels(self, rows: UtteranceRows, one: Identity, split: str) -> Sequence[int]:
        row = rows.find(one)
        if row is None and split != "test":
            raise unusable(one.where, "no row in the label file", str(rows.file))
        if row is None:
            self.ledger.notice("no row in the label file: test utterance without labels", one.where)
        return row.value if row else ()

    def finish(self, strict: bool = False) -> list[str]:
        """Lines about the whole: rows that no utterance has, or several; lengths that are odd. Call it at the end.

        Raises `InputError` with `strict` where a row is about no utterance of a session that was imported.
        """
        lines = []
        for rows, what in ((self.asked.skip, "left out"), (self.asked.labels, "labelled")):
            if rows is not None:
                here = [row for row in rows.unused() if row.session in self._sessions]
                gone = [row for row in rows.unused() if row.session not in self._sessions]
                wrong = self._of_rows(here, "a row about no utterance that is there")
                if strict and wrong:
                    raise InputError(wrong)
                several = f"a row by which several utterances were {what}; add a column split or block"
                lines += [*wrong, *self._of_rows(gone, "a row about a session that was not imported")]
                lines += self._of_rows(rows.of_several(), several)
        odd = self.lengths.odd()
        for one in odd:
            self.ledger.notice("length far from what the text suggests", one.where)
        return [*lines, *_some([f"{one.where}: {one.what}; --skip FILE can leave it out" for one in odd])]

    def _of_rows(self, rows: list[UtteranceRow], what: str) -> list[str]:
        for row in rows:
            self.ledger.notice(what.partition(";")[0], row.where)
        return _some([f"{row}: {what}" for row in rows])


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - MOST_NOTES
    return lines[:MOST_NOTES] + ([f"and {more} more like these"] if more > 0 else [])


def dev_utterances(session: str, count: int, share: float, seed: int) -> set[int]:
    """Which of a session's `count` training utterances are held out: at least one, and never all, from two on.

    They are those with the lowest hashes of (seed, session, place in the session), so that they depend on nothing else.
    """
    if count < 2:
        return set()
    order = sorted(range(count), key=lambda i: hashlib.sha256(f"{seed}\n{session}\n{i}".encode()).digest())
    return set(order[: min(max(round(share * count), 1), count - 1)])


def each_once(files: Sequence[Path], name: Callable[[Path], str], ledger: Ledger) -> list[Path]:
    """The files in their order; one whose name came before, from another place, is left out and counted."""
    first: dict[str, Path] = {}
    for file in files:
        known = first.setdefault(name(file), file)
        if known is not file:
            ledger.skip(unusable(str(file), "session in two places", f"{known} is used"))
    return list(first.values())


def listed(names: Sequence[str], sessions: str | Path | None) -> list[str]:
    """The names that the file `sessions` lists, in its order; all of them, in theirs, without one.

    Raises `InputError` with every listed name that is not there.
    """
    if sessions is None:
        return list(names)
    wanted = read_sessions(sessions)
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    lost = [f"{sessions}: {name}: no such session; there are {some}" for name in wanted if name not in names]
    if lost:
        raise InputError(lost)
    return wanted


def read_sessions(file: str | Path) -> list[str]:
    """Session names, one a line; empty lines and lines that begin with # are left out. `InputError` on repetition."""
    try:
        lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a list of sessions ({error}); one name a line") from None
    names = [line for line in lines if line and not line.startswith("#")]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError([f"{file}: {name} is listed more than once" for name in twice])
    if not names:
        raise InputError(f"{file}: no session names in it; give one a line")
    return names
