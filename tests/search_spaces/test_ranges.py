"""Steps, normal distributions, "0 or a range" and choices by steps: what a space file may say, and what it means."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Dimension, InputError, Space, load_space
from search_spaces.space_file import _RandomTrial
from search_spaces.writing import dimensions_text

DIMENSIONS = {
    "model.dropout: {uniform: [0, 0.6], q: 0.1}": "0..0.6 in steps of 0.1",
    "training.batch_size: {uniform: [16, 64], q: 16}": "16..64 in steps of 16",
    "model.hidden: {log_int: [32, 256], q: 32}": "32..256 in steps of 32",
    "schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-2], q: 1.0e-3}": "0.001..0.01 in steps of 0.001",
    "model.dropout: {normal: [0.4, 0.1]}": "normal 0.4 +- 0.1 within 0..0.8",
    "model.dropout: {normal: [0.4, 0.2], within: [0, 0.8], q: 0.05}":
        "normal 0.4 +- 0.2 within 0..0.8 in steps of 0.05",
    "augmentation.random_cut: {normal: [10, 3], within: [0, 20]}": "normal 10 +- 3 within 0..20 in steps of 1",
    "schedule.peak_lr: {log_normal: [-6, 0.5]}":
        f"log_normal -6 +- 0.5 within {math.exp(-8):.12g}..{math.exp(-4):.12g}",
    "augmentation.white_noise: {log_uniform: [1.0e-3, 1], or: 0}": "0.001..1, or 0",
    "training.clip: {log_uniform: [0.1, 10], or: null, share: 0.5}": "0.1..10, or null",
    "augmentation.speckle: {choice: {from: 0, to: 0.3, step: 0.1}}": "0, 0.1, 0.2, 0.3",
    "model.hidden: {choice: {from: 64, to: 512, factor: 2}}": "64, 128, 256, 512",
}  # fmt: skip


def make(folder: Path, dimensions: str) -> Space:
    path = folder / "s.yaml"
    path.write_text(f"base: small\ndimensions:\n  {dimensions}\n", encoding="utf-8")
    return load_space(path)


def only(folder: Path, dimension: str) -> Dimension:
    return make(folder, dimension).dimensions[0]


@pytest.mark.parametrize(("text", "words"), DIMENSIONS.items())
def test_it_is_read_written_and_stored_as_it_is(tmp_path: Path, text: str, words: str) -> None:
    """A file written from a space, and the space in a log, are the same space again."""
    space = make(tmp_path, text)
    (dimension,) = space.dimensions
    assert dimension.words() == words
    assert make(tmp_path, dimensions_text(space.dimensions).strip()).dimensions == space.dimensions
    assert Space.from_dict(json.loads(json.dumps(space.as_dict()))).dimensions == space.dimensions


@pytest.mark.parametrize("text", DIMENSIONS)
def test_a_coordinate_and_its_sample_agree(tmp_path: Path, text: str) -> None:
    """Every coordinate gives an allowed sample; the sample's own coordinate gives it again, to the last digit."""
    space = make(tmp_path, text)
    (dimension,) = space.dimensions
    for u in [0.0, 1.0, *(Random(0).random() for _ in range(300))]:
        sample = dimension.from_unit(u)
        assert dimension.nearest(sample) == sample
        again = dimension.from_unit(dimension.to_unit(sample))
        assert again == (pytest.approx(sample, rel=1e-11) if isinstance(sample, float) else sample)
        assert space.violations({dimension.name: sample}) == []
        assert 0 <= dimension.to_unit(sample) <= 1


def test_old_logs_know_nothing_of_the_new_keys(tmp_path: Path) -> None:
    """A plain range is stored as before, so that a study begun by an earlier version goes on in the same space."""
    stored = make(tmp_path, "model.dropout: {uniform: [0, 0.6]}").as_dict()["dimensions"][0]
    assert set(stored) == {"name", "path", "kind", "low", "high", "choices", "when", "of", "complement"}


def test_steps_are_all_as_likely(tmp_path: Path) -> None:
    """Seven values of a range with steps have a seventh of the coordinate each, ends included."""
    dimension = only(tmp_path, "model.dropout: {uniform: [0, 0.6], q: 0.1}")
    drawn = [dimension.from_unit((k + 0.5) / 7000) for k in range(7000)]
    assert {value: drawn.count(value) for value in drawn} == dict.fromkeys(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 1000
    )  # fmt: skip


@pytest.mark.parametrize("text", ["{int: [2, 9]}", "{log_int: [2, 9]}"])
def test_whole_numbers_have_their_share(tmp_path: Path, text: str) -> None:
    """Ends included: of int each has the same, of log_int that of the logarithm from half a step below it to half a
    step above.
    """
    dimension = only(tmp_path, f"model.layers: {text}")
    drawn = [dimension.from_unit((k + 0.5) / 8000) for k in range(8000)]
    for k in range(2, 10):
        share = math.log((k + 0.5) / (k - 0.5)) / math.log(9.5 / 1.5) if dimension.log else 1 / 8
        assert drawn.count(k) == pytest.approx(8000 * share, abs=1.01)
        assert dimension.from_unit(dimension.to_unit(k)) == k


