"""What is said of a trained decoder's errors, and the two decoders on it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable import train
from trainable.checkpoint import for_evaluation, save
from trainable.data.dataset import Dataset, Split
from trainable.decoding import error_counts
from trainable.scoring import Trained, confusions, decode, fit_split, load_trained, score, without

SEQUENCES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=8), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def trained(
    tiny: Dataset,
    config: Callable[..., RunConfig],
    split: Callable[..., Split],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Trained, Dataset, float]:
    """A decoder trained to a PER below 0.2, a data set with a long validation split, and the PER it reported there."""
    rng = np.random.default_rng(5)
    labels = []
    for _ in range(150):
        label = [int(rng.integers(1, 6))]
        while len(label) < 5:
            label.append(int(rng.choice([c for c in range(1, 6) if c != label[-1]])))
        labels.append(label)
    dataset = dataclasses.replace(tiny, val=split(labels, seed=6))
    run = config(
        training={"batches": 160, "batches_per_epoch": 160},
        model={"dropout": 0.0},
        schedule={"kind": "constant", "peak_lr": 1e-2},
        averaging={"kind": "ema", "decay": 0.9},
    )
    (report,) = train(run, dataset)
    path = tmp_path_factory.mktemp("trained") / "best.pt"
    save(path, for_evaluation(report.checkpoint()))
    return load_trained(path), dataset, report.per


def of(trained: tuple[Trained, Dataset, float], decoder: str, width: int = 10) -> float:
    model, dataset, _ = trained
    part = fit_split(model, dataset, "val")
    hypotheses, _ = decode(model, part, decoder, width)
    return score([part.label(i).tolist() for i in range(len(part))], hypotheses).per


def test_the_greedy_per_of_a_checkpoint_is_the_one_training_reported(trained: tuple[Trained, Dataset, float]) -> None:
    """Exactly: same weights (the averaged ones), same decoding, same counting."""
    assert of(trained, "greedy") == trained[2] == trained[0].reported_per < 0.2


@pytest.mark.parametrize("width", [1, 10, 50])
def test_beam_search_is_within_a_hundredth_of_greedy(trained: tuple[Trained, Dataset, float], width: int) -> None:
    """Without a language model the two hardly differ on a trained decoder; a wrong search is far off."""
    assert abs(of(trained, "beam", width) - trained[2]) <= 0.01


def test_days_are_found_by_name(trained: tuple[Trained, Dataset, float]) -> None:
    """Data with the decoder's days in another order, or fewer of them, are decoded alike."""
    model, dataset, per = trained
    swapped = dataclasses.replace(
        dataset, days=("tuesday", "monday"), val=dataclasses.replace(dataset.val, day=1 - dataset.val.day)
    )
    assert of((model, swapped, per), "greedy") == per
    more = dataclasses.replace(dataset, days=("monday", "tuesday", "unused"))
    assert of((model, more, per), "greedy") == per


def test_data_that_do_not_fit_are_named(trained: tuple[Trained, Dataset, float]) -> None:
    """Other days, classes, features, an empty split: all of it at once, each in a line with what is allowed."""
    model, dataset, _ = trained
    with pytest.raises(InputError) as days:
        fit_split(model, dataclasses.replace(dataset, days=("monday", "friday")), "val")
    assert days.value.problems == [
        "in-memory: the checkpoint has no layer for day friday, only for monday, tuesday; give data of those days, "
        "or a checkpoint of a run with model.day_layers false"
    ]
    other = dataclasses.replace(dataset, n_features=7, classes=(*dataset.classes[:-1], "ZH"))
    with pytest.raises(InputError) as both:
        fit_split(model, other, "val")
    assert len(both.value.problems) == 2
    assert "7 features a bin; the checkpoint was trained on 6" in both.value.problems[0]
    assert "(SIL, ZH)" in both.value.problems[1]
    empty = dataclasses.replace(dataset.test, start=np.zeros(0, np.int64), day=np.zeros(0, np.int64))
    with pytest.raises(InputError, match="no test utterances; give --split train or val"):
        fit_split(model, dataclasses.replace(dataset, test=empty), "test")


