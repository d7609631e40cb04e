"""A checkpoint on a data set: decoded greedily or by beam search, and what the errors are.

Errors are those of a minimal alignment (Levenshtein); where several are minimal, which error counts as which kind is
the alignment library's choice, and only the sum is unique.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from search_spaces.errors import InputError
from trainable import checkpoint
from trainable.beam import beam_search
from trainable.bootstrap import DRAWS, interval, resamples
from trainable.compute.precision import autocast_for, choose_device, flatten, weights_dtype
from trainable.data.batches import Loader
from trainable.data.dataset import Dataset, Split, with_features
from trainable.decoding import greedy, per, utterance_per
from trainable.evaluation import emissions
from trainable.model import Decoder
from trainable.weights.given import assumed_names, classes_of, config_of, days_of
from trainable.weights.start import read_given

DECODERS = ("greedy", "beam")
SILENCE = "SIL"


@dataclass(frozen=True)
class Trained:
    """A decoder from a checkpoint, and what it was trained on."""

    model: Decoder
    config: Any
    features: int
    classes: tuple[str, ...]
    days: tuple[str, ...]
    epoch: int
    reported_per: float
    """The greedy PER on its validation split that training reported."""


def load_trained(path: str | Path) -> Trained:
    """The decoder in the checkpoint `path`. Raises InputError if it is not a complete checkpoint of this program."""
    state = checkpoint.load(path)
    try:
        data = state["data"]
        return Trained(
            model=checkpoint.load_model(state),
            config=checkpoint.config_of(state, str(path)),
            features=int(data["features"]),
            classes=tuple(map(str, data["classes"])),
            days=tuple(map(str, data["days"])),
            epoch=int(state["epoch"]),
            reported_per=float(state["report"].get("per", float("nan"))),
        )
    except InputError as error:
        raise InputError(str(error).replace("checkpoint:", f"{path}:", 1)) from None
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a damaged checkpoint ({type(error).__name__}); choose another one") from None


def load_reference(path: str | Path, dataset: Dataset) -> tuple[Trained, list[str]]:
    """The decoder of a public reference model, and notes on what differs from it, a line each.

    Its days and classes have the names that the file gives, or those of the data where there are as many. Raises
    InputError, one line, for a file of another kind and for data that do not fit.
    """
    given = read_given(path)
    if given.kind == "checkpoint":
        raise InputError(f"{path}: is a checkpoint of this program; give it without --reference")
    config, days, classes = config_of(given), days_of(given, dataset), classes_of(given, dataset)
    model = Decoder(config, given.features, len(classes), len(days))
    checkpoint.load_weights(model, given.weights, str(path))
    trained = Trained(model.eval(), config, given.features, classes, days, epoch=0, reported_per=float("nan"))
    return trained, [*given.notes, *assumed_names(given)]


def fit_split(trained: Trained, dataset: Dataset, name: str) -> Split:
    """The split, with the decoder's numbers of the days.

    Raises InputError with every reason why the decoder cannot read it: other features or classes, days that it has no
    layer for, no utterances. Days of the decoder that the data lack are no obstacle, nor is any day without day layers.
    """
    dataset = with_features(dataset, trained.config.data.features, "the checkpoint's data.features")
    split = dataset.splits[name]
    problems = []
    if dataset.n_features != trained.features:
        problems.append(
            f"{dataset.path}: {dataset.n_features} features a bin; the checkpoint was trained on {trained.features}; "
            "give data of the same recording set-up"
        )
    if dataset.classes != trained.classes:
        ours, theirs = set(dataset.classes), set(trained.classes)
        differ = ", ".join(sorted(ours ^ theirs)) or "the same ones in another order"
        problems.append(
            f"{dataset.path}: its {len(dataset.classes)} classes differ from the checkpoint's {len(trained.classes)} "
            f"({differ}); give data with the same classes"
        )
    if len(split) == 0:
        others = [other for other, part in dataset.splits.items() if len(part)]
        problems.append(f"{dataset.path}: no {name} utterances; give --split {' or '.join(others)}")
    number = {day: i for i, day in enumerate(trained.days)}
    used = [dataset.days[day] for day in np.unique(split.day)]
    unknown = [day for day in used if day not in number] if trained.config.model.day_layers else []
    if unknown:
        problems.append(
            f"{dataset.path}: the checkpoint has no layer for day {_some(unknown)}, only for {_some(trained.days)}; "
            "give data of those days, or a checkpoint of a run with model.day_layers false"
        )
    if problems:
        raise InputError(problems)
    return dataclasses.replace(
        split, day=np.array([number.get(dataset.days[day], 0) for day in split.day], dtype=np.int64)
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def decode(trained: Trained, split: Split, decoder: str = "greedy", width: int = 10) -> tuple[list[list[int]], str]:
    """Class ids of each utterance by `decoder` ("greedy", or "beam" of `width`), and the precision that was used.

    The precision is the run's own, or fp32 where this machine does not support it.
    """
    config = trained.config
    device_free = config.model_copy(update={"training": config.training.model_copy(update={"device": "auto"})})
    try:
        device = choose_device(device_free)
    except InputError:
        config = config.model_copy(update={"training": config.training.model_copy(update={"precision": "fp32"})})
        device = torch.device("cpu")
    model = trained.model.to(device, weights_dtype(config, device))
    flatten(model)
    hypotheses: list[list[int]] = [[] for _ in range(len(split))]
    for batch, logits, frames in emissions(model, Loader(split, device), autocast_for(config, device)):
        found = greedy(logits, frames) if decoder == "greedy" else beam_search(logits, frames, width)
        for row, hypothesis in zip(batch.rows, found, strict=True):
            hypotheses[row] = hypothesis
    return hypotheses, config.training.precision


@dataclass(frozen=True)
class Score:
    """Errors over the labelled utterances of a split; arrays are over them, int64 [n]."""

    substitutions: np.ndarray
    insertions: np.ndarray
    deletions: np.ndarray
    lengths: np.ndarray
    """Reference phonemes."""

    @property
    def errors(self) -> np.ndarray:
        """Edit distances."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def per(self) -> float:
        """Corpus PER."""
        return per(self.errors, self.lengths)

    @property
    def per_utterance_mean(self) -> float:
        """Mean over utterances of each one's PER."""
        return utterance_per(self.errors, self.lengths)

    def interval(self, seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
        """95% interval of the corpus PER: bootstrap over utterances, percentiles (Efron 1979; Bisani & Ney 2004)."""
        chosen = resamples(len(self.lengths), seed, draws)
        return interval(self.errors[chosen].sum(axis=1) / self.lengths[chosen].sum(axis=1))

    def part(self, which: np.ndarray) -> Score:
        """The score of the utterances that `which`, bool [n], selects."""
        return Score(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))


def score(references: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]]) -> Score:
    """The errors of each pair; every reference must have a label."""
    counts = np.zeros((len(references), 3), dtype=np.int64)
    for row, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        kinds = Counter(edit.tag for edit in Levenshtein.editops(reference, hypothesis))
        counts[row] = kinds["replace"], kinds["insert"], kinds["delete"]
    substitutions, insertions, deletions = counts.T
    lengths = np.array([len(reference) for reference in references], dtype=np.int64)
    return Score(substitutions, insertions, deletions, lengths)


def without(sequences: Sequence[Sequence[int]], label: int) -> list[list[int]]:
    """The sequences without one class."""
    return [[c for c in sequence if c != label] for sequence in sequences]


def confusions(
    references: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]]
) -> Counter[tuple[int | None, int | None]]:
    """How often (said, heard) went wrong; None heard is a deletion, None said an insertion."""
    found: Counter[tuple[int | None, int | None]] = Counter()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for kind, at, to in Levenshtein.editops(reference, hypothesis):
            said = None if kind == "insert" else reference[int(at)]
            heard = None if kind == "delete" else hypothesis[int(to)]
            found[said, heard] += 1
    return found
