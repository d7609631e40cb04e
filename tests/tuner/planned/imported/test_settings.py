"""The settings of foreign trainers: read where they exist here, and never a default where they do not."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError, flatten, load_run
from search_spaces.config import TrainingConfig
from tests.tuner.planned.imported.conftest import ARGS, BASELINE_25, EPOCHS
from trainable.schedules import lr_at
from tuner.planned.imported import names
from tuner.planned.imported.settings import nothing_known, understand


def values(settings, **options):
    """Path -> value of what is known."""
    found = understand(settings, Path("args"), **options)
    return {path: value for path, value in flatten(found.config).items() if path not in found.unknown}


def test_the_widely_forked_trainer_with_epochs_is_read():
    """AdamW, its betas, milestones in epochs, masks by share and by channels, and a length in passes over the data."""
    known = values(EPOCHS, utterances=1000)
    expected = {
        "optimizer.kind": "adamw", "optimizer.beta2": 0.99, "optimizer.weight_decay": 3e-5, "optimizer.eps": 1e-8,
        "optimizer.decay_biases": True, "schedule.kind": "multistep", "schedule.milestones": (0.5, 0.75),
        "schedule.gamma": 0.2, "augmentation.time_masks": 12, "augmentation.time_mask_width": 0.06,
        "augmentation.feature_masks": 2, "augmentation.feature_mask_width": 0.125,
        "augmentation.input_dropout": 0.15, "training.batches_per_epoch": 32, "training.batches": 1280,
    }  # fmt: skip
    assert {path: known[path] for path in expected} == expected


def test_its_size_is_the_24_recordings_where_nobody_says_another():
    """8,800 sentences in batches of 32 are 275 batches; both lengths are then named as assumed."""
    found = understand(EPOCHS, Path("args"))
    assert found.config.training.batches_per_epoch == 275
    assert {"training.batches", "training.batches_per_epoch"} <= set(found.assumed)
    assert not {"training.batches"} & set(understand(EPOCHS, Path("args"), 8800).assumed)


@pytest.mark.parametrize(
    ("changes", "kind", "more"),
    [
        ({"learning_scheduler": "cosine", "lrEnd": 1e-4}, "warmup_cosine", {"end_lr": 1e-4, "warmup_batches": 0}),
        ({"learning_scheduler": "None"}, "constant", {}),
        ({"learning_scheduler": "None", "lrEnd": 0.002}, "linear", {"end_lr": 0.002}),
        (
            {"learning_scheduler": "warmcosine", "T_0": 10, "T_mult": 2, "lrEnd": 1e-4},
            "sgdr",
            {"period_batches": 320, "period_multiplier": 2.0, "peak_decay": 1.0},
        ),
        ({"milestones": [60]}, "constant", {}),
    ],
)
def test_schedules_by_name(changes, kind, more):
    """Each scheduler of these trainers is the same one here, its epochs turned into batches; a milestone beyond the end
    does nothing.
    """
    known = values({**EPOCHS, **changes}, utterances=1000)
    assert known["schedule.kind"] == kind
    assert known["schedule.peak_lr"] == 0.01
    assert {key: known[f"schedule.{key}"] for key in more} == more


def test_a_milestone_is_where_it_was():
    """MultiStepLR with milestone 20 of 40 epochs of 32 batches: batch 639 has the first rate, batch 640 a fifth."""
    config = understand(EPOCHS, Path("args"), 1000).config
    assert [lr_at(config, batch) for batch in (639, 640, 960)] == pytest.approx([0.01, 0.002, 0.0004])


def test_plain_adam_of_that_trainer_has_the_references_eps():
    """`AdamW: False` is the reference's Adam, whatever betas the settings give."""
    found = understand({**EPOCHS, "AdamW": False}, Path("args"))
    optimizer = found.config.optimizer
    assert (optimizer.kind, optimizer.eps, optimizer.beta2) == ("adam", 0.1, 0.999)
    assert "betas" in found.notes[0]


