"""The columns of the three tables: name, type, unit and meaning of each.

The trials table has, after these, one column per configuration key, named `section_key` (`schedule_peak_lr`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning; a column that is only added needs no new version."""


class Column(NamedTuple):
    """One column. `type` is an Arrow type's name, or `timestamp`: microseconds, UTC, stored without a time zone.

    (DuckDB's functions for times with a zone need an extension, which a machine without internet cannot download.)
    `unit` is empty where there is none.
    """

    name: str
    type: str
    unit: str
    meaning: str


BY_DECAY = "list<struct<decay: double, per: double>>"
"""The one type of a column that is a list."""

_STUDY = Column("study", "string", "", "name of the study: its folder's name")
_TRIAL = Column("trial", "int32", "", "number of the trial within its study, from 0")

STUDIES = (
    _STUDY,
    Column("schema_version", "int32", "", "version of these tables' meaning"),
    Column("status", "string", "", "running, completed (its budget was spent), interrupted or failed"),
    Column(
        "reason",
        "string",
        "",
        "why it ended: budget (all trials ran), wall_time, gpu_hours, batches, utterances, target_per, no_improvement, "
        "interrupted, failed",
    ),
    Column("created", "timestamp", "UTC", "when it was first started"),
    Column("ended", "timestamp", "UTC", "when it last ended; null if it has not"),
    Column("resumed", "int32", "", "how often it was resumed"),
    Column("space", "string", "", "name of the search space"),
    Column("objective", "string", "", "what was minimised: best_per, or another measure such as best_val_loss"),
    Column("costs", "string", "", "further numbers that were minimised, separated by commas; null if none"),
    Column("searcher", "string", "", "kind of searcher"),
    Column("searcher_options", "string", "JSON", "all settings of the searcher"),
    Column("stopping", "string", "", "kind of early-stopping rule"),
    Column("stopping_options", "string", "JSON", "all settings of the rule"),
    Column("seed", "int64", "", "seed of the searcher and of the trials' seeds"),
    Column("budget_trials", "int32", "trials", "limit on the number of trials"),
    Column("budget_hours", "float64", "h", "limit on the wall time"),
    Column("budget_gpu_hours", "float64", "h", "limit on the GPU hours (fraction of a GPU times hours) of all trials"),
    Column("budget_batches", "int64", "batches", "limit on the optimizer steps of all trials"),
    Column("budget_utterances", "int64", "utterances", "limit on the utterances that all trials train on"),
    Column("budget_target_per", "float64", "PER", "the PER at which the search ends"),
    Column("budget_no_improvement", "int32", "trials", "trials without a better PER after which the search ends"),
    Column("budget_then", "string", "", "what running trials do at a limit: finish, stop, null = depends on the limit"),
    Column("cpus_per_trial", "float64", "CPUs", "CPUs reserved for each trial"),
    Column("gpus_per_trial", "float64", "GPUs", "GPUs, or the fraction of one, reserved for each trial"),
    Column("concurrent", "int32", "trials", "trials that ran at the same time"),
    Column("data_name", "string", "", "name of the data set"),
    Column("data_path", "string", "", "where the data set was"),
    Column("data_fingerprint", "string", "sha256", "fingerprint of the data set's content"),
    Column("data_val_phonemes", "int64", "phonemes", "reference phonemes of the validation split, where known"),
    Column("code_version", "string", "", "version of this program"),
    Column("code_git", "string", "", "git commit of this program"),
    Column("code_dirty", "bool", "", "whether the working tree had uncommitted changes"),
    Column("packages", "string", "JSON", "versions of Python and the main packages"),
    Column("host", "string", "", "machine the search was driven from"),
    Column("trials", "int32", "trials", "trials started"),
    Column("epochs", "int64", "epochs", "epochs reported, each trial's epoch counted once"),
    Column("best_per", "float64", "PER", "lowest best_per of its trials"),
    Column("best_trial", "int32", "", "the trial with best_per; the first on ties"),
    Column("cpu_seconds", "float64", "s", "sum over its trials"),
    Column("gpu_seconds", "float64", "s", "sum over its trials"),
    Column(
        "confirms", "string", "", "the study whose best configurations it trains again with new seeds; null otherwise"
    ),
    Column("origin_note", "string", "", "origin of the study, if it is not a search here"),
    Column("space_definition", "string", "JSON", "the whole search space"),
    Column("tags", "string", "", "tags that `tuner tag` put on the study, separated by commas; null if none"),
    Column("notes", "string", "", "notes of `tuner note` on the study, the oldest first; null if none"),
)

