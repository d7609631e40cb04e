"""Importing the Brain-to-Text '25 layout: everything usable comes in, nothing is lost silently."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.errors import InputError
from trainable.data.dataset import open_dataset, verify
from trainable.data.importers import KINDS, import_dataset
from trainable.data.importers.b2t25 import columns
from trainable.data.importers.intake import dev_utterances
from trainable.data.packed import DatasetWriter

BINS, FEATURES = 30, 6
LABEL = [10, 3, 40]


def features(key: int) -> np.ndarray:
    return np.random.default_rng(key).normal(size=(BINS, FEATURES)).astype(np.float32)


def add_trial(file: Path, trial: int, *, labelled: bool = True, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Append `trial_NNNN` as the real files have it; `changes` replace datasets and attributes, `drop` leaves out."""
    padded = np.zeros(500, np.int32)
    padded[: len(LABEL)] = LABEL
    codes = np.zeros(500, np.int32)
    said = f"Sentence {trial}" if "sentence_label" not in drop else "da"
    codes[: len(said)] = [ord(sign) for sign in said]
    datasets: dict[str, Any] = {"input_features": features(trial)}
    attributes: dict[str, Any] = {
        "n_time_steps": BINS,
        "block_num": 4,
        "trial_num": trial,
        "session": file.parent.name,
    }
    if labelled:
        datasets |= {"seq_class_ids": padded, "transcription": codes}
        attributes |= {"seq_len": len(LABEL), "sentence_label": f"Sentence {trial}"}
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "a") as opened:
        group = opened.create_group(f"trial_{trial:04d}")
        for key, value in {**datasets, **{k: v for k, v in changes.items() if k in datasets}}.items():
            if key not in drop:
                group[key] = value
        for key, value in {**attributes, **{k: v for k, v in changes.items() if k not in datasets}}.items():
            if key not in drop:
                group.attrs[key] = value


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Two sessions of 3 + 1 utterances, as labs have them, in a folder `raw`."""
    for day in ("t15.2023.08.13", "t15.2023.08.11"):
        for trial in range(3):
            add_trial(tmp_path / "raw" / day / "data_train.hdf5", trial)
        add_trial(tmp_path / "raw" / day / "data_val.hdf5", 9)
    return tmp_path / "raw"


def only_problem(source: Path, out: Path, **options: Any) -> str:
    """The single line of a refused import, after which nothing but the source is left."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(InputError) as raised:
        import_dataset("b2t25", source, out, **options)
    assert sorted(out.parent.iterdir()) == before
    [line] = raised.value.problems
    return line


