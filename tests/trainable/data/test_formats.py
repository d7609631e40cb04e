"""The same small recordings in every format that can be imported, laid out as labs have them.

What is special to a format, and what bad input gets, is tested below; the '25 layout has test_importers.py to itself.
"""

from __future__ import annotations

import csv
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from search_spaces.errors import InputError
from trainable.data.dataset import Dataset, open_dataset, verify
from trainable.data.importers import KINDS, import_dataset
from tuner.testing import importers

CHANNELS = 256
SESSIONS = ("t12.2022.04.28", "t12.2022.05.05")
TEXTS = ("Hello.", "the boys'", "Well -- go home!", "it is a bath", "don't")
PHONEMES = ("HH AH0 L OW1 SIL", "DH AH0 SIL B OY1 Z SIL SIL", "W EH1 L SIL G OW1 SIL HH OW1 M SIL",
            "IH1 T SIL IH1 Z SIL AH0 SIL B AE1 TH SIL", "D OW1 N T SIL")  # fmt: skip
LABELS = (
    [16, 3, 21, 25, 40],
    [10, 3, 40, 7, 26, 38, 40, 40],
    [36, 11, 21, 40, 15, 25, 40, 16, 25, 22, 40],
    [17, 31, 40, 17, 38, 40, 3, 40, 7, 2, 32, 40],
    [9, 25, 23, 31, 40],
)
"""Class ids of `PHONEMES`, counted by hand in the order of the classes."""
PARTS = {"train": 4, "test": 2, "competitionHoldOut": 1}


@dataclass
class Utterance:
    """What was recorded, before any format."""

    session: str
    part: str
    place: int
    """In its session and part."""
    raw: dict[str, np.ndarray]
    """tx1..tx4 and spikePow, [bins, 256]."""
    said: int
    """Index into TEXTS; the hold-out's is not written anywhere."""
    block: int