def test_the_25_baseline_is_read():
    """Nested settings; its beta0 and beta1 are the first and second beta; no decay of biases and day layers."""
    known = values(BASELINE_25)
    expected = {
        "model.hidden": 96, "model.layers": 4, "model.kernel": 12, "model.stride": 3, "model.dropout": 0.35,
        "model.bidirectional": False, "optimizer.kind": "adamw", "optimizer.beta1": 0.91, "optimizer.beta2": 0.995,
        "optimizer.eps": 0.05, "optimizer.weight_decay": 0.002, "optimizer.decay_biases": False,
        "optimizer.decay_day_layers": False, "schedule.kind": "warmup_cosine", "schedule.peak_lr": 0.004,
        "schedule.end_lr": 0.0002, "schedule.warmup_batches": 300, "schedule.horizon": 6000,
        "augmentation.white_noise": 0.9, "augmentation.random_cut": 3, "augmentation.smoothing_kernel": 9,
        "training.batches": 5000, "training.batches_per_epoch": 500, "training.batch_size": 48,
        "training.clip": 8.0, "training.seed": 7, "training.ctc_reduction": "utterance_mean",
    }  # fmt: skip
    assert {path: known[path] for path in expected} == expected


def test_the_published_25_baseline_is_the_shipped_run():
    """With the values that it was published with, nothing is unknown, and the run file baseline_t15 says the same."""
    published = copy.deepcopy(BASELINE_25)
    published |= {
        "num_training_batches": 120_000, "lr_max": 0.005, "lr_min": 0.0001, "lr_decay_steps": 120_000,
        "lr_warmup_steps": 1000, "lr_max_day": 0.005, "lr_min_day": 0.0001, "lr_decay_steps_day": 120_000,
        "lr_warmup_steps_day": 1000, "beta0": 0.9, "beta1": 0.999, "epsilon": 0.1, "weight_decay": 0.001, "seed": 10,
        "grad_norm_clip_value": 10, "batches_per_val_step": 2000,
    }  # fmt: skip
    published["model"] |= {"n_units": 768, "rnn_dropout": 0.4, "n_layers": 5, "patch_size": 14, "patch_stride": 4}
    published["model"]["input_network"]["input_layer_dropout"] = 0.2
    published["dataset"] |= {"batch_size": 64, "days_per_batch": 4}
    published["dataset"]["data_transforms"] |= {
        "white_noise_std": 1.0, "constant_offset_std": 0.2, "random_cut": 3, "smooth_kernel_size": 100,
        "smooth_kernel_std": 2,
    }  # fmt: skip
    found = understand(published, Path("args"))
    assert (found.unknown, found.unmatched) == ((), ())
    assert found.config == load_run("baseline_t15").config


def test_day_layers_of_their_own_and_columns_are_read():
    """Rates, decay and dropout of the day layers, days per batch, noise that walks, and a list of columns as ranges."""
    changed = {**BASELINE_25, "lr_max_day": 0.003, "weight_decay_day": 0.5, "feature_subset": [0, 1, 2, 8, 9]}
    known = values({**changed, "random_walk_std": 0.1})
    expected = {
        "schedule.day_peak_lr": 0.003, "schedule.day_end_lr": 0.0002, "optimizer.day_weight_decay": 0.5,
        "model.day_dropout": 0.25, "data.days_per_batch": 3, "data.features": "0:3,8:10",
        "augmentation.random_walk": 0.1, "augmentation.random_walk_over": "features",
    }  # fmt: skip
    assert {path: known[path] for path in expected} == expected


def test_a_length_of_their_own_for_the_day_layers_is_named():
    """A decay of the day layers' rate over other lengths than the network's does not exist here."""
    assert understand({**BASELINE_25, "lr_decay_steps_day": 100}, Path("args")).unmatched == ("lr_decay_steps_day",)