NATIVE = {
    "model.hidden: {choice: [64, 128]}": True,
    "model.dropout: {uniform: [0, 0.6]}": True,
    "model.dropout: {uniform: [0, 0.6], q: 0.1}": True,
    "schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-2]}": True,
    "model.hidden: {log_int: [32, 256]}": True,
    "schedule.peak_lr: {log_uniform: [1.0e-3, 1.0e-2], q: 1.0e-3}": False,
    "model.hidden: {log_int: [32, 256], q: 32}": False,
    "model.dropout: {normal: [0.4, 0.1]}": False,
    "schedule.peak_lr: {log_normal: [-6, 0.5]}": False,
    "augmentation.white_noise: {uniform: [0.1, 1], or: 0}": False,
}


@pytest.mark.parametrize(("text", "native"), NATIVE.items())
def test_optuna_samples_what_it_has_a_distribution_for(tmp_path: Path, text: str, native: bool) -> None:
    """The bounds and steps themselves; of anything else the coordinate, from 0 to 1."""
    dimension = only(tmp_path, text)
    asked = {}

    class Trial:
        def suggest_categorical(self, name, choices):
            asked[name] = choices
            return choices[0]

        def suggest_float(self, name, low, high, **_):
            asked[name] = low, high
            return high

        suggest_int = suggest_float

    sample = dimension.suggest(Trial())
    bounds = dimension.choices or dimension.ends
    assert asked == {dimension.name: bounds if native else (0.0, 1.0)}
    assert sample == pytest.approx(bounds[0] if dimension.choices else dimension.ends[1])


MIDDLES = {
    "model.hidden: {choice: [64, 128, 256]}": 64,
    "model.dropout: {uniform: [0.1, 0.6]}": 0.35,
    "model.dropout: {uniform: [0, 0.6], q: 0.3}": 0.3,
    "optimizer.eps: {log_uniform: [1.0e-4, 1.0e-2]}": 1e-3,
    "model.layers: {int: [2, 7]}": 4,
    "model.hidden: {log_int: [16, 256]}": 64,
    "model.hidden: {log_int: [32, 256], q: 32}": 96,
}


@pytest.mark.parametrize(("text", "middle"), MIDDLES.items())
def test_the_middle_of_a_range(tmp_path: Path, text: str, middle: float) -> None:
    """Of a log range the geometric one, on a step and a whole number where it must be; of choices the first."""
    dimension = only(tmp_path, text)
    assert dimension.middle() == pytest.approx(middle)
    assert type(dimension.middle()) is type(middle)


@given(mean=st.floats(0.3, 0.5), sd=st.floats(0.02, 0.06), u=st.floats(0, 1))
def test_a_normal_has_the_quantiles_of_one(mean: float, sd: float, u: float) -> None:
    """Cut off at four standard deviations, the coordinate is its distribution function."""
    dimension = Dimension("d", "model.dropout", "normal", mean - 4 * sd, mean + 4 * sd, mean=mean, sd=sd)
    least = NormalDist().cdf(-4)
    wanted = NormalDist().inv_cdf(least + u * (1 - 2 * least))
    assert (dimension.from_unit(u) - mean) / sd == pytest.approx(wanted, abs=1e-6)


def test_a_log_normal_is_that_of_the_logarithm(tmp_path: Path) -> None:
    """Its median is e to the mean, and two thirds lie within one standard deviation of the logarithm."""
    dimension = only(tmp_path, "schedule.peak_lr: {log_normal: [-6, 0.5]}")
    drawn = [math.log(dimension.from_unit((k + 0.5) / 1000)) for k in range(1000)]
    assert sorted(drawn)[500] == pytest.approx(-6, abs=0.01)
    assert sum(abs(value + 6) < 0.5 for value in drawn) == pytest.approx(683, abs=3)


def test_the_value_of_or_has_its_share(tmp_path: Path) -> None:
    """0 lies below the range, null (no limit) above it, each with its share; a run's 0 is found in the space."""
    zero = only(tmp_path, "augmentation.white_noise: {log_uniform: [1.0e-3, 1], or: 0}")
    assert [zero.from_unit(u) for u in (0, 0.2499)] == [0, 0]
    assert zero.from_unit(0.25) == 1e-3
    null = only(tmp_path, "training.clip: {log_uniform: [0.1, 10], or: null, share: 0.5}")
    assert null.from_unit(0.5) == 10
    assert null.from_unit(0.501) is None and null.from_unit(1.0) is None
    assert (zero.nearest(0), zero.nearest(1e-7), zero.nearest(9e-4), zero.nearest(5)) == (0, 0, 1e-3, 1)
    space = make(tmp_path, "augmentation.white_noise: {log_uniform: [1.0e-3, 1], or: 0}")
    trial = _RandomTrial(Random(1))
    shares = [space.suggest(trial)["augmentation.white_noise"] == 0 for _ in range(2000)]
    assert 0.25 < sum(shares) / 2000 < 0.4  # the trial draws the ends of every range more often
    assert space.config({"augmentation.white_noise": 0}, 1).augmentation.white_noise == 0