def recorded(seed: int = 0) -> list[Utterance]:
    """By session, in each train, test, hold-out; two blocks in a part, a channel that is always silent."""
    rng = np.random.default_rng(seed)
    made = []
    for session in SESSIONS:
        for number, (part, count) in enumerate(PARTS.items()):
            for place in range(count):
                bins = int(rng.integers(30, 50))
                raw = {f"tx{i}": rng.poisson(2.0 / i, (bins, CHANNELS)).astype(np.uint8) for i in range(1, 5)}
                raw["spikePow"] = rng.gamma(2.0, 20.0, (bins, CHANNELS))
                raw["tx1"][:, 5] = 0
                said = (place + number) % len(TEXTS)
                made.append(Utterance(session, part, place, raw, said, 2 * number + place // 2))
    return made


def grouped(utterances: list[Utterance]) -> Iterator[tuple[str, str, list[Utterance]]]:
    """(session, part, its utterances)."""
    for session in SESSIONS:
        for part in PARTS:
            yield session, part, [one for one in utterances if (one.session, one.part) == (session, part)]


def features_of(utterances: list[Utterance], channels: slice = slice(0, 128)) -> list[np.ndarray]:
    """Features as the reference makes them: float64, z-scored over each block of a file."""
    out = []
    for one in utterances:
        block = [o for o in utterances if (o.session, o.part, o.block) == (one.session, one.part, one.block)]
        joined = [np.concatenate([o.raw["tx1"][:, channels], o.raw["spikePow"][:, channels]], axis=1) for o in block]
        everything = np.concatenate(joined, axis=0)
        mine = np.concatenate([one.raw["tx1"][:, channels], one.raw["spikePow"][:, channels]], axis=1)
        out.append((mine - everything.mean(axis=0)) / (everything.std(axis=0) + 1e-8))
    return out


def cells(arrays: list[np.ndarray]) -> np.ndarray:
    """A MATLAB cell array [1, n]."""
    made = np.empty((1, len(arrays)), dtype=object)
    for i, array in enumerate(arrays):
        made[0, i] = array
    return made


def mat_content(utterances: list[Utterance], **changes: Any) -> dict[str, Any]:
    """What a '24 file of these utterances has in it; a change of None leaves a key out."""
    held = utterances[0].part == "competitionHoldOut"
    content = {
        "sentenceText": np.array(["held out" if held else TEXTS[one.said] for one in utterances]),
        "blockIdx": np.array([[one.block] for one in utterances], dtype=np.uint8),
        **{key: cells([one.raw[key] for one in utterances]) for key in ("tx1", "tx2", "tx3", "tx4", "spikePow")},
    }
    return {key: value for key, value in {**content, **changes}.items() if value is not None}


def write_mat(folder: Path, utterances: list[Utterance]) -> Path:
    """`competitionData` as it is on Dryad."""
    for session, part, some in grouped(utterances):
        file = folder / "competitionData" / part / f"{session}.mat"
        file.parent.mkdir(parents=True, exist_ok=True)
        savemat(file, mat_content(some))
    return folder / "competitionData"


def padded(label: list[int]) -> np.ndarray:
    """int32 [500], as the pickle and the '25 files have labels."""
    row = np.zeros(500, np.int32)
    row[: len(label)] = label
    return row


def codes(text: str) -> np.ndarray:
    """int32 [500], as the pickle and the '25 files have texts."""
    return padded([ord(sign) for sign in text])


def pickle_content(utterances: list[Utterance], labels: tuple[str, str] = ("phonemes", "phoneLens")) -> dict[str, Any]:
    """What `ptDecoder_ctc` holds."""
    content: dict[str, Any] = {"train": [], "test": [], "competition": []}
    features = dict(zip(map(id, utterances), features_of(utterances), strict=True))
    for _, part, some in grouped(utterances):
        held = part == "competitionHoldOut"
        said = [[16, 11, 21, 9, 40, 5, 31, 40] if held else LABELS[one.said] for one in some]
        day = {
            "sentenceDat": [features[id(one)] for one in some],
            "transcriptions": [codes("held out" if held else TEXTS[one.said]) for one in some],
            labels[0]: [padded(label) for label in said],
            "timeSeriesLens": np.array([len(one.raw["tx1"]) for one in some]),
            labels[1]: np.array([len(label) for label in said]),
            "phonePerTime": np.array([len(label) / 40 for label in said], dtype=np.float32),
        }
        content["competition" if held else part].append(day)
    return content


def write_pickle(folder: Path, utterances: list[Utterance]) -> Path:
    """The file that the reference trains on."""
    file = folder / "ptDecoder_ctc"
    file.write_bytes(pickle.dumps(pickle_content(utterances)))
    return file


def write_hdf5(folder: Path, utterances: list[Utterance]) -> Path:
    """The '25 layout: what is the test part elsewhere is its val."""
    features = dict(zip(map(id, utterances), features_of(utterances), strict=True))
    names = {"train": "data_train", "test": "data_val", "competitionHoldOut": "data_test"}
    for session, part, some in grouped(utterances):
        file = folder / "hdf5" / session / f"{names[part]}.hdf5"
        file.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(file, "w") as opened:
            for i, one in enumerate(some):
                group = opened.create_group(f"trial_{i:04d}")
                group["input_features"] = features[id(one)].astype(np.float32)
                group.attrs.update(n_time_steps=len(features[id(one)]), block_num=one.block, trial_num=i)
                group.attrs["session"] = session
                if part != "competitionHoldOut":
                    group["seq_class_ids"] = padded(LABELS[one.said])
                    group["transcription"] = codes(TEXTS[one.said])
                    group.attrs.update(seq_len=len(LABELS[one.said]), sentence_label=TEXTS[one.said])
    return folder / "hdf5"


def write_arrays(folder: Path, utterances: list[Utterance], labels: str = "phonemes") -> Path:
    """The plain layout; `labels` says what stands for the labels: phonemes, labels or text alone."""
    (folder / "arrays").mkdir(exist_ok=True)
    splits = {"train": "train", "test": "val", "competitionHoldOut": "test"}
    features = features_of(utterances)
    for session in SESSIONS:
        rows = [i for i, one in enumerate(utterances) if one.session == session]
        held = [utterances[i].part == "competitionHoldOut" for i in rows]
        said = [utterances[i].said for i in rows]
        content: dict[str, Any] = {
            "features": np.concatenate([features[i] for i in rows]),
            "bins": np.array([len(features[i]) for i in rows]),
            "split": np.array([splits[utterances[i].part] for i in rows]),
            "text": np.array(["" if h else TEXTS[s] for s, h in zip(said, held, strict=True)]),
        }
        if labels == "phonemes":
            content["phonemes"] = np.array(["" if h else PHONEMES[s] for s, h in zip(said, held, strict=True)])
        elif labels == "labels":
            content["labels"] = np.stack([padded([] if h else LABELS[s]) for s, h in zip(said, held, strict=True)])
        np.savez(folder / "arrays" / f"{session}.npz", **content)
    return folder / "arrays"


def write_labels(file: Path) -> Path:
    """A label file with the pronunciation of every text."""
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["text", "phonemes"])
        rows.writerows(zip(TEXTS, PHONEMES, strict=True))
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The recordings in every format, made once; tests that spoil something write their own."""
    folder = tmp_path_factory.mktemp("made")
    utterances = recorded()
    (folder / "names.txt").write_text("\n".join(SESSIONS))
    return SimpleNamespace(
        utterances=utterances,
        mat=write_mat(folder, utterances),
        pickle=write_pickle(folder, utterances),
        hdf5=write_hdf5(folder, utterances),
        arrays=write_arrays(folder, utterances),
        labels=write_labels(folder / "labels.csv"),
        names=folder / "names.txt",
    )


WRITERS: dict[str, importers.Write] = {
    "b2t24-mat": lambda folder: (write_mat(folder, recorded()), {"labels": write_labels(folder / "labels.csv")}),
    "reference-pickle": lambda folder: (write_pickle(folder, recorded()), {}),
    "b2t25": lambda folder: (write_hdf5(folder, recorded()), {}),
    "arrays": lambda folder: (write_arrays(folder, recorded()), {}),
}
"""What writes a small recording of a kind, with the importer's options: a new importer gets a line here."""


def test_every_importer_has_the_contract() -> None:
    """A new kind gets a line in WRITERS, and with it the contract."""
    assert set(WRITERS) == set(KINDS)


@pytest.mark.parametrize("clause", importers.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", WRITERS)
def test_importers_keep_the_contract(kind: str, clause: Callable[..., None]) -> None:
    """Every registered kind, every clause."""
    found = {each.name: each for each in importers.contract(kind, WRITERS[kind], damages=12)}
    found[clause.__name__]()


def content(dataset: Dataset) -> dict[str, list[tuple[str, list[int], bytes]]]:
    """(session, labels, feature bytes) of each utterance of each split."""
    return {
        name: [
            (dataset.days[split.day[i]], split.label(i).tolist(), split.features(i).tobytes())
            for i in range(len(split))
        ]
        for name, split in dataset.splits.items()
    }


@pytest.mark.parametrize("options", [{}, {"dev_split": 0.3}, {"dev_split": 0.3, "seed": 4}])
def test_every_format_gives_the_same_data(made: SimpleNamespace, tmp_path: Path, options: dict[str, Any]) -> None:
    """Features bit for bit, labels, sessions and splits are the same, with and without a development split."""
    sources = {
        "b2t24-mat": (made.mat, {"labels": made.labels}),
        "reference-pickle": (made.pickle, {"sessions": made.names}),
        "b2t25": (made.hdf5, {}),
        "arrays": (made.arrays, {}),
    }
    assert set(sources) == set(KINDS)
    found = {}
    for kind, (source, more) in sources.items():
        result = import_dataset(kind, source, tmp_path / kind, strict=True, **more, **options)
        found[kind] = content(verify(tmp_path / kind))
        expected = {"train": 6, "val": 2, "test": 6} if options else {"train": 8, "val": 4, "test": 2}
        assert result["utterances"] == expected
    assert found["b2t24-mat"] == found["reference-pickle"] == found["b2t25"] == found["arrays"]
    labels = sorted(tuple(label) for rows in found["arrays"].values() for _, label, _ in rows)
    heldout = [() for one in made.utterances if one.part == "competitionHoldOut"]
    assert labels == sorted(
        [*heldout, *(tuple(LABELS[o.said]) for o in made.utterances if o.part in ("train", "test"))]
    )


def test_labels_in_an_array_file_may_be_class_ids_or_made_from_text(made: SimpleNamespace, tmp_path: Path) -> None:
    """Padded class ids, and texts with a label file, give what phoneme names give."""
    import_dataset("arrays", made.arrays, tmp_path / "phonemes")
    for kind in ("labels", "text"):
        (tmp_path / f"of-{kind}").mkdir()
        source = write_arrays(tmp_path / f"of-{kind}", made.utterances, kind)
        import_dataset("arrays", source, tmp_path / kind, labels=made.labels)
        assert content(open_dataset(tmp_path / kind)) == content(open_dataset(tmp_path / "phonemes"))


def test_the_worked_example_of_the_manual_works(tmp_path: Path) -> None:
    """The code in docs/data.md makes files that are imported whole."""
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    result = import_dataset("arrays", tmp_path / "sessions", tmp_path / "out", strict=True)
    assert result["utterances"] == {"train": 4, "val": 2, "test": 0}
    dataset = open_dataset(tmp_path / "out")
    assert dataset.days == ("monday", "tuesday")
    assert dataset.val.label(0).tolist() == [16, 3, 21, 25, 40, 36, 12, 21, 9, 40]
    assert dataset.val.text[0] == "hello world"


def test_formats_without_a_validation_part_say_what_the_search_selects_on(
    made: SimpleNamespace, tmp_path: Path
) -> None:
    """The '24 test set stands in as val with a note, which --dev-split takes away; the '25 files have their own."""
    for kind, source, more in (("b2t24-mat", made.mat, {"labels": made.labels}), ("reference-pickle", made.pickle, {})):
        [remark] = import_dataset(kind, source, tmp_path / kind, **more)["remarks"]
        assert "val is the source's test set" in remark
        assert open_dataset(tmp_path / kind).source["remarks"] == [remark]
        assert import_dataset(kind, source, tmp_path / f"{kind}-dev", dev_split=0.1, **more)["remarks"] == []
    assert import_dataset("b2t25", made.hdf5, tmp_path / "hdf5")["remarks"] == []


def test_areas_thresholds_and_logarithms_choose_the_features(made: SimpleNamespace, tmp_path: Path) -> None:
    """Area 44 is the second half of the columns; tx3 replaces tx1; logarithms are taken before z-scoring."""

    def first(name: str, **options: Any) -> np.ndarray:
        import_dataset("b2t24-mat", made.mat, tmp_path / name, labels=made.labels, **options)
        return open_dataset(tmp_path / name).train.features(0)

    def wanted(part: np.ndarray) -> np.ndarray:
        return features_of(made.utterances, part)[0].astype(np.float32)

    np.testing.assert_array_equal(first("44", areas="44"), wanted(slice(128, 256)))
    np.testing.assert_array_equal(first("all", areas="all"), wanted(slice(0, 256)))
    block = [one for one in made.utterances if (one.session, one.part, one.block) == (SESSIONS[0], "train", 0)]
    raw = np.concatenate([one.raw["tx3"][:, 7] for one in block])
    expected = (block[0].raw["tx3"][:, 7] - raw.mean()) / raw.std()
    np.testing.assert_allclose(first("tx3", thresholds="tx3")[:, 7], expected, rtol=1e-5)
    raw = np.log(1 + np.concatenate([one.raw["spikePow"][:, 3] for one in block]))
    expected = (raw[: len(block[0].raw["tx1"])] - raw.mean()) / raw.std()
    np.testing.assert_allclose(first("log", log_features=True)[:, 131], expected, rtol=1e-4, atol=1e-5)
    assert (first("plain")[:, 5] == 0).all()  # a silent channel


def with_mat(tmp_path: Path, made: SimpleNamespace, **changes: Any) -> tuple[Path, Path]:
    """(source, file): the recordings with the first session's train file changed."""
    source = write_mat(tmp_path, made.utterances)
    file = source / "train" / f"{SESSIONS[0]}.mat"
    some = next(some for _, _, some in grouped(made.utterances))
    savemat(file, mat_content(some, **changes))
    return source, file


def refused(kind: str, source: Path, out: Path, **options: Any) -> list[str]:
    """The lines of an import that makes nothing."""
    with pytest.raises(InputError) as raised:
        import_dataset(kind, source, out, **options)
    assert not out.exists()
    assert all("\n" not in line for line in raised.value.problems)
    return raised.value.problems


BAD_CELL = [np.zeros((40, CHANNELS)), np.zeros((40, 7)), np.full((40, CHANNELS), np.nan), np.zeros((40, CHANNELS))]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tx1": None}, ["not of the '24 layout (no tx1 in it)"]),
        ({"blockIdx": None, "sentenceText": None}, ["not of the '24 layout (no sentenceText, blockIdx in it)"]),
        ({"blockIdx": np.array([[1], [1]])}, ["one entry of each for an utterance, but it has sentenceText 4, block"]),
        ({"tx1": np.zeros((4, CHANNELS))}, ["one entry of each for an utterance"]),
        (
            {"tx1": cells(BAD_CELL), "spikePow": cells(BAD_CELL)},
            ["trial 1: threshold crossings and power are not [bins, 256]", "trial 2: NaN or infinite features"],
        ),
        ({"sentenceText": np.array(["Hello.", "held out", "nobody knows", ""])},
         ["trial 1: the text is kept back", "trial 2: text 'nobody knows' is not in", "trial 3: text '' is not in"]),
    ],
)  # fmt: skip
def test_a_mat_file_that_is_spoilt_is_left_out_with_a_line(
    made: SimpleNamespace, tmp_path: Path, changes: dict[str, Any], says: list[str]
) -> None:
    """Each line names file and trial; strict imports fail with these lines, others count them and go on."""
    source, file = with_mat(tmp_path, made, **changes)
    lines = refused("b2t24-mat", source, tmp_path / "out", labels=made.labels, strict=True)
    assert all(line.startswith(f"{file}: {text}") or text in line for line, text in zip(lines, says, strict=True))
    assert all(line.startswith(str(file)) for line in lines)
    result = import_dataset("b2t24-mat", source, tmp_path / "out", labels=made.labels)
    assert result["lines"] == lines
    assert sum(row["count"] for row in result["skipped"]) == len(lines)
    assert result["utterances"]["train"] == 8 - (4 if len(says) == 1 else len(says))


