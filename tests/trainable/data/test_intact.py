"""The content of a data folder is what its fingerprint stands for; it is read only where a file was touched."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from search_spaces.errors import InputError
from trainable.data import intact
from trainable.data.intact import DataChanged, WatchedData, open_intact
from trainable.data.stamps import STAMP_FILE
from trainable.data.synthetic import make_synthetic


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    """The tiny synthetic data set, made once."""
    folder = tmp_path_factory.mktemp("intact") / "tiny"
    make_synthetic(folder, "tiny")
    return folder


@pytest.fixture
def data(tiny_data, tmp_path):
    """A copy of the tiny data, verified."""
    folder = shutil.copytree(tiny_data, tmp_path / "data")
    open_intact(folder)
    return folder


@pytest.fixture
def reads(monkeypatch):
    """The folders whose whole content was read."""
    seen = []
    verify = intact.verify
    monkeypatch.setattr(intact, "verify", lambda path: (seen.append(path), verify(path))[1])
    return seen


def spoil(folder, keep_time=False):
    """Overwrite one number of the features in place: same size, same shape."""
    file = folder / "features.npy"
    before = file.stat()
    features = np.load(file, mmap_mode="r+")
    features[len(features) // 2, 0] += 1.0
    features.flush()
    del features
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_folder_that_was_just_made_is_not_read_again(tmp_path, reads):
    """Whoever wrote the data knows their fingerprint: the first search on them starts at once."""
    make_synthetic(tmp_path / "new", "tiny")
    open_intact(tmp_path / "new")
    assert reads == []


def test_what_was_touched_is_read_once(data, reads):
    """Another time on a file and the same content: read, found right, remembered."""
    open_intact(data)
    assert reads == []
    os.utime(data / "features.npy")
    for _ in range(2):
        open_intact(data)
    assert len(reads) == 1


@pytest.mark.parametrize("known", [None, "{}", "no json", "[1]"])
def test_data_packed_by_an_older_version_open(tiny_data, tmp_path, reads, known):
    """Without a `verified.json`, or with one that says nothing, the data are read once and remembered."""
    folder = shutil.copytree(tiny_data, tmp_path / "data")
    (folder / STAMP_FILE).unlink()
    if known is not None:
        (folder / STAMP_FILE).write_text(known)
    assert open_intact(folder).fingerprint == json.loads((folder / "dataset.json").read_text())["fingerprint"]
    open_intact(folder)
    assert len(reads) == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("keep_time", [False, True])
def test_overwritten_features_are_told(data, keep_time):
    """One number of `features.npy` changed in place, the file's time set back or not: an error that names the file and
    when it was written.
    """
    spoil(data, keep_time)
    with pytest.raises(InputError, match=r"content has fingerprint .* \(features.npy was last written at "):
        open_intact(data)


def test_another_data_set_in_the_same_place_is_told(data, tmp_path):
    """The whole folder replaced, with a `dataset.json` that fits: no longer what was opened."""
    watched = WatchedData(data, "")
    watched.check()
    shutil.rmtree(data)
    make_synthetic(data, "tiny", seed=5)
    with pytest.raises(DataChanged, match="holds other data now"):
        watched.check()
    with pytest.raises(DataChanged, match="the study's is"):
        WatchedData(data, watched.dataset.fingerprint)


def test_who_trains_on_data_is_told_when_they_change(data, reads):
    """`check` reads nothing while no file was touched, takes a touched file with the same content, and raises where the
    content is another, or gone: a failed job, not a wrong input.
    """
    watched = WatchedData(data, json.loads((data / "dataset.json").read_text())["fingerprint"])
    watched.check()
    assert reads == []
    os.utime(data / "features.npy")
    watched.check()
    watched.check()
    assert len(reads) == 1
    kept = (data / "features.npy").read_bytes()
    spoil(data)
    with pytest.raises(DataChanged, match="restore the data, then resume the study") as error:
        watched.check()
    assert error.value.exit_status == 1
    (data / "features.npy").unlink()
    with pytest.raises(DataChanged, match=r"features.npy: is gone"):
        watched.check()
    (data / "features.npy").write_bytes(kept)
    watched.check()


def test_a_file_replaced_by_another_is_told(data):
    """Other features moved into place: who has the old file open trains on it still, and is told all the same."""
    watched = WatchedData(data, "")
    features = np.load(data / "features.npy")
    np.save(data / "new.npy", features[::-1])
    (data / "new.npy").replace(data / "features.npy")
    with pytest.raises(DataChanged, match="content has fingerprint"):
        watched.check()


def test_features_that_are_not_numbers_are_named(data):
    """NaN that somebody wrote into the features: the message has the utterance and the bin, not only a fingerprint."""
    features = np.load(data / "features.npy", mmap_mode="r+")
    features[3, 1] = np.nan
    features.flush()
    with pytest.raises(InputError, match="NaN or infinite features in bin 3"):
        open_intact(data)
