"""A synthetic speaker: neural features with known phonemes, shaped to behave like the recorded task.

Words are drawn from `LEXICON`, said one phoneme at a time with random durations, and turned into a smooth path through
a low-dimensional articulatory space (coarticulation). Each feature is a noisy, rectified projection of that path. The
projections drift from day to day and their gains change, so one input layer per day pays; baselines wander within a
session, and part of the noise is shared by all features, so it does not average out. Features are z-scored per block.

Everything is a function of (size, seed). Values are rounded to 1/1024, far above what differs between numpy builds and
processors, so that the same data set, with the same fingerprint, comes out on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search_spaces.errors import InputError
from trainable.data.dataset import Dataset, DatasetWriter, open_dataset, write_dataset
from trainable.data.lexicon import LEXICON
from trainable.data.phonemes import CLASSES, SILENCE

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what)."""

BIN_MS = 20.0
ROUNDING = 1024.0

MANNERS = {
    "open vowel": "AA AE AH AO AW AY",
    "close vowel": "EH ER EY IH IY OW OY UH UW",
    "voiced stop": "B D G JH",
    "voiceless stop": "P T K CH",
    "voiced fricative": "DH V Z ZH",
    "voiceless fricative": "F HH S SH TH",
    "nasal": "M N NG",
    "approximant": "L R W Y",
}
"""Phonemes of one manner lie close together in the articulatory space, so that they are confused with one another."""
RELATIVE_DURATION = {"open vowel": 1.3, "close vowel": 1.2, "voiced stop": 0.7, "voiceless stop": 0.8}


@dataclass(frozen=True)
class Size:
    """How large, and how hard, a synthetic data set is."""

    days: int
    train: int
    """Training utterances, over all days."""
    val: int
    features: int
    vocabulary: int
    """Words known: the first ones of `LEXICON`."""
    words: tuple[int, int]
    """Fewest and most words in an utterance."""
    phoneme_bins: float
    """Mean duration of a phoneme."""
    rest_bins: float
    """Mean silence before the first and after the last word."""
    bins: tuple[int, int]
    """Shortest and longest utterance."""
    block: int
    """Utterances in a block."""
    latent: int
    """Dimensions of the articulatory space."""
    separation: float
    """Distance of the phonemes of one manner from its centre; the centres are at 1."""
    day_drift: float
    """Share of a feature's tuning that is new each day."""
    noise: float
    """S.d. of each feature's own noise; the signal's is about 1."""
    shared_noise: float
    """S.d. of the noise that all features share."""


SIZES = {
    "tiny": Size(
        days=3, train=96, val=32, features=24, vocabulary=16, words=(1, 3), phoneme_bins=6.0, rest_bins=6.0,
        bins=(24, 120), block=16, latent=6, separation=0.9, day_drift=0.8, noise=0.9, shared_noise=0.2,
    ),
    "small": Size(
        days=6, train=600, val=120, features=64, vocabulary=60, words=(2, 4), phoneme_bins=6.5, rest_bins=6.0,
        bins=(40, 160), block=30, latent=10, separation=0.8, day_drift=0.7, noise=1.6, shared_noise=0.3,
    ),
    "paper": Size(
        days=24, train=8800, val=880, features=256, vocabulary=len(LEXICON), words=(3, 11), phoneme_bins=9.4,
        rest_bins=16.0, bins=(100, 900), block=40, latent=16, separation=0.7, day_drift=0.5, noise=2.5,
        shared_noise=0.5,
    ),
}  # fmt: skip
"""tiny: tests; small: the quickstart; paper: the size of the Brain-to-Text '24 recordings, about 2.8 GB."""


@dataclass
class _Speaker:
    """What stays the same for all days, and the tuning that drifts between them."""

    targets: np.ndarray  # [classes, latent]; row 0 is the rest position
    durations: np.ndarray  # [classes], bins
    tuning: np.ndarray  # [latent, features]
    threshold: np.ndarray  # [features]


@dataclass
class _Session:
    """One day's recording, while it goes on."""

    name: str
    rng: np.random.Generator
    gain: np.ndarray  # [features]
    baseline: np.ndarray  # [features]; wanders from one utterance to the next


def make_synthetic(out: str | Path, size: str, seed: int = 0, *, progress: Progress | None = None) -> Dataset:
    """Make a synthetic data folder of size tiny, small or paper at `out`, and open it.

    One block is in memory at a time. The same size and seed give the same features, labels and fingerprint on every
    machine. Raises `InputError` on an unknown size, a seed below 0 or a folder that exists.
    """
    if size not in SIZES:
        raise InputError(f"size: {size!r} is not allowed; give one of {', '.join(SIZES)}")
    if seed < 0:
        raise InputError(f"seed: {seed} is not allowed; give 0 or more")
    return generate(out, SIZES[size], seed, source={"kind": "synthetic", "size": size, "seed": seed}, progress=progress)


def generate(
    out: str | Path, size: Size, seed: int, *, source: dict[str, object], progress: Progress | None = None
) -> Dataset:
    """Make a synthetic data folder of any `Size`; `source` is what dataset.json will say it is."""
    total, done = size.train + size.val, 0
    rng = np.random.default_rng([seed, 0])
    speaker = _speaker(size, rng)
    with write_dataset(out, source=source, bin_ms=BIN_MS) as writer:
        for day in range(size.days):
            if day:
                _drift(speaker, size, rng)
            day_rng = np.random.default_rng([seed, 1, day])
            splits = _splits(size, day, day_rng)
            session = _session(size, day, day_rng)
            for block, begin in enumerate(range(0, len(splits), size.block)):
                said = splits[begin : begin + size.block]
                _write_block(writer, size, speaker, session, block + 1, begin, said)
                done += len(said)
                if progress is not None:
                    progress(done, total, f"day {day + 1} of {size.days}")
    return open_dataset(out)


