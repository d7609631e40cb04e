"""What is kept of a run: when it is written, what survives damage and a full disk, and that nothing is lost by it."""

from __future__ import annotations

import resource
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.config import RunConfig
from trainable import keeping, train
from trainable.checkpoint import epoch_of, load, load_model
from trainable.data.dataset import Dataset
from trainable.keeping import Keeper

Make = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def long(config: Make) -> RunConfig:
    """A run of eight epochs with EMA."""
    return config(
        averaging={"kind": "ema", "decay": 0.9},
        training={"batches": 16, "batches_per_epoch": 2, "batch_size": 8},
    )


@pytest.fixture(scope="module")
def whole(long: RunConfig, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Any], Path]:
    """That run to its end, with nothing in its way: epoch -> row, and what was kept of it."""
    folder = tmp_path_factory.mktemp("whole")
    return run(long, tiny, Keeper(folder)), folder


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """The system refuses to write files beyond `size` bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run(config: RunConfig, data: Dataset, keeper: Keeper, epochs: int = 99) -> dict[int, dict[str, Any]]:
    """Go on from what the keeper finds, for so many epochs; returns epoch -> row. Ends as a killed process would."""
    rows = {}
    for report in train(config, data, resume_from=keeper.load()):
        keeper.keep(report)
        rows[report.epoch] = {"per": report.per, "val_loss": report.val_loss}
        if len(rows) == epochs:
            break
    return rows


def flip(path: Path) -> None:
    """Change one bit of a file's largest tensor: between two records of the archive it would mean nothing."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    name, extra = struct.unpack_from("<HH", content, largest.header_offset + 26)
    content[largest.header_offset + 30 + name + extra + largest.file_size // 2] ^= 1
    path.write_bytes(content)


def saved(folder: Path, config: RunConfig, data: Dataset, **how: Any) -> list[int]:
    """The epochs after which last.pt was written."""
    keeper, found = Keeper(folder, **how), []
    for report in train(config, data):
        keeper.keep(report)
        epoch = epoch_of(folder / "last.pt")
        found += [report.epoch] if epoch == report.epoch else []
    return found


def test_small_states_are_written_at_every_epoch(long: RunConfig, tiny: Dataset, tmp_path: Path) -> None:
    """Where nobody says otherwise, a small model loses no epoch."""
    assert saved(tmp_path, long, tiny) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("how", "epochs"),
    [
        ({"every": "3 epochs"}, [3, 6]),
        ({"every": "rungs", "rungs": (2, 5)}, [2, 5]),
        ({"every": "3 epochs", "rungs": (2, 5), "pauses": True}, [2, 3, 5, 6]),
        ({"every": "3 epochs", "rungs": (2, 5)}, [3, 6]),
    ],
)
def test_a_state_is_written_when_it_is_asked_for(
    long: RunConfig, tiny: Dataset, tmp_path: Path, how: dict[str, Any], epochs: list[int]
) -> None:
    """Every N epochs; at rungs; and always where the trial may be paused. Not after the last epoch, which ends it."""
    assert saved(tmp_path, long, tiny, **how) == epochs


def test_the_best_weights_are_on_the_disk_where_a_trial_may_end(long: RunConfig, tiny: Dataset, tmp_path: Path) -> None:
    """At each rung and after the last epoch, whenever states are written; before that the first ones are there."""
    keeper, found = Keeper(tmp_path, every="100 epochs", rungs=(3, 6)), {}
    for report in train(long, tiny):
        whole = report.checkpoint()
        whole["best"] = {**whole["best"], "epoch": report.epoch}  # as if each epoch were the best so far
        keeper.keep(replace(report, checkpoint=lambda whole=whole: whole))
        found[report.epoch] = load(tmp_path / "best.pt")["epoch"]
    assert found == {1: 1, 2: 1, 3: 3, 4: 3, 5: 3, 6: 6, 7: 6, 8: 8}