@pytest.mark.parametrize(
    ("changes", "empty", "named"),
    [
        ({"optimizer": "lion"}, {"optimizer.kind", "optimizer.eps", "optimizer.beta1"}, "optimizer"),
        ({"learning_scheduler": "polynomial"}, {"schedule.kind", "schedule.horizon"}, "learning_scheduler"),
        ({"use_plateau_scheduler": True}, {"schedule.kind"}, "use_plateau_scheduler"),
        ({"lrEnd": 0.5}, {"schedule.kind"}, None),
        ({"lrStart": None}, {"schedule.kind", "schedule.peak_lr"}, None),
        ({"time_mask_prob": 0.1, "time_mask_width": 40}, {"augmentation.time_masks"}, "time_mask_prob"),
        ({"num_masks": 4}, {"augmentation.time_mask_width"}, None),
        ({"optimizer": "adam"}, {"training.clip", "training.precision"}, None),
    ],
)
def test_what_is_not_understood_is_empty_and_named(changes, empty, named):
    """Its paths are unknown, its name is among the settings that do not exist here; what was read beside it stays."""
    found = understand({**ARGS, **changes}, Path("args"))
    assert empty <= set(found.unknown)
    assert named is None or named in found.unmatched
    assert {"optimizer.weight_decay", "model.hidden"}.isdisjoint(found.unknown)


def test_a_network_that_is_no_gru_leaves_the_model_empty():
    """A transformer's width and depth are not a GRU's; its dropout is not either."""
    other = {
        "dim": 384,
        "depth": 7,
        "heads": 6,
        "patch_size": (5, 256),
        "dropout": 0.35,
        "nUnits": None,
        "nLayers": None,
    }
    found = understand({**EPOCHS, **other}, Path("args"))
    assert {path for path in found.unknown if path.startswith("model.")} == {
        path for path in flatten(found.config) if path.startswith("model.")
    }
    assert "no GRU" in found.notes[0]
    assert found.config.optimizer.kind == "adamw"


def test_without_settings_nothing_is_known():
    """Every path of a log without settings is unknown, the kinds too."""
    found = nothing_known()
    assert set(found.unknown) == set(flatten(found.config))


def test_this_programs_own_columns_are_read():
    """Settings as our loggers write them are a whole configuration again; what was null there is null here."""
    config = understand(EPOCHS, Path("args"), 1000).config
    logged = {
        path.replace(".", "_"): str(list(value)) if isinstance(value, tuple) else value
        for path, value in flatten(config).items()
        if value is not None
    }
    found = understand({**logged, "study": "lab", "trial": 3}, Path("config.yaml"))
    assert (found.config, found.unknown, found.unmatched) == (config, (), ())


NAMES = sorted(
    {name for known in names.SIMPLE.values() for name in known}
    | {*names.CLIP, *names.BATCHES, *names.EPOCHS, *names.PEAK, *names.END, *names.WARMUP, *names.SCHEDULE}
    | {"AdamW", "optimizer", "beta0", "beta1", "milestones", "gamma", "num_masks", "max_mask_pct", "use_swa", "swa_lr"}
    | {"use_ema", "ema_decay", "use_onecycle", "sgdr_T0", "random_cut", "weight_decay_day", "model", "schedule_kind"}
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 10**6), st.floats(), st.text(max_size=5), st.just("cosine"),
    st.just("multistep"), st.lists(st.integers(0, 50), max_size=3), st.just(10**40), st.binary(max_size=3),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12))
def test_no_settings_end_in_an_internal_error(changes):
    """Whatever values a file holds, it is understood or refused in one line that names it."""
    try:
        found = understand({**EPOCHS, **changes}, Path("some/args"))
    except InputError as error:
        assert len(error.problems) == 1
        assert error.problems[0].startswith("some/args: ")
    else:
        assert set(found.unknown) <= set(flatten(found.config))
        assert isinstance(found.config.training, TrainingConfig)
