"""The commands of docs/recipes.md that train nothing, on made-up recordings in the layouts of '24 and '25."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from trainable.data.dataset import open_dataset

PAGE = Path(__file__).parents[3] / "docs" / "recipes.md"
TEXTS = ("Bring it", "See the cat", "no, thanks")
PHONEMES = ("B R IH NG SIL IH T SIL", "S IY SIL DH AH SIL K AE T SIL", "N OW SIL TH AE NG K S SIL")
DAYS = ("2022.04.28", "2022.05.05")


def commands(heading):
    """The indented `tuner` lines below a heading of the page, as arguments."""
    section = PAGE.read_text().split(f"\n## {heading}")[1].split("\n## ")[0]
    return [shlex.split(line)[1:] for line in re.findall(r"^    (tuner .*)$", section, re.M)]


def write_t12(folder):
    """`competitionData` with two days: 30 training sentences, 4 of the test, 2 held out, each; and `phonemes.csv`."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 4), ("competitionHoldOut", 2)):
        (folder / "competitionData" / part).mkdir(parents=True)
        for day in DAYS:
            cells = {key: np.empty((1, count), object) for key in ("tx1", "spikePow")}
            for i in range(count):
                bins = int(rng.integers(150, 220))
                cells["tx1"][0, i] = rng.poisson(2, (bins, 256)).astype(np.uint8)
                cells["spikePow"][0, i] = rng.random((bins, 256)).astype(np.float32)
            said = ["held out" if part == "competitionHoldOut" else TEXTS[i % 3] for i in range(count)]
            blocks = np.array([[1 + i // 10] for i in range(count)], np.uint8)
            content = {"sentenceText": np.array(said), "blockIdx": blocks, **cells}
            savemat(folder / "competitionData" / part / f"t12.{day}.mat", content)
    with (folder / "phonemes.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("text", "phonemes"), *zip(TEXTS, PHONEMES, strict=True)])


def write_t15(folder):
    """`hdf5_data_final` with four days: 15 training sentences, 2 of val, 1 unlabelled one of test, each."""
    import h5py

    from trainable.data.phonemes import CLASSES

    rng = np.random.default_rng(1)
    labels = [[CLASSES.index(name) for name in text.split()] for text in PHONEMES]
    for day in (*DAYS, "2023.08.11", "2023.08.13"):
        for part, count in (("train", 15), ("val", 2), ("test", 1)):
            file = folder / "hdf5_data_final" / f"t15.{day}" / f"data_{part}.hdf5"
            file.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(file, "w") as opened:
                for i in range(count):
                    group = opened.create_group(f"trial_{i:04d}")
                    bins = int(rng.integers(150, 220))
                    group["input_features"] = rng.normal(size=(bins, 512)).astype(np.float32)
                    group.attrs.update(n_time_steps=bins, block_num=1 + i // 10, trial_num=i, session=f"t15.{day}")
                    if part != "test":
                        label = labels[i % 3]
                        group["seq_class_ids"] = np.pad(np.array(label, np.int32), (0, 500 - len(label)))
                        group["transcription"] = np.pad(np.frombuffer(TEXTS[i % 3].encode(), np.uint8), (0, 100))
                        group.attrs.update(seq_len=len(label), sentence_label=TEXTS[i % 3])


@pytest.mark.parametrize(
    ("heading", "write", "name", "test", "scored"),
    [("'24", write_t12, "t12", 12, 8), ("'25", write_t15, "t15", 12, 8)],
)
def test_the_page_leads_to_a_plan_that_scores_the_published_split_once(
    cli, tmp_path, heading, write, name, test, scored
):
    """Each line does what the page says, on a machine without a GPU with hours for GPU-hours: val is held out from the
    training sentences, the published split is test, and the campaign will score its labelled sentences once.
    """
    write(tmp_path)
    lines = commands(heading)
    assert [line[0] for line in lines if line[0] == "campaign"] == ["campaign", "campaign"]
    for line in lines:
        trains = line[0] == "campaign" and "--plan" not in line
        if trains or line[0] == "plan":
            continue
        if line[0] == "campaign":
            line[line.index("--gpu-hours")] = "--hours"
            line += ["--gpus-per-trial", "0", "--seconds-per-batch", "0.05"]
        done = cli(*line, cwd=tmp_path)
        assert done.status == 0, (line, done.err)
    dataset = open_dataset(tmp_path / "data" / name)
    sizes = {split: len(part) for split, part in dataset.splits.items()}
    assert sizes["test"] == test and 0 < sizes["val"] < sizes["train"] < 60 and sizes["train"] + sizes["val"] == 60
    assert int((dataset.splits["test"].label_lengths > 0).sum()) == scored
    assert f"scored once: {scored} labelled utterances, never used here" in " ".join(done.out.split())
