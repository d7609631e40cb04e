"""A second real corpus: spoken digits in the '25 layout, made by benchmarks/spoken_digits.py; some are kept."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import spoken_digits
from search_spaces import load_run
from search_spaces.config import RunConfig
from trainable.data.checks import check_dataset
from trainable.data.dataset import Dataset, open_dataset
from trainable.data.importers import import_dataset
from trainable.data.phonemes import CLASSES

KEPT = Path(__file__).parents[2] / "fixtures" / "spoken_digits"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The corpus that is kept, imported."""
    out = tmp_path_factory.mktemp("digits") / "packed"
    result = import_dataset("b2t25", KEPT, out, bin_ms=10, strict=True)
    assert (result["utterances"], result["noticed"]) == ({"train": 120, "val": 24, "test": 0}, [])
    return open_dataset(out)


def test_the_corpus_that_is_kept_is_sound(digits: Dataset) -> None:
    """It comes in whole, and has nothing that would spoil a training; it is small, and says whose it is."""
    findings = check_dataset(digits, kernel=12, stride=4)
    assert [finding for finding in findings if finding.level == "error"] == []
    assert digits.days == ("fsdd.jackson", "fsdd.theo")
    assert digits.train.text[0].split()[0] in dict(spoken_digits.WORDS)
    assert sum(file.stat().st_size for file in KEPT.rglob("*")) < 500_000
    licence = (KEPT / "README.md").read_text(encoding="utf-8")
    assert "Attribution-ShareAlike 4.0" in licence
    assert "https://github.com/Jakobovski/free-spoken-digit-dataset" in licence


def test_a_decoder_learns_to_hear_digits(digits: Dataset) -> None:
    """In some seconds a small decoder gets more than a third of the phonemes of real speech that it never heard."""
    from trainable import train

    run = load_run("small").config.model_dump()
    run["model"] |= {"hidden": 64, "layers": 1, "kernel": 12, "dropout": 0.1}
    run["schedule"] |= {"peak_lr": 1e-2}
    run["augmentation"] |= {"white_noise": 0.1}
    run["training"] |= {"batches": 280, "batches_per_epoch": 140, "batch_size": 16, "device": "cpu"}
    reports = list(train(RunConfig.model_validate(run), digits))
    assert reports[-1].per < 0.66
    assert reports[-1].val_loss < reports[0].val_loss


def record(folder: Path, speaker: str, digit: int, number: int) -> None:
    """A recording of 0.1 s and more: a tone with the digit's own frequency."""
    folder.mkdir(exist_ok=True)
    time = np.arange(800 + 80 * number) / spoken_digits.RATE
    samples = (8000 * np.sin(2 * np.pi * (300 + 300 * digit) * time)).astype("<i2")
    with wave.open(str(folder / f"{digit}_{speaker}_{number}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(spoken_digits.RATE)
        file.writeframes(samples.tobytes())


def test_each_recording_is_used_once_and_evaluated_ones_are_val(tmp_path: Path) -> None:
    """Utterances of three digits with their words and phonemes; recordings 0 to 4 are in val, the others in train."""
    for speaker in ("ann", "bob"):
        for digit in range(10):
            for number in (0, 4, 5, 30):
                record(tmp_path / "wav", speaker, digit, number)
    spoken_digits.main([str(tmp_path / "wav"), str(tmp_path / "out"), "--speakers", "ann", "--digits", "2"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fsdd.ann"]
    words = []
    for part in ("train", "val"):
        with h5py.File(tmp_path / "out" / "fsdd.ann" / f"data_{part}.hdf5") as file:
            assert len(file) == 10
            for trial in file.values():
                words += trial.attrs["sentence_label"].split()
                said = [CLASSES[i] for i in trial["seq_class_ids"][: trial.attrs["seq_len"]]]
                first, second = (
                    dict(spoken_digits.WORDS)[word].split() for word in trial.attrs["sentence_label"].split()
                )
                assert said == [*first, "SIL", *second, "SIL"]
    assert sorted(words) == sorted(word for word, _ in spoken_digits.WORDS for _ in range(4))
    result = import_dataset("b2t25", tmp_path / "out", tmp_path / "packed", bin_ms=10, strict=True)
    assert result["utterances"] == {"train": 10, "val": 10, "test": 0}


def test_the_features_of_a_tone_lie_in_its_band() -> None:
    """A higher tone has its energy in a higher band; bins are 10 ms apart."""
    time = np.arange(8000) / spoken_digits.RATE
    loudest = [
        int(spoken_digits.log_mel(np.sin(2 * np.pi * hertz * time), 20).mean(axis=0).argmax())
        for hertz in (250, 700, 1500, 3000)
    ]
    assert loudest == sorted(set(loudest))
    assert spoken_digits.log_mel(np.zeros(8000), 20).shape == (98, 20)


def test_a_folder_without_recordings_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The names that are needed, or the speaker that is not there."""
    for more, says in (([], "no recordings DIGIT_SPEAKER_NUMBER.wav"), (["--speakers", "eve"], "wav of eve")):
        with pytest.raises(SystemExit) as left:
            spoken_digits.main([str(tmp_path), str(tmp_path / "out"), *more])
        assert left.value.code == 2
        assert says in capsys.readouterr().err
