"""What other trainers call the settings and metrics of this program, and what their code does without saying it.

Read from the public trainers: the reference (cffan/neural_seq_decoder), its forks, among them those with AdamW, epochs
and time masks (ebrahimfeghhi), and the '25 baseline (Neuroprosthetics-Lab/nejm-brain-to-text).
"""

from __future__ import annotations

from typing import Any

SIMPLE: dict[str, tuple[str, ...]] = {
    "model.hidden": ("nUnits", "n_units", "hidden_dim", "hidden_size"),
    "model.layers": ("nLayers", "n_layers", "layer_dim", "num_layers"),
    "model.bidirectional": ("bidirectional",),
    "model.dropout": ("dropout", "rnn_dropout"),
    "model.kernel": ("kernelLen", "patch_size"),
    "model.stride": ("strideLen", "patch_stride"),
    "model.layer_norm": ("use_layer_norm", "layer_norm"),
    "augmentation.white_noise": ("whiteNoiseSD", "white_noise_std"),
    "augmentation.constant_offset": ("constantOffsetSD", "constant_offset_std"),
    "augmentation.smoothing_sd": ("gaussianSmoothWidth", "smooth_kernel_std"),
    "augmentation.gain_noise": ("static_gain_std",),
    "augmentation.random_walk": ("random_walk_std",),
    "data.days_per_batch": ("days_per_batch",),
    "model.day_dropout": ("input_layer_dropout",),
    "optimizer.day_weight_decay": ("weight_decay_day",),
    "augmentation.input_dropout": ("input_dropout",),
    "training.batch_size": ("batchSize", "batch_size"),
    "training.seed": ("seed",),
    "training.accumulation": ("gradient_accumulation_steps", "accumulation_steps", "accumulate_grad_batches"),
}
"""Setting here -> its names elsewhere, where the value means the same."""

CLIP = (
    *("grad_clip_norm", "grad_norm_clip_value", "grad_clip", "clip_grad_norm", "max_grad_norm", "gradient_clip_val"),
    *("clip_grad", "clip_norm", "grad_norm_clip", "gradient_clip"),
)
BATCHES = ("nBatch", "num_training_batches", "total_batches", "max_steps", "total_steps", "num_batches")
EPOCHS = ("n_epochs", "num_epochs", "epochs", "max_epochs", "nEpochs")
EVERY = ("eval_every", "batches_per_val_step", "eval_interval", "val_every", "evaluate_every", "eval_every_n_batches")
EVERY_EPOCHS = ("evaluate_every_n_epochs", "eval_every_n_epochs")
PEAK = ("peak_lr", "lr_max", "lrStart", "learning_rate", "max_lr", "lr")
END = ("lrEnd", "lr_min", "learning_rate_min", "end_lr", "eta_min")
WARMUP = ("warmup_steps", "lr_warmup_steps", "learning_rate_warmup_steps", "num_warmup_steps", "warmup_batches")
WHOLE = ("lr_decay_steps", "learning_rate_decay_steps")
"""Names of the length of a schedule, its warm-up included."""
SCHEDULE = ("learning_scheduler", "lr_scheduler_type", "lr_scheduler", "scheduler")
DAY_LENGTHS = {"lr_decay_steps_day": WHOLE, "lr_warmup_steps_day": WARMUP}
"""A length of the day layers' own schedule -> the names of the network's; one that differs does not exist here."""

SCHEDULES = {
    "none": "line",
    "linear": "line",
    "linearlr": "line",
    "constant": "constant",
    "cosine": "cosine",
    "cosineannealing": "cosine",
    "cosineannealinglr": "cosine",
    "warmupcosine": "cosine",
    "warmcosine": "restarts",
    "sgdr": "restarts",
    "cosineannealingwarmrestarts": "restarts",
    "multistep": "multistep",
    "multisteplr": "multistep",
    "onecycle": "one_cycle",
    "onecyclelr": "one_cycle",
}
"""A scheduler's name, in small letters and digits alone -> how it is read (`schedules.py`)."""

REFERENCE = frozenset(
    (
        *("outputDir", "datasetPath", "modelName", "seqLen", "maxTimeSeriesLen", "batchSize", "lrStart", "lrEnd"),
        *("nUnits", "nBatch", "nLayers", "seed", "nClasses", "nInputFeatures", "dropout", "whiteNoiseSD"),
        *("constantOffsetSD", "gaussianSmoothWidth", "strideLen", "kernelLen", "bidirectional", "l2_decay"),
    )
)
"""The settings of the reference: a folder with these alone is its own, one with others is a fork's."""
SIGNATURE = frozenset(("nUnits", "strideLen", "kernelLen", "gaussianSmoothWidth", "whiteNoiseSD", "lrStart", "nBatch"))
"""A trainer with three of these names is the reference or a fork of it."""
BASELINE_25 = frozenset(("n_units", "patch_stride", "lr_max", "num_training_batches"))
"""A trainer with three of these names is the '25 baseline or a fork of it."""
OTHER_NETWORKS = ("heads", "n_heads", "nhead", "d_model", "depth", "mlp_dim_ratio")
"""Settings of networks that are no GRU."""

