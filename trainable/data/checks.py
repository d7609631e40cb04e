"""Errors and warnings about a packed data folder, found before training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainable.data.dataset import Dataset, Split
from trainable.data.feasible import infeasible
from trainable.data.labels import is_held_out
from trainable.data.phonemes import CLASSES

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
FAR = 5.0
"""Robust standard deviations (1.4826 x the median absolute deviation) of the logarithm at which a length is unusual."""
LEAST_SPREAD = 0.1
"""The least standard deviation assumed of a logarithm of lengths, so that equal lengths make no outliers of others."""

_HELD_OUT = [CLASSES.index(name) for name in ("HH", "EH", "L", "D", "SIL", "AW", "T", "SIL")]


@dataclass(frozen=True)
class DataFinding:
    """One kind of thing found in one split (or across them: `split` is then joined by +)."""

    level: str
    """error: results would be wrong; warning: should be checked; note: may be intended."""
    check: str
    split: str
    count: int
    example: str
    """The first one: `utterance N (session)`, or a session."""
    what: str

    def row(self) -> dict[str, str | int]:
        """As a row of a table."""
        return dict(vars(self))


@dataclass
class _Scan:
    """The results of one pass over the features."""

    broken: dict[int, int]
    """utterance -> first bin with a feature that is not finite."""
    copies: dict[bytes, list[int]]
    """hash of the features -> utterances."""
    constant: list[tuple[str, int, int]]
    """(session, number of constant features, the first of them)."""


def check_dataset(
    dataset: Dataset, kernel: int, stride: int, progress: Callable[[int, int, str], None] | None = None
) -> list[DataFinding]:
    """Everything found in a data folder, errors first. Reads all features once, an utterance at a time.

    Features that are not finite, features that are constant over a session, labels that a kernel and stride cannot
    align, the same features or the same text in two splits, the words "held out" as a label, odd lengths, sessions
    without training data, and splits that are empty or unlabelled.
    """
    owners = _Owners(dataset)
    scan = _scan(dataset, owners, progress or (lambda done, total, what: None))
    findings = [
        *_emptiness(dataset),
        *_finiteness(scan, owners),
        *_copies(scan, owners),
        *_texts(dataset, owners),
        *_constants(dataset, scan),
    ]
    for name, split in dataset.splits.items():
        if len(split):
            findings += _labels(name, split, owners, kernel, stride)
            findings += _lengths(name, split, owners)
            findings += _days(dataset, name, split)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


class _Owners:
    """Split and session of each utterance number."""

    def __init__(self, dataset: Dataset) -> None:
        self.split: dict[int, str] = {}
        self.session: dict[int, str] = {}
        for name, split in dataset.splits.items():
            for utterance, day in zip(split.utterance.tolist(), split.day.tolist(), strict=True):
                self.split[utterance] = name
                self.session[utterance] = dataset.days[day]

    def place(self, utterance: int) -> str:
        return f"utterance {utterance} ({self.session[utterance]})"


def _scan(dataset: Dataset, owners: _Owners, progress: Callable[[int, int, str], None]) -> _Scan:
    """One pass, in the order of the file."""
    found = _Scan({}, defaultdict(list), [])
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    places = sorted(
        (start, bins, utterance)
        for split in dataset.splits.values()
        for start, bins, utterance in zip(
            split.start.tolist(), split.bins.tolist(), split.utterance.tolist(), strict=True
        )
    )
    for done, (start, bins, utterance) in enumerate(places):
        session = owners.session[utterance]
        if done % 64 == 0:
            progress(done, len(places), session)
        features = dataset.train.matrix[start : start + bins]
        found.copies[hashlib.blake2b(np.ascontiguousarray(features).data, digest_size=16).digest()].append(utterance)
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            found.broken[utterance] = int(np.argmin(finite))
            features = features[finite]
        if len(features):
            lowest, highest = features.min(axis=0), features.max(axis=0)
            low[session] = np.minimum(low.get(session, lowest), lowest)
            high[session] = np.maximum(high.get(session, highest), highest)
    for session in low:
        same = np.flatnonzero(low[session] == high[session])
        if same.size:
            found.constant.append((session, len(same), int(same[0])))
    progress(len(places), len(places), "done")
    return found


def _emptiness(dataset: Dataset) -> Iterator[DataFinding]:
    for name, level, what in (
        ("train", ERROR, "no utterances to train on"),
        ("val", ERROR, "no utterances to compare trials on; import with --dev-split 0.1"),
        ("test", NOTE, "no test utterances"),
    ):
        if len(dataset.splits[name]) == 0:
            yield DataFinding(level, "empty split", name, 0, "", what)


def _finiteness(scan: _Scan, owners: _Owners) -> Iterator[DataFinding]:
    for name, broken in _by_split(scan.broken, owners).items():
        first = f"{owners.place(broken[0])}, bin {scan.broken[broken[0]]}"
        yield DataFinding(ERROR, "not finite", name, len(broken), first, "NaN or infinite features")


def _by_split(utterances: dict[int, int], owners: _Owners) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = defaultdict(list)
    for utterance in sorted(utterances):
        parts[owners.split[utterance]].append(utterance)
    return parts


def _copies(scan: _Scan, owners: _Owners) -> Iterator[DataFinding]:
    """The same features twice: across splits, the evaluation would use training data."""
    groups: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for same in scan.copies.values():
        if len(same) > 1:
            groups[tuple(sorted({owners.split[utterance] for utterance in same}))].append(same)
    for splits, copies in groups.items():
        level = ERROR if len(splits) > 1 else WARNING
        example = " = ".join(owners.place(utterance) for utterance in copies[0][:2])
        yield DataFinding(level, "same features", "+".join(splits), len(copies), example, "utterances stored twice")


def _texts(dataset: Dataset, owners: _Owners) -> Iterator[DataFinding]:
    """The same text in a session in two splits: another recording of it, or the same one processed twice."""
    said: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for name, split in dataset.splits.items():
        for utterance, text in zip(split.utterance.tolist(), split.text, strict=True):
            if text.strip():
                said[owners.session[utterance], " ".join(text.lower().split())].setdefault(name, utterance)
    groups: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for places in said.values():
        if len(places) > 1:
            groups[tuple(sorted(places))].append(sorted(places.values()))
    for splits, same in groups.items():
        example = " and ".join(owners.place(utterance) for utterance in same[0][:2])
        what = "texts said in the same session in both"
        yield DataFinding(WARNING, "same text", "+".join(splits), len(same), example, what)


def _constants(dataset: Dataset, scan: _Scan) -> Iterator[DataFinding]:
    if scan.constant:
        session, count, first = scan.constant[0]
        example = f"{session}: {count} of {dataset.n_features}, the first is {first}"
        yield DataFinding(
            WARNING,
            "constant features",
            "all",
            len(scan.constant),
            example,
            "sessions in which a feature never changes",
        )


def _labels(name: str, split: Split, owners: _Owners, kernel: int, stride: int) -> Iterator[DataFinding]:
    labelled = split.label_lengths > 0
    if not labelled.all():
        level = NOTE if name == "test" else ERROR
        example = owners.place(int(split.utterance[np.argmin(labelled)]))
        yield DataFinding(level, "unlabelled", name, int((~labelled).sum()), example, "utterances without labels")
    hopeless = infeasible(split, kernel, stride) & labelled
    if hopeless.any():
        level = ERROR if 2 * hopeless.sum() > len(split) else WARNING
        example = owners.place(int(split.utterance[np.argmax(hopeless)]))
        what = f"labels longer than the output of kernel {kernel}, stride {stride}"
        yield DataFinding(level, "infeasible labels", name, int(hopeless.sum()), example, what)
    held = [
        i
        for i in np.flatnonzero(labelled).tolist()
        if is_held_out(split.text[i]) or split.label(i).tolist() == _HELD_OUT
    ]
    if held:
        example = owners.place(int(split.utterance[held[0]]))
        what = "labels of the words 'held out', which mean that the text was kept back"
        yield DataFinding(ERROR, "held out", name, len(held), example, what)


def _lengths(name: str, split: Split, owners: _Owners) -> Iterator[DataFinding]:
    labelled = np.flatnonzero(split.label_lengths > 0)
    ratio = split.bins[labelled] / split.label_lengths[labelled]
    for check, values, rows, what in (
        ("odd length", split.bins, np.arange(len(split)), "bins"),
        ("odd rate", ratio, labelled, "bins for each label"),
    ):
        odd = outliers(values)
        if odd.any():
            worst = int(np.argmax(odd))
            example = f"{owners.place(int(split.utterance[rows[worst]]))}: {values[worst]:.4g} {what}"
            middle = f"{what} far from the median of {np.median(values):.4g}"
            yield DataFinding(WARNING, check, name, int(odd.sum()), example, middle)


def outliers(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which of the positive numbers lie more than `FAR` robust deviations from the others in their logarithm: bool."""
    if len(values) == 0:
        return np.zeros(0, dtype=bool)
    logs = np.log(np.asarray(values, dtype=np.float64))
    distance = np.abs(logs - np.median(logs))
    return np.asarray(distance > FAR * max(1.4826 * float(np.median(distance)), LEAST_SPREAD))


def _days(dataset: Dataset, name: str, split: Split) -> Iterator[DataFinding]:
    if name == "train":
        return
    untrained = ~np.isin(split.day, dataset.train.day)
    if untrained.any():
        days = [dataset.days[day] for day in np.unique(split.day[untrained])]
        what = f"utterances of {len(days)} sessions without training data: their day layers stay untrained"
        yield DataFinding(WARNING, "untrained day", name, int(untrained.sum()), days[0], what)
