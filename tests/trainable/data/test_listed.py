"""Files about single utterances: which to leave out, labels made elsewhere, and lengths that are noticed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.fuzz_recordings import LAYOUTS, make_layout, untouched
from search_spaces.errors import InputError
from trainable.data.dataset import open_dataset
from trainable.data.importers import import_dataset
from trainable.data.importers.lengths import Lengths, expected
from trainable.data.importers.listed import read_skip
from trainable.data.rows import read_rows

SESSION = {"hdf5": "s1", "mat": "t12.2022.04.28", "pickle": "day00", "arrays": "s1"}
AREAS = pytest.mark.parametrize("area", list(LAYOUTS))


def imported(area: str, folder: Path, **options: Any) -> dict[str, Any]:
    layout = LAYOUTS[area]
    if not folder.joinpath("packed").exists():
        make_layout(layout, folder)
    more = {"labels": folder / "labels.csv"} if layout.labels else {}
    return import_dataset(layout.kind, folder / layout.source, folder / "out", **{**more, **options})


def listing(folder: Path, name: str, header: str, *rows: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


@AREAS
def test_a_listed_utterance_is_left_out(tmp_path: Path, area: str) -> None:
    """It is no error, the reason is counted, and the record of the data has it."""
    rows = [f"{SESSION[area]},1,train,coughing, twice", f"{SESSION[area]},3,train,the wrong sentence"]
    rows[0] = rows[0].replace("coughing, twice", '"coughing, twice"')
    skip = listing(tmp_path, "skip.csv", "session,trial,split,reason", *rows)
    result = imported(area, tmp_path, skip=skip, strict=True)
    assert result["skipped"] == []
    assert area == "mat" or result["remarks"] == []  # the '24 layout says that val is its test set
    assert [(row["reason"], row["count"]) for row in result["listed"]] == [
        ("coughing, twice", 1),
        ("the wrong sentence", 1),
    ]
    assert untouched(tmp_path / "out", set()) == untouched(tmp_path / "packed", {"1", "3"})
    source = open_dataset(tmp_path / "out").source
    assert source["listed"] == result["listed"]
    assert source["options"]["skip"] == str(skip)


def test_a_listed_utterance_plays_no_part_in_the_z_scores_of_its_block(tmp_path: Path) -> None:
    """Of a '24 file, the rest of its block is as if it had never been recorded."""
    from scipy.io import loadmat, savemat

    layout = LAYOUTS["mat"]
    make_layout(layout, tmp_path)
    file = tmp_path / layout.file
    content = {key: value for key, value in loadmat(str(file)).items() if not key.startswith("__")}
    content["blockIdx"][:] = 1
    savemat(file, content)
    skip = listing(tmp_path, "skip.csv", "session,trial,split,reason", f"{SESSION['mat']},1,train,noise")
    imported("mat", tmp_path, skip=skip)
    train = open_dataset(tmp_path / "out").train
    joined = np.concatenate([train.features(i) for i in range(3)])
    np.testing.assert_allclose(joined.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(joined.std(axis=0), 1, atol=1e-4)


def test_a_broken_object_can_be_listed_by_its_name(tmp_path: Path) -> None:
    """So that a strict import goes on without it, although nothing of it can be read."""
    make_layout(LAYOUTS["hdf5"], tmp_path)
    with h5py.File(tmp_path / LAYOUTS["hdf5"].file, "a") as opened:
        del opened["trial_0001"]
        opened["trial_0001"] = h5py.SoftLink("/nowhere")
    skip = listing(tmp_path, "skip.tsv", "session\ttrial\tsplit\treason", "s1\ttrial_0001\ttrain\tbroken")
    result = imported("hdf5", tmp_path, skip=skip, strict=True)
    assert [(row["reason"], row["count"]) for row in result["listed"]] == [("broken", 1)]


def test_a_row_without_a_split_leaves_out_all_that_it_fits_and_says_so(tmp_path: Path) -> None:
    """Trial 1 is in data_train and in data_val; the note says how to tell them apart."""
    skip = listing(tmp_path, "skip.csv", "session;trial;reason", "s1;1.0;noise")
    result = imported("hdf5", tmp_path, skip=skip, strict=True)
    assert result["utterances"] == {"train": 3, "val": 1, "test": 0}
    [remark] = result["remarks"]
    assert remark.startswith(f"{skip}: line 2: session s1, trial 1: ")
    assert "several utterances were left out; add a column split or block" in remark


@AREAS
def test_a_row_that_fits_nothing_is_told_and_stops_a_strict_import(tmp_path: Path, area: str) -> None:
    """A number that is not there, or a session that was not imported: it may be a slip of the pen."""
    session = SESSION[area]
    skip = listing(tmp_path, "skip.csv", "session,trial,reason,block", f"{session},77,noise,", "s9,1,noise,")
    lines = imported(area, tmp_path, skip=skip)["remarks"]
    assert f"{skip}: line 2: session {session}, trial 77: a row about no utterance that is there" in lines
    assert f"{skip}: line 3: session s9, trial 1: a row about a session that was not imported" in lines
    skip.write_text(skip.read_text().replace("s9,1,noise,\n", ""))
    with pytest.raises(InputError, match="trial 77: a row about no utterance that is there"):
        import_dataset(
            LAYOUTS[area].kind, tmp_path / LAYOUTS[area].source, tmp_path / "again", skip=skip, strict=True,
            labels=tmp_path / "labels.csv" if LAYOUTS[area].labels else None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        ("session,trial", ["s1,1"], ["columns session, trial; give CSV, TSV or JSON lines"]),
        ("session,trial,reason", [], ["no rows in it; give CSV"]),
        ("session,trial,reason", ["s1,1"], ["cannot be read (line 2 has 2 values for 3 columns)"]),
        ("session,trial,reason", ["s1,1,", ",1,x", "s1,,x"],
         ["line 2: no reason; say why", "line 3: session is empty", "line 4: trial is empty"]),
        ("# list\nsession,trial,reason", ["s1,1,x", "s1,01,y"], ["line 4: the same utterance as in line 3"]),
        ("session,trial,reason,split,block", ["s1,1,x,dev,", "s1,1,x,,two"],
         ["line 2: split 'dev' is not allowed; give one of train, val, test, holdout", "line 3: block 'two' is not a"]),
    ],
)  # fmt: skip
def test_all_problems_of_a_list_are_shown_at_once(
    tmp_path: Path, header: str, rows: list[str], says: list[str]
) -> None:
    """Each with its line."""
    file = listing(tmp_path, "skip.csv", header, *rows)
    with pytest.raises(InputError) as raised:
        read_skip(file)
    assert len(raised.value.problems) == len(says)
    for line, text in zip(raised.value.problems, says, strict=True):
        assert line.startswith(f"{file}: {text}")