FACTS: dict[str, dict[str, Any]] = {
    "reference": {
        "data.bucket_batches": 1,
        "augmentation.smoothing_even": True,
        "optimizer.decay_biases": True,
        "optimizer.decay_day_layers": True,
    },
    "baseline25": {
        "data.bucket_batches": 1,
        "model.bidirectional": False,
        "model.learned_start": True,
        "training.ctc_reduction": "utterance_mean",
        "optimizer.decay_biases": False,
        "optimizer.decay_day_layers": False,
    },
    "unknown": {},
}
FACTS["fork"] = FACTS["reference"]
"""Family of trainers -> what its code does, where this program's default does something else."""
_SAID = (
    *(f"model.{key}" for key in ("hidden", "layers", "bidirectional", "dropout", "kernel", "stride")),
    *(f"optimizer.{key}" for key in ("kind", "eps", "beta1", "beta2", "weight_decay", "momentum", "nesterov")),
    *(f"averaging.{key}" for key in ("decay", "warmup", "start_batch", "every_batches", "lr")),
    *(f"augmentation.{key}" for key in ("white_noise", "constant_offset", "smoothing_sd")),
    *("training.batches", "training.batch_size", "training.seed"),
)
SAID = {
    "reference": frozenset(_SAID),
    "fork": frozenset((*_SAID, "training.clip", "training.precision")),
    "baseline25": frozenset(
        (
            *_SAID,
            *("augmentation.smoothing_kernel", "training.clip", "training.precision", "training.batches_per_epoch"),
        )
    ),
    "own": frozenset(("training.seed",)),
}
"""Family -> the paths that are known only if its settings say them. What they are silent about otherwise is off there,
as it is here by default. `own` are the settings of this program; of other trainers nothing is known by silence.
"""
UTTERANCES = 8800
"""Training sentences of the '24 recordings, on which the reference and its forks are trained."""

SAYS_NOTHING = frozenset(
    (
        # paths, names, devices, logging, and sizes that the data set
        *("outputDir", "datasetPath", "seqLen", "maxTimeSeriesLen", "nClasses", "nInputFeatures", "nDays"),
        *("run_number", "run_name", "modelName", "num_workers", "prefetch_factor", "per_ma_window", "device"),
        *("n_input_features", "rnn_trainable", "n_input_layers", "input_layer_sizes", "input_trainable"),
        *("gpu_number", "mode", "output_dir", "checkpoint_dir", "init_checkpoint_path", "save_best_checkpoint"),
        *("save_all_val_steps", "save_final_model", "save_val_metrics", "early_stopping_val_steps"),
        *("batches_per_train_log", "batches_per_save", "log_individual_day_val_PER", "log_val_skip_logs"),
        *("save_val_logits", "save_val_data", "neural_dim", "n_classes", "max_seq_elements"),
        *("num_dataloader_workers", "loader_shuffle", "must_include_days", "test_percentage", "dataset_dir"),
        *("bad_trials_dict", "sessions", "dataset_probability_val", "random_walk_axis", "smooth_data"),
        *("beam_size", "use_beam_search", "beam_search_interval", "beam_search_subset_size", "min_lr"),
        *("plateau_patience", "plateau_factor", "plateau_min_lr", "adaptive_lr_warmup", "max_lr_reductions"),
        *("lr_reduction_factor", "time_mask_width", "time_mask_max_masks", "freq_mask_width", "freq_mask_max_masks"),
        *("extra_notes", "wandb_id", "wandb", "project", "entity", "maxDay", "early_stop", "dist_dict_path"),
        *("start_epoch", "T_0", "T_mult", "milestones", "gamma", "max_mask_pct", "max_mask_channels", "data"),
        *("manifest_paths", "participant_suffixes", "modelType", "name", "year", "study", "trial", "origin"),
        *("max_time_series_len", "samples_per_patch", "dim_head", "mlp_dim_ratio", "run_purpose", "purpose"),
        *("consistency_scalar", "cosine_T_max", "optimizer_name", "learning_rate_decay_steps", "features_list"),
        *("learning_rate_warmup_steps", "scheduler_step", "lr_scaling_factor", "timestep_duration_sec"),
    )
)
"""Settings that do not change a training, or that only say how much of something that is off or named itself."""

METRICS: dict[str, tuple[str, ...]] = {
    "per": (
        *("per", "val_per", "valid_per", "validation_per", "dev_per", "eval_per", "avg_per", "per_avg"),
        *("phoneme_error_rate", "val_phoneme_error_rate", "cer", "val_cer", "valid_cer", "dev_cer", "eval_cer"),
        *("test_per", "test_cer", "testper", "testcer"),
    ),
    "val_loss": (
        *("val_loss", "valid_loss", "validation_loss", "dev_loss", "eval_loss", "ctc_loss", "val_ctc_loss"),
        *("ctc_loss_avg", "test_loss", "testloss"),
    ),
    "train_loss": ("train_loss", "train_loss_avg", "train_ctc_loss", "training_loss"),
    "lr": ("lr", "learning_rate"),
    "grad_norm": ("grad_norm", "grad_norm_avg"),
    "per_raw": ("per_raw",),
    "step": ("step", "batch", "iter", "iteration", "global_step", "trainer_global_step", "_step"),
    "epoch": ("epoch",),
}
"""Column of the epochs table, or `step` -> its names in logs, small letters with _ for all else; the first counts."""