def test_without_day_layers_any_day_will_do(trained: tuple[Trained, Dataset, float]) -> None:
    """A decoder that does not know days has none to miss."""
    model, dataset, _ = trained
    config = model.config.model_copy(update={"model": model.config.model.model_copy(update={"day_layers": False})})
    strange = dataclasses.replace(dataset, days=("friday", "saturday"))
    fitted = fit_split(dataclasses.replace(model, config=config), strange, "val")
    assert set(fitted.day) == {0}


def test_a_checkpoint_of_another_program_version_is_one_line(
    trained: tuple[Trained, Dataset, float], tmp_path: Path
) -> None:
    """Weights that are not the configuration's, and parts that are not what they should be: the file is named."""
    model = trained[0]
    state = {
        "schema": 1,
        "config": model.config.model_dump(mode="json"),
        "data": {"fingerprint": "f", "features": 6, "classes": list(model.classes), "days": list(model.days)},
        "epoch": 1,
        "batch": 1,
        "model": {"weight": torch.zeros(2)},
        "average": None,
        "optimizer": {},
        "scaler": {},
        "report": {"per": 0.5},
    }
    for change in ({}, {"average": {"updates": 3}}, {"data": {**state["data"], "features": "six"}}):
        path = tmp_path / "other.pt"
        save(path, {**state, **change})
        with pytest.raises(InputError) as error:
            load_trained(path)
        assert len(error.value.problems) == 1 and str(error.value).startswith(f"{path}: ")


def test_kinds_of_errors_are_counted_by_hand() -> None:
    """One substitution, one deletion, one insertion in three utterances."""
    found = score([[1, 2, 3], [1, 2, 3], [1, 2]], [[1, 4, 3], [1, 3], [1, 2, 2]])
    assert found.substitutions.tolist() == [1, 0, 0]
    assert found.deletions.tolist() == [0, 1, 0]
    assert found.insertions.tolist() == [0, 0, 1]
    assert found.per == 3 / 8
    assert found.per_utterance_mean == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    wrong = confusions([[1, 2, 3], [1, 2, 3], [1, 2]], [[1, 4, 3], [1, 3], [1, 2, 2]])
    assert wrong == Counter({(2, 4): 1, (2, None): 1, (None, 2): 1})


@given(SEQUENCES, st.integers(0, 2**32 - 1))
def test_the_kinds_add_up_to_the_edit_distance(references: list[list[int]], seed: int) -> None:
    """For any pairs; deletions less insertions are the difference in length, and confusions count each error once."""
    rng = np.random.default_rng(seed)
    hypotheses = [rng.integers(1, 5, size=rng.integers(0, 9)).tolist() for _ in references]
    found = score(references, hypotheses)
    assert found.errors.tolist() == error_counts(references, hypotheses).tolist()
    lengths = [len(r) - len(h) for r, h in zip(references, hypotheses, strict=True)]
    assert (found.deletions - found.insertions).tolist() == lengths
    assert sum(confusions(references, hypotheses).values()) == found.errors.sum()


@given(SEQUENCES, st.integers(0, 5))
def test_the_interval_is_seeded_and_holds_the_per(references: list[list[int]], seed: int) -> None:
    """Same seed, same interval; it has the PER in it; without errors, and with all wrong, it is a point."""
    found = score(references, [sequence[:-1] for sequence in references])
    low, high = found.interval(seed)
    assert (low, high) == found.interval(seed) and low <= found.per + 1e-9 and high >= found.per - 1e-9
    assert score(references, references).interval(seed) == (0.0, 0.0)
    assert score(references, [[] for _ in references]).interval(seed) == (1.0, 1.0)


def test_the_interval_covers_the_true_per() -> None:
    """Of 200 corpora with utterances of differing difficulty about 95% of the intervals hold the population's PER."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        rates = rng.beta(2, 6, size=80)
        lengths = rng.integers(10, 40, size=80)
        errors = rng.binomial(lengths, rates)
        zero = np.zeros_like(errors)
        low, high = dataclasses.replace(score([[1]], [[1]]), substitutions=errors, insertions=zero, deletions=zero,
                                        lengths=lengths).interval(0, 400)  # fmt: skip
        held += low <= 0.25 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_leaving_silence_out_leaves_the_phonemes() -> None:
    """The class goes from both sides before aligning."""
    assert without([[1, 5, 2, 5], [5], []], 5) == [[1, 2], [], []]