def _speaker(size: Size, rng: np.random.Generator) -> _Speaker:
    targets = np.zeros((len(CLASSES), size.latent))
    durations = np.full(len(CLASSES), size.phoneme_bins)
    for manner, phonemes in MANNERS.items():
        centre = _unit(rng.normal(size=size.latent))
        for phoneme in phonemes.split():
            index = CLASSES.index(phoneme)
            targets[index] = centre + size.separation * _unit(rng.normal(size=size.latent))
            durations[index] *= RELATIVE_DURATION.get(manner, 1.0)
    targets[CLASSES.index(SILENCE)] = 0.3 * _unit(rng.normal(size=size.latent))
    return _Speaker(
        targets=targets,
        durations=durations,
        tuning=rng.normal(size=(size.latent, size.features)),
        threshold=rng.normal(-0.5, 0.5, size.features),
    )


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


def _drift(speaker: _Speaker, size: Size, rng: np.random.Generator) -> None:
    """One night: part of every feature's tuning is replaced, its variance stays."""
    fresh = rng.normal(size=speaker.tuning.shape)
    speaker.tuning = np.sqrt(1 - size.day_drift) * speaker.tuning + np.sqrt(size.day_drift) * fresh
    speaker.threshold = speaker.threshold + rng.normal(0.0, 0.1, size.features)


def _session(size: Size, day: int, rng: np.random.Generator) -> _Session:
    return _Session(
        name=f"synthetic.{day + 1:02d}",
        rng=rng,
        gain=np.exp(rng.normal(0.0, 0.4, size.features)),
        baseline=np.zeros(size.features),
    )


def _splits(size: Size, day: int, rng: np.random.Generator) -> list[str]:
    """The split of each utterance of a day, in the order they are said; splits are spread evenly over days."""

    def share(total: int) -> int:
        return total * (day + 1) // size.days - total * day // size.days

    splits = np.array(["train"] * share(size.train) + ["val"] * share(size.val))
    rng.shuffle(splits)
    return [str(split) for split in splits]


def _write_block(
    writer: DatasetWriter, size: Size, speaker: _Speaker, session: _Session, block: int, first: int, splits: list[str]
) -> None:
    """Say, record, z-score and write the utterances of one block, which are to go to `splits`."""
    said = []
    for _ in splits:
        words, labels, path = _say(size, speaker, session.rng)
        session.baseline = 0.98 * session.baseline + session.rng.normal(0.0, 0.1, size.features)
        said.append((words, labels, _record(size, speaker, session, path)))
    everything = np.concatenate([features for _, _, features in said])
    mean, sd = everything.mean(axis=0), everything.std(axis=0) + 1e-8
    for i, (split, (words, labels, features)) in enumerate(zip(splits, said, strict=True)):
        writer.add(
            np.round((features - mean) / sd * ROUNDING) / ROUNDING,
            labels,
            split=split,
            session=session.name,
            text=" ".join(words),
            block=block,
            trial=first + i,
        )


def _say(size: Size, speaker: _Speaker, rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Words, labels int64 [length] and articulatory path float64 [bins, latent] of a random utterance."""
    vocabulary = list(LEXICON)[: size.vocabulary]
    # Frequent words are more frequent, as in speech, but no word is rare enough to be unlearnable.
    weights = 1.0 / (np.arange(size.vocabulary) + 10.0)
    picks = rng.choice(size.vocabulary, size=rng.integers(size.words[0], size.words[1] + 1), p=weights / weights.sum())
    words = [vocabulary[pick] for pick in picks]
    names = [phoneme for word in words for phoneme in (*LEXICON[word], SILENCE)]
    labels = np.array([CLASSES.index(name) for name in names])
    lengths = speaker.durations[labels] * rng.gamma(6.0, 1 / 6.0, len(labels))
    lengths = np.concatenate(
        [[size.rest_bins * rng.gamma(4.0, 0.25)], lengths, [size.rest_bins * rng.gamma(4.0, 0.25)]]
    )
    lengths *= np.exp(rng.normal(0.0, 0.15))  # speaking rate
    lengths *= np.clip(lengths.sum(), *size.bins) / lengths.sum()
    ends = np.round(np.cumsum(lengths)).astype(np.int64)
    rest = np.zeros((1, size.latent))
    targets = np.concatenate([rest, speaker.targets[labels], rest])
    targets[1:-1] += rng.normal(0.0, 0.25 / np.sqrt(size.latent), (len(labels), size.latent))  # no token like another
    path = np.repeat(targets, np.diff(ends, prepend=0), axis=0)
    return words, labels, _smooth(path, size.phoneme_bins / 4)


def _smooth(path: np.ndarray, sd: float) -> np.ndarray:
    """Gaussian smoothing over time of [bins, latent], ends held."""
    reach = int(np.ceil(3 * sd))
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    padded = np.pad(path, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, window / window.sum(), "valid") for column in padded.T], axis=1)


def _record(size: Size, speaker: _Speaker, session: _Session, path: np.ndarray) -> np.ndarray:
    """Features float64 [bins, features] of an articulatory path [bins, latent]."""
    shared = session.rng.normal(0.0, size.shared_noise / np.sqrt(size.latent), path.shape)
    shared = _smooth(shared, 2.0) * 2.66  # the factor gives back the variance that smoothing takes
    drive = (path + shared) @ speaker.tuning
    rate = np.logaddexp(0.0, 2.0 * (drive - speaker.threshold)) / 2.0  # rectified, softly
    noise = size.noise * session.rng.standard_normal(rate.shape)
    return np.asarray(session.gain * rate + session.baseline + noise)