def test_rows_may_be_written_in_several_ways(tmp_path: Path) -> None:
    """Commas, tabs, semicolons, JSON lines; a byte order mark, comments and empty lines are no rows."""
    row = {"session": "s1", "trial": "3", "reason": "x"}
    for name, text in (
        ("a.csv", "\ufeffsession,trial,reason\n\n# none\ns1,3,x\n"),
        ("a.tsv", "# by hand\r\nsession\ttrial\treason\r\ns1\t3\tx\r\n"),
        ("a.txt", "session;trial;reason\ns1;3;x\n"),
        ("a.jsonl", "\n" + json.dumps(row) + "\n"),
    ):
        (tmp_path / name).write_bytes(text.encode())
        [(place, found)] = read_rows(tmp_path / name, "something")
        assert found == row
        assert place == f"{tmp_path / name}: line {text.rstrip().count(chr(10)) + 1}"


@AREAS
def test_labels_made_elsewhere_replace_those_of_the_source(tmp_path: Path, area: str) -> None:
    """By session and trial, for every format; stress is dropped."""
    rows = [f"{SESSION[area]},{trial},HH AH0 L OW1" for trial in range(6)]
    labels = listing(tmp_path, "mine.csv", "session,trial,phonemes", *rows)
    result = imported(area, tmp_path, labels=labels)
    dataset = open_dataset(tmp_path / "out")
    assert result["skipped"] == []
    assert [dataset.train.label(i).tolist() for i in range(4)] == [[16, 3, 21, 25]] * 4
    assert [dataset.train.features(i).tobytes() for i in range(4)] == [
        open_dataset(tmp_path / "packed").train.features(i).tobytes() for i in range(4)
    ]