TRIALS = (
    _STUDY,
    _TRIAL,
    Column("seed", "int64", "", "seed of weights, batches, augmentation and dropout"),
    Column(
        "status",
        "string",
        "",
        "running, completed, stopped (early), paused (at a rung), diverged, failed or interrupted",
    ),
    Column(
        "origin",
        "string",
        "",
        "searched, start_point, recorded (not trained here) or replicate (same configuration, other seed)",
    ),
    Column("best_per", "float64", "PER", "lowest per over its epochs, from the checkpoint that is kept"),
    Column("best_epoch", "int32", "", "the epoch of best_per, from 1; the first on ties"),
    Column(
        "best_average",
        "string",
        "",
        "the weights that best_per is of: raw, swa, or an EMA's decay, such as 0.999; null in older studies",
    ),
    Column("last_per", "float64", "PER", "per of its last epoch"),
    Column("epochs", "int32", "epochs", "epochs reported"),
    Column("batches", "int64", "batches", "optimizer steps done at its last epoch"),
    Column("probe_batches", "int64", "batches", "optimizer steps of its cooldown probes, not included in batches"),
    Column(
        "gpu_seconds",
        "float64",
        "s",
        "GPU time of all attempts; estimated from the epochs for an attempt without an end",
    ),
    Column(
        "cpu_seconds",
        "float64",
        "s",
        "CPU time of all attempts; estimated from the epochs for an attempt without an end",
    ),
    Column("train_seconds", "float64", "s", "wall time of its epochs, over all attempts"),
    Column("parameters", "int64", "", "trainable weights of its decoder; null in older studies"),
    Column("started", "timestamp", "UTC", "start of the first attempt"),
    Column("ended", "timestamp", "UTC", "end of the last attempt; null if it has not ended"),
    Column("attempts", "int32", "", "number of attempts: 1 + restarts"),
    Column("host", "string", "", "machine of the last attempt"),
    Column("error", "string", "", "why it failed, diverged or was stopped while it was paused; null otherwise"),
    Column(
        "from_trial",
        "int32",
        "",
        "the trial from whose checkpoint it continues (pbt); null if it started from new weights",
    ),
    Column("from_trial_epoch", "int32", "", "the epoch of that checkpoint; its own epochs come after it"),
    Column("replaces", "int32", "", "the trial that was stopped for it (pbt)"),
    Column("length", "float64", "", "of its run, as a multiple of the space's; null where runs have one length"),
    Column("shorter", "int32", "", "the trial with the same settings, one length below, whose result brought it here"),
    Column("checkpoint", "string", "", "its best checkpoint, a path relative to the study folder"),
    Column("run", "string", "", "name of the trial's run file; null for searched trials"),
    Column("parent", "string", "", "name of the run that this one was changed from"),
    Column("phase", "string", "", "the part of the history it belongs to, as its run file says"),
    Column("purpose", "string", "", "its purpose, as its run file says"),
    Column("decoder", "string", "", "decoder of best_per: greedy for trials trained here; null where not recorded"),
    Column("beam_per", "float64", "PER", "recorded runs: the PER that a beam search gave"),
    Column(
        "test_per", "float64", "PER", "recorded runs: the greedy PER on the test split, measured after the training"
    ),
    Column("split", "string", "", "recorded runs: the split that the PER was measured on; null = validation"),
    Column("assumed", "string", "", "recorded runs: configuration columns that were not recorded, separated by commas"),
    Column("unknown", "string", "", "imported runs: those of `assumed` that nobody knows, so that they are null"),
    Column("note", "string", "", "notes made by hand"),
    Column("tags", "string", "", "tags that `tuner tag` put on the trial, separated by commas; null if none"),
    Column("notes", "string", "", "notes of `tuner note` on the trial, the oldest first; null if none"),
)

