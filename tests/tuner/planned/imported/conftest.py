"""Past runs in the forms in which trainers leave them, with settings and curves of our own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from results.store.tables import load_tables
from tuner.planned.imported.reading import read_results
from tuner.planned.past import write_study

ARGS = {
    "outputDir": "/x", "datasetPath": "/y", "seqLen": 150, "maxTimeSeriesLen": 1200, "batchSize": 32, "lrStart": 0.01,
    "lrEnd": 0.01, "nUnits": 256, "nBatch": 900, "nLayers": 3, "seed": 5, "nClasses": 40, "nInputFeatures": 128,
    "dropout": 0.3, "whiteNoiseSD": 0.6, "constantOffsetSD": 0.1, "gaussianSmoothWidth": 1.5, "strideLen": 4,
    "kernelLen": 24, "bidirectional": False, "l2_decay": 3e-5,
}  # fmt: skip
"""What the reference writes."""
EPOCHS = {
    **{key: value for key, value in ARGS.items() if key != "nBatch"},
    "AdamW": True, "beta1": 0.9, "beta2": 0.99, "learning_scheduler": "multistep", "milestones": [20, 30],
    "gamma": 0.2, "n_epochs": 40, "num_masks": 12, "max_mask_pct": 0.06, "num_masks_channels": 2,
    "max_mask_channels": 16, "input_dropout": 0.15, "device": "cuda:1", "restricted_days": [], "wandb_id": "",
}  # fmt: skip
"""What forks with epochs, AdamW and time masks write."""
BASELINE_25 = {
    "model": {
        "n_input_features": 64, "n_units": 96, "rnn_dropout": 0.35, "rnn_trainable": True, "n_layers": 4,
        "patch_size": 12, "patch_stride": 3,
        "input_network": {"n_input_layers": 1, "input_layer_sizes": [64], "input_layer_dropout": 0.25},
    },
    "mode": "train", "use_amp": True, "output_dir": "x", "checkpoint_dir": "x/checkpoint",
    "num_training_batches": 5000, "lr_scheduler_type": "cosine", "lr_max": 0.004, "lr_min": 0.0002,
    "lr_decay_steps": 6000, "lr_warmup_steps": 300, "lr_max_day": 0.004, "lr_min_day": 0.0002,
    "lr_decay_steps_day": 6000, "lr_warmup_steps_day": 300, "beta0": 0.91, "beta1": 0.995, "epsilon": 0.05,
    "weight_decay": 0.002, "weight_decay_day": 0, "seed": 7, "grad_norm_clip_value": 8,
    "batches_per_val_step": 500,
    "dataset": {
        "data_transforms": {
            "white_noise_std": 0.9, "constant_offset_std": 0.15, "random_walk_std": 0.0, "static_gain_std": 0.0,
            "random_cut": 4, "smooth_kernel_size": 60, "smooth_data": True, "smooth_kernel_std": 1.8,
        },
        "batch_size": 48, "days_per_batch": 3, "seed": 1, "sessions": ["s1", "s2"],
    },
}  # fmt: skip
"""What the '25 baseline writes into args.yaml."""


def _write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in values))
    elif path.suffix == ".json":
        path.write_text(json.dumps(values))
    elif path.suffix in (".yaml", ".yml"):
        path.write_text(yaml.safe_dump(values))
    elif isinstance(values, str):
        path.write_text(values)
    else:
        path.write_bytes(pickle.dumps(values))


@pytest.fixture
def write():
    """Writes values to a file in the form that its name says; without an ending, as a pickle."""
    return _write


@pytest.fixture
def run_folder(tmp_path):
    """Makes a result folder: its settings, trainingStats of these PERs, further files by name."""

    def make(name: str = "run", args: Any = ARGS, pers: Any = None, **files: Any) -> Path:
        folder = tmp_path / "lab" / name
        _write(folder / "args", args)
        if pers is not None:
            _write(folder / "trainingStats", {"testLoss": 2 * np.array(pers), "testCER": np.array(pers)})
        for stem, values in files.items():
            _write(folder / stem.replace("__", "."), values)
        return folder

    return make


@pytest.fixture
def imported(tmp_path):
    """Imports a path as the study `lab`; gives its tables as lists of dicts, and what was said."""

    def run(path: Path, **options: Any) -> SimpleNamespace:
        found = read_results(path, **options)
        write_study(tmp_path / "results", "lab", found.trials, data={"name": "x", "path": "x"}, note="n")
        tables, problems = load_tables(tmp_path / "results", ["lab"])
        assert problems == []
        return SimpleNamespace(**{name: table.to_pylist() for name, table in tables.items()}, found=found)

    return run
