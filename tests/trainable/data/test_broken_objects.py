"""One broken object costs that object: in every layout the rest comes in, and a line says what is missing and why."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.fuzz_recordings import BINS, LAYOUTS, features, make_layout, untouched
from search_spaces.errors import InputError
from trainable.data.dataset import open_dataset
from trainable.data.importers import import_dataset
from trainable.data.importers.shapes import Shapes
from trainable.data.packed import Unusable, write_dataset


def recordings(area: str, folder: Path) -> tuple[Path, Path]:
    """(source, file to spoil) of a sound recording of four training utterances; `packed` beside is its import."""
    make_layout(LAYOUTS[area], folder)
    return folder / LAYOUTS[area].source, folder / LAYOUTS[area].file


def imported(area: str, folder: Path, **options: Any) -> dict[str, Any]:
    layout = LAYOUTS[area]
    more = {"labels": folder / "labels.csv"} if layout.labels else {}
    return import_dataset(layout.kind, folder / layout.source, folder / "out", **{**more, **options})


def check_left_out(area: str, folder: Path, reason: str) -> None:
    """Only training utterance 1 is left out, for this reason; a strict import fails with the same line."""
    with pytest.raises(InputError) as raised:
        imported(area, folder, strict=True)
    result = imported(area, folder)
    assert result["lines"] == raised.value.problems
    [row] = result["skipped"]
    assert (row["reason"], row["count"]) == (reason, 1)
    assert result["lines"][0].startswith(f"{folder / LAYOUTS[area].file}: ")
    assert untouched(folder / "out", set()) == untouched(folder / "packed", {"1"})


def put(key: str, value: Any) -> Callable[[h5py.File], None]:
    """Put another object in the place of one of trial 1."""

    def change(file: h5py.File) -> None:
        del file["trial_0001"][key]
        file["trial_0001"][key] = value

    return change


def attribute(key: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file["trial_0001"].attrs.__setitem__(key, value)


def stored(**how: Any) -> Callable[[h5py.File], None]:
    """Features of trial 1 that are stored in a way of their own."""

    def change(file: h5py.File) -> None:
        del file["trial_0001/input_features"]
        file["trial_0001"].create_dataset("input_features", how.pop("shape", (BINS, 8)), "f4", **how)

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((BINS, 8), "f4")
    layout[:] = h5py.VirtualSource("gone.hdf5", "x", (BINS, 8))
    del file["trial_0001/input_features"]
    file["trial_0001"].create_virtual_dataset("input_features", layout)


def replaced(value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["trial_0001"]
        file["trial_0001"] = value

    return change


X = "input_features"
HDF5_KINDS: list[tuple[Callable[[h5py.File], None], str]] = [
    (put(X, np.float32(3)), "input_features is not [bins, features]"),
    (put(X, np.zeros((BINS, 8), "c8")), "input_features are not real numbers"),
    (put(X, np.zeros((BINS, 8), "S3")), "input_features are not real numbers"),
    (put(X, h5py.Empty("f4")), "input_features is not an array"),
    (put(X, h5py.SoftLink("/nowhere")), "link that leads nowhere"),
    (put(X, h5py.SoftLink("/trial_0001/input_features")), "link that leads nowhere"),
    (put(X, h5py.ExternalLink("gone.hdf5", "/x")), "link that leads nowhere"),
    (virtual, "link that leads nowhere"),
    (stored(external=[("gone.raw", 0, 4 * BINS * 8)]), "cannot be read"),
    (stored(), "the content of input_features was never written"),
    (stored(shape=(2**40, 8), chunks=(64, 8)), "input_features is too large for an utterance"),
    (put(X, features(0).T), "input_features looks transposed"),
    (put(X, features(0)[:, :7]), "another number of features than the other utterances"),
    (put("seq_class_ids", np.full(20, np.inf)), "seq_class_ids is not a row of class ids"),
    (put("seq_class_ids", np.float32(30)), "seq_class_ids is not a row of class ids"),
    (put("seq_class_ids", h5py.SoftLink("/nowhere")), "link that leads nowhere"),
    (put("transcription", np.full(20, -5)), "transcription are not character codes"),
    (attribute("block_num", np.inf), "block_num is not a whole number"),
    (attribute("block_num", 10**12), "block is out of range"),
    (attribute("trial_num", np.array([1, 2])), "trial_num is not a whole number"),
    (attribute("n_time_steps", 59.5), "n_time_steps is not a whole number"),
    (attribute("n_time_steps", BINS + 1), "n_time_steps is not within input_features"),
    (attribute("seq_len", h5py.Empty("i4")), "seq_len has no value"),
    (attribute("sentence_label", np.complex64(1)), "sentence_label is not a text"),
    (replaced(h5py.SoftLink("/nowhere")), "link that leads nowhere"),
    (replaced(np.zeros(3)), "no input_features"),
    (replaced(np.dtype("f4")), "no input_features"),
]


@pytest.mark.parametrize(("change", "reason"), HDF5_KINDS)
def test_a_broken_object_of_an_hdf5_file_costs_its_utterance(
    tmp_path: Path, change: Callable[[h5py.File], None], reason: str
) -> None:
    """Links, types, shapes, numbers and content that is elsewhere: that utterance is a line, the others come in."""
    _, file = recordings("hdf5", tmp_path)
    with h5py.File(file, "a") as opened:
        change(opened)
    check_left_out("hdf5", tmp_path, reason)


def cell(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[key].__setitem__((0, 1), value)


def block(value: float) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["blockIdx"] = content["blockIdx"].astype(float)
        content["blockIdx"][1] = value

    return change


def text(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["sentenceText"] = np.array(["one", value, "one", "one"], dtype=object)

    return change


MAT_KINDS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (cell("tx1", np.zeros((BINS, 256), "c16")), "threshold crossings and power are not real numbers"),
    (cell("spikePow", "text"), "threshold crossings and power are not real numbers"),
    (cell("tx1", 3.0), "threshold crossings and power are not [bins, 256]"),
    (cell("tx1", np.zeros((0, 0))), "threshold crossings and power are not [bins, 256]"),
    (cell("tx1", {"a": 1}), "threshold crossings and power are not real numbers"),
    (block(np.inf), "blockIdx is not a whole number"),
    (block(np.nan), "blockIdx is not a whole number"),
    (block(1e12), "block is out of range"),
    (text(3.0), "sentenceText is not a text"),
    (text("nobody knows"), "text without a label in the label file"),
]


@pytest.mark.parametrize(("change", "reason"), MAT_KINDS)
def test_a_broken_object_of_a_mat_file_costs_its_utterance(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    """Cells, blocks and texts; each utterance here is a block of its own, so that z-scores of the others stay."""
    _, file = recordings("mat", tmp_path)
    content = {key: value for key, value in loadmat(str(file)).items() if not key.startswith("__")}
    change(content)
    savemat(file, content)
    check_left_out("mat", tmp_path, reason)


def entry(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda day: day[key].__setitem__(1, value)


PICKLE_KINDS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (entry("sentenceDat", np.zeros((BINS, 8), "c8")), "sentenceDat are not real numbers"),
    (entry("sentenceDat", np.float32(3)), "sentenceDat is not [bins, features]"),
    (entry("sentenceDat", None), "sentenceDat are not real numbers"),
    (entry("sentenceDat", {"a": 1}), "sentenceDat are not real numbers"),
    (entry("sentenceDat", features(0).T), "sentenceDat looks transposed"),
    (entry("sentenceDat", features(0)[:, :7]), "another number of features than the other utterances"),
    (entry("timeSeriesLens", np.nan), "timeSeriesLens is not a whole number"),
    (entry("timeSeriesLens", [1, 2]), "timeSeriesLens is not a whole number"),
    (entry("timeSeriesLens", BINS + 1), "timeSeriesLens is not within sentenceDat"),
    (entry("phoneLens", np.inf), "phoneLens is not a whole number"),
    (entry("phonemes", "x"), "phonemes is not a row of class ids"),
    (entry("phonemes", np.array([30, np.nan])), "phonemes is not a row of class ids"),
    (entry("phonemes", np.array([99] * 4)), "label out of range"),
    (entry("transcriptions", np.array([2**40])), "transcriptions are not character codes"),
    (entry("transcriptions", {}), "transcriptions is not a text"),
]


@pytest.mark.parametrize(("change", "reason"), PICKLE_KINDS)
def test_a_broken_object_of_a_pickle_costs_its_utterance(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    """Whatever stands in a list of a day where an array or a number should be."""
    source, file = recordings("pickle", tmp_path)
    content = pickle.loads(source.read_bytes())
    change(content["train"][0])
    file.write_bytes(pickle.dumps(content))
    check_left_out("pickle", tmp_path, reason)


def place(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[key].__setitem__(1, value)


ARRAYS_KINDS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (place("block", np.inf), "block is not a whole number"),
    (place("trial", 1.5), "trial is not a whole number"),
    (place("block", 1e12), "block is out of range"),
    (place("split", "dev"), "split is not allowed"),
    (place("phonemes", "QQ"), "unknown phoneme"),
    (place("phonemes", ""), "no label in train"),
    (lambda content: content["features"].__setitem__((BINS + 3, 2), np.nan), "NaN or infinite features"),
]


@pytest.mark.parametrize(("change", "reason"), ARRAYS_KINDS)
def test_a_broken_object_of_an_array_file_costs_its_utterance(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    """One entry of an array that has one for each utterance."""
    _, file = recordings("arrays", tmp_path)
    with np.load(file) as opened:
        content = dict(opened)
    change(content)
    np.savez(file, **content)
    check_left_out("arrays", tmp_path, reason)


def test_texts_of_an_array_file_may_be_bytes(tmp_path: Path) -> None:
    """Arrays of bytes, as older programs write them, are the texts that they spell."""
    _, file = recordings("arrays", tmp_path)
    with np.load(file) as opened:
        content = dict(opened)
    np.savez(file, **{**content, **{key: np.char.encode(content[key]) for key in ("split", "phonemes", "text")}})
    assert imported("arrays", tmp_path, strict=True)["fingerprint"] == open_dataset(tmp_path / "packed").fingerprint


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_a_value_of_one_element_is_that_value(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """MATLAB and netCDF write each attribute as an array, and rows as matrices: the data are the same."""
    source, _ = recordings("hdf5", tmp_path)
    for file in source.rglob("*.hdf5"):
        with h5py.File(file, "a") as opened:
            for trial in opened.values():
                for key in ("n_time_steps", "seq_len", "block_num", "trial_num"):
                    trial.attrs[key] = np.full(shape, float(trial.attrs[key]))
                for key in ("sentence_label", "session"):
                    trial.attrs[key] = np.full(shape, trial.attrs[key].encode())
                for key in ("seq_class_ids", "transcription"):
                    row = trial[key][:]
                    del trial[key]
                    trial[key] = row[None].astype(float)
    result = imported("hdf5", tmp_path, strict=True)
    assert result["fingerprint"] == open_dataset(tmp_path / "packed").fingerprint
    assert result["noticed"] == []


def test_features_are_counted_by_most_utterances_not_by_the_first(tmp_path: Path) -> None:
    """Where the first utterance is the odd one, it is left out, and not all the others."""
    _, file = recordings("hdf5", tmp_path)
    with h5py.File(file, "a") as opened:
        del opened["trial_0000/input_features"]
        opened["trial_0000/input_features"] = features(0)[:, :5]
    result = imported("hdf5", tmp_path)
    assert result["features"] == 8
    assert [row["count"] for row in result["skipped"]] == [1]
    assert untouched(tmp_path / "out", set()) == untouched(tmp_path / "packed", {"0"})


def test_a_whole_file_of_transposed_features_is_left_out(tmp_path: Path) -> None:
    """Also where its shape alone would do: rows are compared with the length, columns with the other files."""
    _, file = recordings("hdf5", tmp_path)
    with h5py.File(file, "a") as opened:
        for trial in opened.values():
            rows = trial["input_features"][:]
            del trial["input_features"]
            trial["input_features"] = np.vstack([rows.T] * 9)[:64]
    with pytest.raises(InputError, match="4 skipped: input_features looks transposed"):
        imported("hdf5", tmp_path)


def test_shapes_without_lengths_show_that_all_are_transposed() -> None:
    """One number of rows and several of columns: rows are the features."""
    shapes = Shapes("features", "bins")
    for bins in (50, 60, 70):
        shapes.see((8, bins), np.dtype("f4"))
    assert shapes.features is None
    with pytest.raises(Unusable, match=r"features looks transposed \(it is 8 x 50;"):
        shapes.check((8, 50), np.dtype("f4"), None, "here")


@pytest.mark.parametrize(
    ("area", "change", "what"),
    [
        ("hdf5", attribute("n_time_steps", 40), "input_features has rows with data after n_time_steps; they are cut"),
        ("hdf5", put(X, np.r_[features(1), np.zeros((9, 8))]), "input_features has rows of zeros after n_time_steps"),
        ("hdf5", put(X, np.ones((BINS, 8), "i8")), "input_features are integers, of most utterances fractions"),
        ("hdf5", attribute("session", "s2"), "session is not the name of the folder"),
        ("hdf5", attribute("sentence_label", "two"), "sentence_label is not what transcription says"),
        ("pickle", entry("timeSeriesLens", 40), "sentenceDat has rows with data after timeSeriesLens; they are cut"),
        ("pickle", entry("sentenceDat", np.ones((BINS, 8), "i2")), "sentenceDat are integers, of most utterances"),
    ],
)  # fmt: skip
def test_facts_that_contradict_each_other_are_noticed(
    tmp_path: Path, area: str, change: Callable[[Any], None], what: str
) -> None:
    """The utterance comes in, and the summary says what does not fit and where."""
    source, file = recordings(area, tmp_path)
    if area == "hdf5":
        with h5py.File(file, "a") as opened:
            change(opened)
    else:
        content = pickle.loads(source.read_bytes())
        change(content["train"][0])
        file.write_bytes(pickle.dumps(content))
    result = imported(area, tmp_path, strict=True)
    [row] = result["noticed"]
    assert row["reason"].startswith(what)
    assert row["count"] == 1
    assert "1" in row["example"].removeprefix(str(file))
    assert result["utterances"]["train"] == 4


ANNEX = "../.git/annex/objects/Xx/Yy/SHA256E-s9--0.hdf5/SHA256E-s9--0.hdf5"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda file: file.symlink_to("/nowhere/data_val.hdf5"), "link that leads nowhere (to /nowhere/data_val.hdf5)"),
        (lambda file: file.symlink_to(ANNEX), "git annex get brings the content)"),
        (lambda file: file.symlink_to(file), "link that leads nowhere"),
        (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
         "stands for content that is not here (git lfs pull brings it)"),
        (lambda file: file.write_text("/annex/objects/SHA256E-s9--0.hdf5\n"), "stands for content that is not here"),
        (lambda file: file.touch(), "an empty file"),
        (lambda file: file.mkdir(), "not a file (a folder of this name)"),
        (lambda file: os.mkfifo(file), "not a file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("area", ["hdf5", "mat", "arrays"])
def test_a_file_that_is_listed_but_not_there_is_named_as_that(
    tmp_path: Path, area: str, make: Callable[[Path], Any], says: str
) -> None:
    """Links that lead nowhere, pointers of git-lfs and git-annex, empty files, folders and pipes; the rest comes in."""
    _, file = recordings(area, tmp_path)
    if area == "hdf5":
        bad = file.with_name("data_val.hdf5")
        bad.unlink()
    else:
        bad = file.with_name(f"other{file.suffix}")
    make(bad)
    result = imported(area, tmp_path)
    assert [line for line in result["lines"] if not line.startswith(f"{bad}: ") or says not in line] == []
    assert result["utterances"]["train"] == 4
    assert not any("session without" in row["reason"] and "val" in row["reason"] for row in result["noticed"])


def test_a_pickle_that_is_a_pointer_is_named_as_that(tmp_path: Path) -> None:
    """The one file of this layout is the whole source, so this is the error."""
    source, _ = recordings("pickle", tmp_path)
    source.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match=r"stands for content that is not here \(git lfs"):
        imported("pickle", tmp_path)
    source.unlink()
    source.symlink_to("gone")
    with pytest.raises(InputError, match="is a link that leads nowhere, to gone; give the folder or file"):
        imported("pickle", tmp_path)


def test_files_that_dvc_keeps_elsewhere_are_named(tmp_path: Path) -> None:
    """`FILE.dvc` without FILE: the file is left out with what brings it."""
    _, file = recordings("hdf5", tmp_path)
    file.rename(file.with_name("data_val.hdf5"))
    file.with_name("data_train.hdf5.dvc").write_text("outs: []")
    with pytest.raises(InputError, match="stands for content that is not here"):
        imported("hdf5", tmp_path)


@pytest.mark.parametrize("area", ["hdf5", "arrays"])
def test_linked_folders_are_followed_and_hidden_ones_are_not(tmp_path: Path, area: str) -> None:
    """A session may be a link to a folder elsewhere; an alias of one that is there is not a second one."""
    source, file = recordings(area, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    inner = source / "s1" if area == "hdf5" else source
    inner.rename(elsewhere)
    source.mkdir(exist_ok=True)
    (source / "s1").symlink_to(elsewhere)
    (source / "loop").symlink_to(source)
    (source / "gone").symlink_to("/nowhere/session")
    hidden = source / ".snapshot" / "s9"
    hidden.mkdir(parents=True)
    (hidden / file.name).write_text("not for us")
    (source / "._s1.npz").write_text("of a Mac")
    result = imported(area, tmp_path, strict=True)
    assert result["fingerprint"] == open_dataset(tmp_path / "packed").fingerprint
    assert [(row["reason"], row["count"]) for row in result["noticed"]] == [("link that leads nowhere", 1)]


def test_the_table_of_utterances_takes_only_what_it_can_hold(tmp_path: Path) -> None:
    """Numbers beyond 32 bits and texts that are no Unicode are refused when they are added, not at the end."""
    good = {"split": "train", "session": "s", "text": "one", "block": 1, "trial": 1}
    bad = [("block", 2**31), ("trial", -(2**31) - 1), ("text", "\ud800"), ("session", "\udcff")]
    with write_dataset(tmp_path / "out", source={}, bin_ms=20) as writer:
        for key, value in bad:
            with pytest.raises(Unusable, match=key):
                writer.add(features(0), [1], **{**good, key: value})
        with pytest.raises(Unusable, match="complex128, not real numbers"):
            writer.add(features(0) * 1j, [1], **good)
        writer.add(features(0), [1], **good)
    assert len(open_dataset(tmp_path / "out").train) == 1