def test_an_import_keeps_every_utterance(sessions: Path, tmp_path: Path) -> None:
    """Days in the order of their names, features bit for bit, labels without padding, sentence, block and trial."""
    calls: list[tuple[int, int, str]] = []
    result = import_dataset("b2t25", sessions, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert result["utterances"] == {"train": 6, "val": 2, "test": 0}
    assert result["bins"] == 8 * BINS
    assert result["skipped"] == []
    assert calls[0] == (0, 4, "shapes of t15.2023.08.11")
    assert calls[4:6] == [(0, 2, "t15.2023.08.11"), (1, 2, "t15.2023.08.13")]
    assert calls[-1][:2] == (2, 2)
    dataset = verify(tmp_path / "out")
    assert dataset.fingerprint == result["fingerprint"]
    assert dataset.days == ("t15.2023.08.11", "t15.2023.08.13")
    assert dataset.bin_ms == KINDS["b2t25"].bin_ms == 20
    np.testing.assert_array_equal(dataset.train.features(4), features(1))
    assert dataset.train.label(4).tolist() == LABEL
    assert dataset.train.text[4] == "Sentence 1"
    assert dataset.train.day.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.source["path"] == str(sessions)


def test_the_bin_width_is_an_option(sessions: Path, tmp_path: Path) -> None:
    """10 ms frames are 10 ms bins; a width of 0 is refused."""
    import_dataset("b2t25", sessions, tmp_path / "out", bin_ms=10)
    assert open_dataset(tmp_path / "out").bin_ms == 10
    assert "bin_ms: 0 is not allowed" in only_problem(sessions, tmp_path / "none", bin_ms=0)


def test_unlabelled_test_utterances_come_in(sessions: Path, tmp_path: Path) -> None:
    """The '25 test files have features and nothing else."""
    add_trial(sessions / "t15.2023.08.11" / "data_test.hdf5", 0, labelled=False)
    result = import_dataset("b2t25", sessions, tmp_path / "out")
    assert result["utterances"]["test"] == 1
    assert result["skipped"] == []
    test = open_dataset(tmp_path / "out").test
    assert test.label(0).tolist() == []
    assert test.text == [""]


def test_without_a_sentence_the_character_codes_are_read(sessions: Path, tmp_path: Path) -> None:
    """`transcription` up to its first 0 stands in for a missing `sentence_label`."""
    add_trial(sessions / "t15.2023.08.11" / "data_train.hdf5", 3, drop=("sentence_label",))
    import_dataset("b2t25", sessions, tmp_path / "out")
    assert open_dataset(tmp_path / "out").train.text[3] == "da"


def test_a_session_without_validation_file_is_used_and_counted(sessions: Path, tmp_path: Path) -> None:
    """As in the '25 data: its training utterances come in, the file is mentioned, and nothing counts as left out."""
    (sessions / "t15.2023.08.13" / "data_val.hdf5").unlink()
    result = import_dataset("b2t25", sessions, tmp_path / "out", strict=True)
    assert result["utterances"] == {"train": 6, "val": 1, "test": 0}
    assert result["noticed"] == [{"reason": "session without data_val.hdf5", "count": 1, "example": "t15.2023.08.13"}]


def test_padding_after_n_time_steps_is_cut(sessions: Path, tmp_path: Path) -> None:
    """Of an array longer than its attribute says, the first `n_time_steps` bins are the utterance."""
    add_trial(sessions / "t15.2023.08.11" / "data_train.hdf5", 3, n_time_steps=20)
    import_dataset("b2t25", sessions, tmp_path / "out")
    np.testing.assert_array_equal(open_dataset(tmp_path / "out").train.features(3), features(3)[:20])


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        ({"n_time_steps": BINS + 1}, "n_time_steps is not within input_features"),
        ({"n_time_steps": 0}, "n_time_steps is not within input_features"),
        ({"input_features": np.zeros(BINS, np.float32)}, "input_features is not [bins, features]"),
        ({"seq_len": 2}, "seq_len is not the length of seq_class_ids"),
        ({"seq_len": 4}, "seq_len is not the length of seq_class_ids"),
        ({"seq_len": 501}, "seq_len is not the length of seq_class_ids"),
        ({"seq_class_ids": np.zeros(500, np.int32), "seq_len": 0}, "no label in train"),
        ({"labelled": False}, "no label in train"),
        ({"drop": ("input_features",)}, "no input_features"),
        ({"n_time_steps": "many"}, "n_time_steps is not a whole number"),
    ],
)
def test_an_unusable_utterance_is_left_out_with_its_reason(
    sessions: Path, tmp_path: Path, trial: dict[str, Any], reason: str
) -> None:
    """The rest of the recording comes in; the summary says what did not, why, and where to look."""
    file = sessions / "t15.2023.08.11" / "data_train.hdf5"
    add_trial(file, 3, **trial)
    add_trial(file, 4, **trial)
    add_trial(file, 5)
    result = import_dataset("b2t25", sessions, tmp_path / "out")
    assert result["utterances"]["train"] == 7
    assert result["skipped"] == [{"reason": reason, "count": 2, "example": f"{file}: trial_0003"}]


