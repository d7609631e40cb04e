"""Makes a small corpus of real speech in the Brain-to-Text '25 layout, from the Free Spoken Digit Dataset.

    git clone https://github.com/Jakobovski/free-spoken-digit-dataset
    python benchmarks/spoken_digits.py free-spoken-digit-dataset/recordings recordings/digits
    tuner data import b2t25 recordings/digits --out data/digits --bin-ms 10

The dataset has six speakers, each of whom says each digit 50 times (`DIGIT_SPEAKER_NUMBER.wav`, 8 kHz). A speaker
becomes a session, and digits of one speaker, drawn by a seed, become an utterance with short pauses between them; each
recording is used once. As its authors say, recordings 0 to 4 are for evaluation (here val), the others for training.
The features are the logarithms of mel energies every 10 ms, normalised over each session. The labels are the digits'
phonemes, with SIL after each.

The dataset is under CC BY-SA 4.0, and so is what this program makes of it: name the source, and share it alike.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from scipy.io import wavfile

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from trainable.data.labels import phoneme_ids

WORDS = (
    ("zero", "Z IH R OW"), ("one", "W AH N"), ("two", "T UW"), ("three", "TH R IY"), ("four", "F AO R"),
    ("five", "F AY V"), ("six", "S IH K S"), ("seven", "S EH V AH N"), ("eight", "EY T"), ("nine", "N AY N"),
)  # fmt: skip
"""Each digit as it is written and said."""
NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
EVALUATED = 5
"""Recordings below this number are for evaluation."""
RATE = 8000
HOP, WINDOW, POINTS = 80, 200, 256
"""Samples between bins (10 ms), in a window, and of its Fourier transform."""
PAUSE = 8
"""Bins of silence between two digits."""
FLOOR = 9.0
"""Energies this far below the loudest (in natural logarithms) are silence."""
LAYOUT = ("v110", "v110")
"""Of the HDF5 files: compact, and read by every h5py 3."""
PADDED = 500
"""Length of the rows of labels and texts, as in the '25 files."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the corpus that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="the folder recordings/ of the dataset")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--speakers", nargs="*", help="only these [default: all]")
    parser.add_argument("--digits", type=int, default=4, help="digits in an utterance [default: 4]")
    parser.add_argument("--bands", type=int, default=20, help="mel bands, which are the features [default: 20]")
    parser.add_argument("--most", type=int, default=10**6, help="training utterances of a speaker at most; ")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of the digits [default: 0]")
    given = parser.parse_args(arguments)
    found = sorted(path for path in given.recordings.glob("*.wav") if NAME.fullmatch(path.name))
    speakers = given.speakers or sorted({_parts(path)[1] for path in found})
    lost = [speaker for speaker in speakers if not any(_parts(path)[1] == speaker for path in found)]
    if not found or lost:
        parser.error(
            f"{given.recordings}: no recordings DIGIT_SPEAKER_NUMBER.wav {'of ' if lost else ''}{', '.join(lost)}"
        )
    for speaker in speakers:
        own = [path for path in found if _parts(path)[1] == speaker]
        counts = make_session(own, given.out / f"fsdd.{speaker}", given.digits, given.bands, given.most, given.seed)
        print(f"{given.out / f'fsdd.{speaker}'}: {', '.join(f'{name} {count}' for name, count in counts.items())}")


def make_session(files: Sequence[Path], folder: Path, digits: int, bands: int, most: int, seed: int) -> dict[str, int]:
    """Write a speaker's two files; returns the utterances in each."""
    parts = {
        "train": ([file for file in files if _parts(file)[2] >= EVALUATED], most),
        "val": ([file for file in files if _parts(file)[2] < EVALUATED], max(1, most // 5)),
    }
    spoken = {file: log_mel(_samples(file), bands) for file in files}
    everything = np.concatenate(list(spoken.values()))
    low, mean, sd = everything.max() - FLOOR, everything.mean(axis=0), everything.std(axis=0)
    silence = np.full((PAUSE, bands), low)
    folder.mkdir(parents=True)
    counts = {}
    for part, (some, limit) in parts.items():
        order = sorted(some)
        random.Random(f"{seed}/{folder.name}/{part}").shuffle(order)
        groups = [order[i : i + digits] for i in range(0, len(order) - digits + 1, digits)][:limit]
        counts[part] = len(groups)
        with h5py.File(folder / f"data_{part}.hdf5", "w", libver=LAYOUT) as file:
            for number, group in enumerate(groups):
                joined = [piece for path in group for piece in (spoken[path], silence)]
                features = (np.maximum(np.concatenate(joined), low) - mean) / sd
                _write(file, number, features, [_parts(path)[0] for path in group], folder.name)
    return counts


def _parts(path: Path) -> tuple[int, str, int]:
    """(digit, speaker, number) of a recording."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), match[2], int(match[3])


def _samples(file: Path) -> np.ndarray:
    """float64 samples of one channel, in -1 to 1."""
    rate, samples = wavfile.read(file)
    if rate != RATE or samples.dtype != np.int16:
        raise SystemExit(f"{file}: {rate} Hz, {samples.dtype}; the dataset has {RATE} Hz and 16 bits")
    return (samples if samples.ndim == 1 else samples[:, 0]) / 32768.0


def log_mel(samples: np.ndarray, bands: int) -> np.ndarray:
    """[bins, bands]: logarithms of the energies in mel bands from 100 Hz to 4 kHz, of windows every 10 ms."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, POINTS)) ** 2
    edges = _hertz(np.linspace(_mel(100.0), _mel(RATE / 2), bands + 2))
    at = np.arange(POINTS // 2 + 1) * RATE / POINTS
    up = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.clip(np.minimum(up, down), 0, None)
    return np.asarray(np.log(power @ weights.T + 1e-6))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


def _write(file: h5py.File, number: int, features: np.ndarray, digits: Sequence[int], session: str) -> None:
    """One utterance; features are rounded to 1/32, so that they pack well."""
    text = " ".join(WORDS[digit][0] for digit in digits)
    label = phoneme_ids(" SIL ".join(WORDS[digit][1] for digit in digits) + " SIL")
    group = file.create_group(f"trial_{number:04d}")
    pack = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
    group.create_dataset("input_features", data=(np.round(features * 32) / 32).astype("<f4"), **pack)
    for key, values in (("seq_class_ids", label), ("transcription", [ord(sign) for sign in text])):
        row = np.zeros(PADDED, np.int32)
        row[: len(values)] = values
        group.create_dataset(key, data=row, **pack)
    group.attrs.update(n_time_steps=len(features), seq_len=len(label), sentence_label=text, session=session)
    group.attrs.update(block_num=1, trial_num=number)


if __name__ == "__main__":
    main()