def test_an_utterance_with_nan_does_not_spoil_its_block(made: SimpleNamespace, tmp_path: Path) -> None:
    """The other utterance of the block is z-scored over its own bins."""
    some = next(some for _, _, some in grouped(made.utterances))
    arrays = [one.raw["spikePow"].copy() for one in some]
    arrays[1][3, 4] = np.nan
    source, _ = with_mat(tmp_path, made, spikePow=cells(arrays))
    import_dataset("b2t24-mat", source, tmp_path / "out", labels=made.labels)
    first = open_dataset(tmp_path / "out").train.features(0)
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("cut", [0, 40, 128, 500, 5000, -200])
def test_a_truncated_or_foreign_mat_file_is_one_line(made: SimpleNamespace, tmp_path: Path, cut: int) -> None:
    """Cut anywhere, or no MATLAB file at all: the file is named, the others come in."""
    source, file = with_mat(tmp_path, made)
    file.write_bytes(file.read_bytes()[:cut] if cut else b"not MATLAB" * 50)
    [line] = refused("b2t24-mat", source, tmp_path / "out", labels=made.labels, strict=True)
    assert line.startswith(f"{file}: ")
    assert import_dataset("b2t24-mat", source, tmp_path / "out", labels=made.labels)["utterances"]["train"] == 4