@pytest.mark.parametrize(
    ("trial", "says"),
    [
        ({"input_features": np.full((BINS, FEATURES), np.nan, np.float32)}, "NaN or infinite features in bin 0"),
        (
            {"input_features": np.zeros((BINS, 7), np.float32)},
            "than the other utterances (7, most have 6;",
        ),
        ({"seq_class_ids": np.r_[np.int32(41), np.zeros(499, np.int32)], "seq_len": 1}, "label 41 is not allowed"),
        ({"seq_class_ids": np.r_[np.int32(-1), np.zeros(499, np.int32)], "seq_len": 1}, "label -1 is not allowed"),
    ],
)
def test_broken_numbers_are_left_out_or_stop_a_strict_import(
    sessions: Path, tmp_path: Path, trial: dict[str, Any], says: str
) -> None:
    """The line names file and trial; a strict import makes nothing, another one everything else."""
    file = sessions / "t15.2023.08.13" / "data_val.hdf5"
    add_trial(file, 10, **trial)
    line = only_problem(sessions, tmp_path / "out", strict=True)
    assert line.startswith(f"{file}: trial_0010: ")
    assert says in line
    result = import_dataset("b2t25", sessions, tmp_path / "out")
    assert result["lines"] == [line]
    assert [(row["count"], row["example"]) for row in result["skipped"]] == [(1, f"{file}: trial_0010")]
    assert result["utterances"] == {"train": 6, "val": 2, "test": 0}


def test_all_broken_utterances_are_named_at_once_up_to_a_limit(sessions: Path, tmp_path: Path) -> None:
    """Three broken ones are three lines; 210 are 200, and a line that counts the others."""
    spoilt = {"input_features": np.full((BINS, FEATURES), np.inf, np.float32)}
    for trial in range(3, 213):
        add_trial(sessions / "t15.2023.08.13" / "data_train.hdf5", trial, **spoilt)
        if trial in (5, 212):
            with pytest.raises(InputError) as raised:
                import_dataset("b2t25", sessions, tmp_path / "out", strict=True)
            lines = raised.value.problems
            assert [line.split(": ")[1] for line in lines[:3]] == ["trial_0003", "trial_0004", "trial_0005"]
            assert len(lines) == (3 if trial == 5 else 201)
    assert lines[-1] == "and 10 more like these"
    result = import_dataset("b2t25", sessions, tmp_path / "out")
    assert [(row["reason"], row["count"]) for row in result["skipped"]] == [("NaN or infinite features", 210)]


def test_a_damaged_file_is_named(sessions: Path, tmp_path: Path) -> None:
    """A truncated, a foreign and an empty file are each one line; the other files come in."""
    file = sessions / "t15.2023.08.11" / "data_val.hdf5"
    file.write_bytes(file.read_bytes()[:700])
    assert f"{file}: cannot be read as HDF5" in only_problem(sessions, tmp_path / "out", strict=True)
    file.write_text("not HDF5 at all")
    assert f"{file}: cannot be read as HDF5" in only_problem(sessions, tmp_path / "out", strict=True)
    with h5py.File(file, "w"):
        pass
    assert f"{file}: no utterances in it" in only_problem(sessions, tmp_path / "out", strict=True)
    assert import_dataset("b2t25", sessions, tmp_path / "out")["utterances"] == {"train": 6, "val": 1, "test": 0}


def test_other_key_names_are_named_with_what_is_there(sessions: Path, tmp_path: Path) -> None:
    """A trial whose features are called otherwise is a line that says what it has instead."""
    file = sessions / "t15.2023.08.11" / "data_train.hdf5"
    with h5py.File(file, "a") as opened:
        opened.create_group("trial_0003")["neural"] = features(3)
    line = only_problem(sessions, tmp_path / "out", strict=True)
    assert line == f"{file}: trial_0003: no input_features (it has neural)"


def test_a_session_in_two_places_is_used_once(sessions: Path, tmp_path: Path) -> None:
    """A folder of the same name elsewhere, and a copy under another name, are left out; the first place is used."""
    source = sessions / "t15.2023.08.11"
    shutil.copytree(source, sessions / "backup" / "t15.2023.08.11")
    shutil.copytree(source, sessions / "t15.2023.08.11 (copy)")
    result = import_dataset("b2t25", sessions, tmp_path / "out")
    assert result["utterances"]["train"] == 6
    assert [(row["reason"], row["count"]) for row in result["skipped"]] == [("session in two places", 2)]
    assert any(str(source) in line and "(copy)" in line for line in result["lines"])


