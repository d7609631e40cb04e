"""Sending data to nodes: copied once, gone on with, checked, and removed with the last study that uses them."""

import os
import shutil
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError
from trainable.data.dataset import open_dataset
from trainable.data.stamps import STAMP_FILE
from tuner.backend import staging
from tuner.backend.staging import DataServer, Stage, copy_here, remove_here


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node's local folder."""
    monkeypatch.setenv("TUNER_STAGE", str(tmp_path / "stage"))
    return tmp_path / "stage"


@pytest.fixture
def stage(tiny_data):
    """The tiny data for one study, read piece by piece; `counted` has the bytes of each read."""
    server = DataServer(str(tiny_data))
    counted = []

    def read(name, offset, size):
        piece = server.read(name, offset, min(size, 50_000))
        counted.append(len(piece))
        return piece

    return Stage("server", open_dataset(tiny_data).fingerprint, "study-1"), server.files(), read, counted


def test_data_are_copied_once(node, stage, tiny_data):
    """The copy is the data, byte for byte; who asks again reads nothing."""
    stage, files, read, counted = stage
    folder = copy_here(stage, files, read)
    here = {path.name: path.read_bytes() for path in tiny_data.iterdir() if path.name != STAMP_FILE}
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != STAMP_FILE} == here
    assert folder.parent == node and sum(counted) == sum(files.values())
    assert copy_here(stage, files, read) == folder and sum(counted) == sum(files.values())


@pytest.mark.parametrize("reads", [1, 3, 8])
def test_a_copy_that_broke_off_is_gone_on_with(node, stage, reads):
    """After a broken connection only what is missing travels."""
    stage, files, read, counted = stage

    def breaks(*arguments):
        if len(counted) >= reads:
            raise ConnectionError("gone")
        return read(*arguments)

    with pytest.raises(ConnectionError):
        copy_here(stage, files, breaks)
    assert not (node / stage.fingerprint).exists()
    copy_here(stage, files, read)
    assert sum(counted) == sum(files.values())


def test_processes_of_a_node_copy_together_once(node, stage):
    """Four processes that need the data at the same time: one copies, the others wait for it."""
    stage, files, read, counted = stage
    found = []
    threads = [threading.Thread(target=lambda: found.append(copy_here(stage, files, read))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and sum(counted) == sum(files.values())


def test_what_arrives_broken_is_not_trained_on(node, stage):
    """A changed byte is noticed by the fingerprint; nothing of it stays."""
    stage, files, read, _ = stage

    def spoils(name, offset, size):
        piece = read(name, offset, size)
        return piece[:-1] + bytes([piece[-1] ^ 1]) if name == "features.npy" and offset > 1000 else piece

    with pytest.raises(InputError, match="not a data folder"):
        copy_here(stage, files, spoils)
    assert not (node / stage.fingerprint).exists() and not (node / f"{stage.fingerprint}.part").exists()


def test_a_node_without_room_is_said(node, stage, monkeypatch):
    """Nothing is copied where it would not fit."""
    stage, files, read, counted = stage
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match="set TUNER_STAGE on the node"):
        copy_here(stage, files, read)
    assert not counted


def test_the_last_study_removes_the_copy(node, stage):
    """Two studies use it: it stays with the first end and goes with the second; ending twice is harmless."""
    stage, files, read, _ = stage
    other = Stage("server", stage.fingerprint, "study-2")
    folder = copy_here(stage, files, read)
    copy_here(other, files, read)
    remove_here(stage)
    assert folder.exists()
    remove_here(other)
    remove_here(other)
    assert not folder.exists() and [p.suffix for p in node.iterdir()] == [".lock"]


def test_a_forgotten_copy_goes_after_a_week(node, stage, monkeypatch):
    """A study that was killed and never resumed leaves its copy for a week, whoever comes; then it goes."""
    stage, files, read, _ = stage
    old = copy_here(stage, files, read)
    real = time.time
    monkeypatch.setattr(staging, "local_root", lambda: node)
    staging._prune(node)
    assert old.exists()
    monkeypatch.setattr(staging.time, "time", lambda: real() + staging.KEPT_SECONDS + 120)
    staging._prune(node)
    assert not old.exists()


def test_somebody_elses_folder_is_not_used(monkeypatch, tmp_path):
    """A link or a folder of another user in /tmp is refused: data could be read or changed there."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("TUNER_STAGE", str(tmp_path / "link"))
    with pytest.raises(InputError, match="belongs to another user"):
        staging.local_root()
    monkeypatch.setenv("TUNER_STAGE", str(tmp_path / "real"))
    assert staging.local_root() == tmp_path / "real"
    monkeypatch.setattr(staging.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(InputError, match="belongs to another user"):
        staging.local_root()


def test_the_server_reads_the_data_folder_only(tiny_data, tmp_path):
    """Names that are not files of the data folder are refused."""
    server = DataServer(str(tiny_data))
    with pytest.raises(KeyError):
        server.read("../secret", 0, 10)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_pieces_are_the_file(offset, size):
    """Any piece is that slice of the file."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        whole = bytes(i % 251 for i in range(700))
        Path(folder, "f").write_bytes(whole)
        assert DataServer(folder).read("f", offset, size) == whole[offset : offset + size]


def test_staging_is_for_clusters(cli, tiny_data, tmp_path):
    """A local Ray reads the data where they are."""
    said = cli("search", "quickstart", "--data", tiny_data, "--stage-data", "--results", tmp_path / "r")
    assert said.status == 2 and "a local Ray reads --data where it is" in said.err
