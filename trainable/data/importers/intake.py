"""The common part of all importers: splits, what is left out and why, texts that are kept back.

An importer reads one layout and passes on utterance by utterance. What happens to an utterance is decided here, so that
every format is treated the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from trainable.data.labels import is_held_out
from trainable.data.packed import DatasetWriter, Unusable

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""

MOST_LINES = 200
"""Lines kept about what was left out; the rest is counted."""
PARTITIONS = ("train", "val", "test", "holdout")
"""What a source calls its parts; `holdout` has no labels, whatever it says."""


class Ledger:
    """What was left out (one line each, counted by reason), and notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.left_out = 0
        self._counts: dict[str, Counter[str]] = {"skipped": Counter(), "noticed": Counter()}
        self._examples: dict[tuple[str, str], str] = {}

    def skip(self, error: Unusable) -> None:
        """Count an item that was left out because of `error`; its line begins with the file and the utterance."""
        for line in error.problems:
            self.left_out += 1
            if len(self.lines) < MOST_LINES:
                self.lines.append(line)
            self._count("skipped", error.reason, _place(line))

    def notice(self, what: str, where: str) -> None:
        """Count a note: something that is allowed, but useful to know."""
        self._count("noticed", what, where)

    def _count(self, table: str, what: str, where: str) -> None:
        self._counts[table][what] += 1
        self._examples.setdefault((table, what), where)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """One {reason, count, example} per reason of `table` (skipped or noticed), most frequent first."""
        return [
            {"reason": what, "count": count, "example": self._examples[table, what]}
            for what, count in self._counts[table].most_common()
        ]

    def all_lines(self) -> list[str]:
        """The lines, and one that says how many more there were."""
        more = self.left_out - len(self.lines)
        return [*self.lines, *([f"and {more} more like these"] if more > 0 else [])]


def _place(line: str) -> str:
    """`FILE: UTTERANCE` of a line `FILE: UTTERANCE: what is wrong`, or `FILE`."""
    return ": ".join(line.split(": ")[:2])


def unusable(where: str, reason: str, detail: str = "") -> Unusable:
    """What an importer raises about a file or an utterance; `detail` follows the reason in its line."""
    return Unusable(f"{where}: {reason}{f' ({detail})' if detail else ''}", reason)


class Intake:
    """Takes utterances from an importer. `own_val` is set by it: whether the source has a validation part."""

    def __init__(
        self, writer: DatasetWriter, ledger: Ledger, progress: Progress, dev_split: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= dev_split < 1:
            raise InputError(f"dev_split: {dev_split} is not allowed; give a share of the training utterances, below 1")
        self.writer = writer
        self.ledger = ledger
        self.progress = progress
        self.dev_split = dev_split
        self.seed = seed
        self.own_val = True

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

    @contextmanager
    def leaving_out(self) -> Iterator[None]:
        """Leave out and count what cannot be imported; other errors are raised."""
        try:
            yield
        except Unusable as error:
            self.ledger.skip(error)

    def add(
        self,
        features: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        split: str,
        session: str,
        text: str,
        block: int,
        trial: int,
        where: str,
        held_out: bool = False,
    ) -> None:
        """Write an utterance, or raise `Unusable`; one whose text is kept back has no text and no labels."""
        if held_out or is_held_out(text):
            if split != "test":
                raise unusable(where, "the text is kept back, so it cannot be used in training or validation")
            self.ledger.notice("text kept back: test utterance without labels", where)
            labels, text = (), ""
        elif len(labels) == 0 and split != "test":
            raise unusable(where, f"no label in {split}")
        self.writer.add(
            features, labels, split=split, session=session, text=text, block=block, trial=trial, where=where
        )


def dev_utterances(session: str, count: int, share: float, seed: int) -> set[int]:
    """Which of a session's `count` training utterances are held out: at least one, and never all, from two on.

    They are those with the lowest hashes of (seed, session, place in the session), so that they depend on nothing else.
    """
    if count < 2:
        return set()
    order = sorted(range(count), key=lambda i: hashlib.sha256(f"{seed}\n{session}\n{i}".encode()).digest())
    return set(order[: min(max(round(share * count), 1), count - 1)])


def unpad(padded: Any, length: int | None, where: str, key: str, length_key: str) -> np.ndarray:
    """The first `length` class ids of a row padded with 0, int64; `Unusable` where the two contradict each other."""
    padded = np.asarray(padded)
    if padded.ndim != 1 or padded.dtype.kind not in "iuf" or (padded != np.trunc(padded)).any():
        raise unusable(where, f"{key} is not a row of class ids")
    length = int(np.count_nonzero(padded)) if length is None else int(length)
    if not 0 <= length <= len(padded) or (padded[:length] == 0).any() or (padded[length:] != 0).any():
        raise unusable(where, f"{length_key} is not the length of {key}")
    return padded[:length].astype(np.int64)


def text_of_codes(codes: Any) -> str:
    """A text from character codes ended by 0."""
    codes = np.asarray(codes).ravel()
    end = np.flatnonzero(codes == 0)
    return "".join(chr(int(code)) for code in codes[: end[0] if end.size else None]).strip()


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