def test_a_full_disk_is_no_reason_to_leave_an_utterance_out(
    sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk that is written to ends the import, although it happens while an utterance is added."""

    class Full:
        def write(self, content: Any) -> None:
            raise OSError(28, "No space left on device")

    make = DatasetWriter.__init__

    def made(self: DatasetWriter, *arguments: Any) -> None:
        make(self, *arguments)
        self._file = Full()

    monkeypatch.setattr(DatasetWriter, "__init__", made)
    assert "No space left on device" in only_problem(sessions, tmp_path / "out")


def test_only_the_listed_sessions_come_in(sessions: Path, tmp_path: Path) -> None:
    """In the order of the list, which may have comments; a session that is not there is a line."""
    chosen = tmp_path / "sessions.txt"
    chosen.write_text("# good days\nt15.2023.08.13\n\n")
    import_dataset("b2t25", sessions, tmp_path / "out", sessions=chosen)
    assert open_dataset(tmp_path / "out").days == ("t15.2023.08.13",)
    chosen.write_text("t15.2023.08.13\nt15.2023.08.11\n")
    import_dataset("b2t25", sessions, tmp_path / "both", sessions=chosen)
    assert open_dataset(tmp_path / "both").days == ("t15.2023.08.13", "t15.2023.08.11")
    for text, says in (("t15.2023.08.14", "no such session"), ("a\na", "more than once"), ("# none", "no session")):
        chosen.write_text(text)
        assert says in only_problem(sessions, tmp_path / "none", sessions=chosen)


@pytest.mark.parametrize(("choice", "expected"), [("1:4", [1, 2, 3]), (":2", [0, 1]), ("4:", [4, 5])])
def test_a_range_of_features_comes_in(sessions: Path, tmp_path: Path, choice: str, expected: list[int]) -> None:
    """`A:B` has the columns A to B - 1, as in Python."""
    import_dataset("b2t25", sessions, tmp_path / "out", features=choice)
    np.testing.assert_array_equal(open_dataset(tmp_path / "out").train.features(0), features(0)[:, expected])


def test_named_features_are_those_of_the_arrays() -> None:
    """512 columns: 256 threshold crossings, then 256 powers, 64 of each array; names join, columns stay in order."""
    assert columns("tx", 512, "").tolist() == list(range(256))
    assert columns("4", 512, "").tolist() == [*range(64, 128), *range(320, 384)]
    assert columns("power,6v-ventral", 512, "").tolist() == [*range(64), *range(256, 512)]


def test_features_that_are_not_there_are_refused(sessions: Path, tmp_path: Path) -> None:
    """An unknown name is one line; columns beyond the recording leave out every utterance, with the reason."""
    assert "features: 'sbp' is not allowed; give A:B, or some of tx" in only_problem(
        sessions, tmp_path / "out", features="tx,sbp"
    )
    for choice in ("0:7", "3:3", "tx"):
        with pytest.raises(InputError, match=f"no training utterances found; 8 skipped: no features {choice}"):
            import_dataset("b2t25", sessions, tmp_path / "out", features=choice)


def test_a_development_split_is_held_out_of_training(sessions: Path, tmp_path: Path) -> None:
    """The same share of every session, by a seeded choice; the source's val becomes test; the fingerprint differs."""
    for day in ("t15.2023.08.13", "t15.2023.08.11"):
        for trial in range(20, 37):
            add_trial(sessions / day / "data_train.hdf5", trial)
    chosen = {}
    for name, options in {
        "none": {},
        "a": {"dev_split": 0.1},
        "again": {"dev_split": 0.1},
        "other": {"dev_split": 0.1, "seed": 1},
    }.items():
        import_dataset("b2t25", sessions, tmp_path / name, **options)
        dataset = open_dataset(tmp_path / name)
        chosen[name] = (dataset.val.utterance.tolist(), dataset.fingerprint)
        if options:
            assert np.bincount(dataset.val.day).tolist() == [2, 2]
            assert np.bincount(dataset.train.day).tolist() == [18, 18]
            assert len(dataset.test) == 2
    assert chosen["a"] == chosen["again"]
    assert len({fingerprint for _, fingerprint in chosen.values()}) == 3
    assert chosen["a"][0] != chosen["other"][0]


@given(count=st.integers(0, 300), share=st.floats(0.001, 0.999), seed=st.integers(0, 5))
def test_a_held_out_share_is_right_and_leaves_something(count: int, share: float, seed: int) -> None:
    """Within half an utterance of the share, but at least one and not all, in sessions of two and more."""
    held = dev_utterances("a session", count, share, seed)
    assert held <= set(range(count))
    assert len(held) == (min(max(round(share * count), 1), count - 1) if count > 1 else 0)


def test_without_validation_utterances_the_summary_says_what_to_do(sessions: Path, tmp_path: Path) -> None:
    """No search can run on such data, so the import points at --dev-split."""
    for file in sessions.rglob("data_val.hdf5"):
        file.unlink()
    [remark] = import_dataset("b2t25", sessions, tmp_path / "out")["remarks"]
    assert "no val utterances" in remark
    assert "--dev-split" in remark


def test_what_a_killed_import_left_is_removed(sessions: Path, tmp_path: Path) -> None:
    """The next import into the same folder clears away the half of a process that is no more, and of no other."""
    done = subprocess.Popen(["true"])
    done.wait()
    dead = tmp_path / f".out.{socket.gethostname()}.{done.pid}.partial"
    kept = [tmp_path / f".out.{socket.gethostname()}.{os.getppid()}.partial", tmp_path / f".out.far.{done.pid}.partial"]
    for folder in (dead, *kept):
        folder.mkdir()
        (folder / "features.npy").write_text("half")
    import_dataset("b2t25", sessions, tmp_path / "out")
    assert not dead.exists()
    assert all(folder.exists() for folder in kept)


def test_wrong_arguments_are_named(sessions: Path, tmp_path: Path) -> None:
    """Unknown kind, unknown option, missing source, a folder without sessions, an existing target."""
    with pytest.raises(InputError, match=r"b2t99: not a kind .* one of b2t25"):
        import_dataset("b2t99", sessions, tmp_path / "out")
    with pytest.raises(InputError, match="option colour is not allowed; allowed are bin_ms, dev_split, labels, name"):
        import_dataset("b2t25", sessions, tmp_path / "out", colour="red")
    assert "does not exist" in only_problem(tmp_path / "nowhere", tmp_path / "out")
    assert "no session folders" in only_problem(sessions / "t15.2023.08.11", tmp_path / "out")
    assert "no session folders" in only_problem(sessions / "t15.2023.08.11" / "data_val.hdf5", tmp_path / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    assert "exists already" in only_problem(sessions, tmp_path / "taken")
    assert (tmp_path / "taken" / "file").read_text() == "mine"


def test_a_recording_without_training_utterances_is_refused(sessions: Path, tmp_path: Path) -> None:
    """An import that could train nothing makes nothing."""
    for file in sessions.rglob("data_train.hdf5"):
        file.unlink()
    line = only_problem(sessions, tmp_path / "out")
    assert line == f"{sessions}: no training utterances found"


def test_an_interrupted_import_leaves_nothing(sessions: Path, tmp_path: Path) -> None:
    """Ctrl-C in the second session."""

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 1:
            assert len(list(tmp_path.iterdir())) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset("b2t25", sessions, tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == [sessions]


def test_the_same_recording_has_the_same_fingerprint(sessions: Path, tmp_path: Path) -> None:
    """Imported twice, under two names, into byte-identical features and utterances."""
    for name in ("a", "b"):
        import_dataset("b2t25", sessions, tmp_path / name, name=name)
    for file in ("features.npy", "utterances.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    infos = [json.loads((tmp_path / name / "dataset.json").read_text()) for name in ("a", "b")]
    assert infos[0]["fingerprint"] == infos[1]["fingerprint"]
    assert [info["name"] for info in infos] == ["a", "b"]