def test_a_matlab_73_file_says_how_to_save_it(made: SimpleNamespace, tmp_path: Path) -> None:
    """Such files are HDF5 behind a MATLAB header; the line says what to do."""
    source, file = with_mat(tmp_path, made)
    file.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    [line] = refused("b2t24-mat", source, tmp_path / "out", labels=made.labels, strict=True)
    assert "a MATLAB 7.3 file (save it with -v7)" in line


def test_a_mat_session_in_two_places_is_used_once(made: SimpleNamespace, tmp_path: Path) -> None:
    """A second file of the same name in another train folder is left out."""
    source, file = with_mat(tmp_path, made)
    copy = source / "older" / "train" / file.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(file.read_bytes())
    result = import_dataset("b2t24-mat", source, tmp_path / "out", labels=made.labels)
    assert result["utterances"]["train"] == 8
    [line] = result["lines"]
    assert "session in two places" in line
    assert str(copy) in line
    assert str(file) in line


def test_wrong_choices_are_one_line(made: SimpleNamespace, tmp_path: Path) -> None:
    """Areas, thresholds, a folder without recordings, a share that is none, an option of another kind."""
    out = tmp_path / "out"
    assert "areas: 45 is not allowed" in refused("b2t24-mat", made.mat, out, areas="45")[0]
    assert "thresholds: tx9 is not allowed" in refused("b2t24-mat", made.mat, out, thresholds="tx9")[0]
    assert "no .mat files in train" in refused("b2t24-mat", made.hdf5, out)[0]
    assert "no SESSION.npz" in refused("arrays", made.hdf5, out)[0]
    assert "dev_split: 1.0 is not allowed" in refused("arrays", made.arrays, out, dev_split=1.0)[0]
    assert "option areas is not allowed" in refused("arrays", made.arrays, out, areas="6v")[0]