EPOCHS = (
    _STUDY,
    _TRIAL,
    Column("attempt", "int32", "", "the attempt that this row is from (from 1): the latest that reported this epoch"),
    Column("epoch", "int32", "", "epoch, from 1"),
    Column("batch", "int64", "batches", "optimizer steps done"),
    Column("per", "float64", "PER", "greedy phoneme error rate of the evaluated weights: all edits / all phonemes"),
    Column("per_raw", "float64", "PER", "the same for the raw weights, before averaging"),
    Column("average", "string", "", "the weights that per is of: raw, swa, or an EMA's decay, such as 0.999"),
    Column("per_by_decay", BY_DECAY, "PER", "per of each EMA that was evaluated, and its decay; null without one"),
    Column(
        "per_halves",
        "float64",
        "PER",
        "per, had each half of the utterances been decoded by the weights that the other half chooses; null where "
        "there is no choice",
    ),
    Column("per_utterance_mean", "float64", "PER", "mean over utterances of each one's PER, evaluated weights"),
    Column("val_loss", "float64", "CTC loss", "validation loss; null if not finite"),
    Column("train_loss", "float64", "CTC loss", "mean training loss over the epoch; null if not finite"),
    Column("probe_per", "float64", "PER", "per after a short cooldown from this state; null where there was no probe"),
    Column("probe_val_loss", "float64", "CTC loss", "validation loss after that cooldown; null if not finite"),
    Column("probe_batches", "int64", "batches", "optimizer steps of that cooldown, not included in batches"),
    Column("lr", "float64", "", "learning rate of the last batch"),
    Column("schedule_fraction", "float64", "", "batch / horizon of the schedule"),
    Column("grad_norm", "float64", "", "mean gradient norm before clipping"),
    Column("blank_share", "float64", "", "fraction of validation frames whose best class is blank"),
    Column("infeasible", "int32", "utterances", "training utterances skipped: label longer than the output allows"),
    Column("seconds", "float64", "s", "wall time of the epoch, evaluation and probe included"),
    Column("samples_per_second", "float64", "1/s", "training utterances per second of training time"),
    Column("peak_memory_mb", "float64", "MB", "peak memory of the trial"),
    Column("checkpoint_seconds", "float64", "s", "time for which training waited while its checkpoint was written"),
    Column("note", "string", "", "problems with its checkpoints, and how they were solved; null otherwise"),
    Column("rung", "int32", "", "this epoch's number, if trials were compared here; null elsewhere"),
    Column("passed", "bool", "", "whether the trial passed this rung; null elsewhere"),
    Column("decision", "string", "", "continue, stop or pause"),
    Column("reason", "string", "", "why it did not pass the rung or was stopped; null otherwise"),
    Column("host", "string", "", "machine of the attempt"),
    Column("card", "string", "", "the card that the attempt trained on; null on a CPU and in older studies"),
    Column("reported", "timestamp", "UTC", "when the epoch was reported"),
)


def unknown_columns(row: Mapping[str, Any]) -> set[str]:
    """The configuration columns of an imported run whose value nobody knows: the column `unknown` of a trial's row."""
    return set(filter(None, (row.get("unknown") or "").split(", ")))


STOPPED_BY_HAND = "stopped by hand"
"""The `reason` of the last epoch, or the `error`, of a trial that somebody stopped: no rule judged it."""

COLUMNS: dict[str, tuple[Column, ...]] = {"studies": STUDIES, "trials": TRIALS, "epochs": EPOCHS}
TABLES = tuple(COLUMNS)