def test_missing_and_extra_labels_are_told(tmp_path: Path) -> None:
    """Utterances without a row are left out with a line each; rows without an utterance are notes."""
    rows = [{"session": "s1", "trial": trial, "phonemes": ["N", "OW1"]} for trial in (0, 1, 2, 4, 5, 8)]
    labels = tmp_path / "mine.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = imported("arrays", tmp_path, labels=labels)
    assert result["utterances"] == {"train": 3, "val": 2, "test": 0}
    [line] = result["lines"]
    assert line.endswith(f"utterance 3: no row in the label file ({labels})")
    assert result["remarks"] == [f"{labels}: line 6: session s1, trial 8: a row about no utterance that is there"]


def test_wrong_labels_are_shown_at_once(tmp_path: Path) -> None:
    """Unknown phonemes, none, and an utterance twice, before anything is read."""
    rows = ["s1,0,N OW", "s1,1,QQ", "s1,2,", "s1,0,N OW1"]
    labels = listing(tmp_path, "mine.csv", "session,trial,phonemes", *rows)
    with pytest.raises(InputError) as raised:
        imported("hdf5", tmp_path, labels=labels)
    says = ["line 3: 'QQ' is not an ARPABET phoneme or SIL", "line 4: no phonemes", "line 5: the same utterance as in"]
    for line, text in zip(raised.value.problems, says, strict=True):
        assert line.startswith(f"{labels}: {text}")


@pytest.mark.parametrize("area", ["hdf5", "pickle"])
def test_labels_of_texts_are_refused_where_the_source_has_labels(tmp_path: Path, area: str) -> None:
    """The line says which file would do."""
    labels = listing(tmp_path, "mine.csv", "text,phonemes", "one,N OW")
    with pytest.raises(InputError, match="has labels of its own; give a file with session,trial,phonemes"):
        imported(area, tmp_path, labels=labels)


def test_a_length_far_from_its_text_is_noticed(tmp_path: Path) -> None:
    """The utterance comes in; the note says what is usual, and how to leave it out."""
    rng = np.random.default_rng(0)
    words = [" ".join(["hello"] * int(n)) for n in rng.integers(1, 9, 30)]
    bins = np.array([40 + 30 * len(text.split()) + rng.integers(-5, 6) for text in words])
    words[7], bins[7] = "hello hello hello hello hello hello", 60
    (tmp_path / "source").mkdir()
    np.savez(
        tmp_path / "source" / "s1.npz",
        features=rng.normal(size=(bins.sum(), 4)),
        bins=bins,
        split=["train"] * 25 + ["val"] * 5,
        text=words,
        phonemes=[" SIL ".join(["HH AH L OW"] * len(text.split())) for text in words],
    )
    result = import_dataset("arrays", tmp_path / "source", tmp_path / "out", strict=True)
    assert result["utterances"] == {"train": 25, "val": 5, "test": 0}
    [remark] = result["remarks"]
    assert ": utterance 7: 60 bins for 29 phonemes, about 2" in remark
    assert "--skip FILE" in remark
    assert [row["reason"] for row in result["noticed"]] == ["length far from what the text suggests"]


def test_a_label_that_does_not_fit_its_text_is_noticed_once() -> None:
    """Three phonemes for a long sentence; where everything is alike, or there is too little, nothing is odd."""
    lengths = Lengths()
    for number in range(20):
        lengths.see(100 + 10 * number, 10 + number, "x" * (12 + number), f"u{number}")
    assert lengths.odd() == []
    lengths.see(150, 15, "x" * 80, "long text")
    lengths.see(900, 15, "x" * 17, "long recording")
    lengths.see(150, 0, "", "unlabelled")
    assert [(one.where, one.what) for one in lengths.odd()] == [
        ("long text", "150 bins for 80 letters and digits, about 780 are usual"),
        ("long recording", "900 bins for 15 phonemes, about 150 are usual"),
    ]


def test_the_line_through_the_lengths_withstands_outliers() -> None:
    """A fifth of wild values moves it little; equal lengths are their own expectation."""
    rng = np.random.default_rng(1)
    x = rng.integers(5, 40, 200)
    y = 30 + 8 * x + rng.normal(0, 4, 200)
    y[:40] *= 10
    np.testing.assert_allclose(expected(x, y)[40:], 30 + 8 * x[40:], rtol=0.1)
    np.testing.assert_allclose(expected(np.full(12, 4), np.full(12, 60)), 60)
