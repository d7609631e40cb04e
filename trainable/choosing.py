"""Which of a run's weights are evaluated after an epoch, and which of them count.

A run that tracks several averages is worth what the best of them and its raw weights are worth. Each is one more pass
over the validation split. Where that would take long beside the training, most epochs make two passes, as a run with
one average does: of the raw weights and of the average that was last the best; all are evaluated at every
`ALL_EVERY`-th epoch and at the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.config import RunConfig
from trainable.averaging import RAW, Average
from trainable.data.dataset import Dataset
from trainable.decoding import per
from trainable.evaluation import Evaluation

PASS_SHARE = 0.1
"""Most that the passes of an epoch may cost as a share of its training, for all weights to be evaluated each time."""
ALL_EVERY = 4
"""Otherwise all are evaluated at each epoch whose number is a multiple of this, and at the last."""
FORWARD = 1 / 3
"""Cost of a forward pass as a share of a training step of the same utterances (forward and backward)."""


@dataclass(frozen=True)
class Choice:
    """The evaluations of one epoch."""

    evaluations: Mapping[str, Evaluation]
    """By the name of the weights: the raw ones, and averages."""
    name: str
    """Of the weights that count."""
    per_halves: float | None
    """PER of the weights that the other half of the utterances would have chosen; None where nothing is chosen."""

    @property
    def best(self) -> Evaluation:
        """That of the weights that count."""
        return self.evaluations[self.name]


def all_are_evaluated(config: RunConfig, dataset: Dataset, epoch: int, weights: int) -> bool:
    """Whether so many weights are all evaluated after `epoch`, or only those that are likely to be the best."""
    if epoch % ALL_EVERY == 0 or epoch == config.epochs:
        return True
    training = config.training
    utterances = training.batches_per_epoch * training.batch_size * training.accumulation
    trained = utterances * float(dataset.train.bins.mean())
    return weights * FORWARD * int(dataset.val.bins.sum()) <= PASS_SHARE * trained


def worth_a_pass(names: Sequence[str], last: str | None) -> list[str]:
    """Of averages in the order of their decays: the last winner, or the first where the raw weights were better.

    All of them where there was no winner yet.
    """
    if last is None:
        return list(names)
    return [last] if last in names else list(names[:1])


def choose(evaluations: Mapping[str, Evaluation], lengths: np.ndarray) -> Choice:
    """The weights of the lowest PER; of equal ones, those of the lowest loss, then the first.

    `lengths` int64 [n] are the reference phonemes of the utterances.
    """
    name = _lowest(evaluations, lengths, np.ones(len(lengths), dtype=bool))
    return Choice(evaluations, name, _other_half(evaluations, lengths))


def _lowest(evaluations: Mapping[str, Evaluation], lengths: np.ndarray, part: np.ndarray) -> str:
    def rank(name: str) -> tuple[float, float]:
        found = evaluations[name]
        rate = per(found.errors[part], lengths[part])
        return (math.inf if math.isnan(rate) else rate, math.inf if math.isnan(found.loss) else found.loss)

    return min(evaluations, key=rank)


def _other_half(evaluations: Mapping[str, Evaluation], lengths: np.ndarray) -> float | None:
    """The PER of all utterances where each half is decoded by the weights that the other half chooses.

    The halves are the utterances with an even and with an odd number. Free of the luck of choosing, and a little too
    high, because half the utterances choose less surely than all.
    """
    even = np.arange(len(lengths)) % 2 == 0
    if not lengths[even].any() or not lengths[~even].any():
        return None
    errors = sum(int(evaluations[_lowest(evaluations, lengths, ~half)].errors[half].sum()) for half in (even, ~even))
    return errors / int(lengths.sum())


def only(evaluations: Mapping[str, Evaluation], name: str) -> Choice:
    """The weights called `name`, whatever the others are worth."""
    return Choice(evaluations, name, None)


def by_name(found: Mapping[str, Evaluation], same: Mapping[str, Sequence[str]]) -> dict[str, Evaluation]:
    """The evaluations with those of averages that have the same weights (`trainable.averaging.same_weights`)."""
    named = {RAW: found[RAW]}
    for first, names in same.items():
        if first in found:
            named |= dict.fromkeys(names, found[first])
    return named


def measured(averages: Sequence[Average], choice: Choice | None) -> dict[str, Any]:
    """What an epoch's evaluations come to, as fields of its report; None where the run has diverged."""
    if choice is None:
        numbers = ("per", "per_raw", "per_utterance_mean", "val_loss", "blank_share")
        return {**dict.fromkeys(numbers, math.nan), "average": None, "per_by_decay": None, "per_halves": None}
    best, found = choice.best, choice.evaluations
    decays = [(each.name, each.decay) for each in averages if each.decay is not None and each.name in found]
    return {
        "per": best.per,
        "per_raw": found[RAW].per,
        "per_utterance_mean": best.per_utterance_mean,
        "val_loss": best.loss,
        "blank_share": best.blank_share,
        "average": choice.name,
        "per_by_decay": [{"decay": decay, "per": found[name].per} for name, decay in decays] or None,
        "per_halves": choice.per_halves,
    }