def test_or_is_the_value_itself_beside_a_relative_range(tmp_path: Path) -> None:
    """`of` multiplies the range; the value of `or` stays as it is, there and back."""
    dimension = only(tmp_path, "schedule.end_lr: {log_uniform: [1.0e-3, 0.3], of: schedule.peak_lr, or: 0}")
    assert dimension.value(0, 0.01) == 0
    assert dimension.value(0.1, 0.01) == pytest.approx(1e-3)
    assert dimension.sample(0.0, 0.01) == 0
    assert dimension.sample(1e-3, 0.01) == pytest.approx(0.1)


BAD = {
    "model.dropout: {uniform: [0, 0.6], q: 0.25}": "model.dropout.q: 0.25 does not lead from 0 to 0.6; end at 0.5 or",
    "model.dropout: {uniform: [0, 0.6], q: -1}": "model.dropout.q: -1 is not allowed; give the distance between",
    "model.hidden: {int: [32, 64], q: 0.5}": "model.hidden.q: 0.5 is not allowed with int; give a whole number",
    "model.hidden: {choice: [32, 64], q: 32}": "model.hidden.q: can only be used with uniform, log_uniform",
    "training.clip: {log_uniform: [1.0e-3, 1], q: 0.1}": "training.clip.q: 0.1 is not allowed; the low end 0.001 must",
    "training.clip: {log_uniform: [0, 1]}": "log range needs low above 0; give a low above 0 or use uniform; to have",
    "model.dropout: {normal: [0.4, 0]}": "model.dropout.normal: [0.4, 0] is not allowed; the standard deviation 0",
    "model.dropout: {normal: 0.4}": "model.dropout.normal: 0.4 is not allowed; give [mean, standard deviation]",
    "model.dropout: {normal: [0.4, 0.2]}": "0 or more and below 1; its range is cut off by `within: [low, high]`",
    "model.dropout: {normal: [0.4, 0.1], within: [0.9, 0.95]}": "within: [0.9, 0.95] holds 2.7e-07 of the distribution",
    "model.dropout: {uniform: [0, 0.5], within: [0, 1]}": "within: can only be used with normal and log_normal",
    "schedule.peak_lr: {log_normal: [-6, 0.5], within: [0, 1]}": "within: [0, 1] is not allowed; a log range needs low",
    "augmentation.random_cut: {normal: [9, 3], within: [8.2, 8.8]}": "q: 1 is not allowed; no multiple of it lies",
    "model.dropout: {uniform: [0, 0.5], or: 0.2}": "model.dropout.or: 0.2 is in the range already",
    "model.dropout: {uniform: [0, 0.5], or: 1}": "model.dropout.or: 1 is not allowed; give a number of 0 or more",
    "model.dropout: {uniform: [0, 0.5], or: [0]}": "model.dropout.or: [0] is not allowed; give one value",
    "model.dropout: {choice: [0, 0.5], or: 0.2}": "model.dropout.or: can only be used with uniform",
    "model.dropout: {uniform: [0.1, 0.5], or: 0, share: 1}": "model.dropout.share: 1 is not allowed",
    "model.dropout: {uniform: [0.1, 0.5], share: 0.5}": "model.dropout.share: is how often the value of `or` is drawn",
    "model.dropout: {choice: {from: 0, to: 0.5}}": "choice: {from: 0, to: 0.5} is not allowed; give {from: a, to: b,",
    "model.dropout: {choice: {from: 0, to: 0.5, step: 0.2}}": "choice.step: 0.2 does not lead from 0 to 0.5 exactly",
    "model.hidden: {choice: {from: 0, to: 64, factor: 2}}": "choice.factor: needs a from above 0 and a factor above 1",
    "model.hidden: {choice: {from: 1, to: 5000, step: 1}}": "has 4999 values; at most 1000 are allowed",
    "model.hidden: {choice: {form: 1, to: 5, step: 1}}": "choice.form: unknown key; did you mean from?",
}


@pytest.mark.parametrize(("text", "line"), BAD.items())
def test_a_mistake_gets_one_line(tmp_path: Path, text: str, line: str) -> None:
    """It names the place and what to give instead."""
    with pytest.raises(InputError) as caught:
        make(tmp_path, text)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert line in caught.value.problems[0]