def with_pickle(tmp_path: Path, made: SimpleNamespace, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = pickle_content(made.utterances)
    change(content)
    file = tmp_path / "ptDecoder_ctc"
    file.write_bytes(pickle.dumps(content))
    return file


def test_variants_of_the_pickle_come_in(made: SimpleNamespace, tmp_path: Path) -> None:
    """Labels under text and textLens, lists for arrays, a val part, a missing day: the same utterances."""
    variant = pickle_content(made.utterances, ("text", "textLens"))
    variant["val"] = [None, variant["test"][1]]
    variant["test"][1] = None
    for day in variant["train"]:
        day["textLens"] = day["textLens"].tolist()
        day["transcriptions"] = [TEXTS[0]] * 4
        del day["phonePerTime"], day["timeSeriesLens"]
    file = tmp_path / "variant"
    file.write_bytes(pickle.dumps(variant, protocol=2))
    result = import_dataset("reference-pickle", file, tmp_path / "out", strict=True)
    assert result["utterances"] == {"train": 8, "val": 2, "test": 4}
    assert {row["reason"] for row in result["noticed"]} >= {"no data in val", "no data in test"}
    assert result["remarks"] == []
    dataset = open_dataset(tmp_path / "out")
    assert dataset.days == ("day00", "day01")
    assert dataset.train.text == [TEXTS[0]] * 8
    import_dataset("reference-pickle", made.pickle, tmp_path / "plain")
    plain = open_dataset(tmp_path / "plain")
    np.testing.assert_array_equal(dataset.train.labels, plain.train.labels)
    assert dataset.train.features(5).tobytes() == plain.train.features(5).tobytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["train"][0].pop("sentenceDat"), "train day 0: no sentenceDat (it has transcriptions"),
        (lambda c: c["train"][0].pop("phonemes"), "train day 0: no labels"),
        (lambda c: c["train"][0]["phonemes"].pop(), "train day 0: lists of different lengths (phonemes"),
        (lambda c: c["train"].__setitem__(0, [1, 2]), "train day 0: no sentenceDat (it has list)"),
        (lambda c: c["train"][0]["timeSeriesLens"].__setitem__(1, 99), "utterance 1: timeSeriesLens is not within"),
        (lambda c: c["train"][0]["phoneLens"].__setitem__(2, 3), "utterance 2: phoneLens is not the length"),
        (lambda c: c["train"][0]["sentenceDat"].__setitem__(1, np.zeros((99, 9))), "utterance 1: another number"),
        (lambda c: c["train"][0]["sentenceDat"].__setitem__(1, "gone"), "utterance 1: sentenceDat are not real"),
        (lambda c: c["train"][0]["phonemes"].__setitem__(1, padded([3, 77])), "utterance 1: phoneLens is"),
    ],
)  # fmt: skip
def test_a_spoilt_pickle_is_left_out_in_parts(
    made: SimpleNamespace, tmp_path: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    """A day or an utterance of another layout is a line that names file, part, day and utterance."""
    file = with_pickle(tmp_path, made, change)
    lines = refused("reference-pickle", file, tmp_path / "out", strict=True)
    assert says in lines[0]
    assert lines[0].startswith(f"{file}: ")


def test_a_pickle_that_is_none_of_these_is_one_line(made: SimpleNamespace, tmp_path: Path) -> None:
    """Hostile, truncated, foreign, or without 'train': the file is named, and nothing in it runs."""
    out = tmp_path / "out"
    file = with_pickle(tmp_path, made, lambda c: c.pop("train"))
    assert "no list of days under 'train'; it has 'test'" in refused("reference-pickle", file, out)[0]

    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'it-ran'}",)

    file.write_bytes(pickle.dumps({"train": [Runs()]}))
    assert "system" in refused("reference-pickle", file, out)[0]
    assert not (tmp_path / "it-ran").exists()
    whole = made.pickle.read_bytes()
    for end in (0, 1000, 60000, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:end])
        [line] = refused("reference-pickle", file, out)
        assert line.startswith(f"{file}: {'is cut short' if end else 'an empty file'}")
    short = tmp_path / "names.txt"
    short.write_text("monday")
    [line] = refused("reference-pickle", made.pickle, out, sessions=short)
    assert "has 2 days, give a name for each" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split": None}, "not of the layout (no split; it has"),
        ({"bins": np.array([3, 4])}, "not of the layout (bins do not add up"),
        ({"features": np.zeros(60)}, "not of the layout (features are float64 [60])"),
        ({"text": np.array(["a", "b"])}, "not of the layout (text does not have an entry for each of 3)"),
        ({"phonemes": np.array([{}, {}, {}], dtype=object)}, "cannot be read as .npz"),
        ({"split": np.array(["train", "dev", "val"])}, "utterance 1: split is not allowed ('dev'"),
        ({"phonemes": np.array(["AA", "AA QQ", "B"])}, "utterance 1: 'QQ' is not an ARPABET phoneme"),
        ({"phonemes": np.array(["AA", "", "B"])}, "utterance 1: no label in train"),
    ],
)  # fmt: skip
def test_a_spoilt_array_file_is_a_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    """It names file and utterance, and what is the matter; another session comes in."""
    good = {
        "features": np.random.default_rng(0).normal(size=(60, 4)),
        "bins": np.array([20, 20, 20]),
        "split": np.array(["train", "train", "val"]),
        "phonemes": np.array(["AA", "B", "K"]),
    }
    np.savez(tmp_path / "good.npz", **good)
    bad = {key: value for key, value in {**good, **changes}.items() if value is not None}
    np.savez(tmp_path / "spoilt.npz", **bad)
    [line] = refused("arrays", tmp_path, tmp_path / "out", strict=True)
    assert line.startswith(f"{tmp_path / 'spoilt.npz'}: {says}")
    assert import_dataset("arrays", tmp_path, tmp_path / "out")["lines"] == [line]


