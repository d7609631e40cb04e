"""What of a data set can be learned: by utterance, by CTC's rule, and by a whole configuration."""

from __future__ import annotations

import numpy as np

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from search_spaces.parsing.feature_choice import chosen_features
from trainable.data.dataset import Dataset, Split


def infeasible(split: Split, kernel: int, stride: int) -> np.ndarray:
    """Which utterances CTC cannot align: bool [n]."""
    return np.asarray(split.bins < bins_needed(split, kernel, stride))


def bins_needed(split: Split, kernel: int, stride: int) -> np.ndarray:
    """Fewest bins in which CTC can align each utterance's label: int64 [n], `kernel` for an empty label.

    The decoder makes `(bins - kernel) // stride + 1` frames, none where an utterance is shorter than `kernel` bins. CTC
    needs a frame for each label and a blank between two equal neighbours (Graves et al. 2006).
    """
    # same[j]: equal neighbours among the first j labels; a pair that spans two utterances must not count.
    same = np.concatenate([[0, 0], np.cumsum(split.labels[1:] == split.labels[:-1])])
    first, last = split.label_start[:-1], split.label_start[1:]
    repeats = np.where(last > first, same[last] - same[np.minimum(first + 1, len(split.labels))], 0)
    return np.asarray(kernel + stride * np.maximum(last - first + repeats - 1, 0))


def check_trainable(config: RunConfig, dataset: Dataset) -> None:
    """Raise `InputError` with every reason why this configuration cannot learn from this data.

    No training or validation data, no utterance as long as the kernel, a kernel and stride that leave most labels
    longer than the output, features that the data lack, or more days in a batch than there are. Reads no features.
    """
    problems = []
    try:
        chosen_features(config.data.features, dataset.n_features)
    except ValueError as error:
        problems.append(f"data.features: {error} ({dataset.path})")
    problems += _too_few_days(config, dataset)
    kernel, stride = config.model.kernel, config.model.stride
    for name, split in (("training", dataset.train), ("validation", dataset.val)):
        if len(split) == 0:
            problems.append(f"{dataset.path}: no {name} utterances; give a data set that has some")
            continue
        kept = np.ones(len(split), dtype=bool)
        if name == "training" and config.data.max_bins is not None:
            kept = split.bins <= config.data.max_bins
            if not kept.any():
                problems.append(
                    f"data.max_bins: {config.data.max_bins} leaves no training utterance of {dataset.path}; "
                    f"give {split.bins.min()} or more"
                )
                continue
        longest = int(split.bins[kept].max())
        impossible = int(infeasible(split, kernel, stride)[kept].sum())
        if longest < kernel:
            problems.append(
                f"model.kernel: {kernel} is longer than every {name} utterance of {dataset.path}; "
                f"give {longest} or less"
            )
        elif impossible * 2 > kept.sum():
            problems.append(
                f"model.kernel {kernel} and model.stride {stride}: {impossible} of {int(kept.sum())} {name} labels of "
                f"{dataset.path} are longer than the decoder's output; give a smaller stride or kernel"
            )
    if problems:
        raise InputError(problems)


def _too_few_days(config: RunConfig, dataset: Dataset) -> list[str]:
    wanted, split = config.data.days_per_batch, dataset.train
    if wanted is None or len(split) == 0:
        return []
    usable = (split.label_lengths > 0) & ~infeasible(split, config.model.kernel, config.model.stride)
    if config.data.max_bins is not None:
        usable &= split.bins <= config.data.max_bins
    days = len(np.unique(split.day[usable]))
    if wanted <= min(days, config.training.batch_size):
        return []
    return [
        f"data.days_per_batch: {wanted} is not allowed; {dataset.path} has {days} days with utterances that can be "
        f"trained on, and a batch has {config.training.batch_size} utterances; "
        f"give {min(days, config.training.batch_size)} or less"
    ]
