"""Which setting of a run a parameter of another program is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from search_spaces.parsing.fields import all_paths, unknown_path

_ALIASES = {
    "schedule.peak_lr": "lr, learning_rate, peak_lr, max_lr, base_lr, lr_start, initial_lr",
    "schedule.end_lr": "lr_end, end_lr, min_lr, eta_min, lr_min, final_lr",
    "schedule.start_lr": "warmup_lr, warmup_start_lr",
    "schedule.kind": "schedule, scheduler, lr_scheduler, lr_schedule, scheduler_type, lr_scheduler_type",
    "schedule.warmup_batches": "warmup, warmup_steps, num_warmup_steps, warmup_iters, lr_warmup_steps",
    "schedule.horizon": "lr_decay_steps, decay_steps, t_max",
    "schedule.gamma": "gamma, lr_gamma",
    "optimizer.kind": "optimizer, optim, opt, optimizer_type, optimizer_name",
    "optimizer.weight_decay": "weight_decay, wd, l2, l2_decay, decay",
    "optimizer.eps": "eps, epsilon, adam_eps, adam_epsilon",
    "optimizer.beta1": "beta1, adam_beta1, beta_1, beta0",
    "optimizer.beta2": "beta2, adam_beta2, beta_2",
    "optimizer.momentum": "momentum, sgd_momentum",
    "model.hidden": "hidden, hidden_size, hidden_dim, hidden_units, n_hidden, units, n_units, rnn_units, num_units",
    "model.layers": "layers, n_layers, num_layers, rnn_layers, num_rnn_layers, gru_layers",
    "model.dropout": "dropout, dropout_rate, drop, p_dropout, dropout_p, rnn_dropout",
    "model.kernel": "kernel, kernel_len, kernel_size, patch_size",
    "model.stride": "stride, stride_len, patch_stride",
    "model.bidirectional": "bidirectional, bidir",
    "model.layer_norm": "layer_norm, layernorm, use_layer_norm",
    "training.batch_size": "batch_size, batchsize, bs, train_batch_size, per_device_train_batch_size",
    "training.batches": "batches, steps, max_steps, num_steps, n_batch, n_batches, num_training_batches, iterations",
    "training.batches_per_epoch": "batches_per_val_step, eval_every, val_every",
    "training.accumulation": "accumulation, grad_accum, accumulate_grad_batches, gradient_accumulation_steps",
    "training.clip": "clip, grad_clip, clip_grad, grad_norm_clip_value, max_grad_norm, gradient_clip_val, clip_norm",
    "training.precision": "precision, dtype, amp",
    "averaging.decay": "ema, ema_decay",
    "averaging.kind": "averaging, weight_averaging",
    "augmentation.white_noise": "white_noise, white_noise_sd, white_noise_std, noise, noise_sd, noise_std",
    "augmentation.constant_offset": "constant_offset, constant_offset_sd, constant_offset_std, offset_sd",
    "augmentation.smoothing_sd": "smoothing_sd, gaussian_smooth_width, smooth_kernel_std, smoothing, smooth_sd",
    "augmentation.smoothing_kernel": "smoothing_kernel, smooth_kernel_size",
    "augmentation.time_masks": "time_masks, num_time_masks, num_masks, n_time_masks",
    "augmentation.time_mask_width": "time_mask_width, max_mask_pct, max_time_mask, time_mask_pct",
    "augmentation.feature_masks": "feature_masks, num_feature_masks, num_freq_masks",
    "augmentation.feature_mask_width": "feature_mask_width, max_feature_mask_pct",
    "augmentation.input_dropout": "input_dropout, input_network_dropout",
    "augmentation.random_cut": "random_cut",
}
_NOT_OURS = ("seed", "randomseed")
PERS = ("per", "cer", "valper", "valcer", "evalper", "phonemeerrorrate", "bestper", "avgper", "testper")


def plain(name: str) -> str:
    """A name without what people write differently: capitals, dashes, dots, underscores."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _table() -> dict[str, str]:
    found: dict[str, str] = {}
    keys = [path.split(".")[1] for path in all_paths()]
    for path in all_paths():
        found[plain(path)] = path
        if keys.count(path.split(".")[1]) == 1:
            found.setdefault(plain(path.split(".")[1]), path)
    for path, names in _ALIASES.items():
        if unknown_path(path) is None:
            found |= {plain(name): path for name in names.split(", ")}
    return found


def path_of(name: str, given: Mapping[str, str]) -> tuple[str | None, str]:
    """(the path of a parameter, why there is none); `given` maps names to paths and comes first.

    `optimizer.args.lr` is looked up whole, then by its last two words, then by its last.
    """
    if name in given:
        return given[name], ""
    words = [word for word in re.split(r"[./]", name.lstrip("+~")) if word]
    if plain(words[-1] if words else name) in _NOT_OURS:
        return None, "the search gives every trial its own seed"
    table = _table()
    for ends in (words, words[-2:], words[-1:]):
        if path := table.get(plain(".".join(ends))):
            return path, ""
    return None, f"no setting is called so; --map {name}=SECTION.KEY says which it is"


def values_at(path: str, values: list[Any]) -> list[Any]:
    """The values of a choice as they are written here: kinds in small letters, by the names that they have."""
    if not path.endswith(".kind"):
        return values
    return [_KINDS.get(plain(str(value)), str(value).lower()) for value in values]


_KINDS = {
    "cosine": "warmup_cosine",
    "cosineannealing": "warmup_cosine",
    "cosineannealinglr": "warmup_cosine",
    "cosinewarmup": "warmup_cosine",
    "warmupcosine": "warmup_cosine",
    "onecycle": "one_cycle",
    "onecyclelr": "one_cycle",
    "linearlr": "linear",
    "step": "multistep",
    "steplr": "multistep",
    "multisteplr": "multistep",
    "sgdr": "sgdr",
    "cosineannealingwarmrestarts": "sgdr",
    "constantlr": "constant",
    "none": "none",
}