def test_a_truncated_array_file_is_a_line(made: SimpleNamespace, tmp_path: Path) -> None:
    """Cut anywhere, the file is named and the others come in."""
    source = write_arrays(tmp_path, made.utterances)
    file = source / f"{SESSIONS[0]}.npz"
    whole = file.read_bytes()
    for end in (0, 30, len(whole) // 2, len(whole) - 10):
        file.write_bytes(whole[:end])
        [line] = refused("arrays", source, tmp_path / "out", strict=True)
        assert line.startswith(f"{file}: {'cannot be read as .npz' if end else 'an empty file'}")
    assert import_dataset("arrays", source, tmp_path / "out")["sessions"] == 1


def test_a_session_without_training_file_is_noticed(made: SimpleNamespace, tmp_path: Path) -> None:
    """Its test utterances come in; the summary mentions it."""
    source, file = with_mat(tmp_path, made)
    file.unlink()
    result = import_dataset("b2t24-mat", source, tmp_path / "out", labels=made.labels)
    assert result["utterances"]["train"] == 4
    assert {"reason": "session without train file", "count": 1, "example": SESSIONS[0]} in result["noticed"]


def test_importing_the_rest_of_the_program_needs_neither_scipy_nor_h5py() -> None:
    """A machine that only trains can do without the libraries of formats that it does not read."""
    pytest.importorskip("torch")
    code = (
        "import sys\n"
        "for name in ('scipy', 'h5py', 'g2p_en', 'matplotlib'): sys.modules[name] = None\n"
        "import trainable, trainable.data.importers, trainable.data.checks, trainable.data.labels, trainable.loop\n"
        "import trainable.data.importers.arrays, trainable.data.importers.reference_pickle"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["arrays", "b2t24-mat", "reference-pickle"])
def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path: Path, kind: str) -> None:
    """Four times the sessions, the same peak: of a pickle too, whose arrays stay in the file."""
    labels = tmp_path / "labels.csv"
    labels.write_text("text,phonemes\nhello,AA B\n")
    rng = np.random.default_rng(0)
    raw = [rng.integers(0, 9, (300, CHANNELS)).astype(np.float64) for _ in range(10)]
    said = {"sentenceText": np.array(["hello"] * 10), "blockIdx": np.ones((10, 1))}
    peaks = []
    for sessions in (2, 8):
        folder = tmp_path / str(sessions)
        source = folder / "train"
        source.mkdir(parents=True)
        days = []
        for number in range(sessions):
            if kind == "arrays":
                content = {"features": np.concatenate(raw), "bins": [300] * 10, "phonemes": ["AA B"] * 10}
                np.savez(source / f"s{number}.npz", split="train", **content)
            elif kind == "b2t24-mat":
                savemat(source / f"s{number}.mat", {**said, "tx1": cells(raw), "spikePow": cells(raw)})
            own = [array + number for array in raw]
            days.append({"sentenceDat": own, "phonemes": [np.array([1, 7])] * 10, "phoneLens": [2] * 10})
        if kind == "reference-pickle":
            source = folder / "ptDecoder_ctc"
            source.write_bytes(pickle.dumps({"train": days, "test": []}))
        tracemalloc.start()
        import_dataset(kind, source, folder / "out", **({"labels": labels} if kind == "b2t24-mat" else {}))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    session = sum(array.nbytes for array in raw)
    assert peaks[1] < peaks[0] + session / 2
