"""`tuner data import`, `check` and `plot` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from search_spaces.errors import InputError
from trainable.data.dataset import open_dataset
from tuner.analysis import data_picture
from tuner.analysis.data_picture import plot_data


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two sessions of twelve utterances in the plain layout, one of them with an unknown phoneme."""
    folder = tmp_path / "sessions"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for session in ("monday", "tuesday"):
        phonemes = ["HH AH0 L OW1 SIL"] * 12
        if session == "tuesday":
            phonemes[3] = "HH XX"
        np.savez(
            folder / f"{session}.npz",
            features=rng.normal(size=(12 * 60, 4)),
            bins=[60] * 12,
            split=["train"] * 9 + ["val"] * 3,
            phonemes=phonemes,
            text=[f"{session} {i}" for i in range(12)],
        )
    return folder


def test_an_import_prints_what_it_left_out_and_how_to_go_on(cli, source, tmp_path):
    """One line on stderr for what was skipped, the counts on stdout, status 0; the same again is refused."""
    done = cli("data", "import", "arrays", source, "--out", "packed", "--bin-ms", 10, cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.err == f"skipped: {source / 'tuesday.npz'}: utterance 3: 'XX' is not an ARPABET phoneme or SIL\n"
    assert "train 17, val 6, test 0" in done.out
    assert "unknown phoneme" in done.out
    assert "tuner data check packed" in done.out
    assert open_dataset(tmp_path / "packed").bin_ms == 10
    again = cli("data", "import", "arrays", source, "--out", "packed", cwd=tmp_path)
    assert again.status == 2
    assert again.err.count("\n") == 1
    assert "exists already" in again.err


def test_ten_broken_objects_among_thirty_good_ones_are_ten_lines(cli, tmp_path):
    """The thirty come in, each broken one is a line with file, utterance and reason, and the reasons are counted."""
    source = tmp_path / "hdf5"
    for session in ("t15.2023.08.11", "t15.2023.08.13"):
        write_session(source / session, {"train": 14, "val": 5})
    (source / "t15.2023.08.18").mkdir()
    (source / "t15.2023.08.18" / "data_train.hdf5").symlink_to("/nowhere/data_train.hdf5")
    (source / "t15.2023.08.18" / "data_val.hdf5").write_text("version https://git-lfs.github.com/spec/v1\n")
    spoil(source / "t15.2023.08.11" / "data_train.hdf5")
    done = cli("data", "import", "b2t25", source, "--out", "packed", cwd=tmp_path)
    assert done.status == 0, done.err
    skipped = [line for line in done.err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 10
    assert all(str(source) in line for line in skipped)
    assert "train 20, val 10, test 0" in done.out
    for reason in ("link that leads nowhere", "input_features are not real numbers", "stands for content that is not"):
        assert any(f": {reason}" in line for line in skipped)
    assert "Traceback" not in done.err
    strict = cli("data", "import", "b2t25", source, "--out", "strict", "--strict", cwd=tmp_path)
    assert strict.status == 2
    assert strict.err.splitlines() == [line.replace("skipped: ", "error: ", 1) for line in skipped]


def write_session(folder, counts):
    """A session in the '25 layout."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(str(folder)))
    for split, count in counts.items():
        with h5py.File(folder / f"data_{split}.hdf5", "w") as file:
            for i in range(count):
                group = file.create_group(f"trial_{i:04d}")
                group["input_features"] = rng.normal(size=(60 + i, 8)).astype("f4")
                group["seq_class_ids"] = np.r_[[30, 3, 23, 40], np.zeros(16, int)]
                about = {"n_time_steps": 60 + i, "seq_len": 4, "sentence_label": "one", "session": folder.name}
                group.attrs.update(**about, block_num=1, trial_num=i)


def spoil(file):
    """Eight objects of a file."""
    odd = {
        0: np.float32(3),
        1: (np.ones((61, 8)) * 1j).astype("c8"),
        2: h5py.SoftLink("/nowhere"),
        3: np.ones((63, 8, 1)),
        4: np.ones((64, 9)),
        5: np.full((65, 8), np.nan),
    }
    with h5py.File(file, "a") as opened:
        for i, value in odd.items():
            del opened[f"trial_{i:04d}/input_features"]
            opened[f"trial_{i:04d}/input_features"] = value
        opened["trial_0006"].attrs["block_num"] = np.inf
        opened["trial_0007"].attrs["n_time_steps"] = np.array([7, 7])


def test_a_strict_import_fails_on_what_it_would_leave_out(cli, source, tmp_path):
    """Status 2, the line as an error, and no folder."""
    done = cli("data", "import", "arrays", source, "--out", "packed", "--strict", cwd=tmp_path)
    assert done.status == 2
    assert done.err == f"error: {source / 'tuesday.npz'}: utterance 3: 'XX' is not an ARPABET phoneme or SIL\n"
    assert not (tmp_path / "packed").exists()


def test_the_options_of_an_import_reach_it(cli, source, tmp_path):
    """--dev-split, --seed, --sessions and --name; an option of another format is refused by name."""
    (tmp_path / "some.txt").write_text("monday\n")
    done = cli(
        "data", "import", "arrays", source, "--out", "packed", "--dev-split", 0.25, "--seed", 3,
        "--sessions", "some.txt", "--name", "mine", cwd=tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.err
    dataset = open_dataset(tmp_path / "packed")
    assert (dataset.name, dataset.days) == ("mine", ("monday",))
    assert [len(split) for split in dataset.splits.values()] == [7, 2, 3]
    assert dataset.source["options"]["seed"] == 3
    refused = cli("data", "import", "arrays", source, "--out", "b", "--areas", "44", cwd=tmp_path)
    assert refused.status == 2
    assert "option areas is not allowed" in refused.err


def test_check_exits_1_on_errors_and_0_on_warnings(cli, source, tmp_path, tiny_data):
    """In a table and in JSON; the counts are in both."""
    done = cli("data", "check", tiny_data, "--kernel", 8, "--format", "json", cwd=tmp_path)
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    assert facts["error"] == 0
    assert facts["note"] == sum(row["level"] == "note" for row in facts["findings"])
    cli("data", "import", "arrays", source, "--out", "packed", cwd=tmp_path)
    features = np.load(tmp_path / "packed" / "features.npy")
    features[60:120] = features[-60:]
    features[5, 2] = np.inf
    np.save(tmp_path / "packed" / "features.npy", features)
    done = cli("data", "check", "packed", cwd=tmp_path)
    assert done.status == 1
    assert "error   not finite [train] (1): NaN or infinite features" in done.out
    assert "first: utterance 0 (monday), bin 5" in done.out
    assert "same features [train+val] (1): " in done.out
    assert "packed: 2 errors, 0 warnings, 1 note in 23 utterances" in done.out


def test_plot_draws_the_session_that_is_asked_for(cli, source, tmp_path):
    """A PNG of some size with colours in it; without --session it is that of the utterance."""
    cli("data", "import", "arrays", source, "--out", "packed", cwd=tmp_path)
    done = cli("data", "plot", "packed", "--utterance", 14, "--out", "a.png", cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.out == "wrote a.png: session tuesday, utterance 14\n"
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 100
    done = cli("data", "plot", "packed", "--session", "wednesday", "--out", "b.png", cwd=tmp_path)
    assert done.status == 2
    assert "there is no session wednesday; the sessions are monday, tuesday" in done.err


def test_the_picture_shows_the_features_the_phonemes_and_the_lengths(tiny_data, tmp_path, monkeypatch):
    """The heat map is the utterance's own features, below it are its phonemes, and the histograms hold all splits."""
    kept = []
    monkeypatch.setattr(data_picture, "_write", lambda figure, out: kept.append(figure))
    dataset = open_dataset(tiny_data)
    drawn = plot_data(dataset, tmp_path / "a.svg", session=dataset.days[1])
    row = dataset.train.utterance.tolist().index(drawn["utterance"])
    assert dataset.days[dataset.train.day[row]] == drawn["session"] == dataset.days[1]
    session, utterance, *lengths = [axes for axes in kept[0].axes if axes.get_label() != "<colorbar>"]
    np.testing.assert_array_equal(utterance.images[0].get_array(), dataset.train.features(row).T)
    spoken = [dataset.classes[label] for label in dataset.train.label(row)]
    assert [text.get_text() for text in utterance.texts] == ["|" if name == "SIL" else name for name in spoken]
    count = sum(int((split.day == 1).sum()) for split in dataset.splits.values())
    assert session.images[0].get_array().shape == (dataset.n_features, count)
    for axes in lengths:
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        counted = [f"{name}: {len(split)}" for name, split in dataset.splits.items() if len(split)]
        assert [name.split(",")[0] for name in names if ":" in name] == counted


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"out": "a.gif"}, "the ending '.gif' is not allowed"),
        ({"out": "nowhere/a.png"}, "cannot be written: No such file"),
        ({"utterance": 10**6}, "there is no utterance 1000000; give 0 to"),
        (
            {"session": "synthetic.02", "utterance": 0},
            "utterance 0 belongs to session synthetic.01, not to synthetic.02",
        ),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_one_line(tiny_data, tmp_path, options, says):
    """Ending, folder, and an utterance that is not there or of another session."""
    out = tmp_path / options.pop("out", "a.png")
    with pytest.raises(InputError, match=says):
        plot_data(open_dataset(tiny_data), out, **options)
    assert list(tmp_path.iterdir()) == []