def test_where_a_trial_may_end_the_writer_is_waited_for(
    long: RunConfig, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large state is written by a thread; at a rung it is on the disk before the trial is decided on."""
    at_once = Keeper._write

    def slowly(*given: Any) -> None:
        time.sleep(0.2)
        at_once(*given)

    monkeypatch.setattr(Keeper, "_write", slowly)
    keeper = Keeper(tmp_path, every="100 epochs", rungs=(1,), small=0)
    keeper.keep(next(iter(train(long, tiny))))
    assert (tmp_path / "best.pt").exists()


def test_minutes_and_large_states_go_by_the_clock(long: RunConfig, tiny: Dataset, tmp_path: Path) -> None:
    """Every N minutes; by itself, a large state that takes 2 s to write comes every 40 s: a twentieth of the time."""
    now = 0.0

    def clock() -> float:
        return now

    keeper = Keeper(tmp_path / "minutes", every="2 minutes", clock=clock)
    found = []
    for report in train(long, tiny):
        now += 50
        keeper.keep(report)
        found.append(epoch_of(tmp_path / "minutes" / "last.pt"))
    assert found == [None, None, 3, 3, 3, 6, 6, 6]

    ticks = iter(range(10**6))

    def writing() -> float:  # each look at the clock takes a second: two of them frame the writing
        return now + next(ticks)

    now, found = 0.0, []
    keeper = Keeper(tmp_path / "auto", small=0, clock=writing)
    for report in train(long, tiny):
        now += 9
        keeper.keep(report)
        keeper.flush()
        found.append(epoch_of(tmp_path / "auto" / "last.pt"))
    assert found[0] == 1 and len(set(found)) < 5


@pytest.mark.parametrize("small", [0, 2**30], ids=["background", "at once"])
@pytest.mark.parametrize("killed_after", [1, 2, 3, 4, 5, 7])
def test_a_sparse_policy_loses_nothing(
    long: RunConfig, tiny: Dataset, tmp_path: Path, whole: tuple[dict[int, Any], Path], small: int, killed_after: int
) -> None:
    """Killed between two states, a run repeats the epochs between: the same numbers, the same best weights."""
    rows_of_whole, kept_of_whole = whole
    first = Keeper(tmp_path / "sparse", every="3 epochs", small=small)
    run(long, tiny, first, epochs=killed_after)
    first._wait()  # the process died right after the write
    again = Keeper(tmp_path / "sparse", every="3 epochs", small=small, logged=killed_after)
    rows = run(long, tiny, again)
    again.flush()
    assert rows == {epoch: rows_of_whole[epoch] for epoch in range(3 * (killed_after // 3) + 1, 9)}
    assert again.notes == (
        ["no complete checkpoint was found; the trial started again from epoch 1"] * (killed_after < 3)
    )
    best = [load(folder / "best.pt") for folder in (kept_of_whole, tmp_path / "sparse")]
    assert best[0]["epoch"] == best[1]["epoch"]
    assert all(torch.equal(value, best[1]["model"][key]) for key, value in best[0]["model"].items())


def test_a_slow_writer_is_no_reason_to_write_more(
    long: RunConfig, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the state of epoch 3 is still being written, epochs that are not due are neither written nor waited for."""
    go_on, save = threading.Event(), keeping.save

    def slow(path: Path, *rest: Any) -> None:
        assert path.name != "last.pt" or go_on.wait(600)
        save(path, *rest)

    monkeypatch.setattr(keeping, "save", slow)
    keeper = Keeper(tmp_path, every="3 epochs", small=0)
    for report in train(long, tiny):
        keeper.keep(report)
        if report.epoch == 5:
            break
    go_on.set()
    keeper.flush()
    assert epoch_of(tmp_path / "last.pt") == 3


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_the_checkpoint_before_it_is_taken_if_the_last_is_damaged(
    long: RunConfig, tiny: Dataset, tmp_path: Path, damage: str
) -> None:
    """A flipped bit, a truncated file, a file lost between two renamings: the previous one goes on, with a note."""
    whole = run(long, tiny, Keeper(tmp_path), epochs=4)
    path = tmp_path / "last.pt"
    if damage == "flip":
        flip(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
    keeper = Keeper(tmp_path, logged=4)
    rows = run(long, tiny, keeper, epochs=1)
    assert rows == {4: whole[4]}
    if damage != "gone":
        damaged, went_on = keeper.notes
        assert str(path) in damaged and went_on == "continued from previous.pt, epoch 3"
    assert (epoch_of(path), epoch_of(tmp_path / "previous.pt")) == (
        4,
        3,
    )  # the damaged one did not push out the whole one


def test_a_trial_without_a_whole_checkpoint_begins_again(long: RunConfig, tiny: Dataset, tmp_path: Path) -> None:
    """Both files damaged: it starts from epoch 1, with a note, and its best weights stay while epochs are repeated."""
    whole = run(long, tiny, Keeper(tmp_path), epochs=4)
    best = (tmp_path / "best.pt").read_bytes()
    flip(tmp_path / "last.pt")
    flip(tmp_path / "previous.pt")
    keeper = Keeper(tmp_path, logged=4)
    assert run(long, tiny, keeper, epochs=3) == {epoch: whole[epoch] for epoch in (1, 2, 3)}
    keeper.flush()
    assert keeper.notes[-1] == "no complete checkpoint was found; the trial started again from epoch 1"
    assert (tmp_path / "best.pt").read_bytes() == best


@pytest.mark.parametrize("small", [0, 2**30], ids=["background", "at once"])
def test_a_full_disk_does_not_end_the_run(long: RunConfig, tiny: Dataset, tmp_path: Path, small: int) -> None:
    """A checkpoint the disk does not take is noted and skipped; the old one stays; the next epoch tries again."""
    keeper = Keeper(tmp_path, every="2 epochs", small=small)
    seen: dict[int, tuple[int | None, list[str]]] = {}
    for report in train(long, tiny):
        with file_limit(1000 if report.epoch in (4, 5) else resource.RLIM_INFINITY):
            keeper.keep(report)
            keeper._wait()
        seen[report.epoch] = (epoch_of(tmp_path / "last.pt"), [*keeper.notes])
        keeper.notes.clear()
    assert [epoch for epoch, _ in seen.values()] == [None, 2, 2, 2, 2, 6, 6, 6]
    assert [epoch for epoch, (_, notes) in seen.items() if notes] == [4, 5]
    assert seen[4][1] == ["checkpoint of epoch 4 skipped: File too large; the one before it is kept"]
    keeper.flush()
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "previous.pt", "best.pt"}


def test_best_weights_that_the_disk_refused_are_written_when_their_epoch_is_repeated(
    long: RunConfig, tiny: Dataset, tmp_path: Path, whole: tuple[dict[int, Any], Path]
) -> None:
    """The disk did not take the best epoch's weights before the process died; the epoch is trained again, and they are
    written there, though the log has that epoch already.
    """
    pers = {epoch: row["per"] for epoch, row in whole[0].items()}
    best = min(pers, key=lambda epoch: pers[epoch])
    keeper = Keeper(tmp_path / "run", every="99 epochs", rungs=(best,))
    for report in train(long, tiny):
        with file_limit(1000 if report.epoch == best else resource.RLIM_INFINITY):
            keeper.keep(report)
        if report.epoch == best:
            break
    assert epoch_of(tmp_path / "run" / "best.pt") != best
    run(long, tiny, Keeper(tmp_path / "run", every="99 epochs", rungs=(best,), logged=best), epochs=best)
    assert load(tmp_path / "run" / "best.pt")["epoch"] == best


def test_what_killed_writers_left_is_removed(long: RunConfig, tiny: Dataset, tmp_path: Path) -> None:
    """Half-written files of a process that was killed go when the trial goes on."""
    run(long, tiny, Keeper(tmp_path), epochs=1)
    (tmp_path / ".last.pt.x7f3").write_bytes(b"half")
    Keeper(tmp_path, logged=1).load()
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.pt"}


def test_what_another_process_removes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver tidies a study too: a file that was there a moment ago may be gone."""
    keeper, gone, left = Keeper(tmp_path), tmp_path / ".last.pt.x7f3", tmp_path / ".last.pt.x7f4"
    left.write_bytes(b"half")
    monkeypatch.setattr(type(keeper.files), "leftovers", lambda _: [gone, left])
    assert keeper.load() is None
    assert not left.exists()


def test_best_weights_can_be_halved_or_left_out(long: RunConfig, tiny: Dataset, tmp_path: Path) -> None:
    """In float16 the file is half as large and gives a float32 model within rounding; `none` keeps none."""
    keepers = [Keeper(tmp_path / kind, best_weights=kind) for kind in ("full", "half", "none")]  # type: ignore[arg-type]
    for report in train(long, tiny):
        for keeper in keepers:
            keeper.keep(report)
    assert not (tmp_path / "none" / "best.pt").exists()
    full, half = (load_model(load(tmp_path / kind / "best.pt")).state_dict() for kind in ("full", "half"))
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    assert all(torch.allclose(full[key], half[key], rtol=1e-3, atol=1e-6) for key in full)
    assert not all(torch.equal(full[key], half[key]) for key in full)

    def weights(kind: str) -> int:
        with zipfile.ZipFile(tmp_path / kind / "best.pt") as archive:
            return sum(entry.file_size for entry in archive.infolist() if "/data/" in entry.filename)

    assert weights("half") == weights("full") // 2


def test_a_state_beyond_a_log_that_was_cut_short_is_not_used(long: RunConfig, tiny: Dataset, tmp_path: Path) -> None:
    """Of five epochs trained, the log has kept two: the state of epoch 5 would leave out three of them, so training
    begins again before it; a log that lacks only the last epoch takes the state, which reports that epoch again.
    """
    run(long, tiny, Keeper(tmp_path), epochs=5)
    state = Keeper(tmp_path, logged=4).load()
    assert state is not None and state["epoch"] == 5
    keeper = Keeper(tmp_path, logged=2)
    state = keeper.load()
    assert state is None or state["epoch"] <= 3
    assert any("beyond the log" in note for note in keeper.notes)
