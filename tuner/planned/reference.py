"""The result folders of the reference trainer (cffan/neural_seq_decoder) and of its forks, as trials.

A folder holds `args`, a pickle of the settings; `trainingStats`, a pickle of testLoss and testCER at every 100th
batch from batch 0; forks add `metrics.jsonl`, a line per evaluation: step, per or cer, ctc_loss, lr. `step` counts
micro-batches from 0. With accumulation a fork's schedule moved once per optimizer step while its lengths were written
in micro-batches; here lengths are batches (optimizer steps), so a run that ended before its schedule did has a
`schedule.horizon` beyond its `training.batches`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces import InputError, RunConfig
from trainable.data.pickles import load_plain
from tuner.planned.past import PastTrial

FILES = ("args", "trainingStats", "metrics.jsonl")
_MOST_BYTES = 64 << 20
_EVERY = 100
_SAYS_NOTHING = {
    # paths, names and other settings that do not change the training
    *("outputDir", "datasetPath", "seqLen", "maxTimeSeriesLen", "nClasses", "nInputFeatures", "nDays"),
    *("run_number", "run_name", "modelName", "num_workers", "prefetch_factor", "per_ma_window"),
}
_METRICS = {
    # a fork's key -> a column of the epochs table
    "ctc_loss": "val_loss",
    "train_loss_avg": "train_loss",
    "lr": "lr",
    "grad_norm_avg": "grad_norm",
}


class _Args:
    """Settings that record which of them were read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.used: set[str] = set()

    def get(self, name: str, missing: Any = None) -> Any:
        self.used.add(name)
        value = self.values.get(name)
        return missing if value is None else value

    def has(self, *names: str) -> bool:
        return any(name in self.values for name in names)

    @property
    def left(self) -> list[str]:
        """The settings that were on but not read: those that do not exist in this program."""
        return sorted(k for k, v in self.values.items() if v and k not in self.used and k not in _SAYS_NOTHING)


@dataclass
class Found:
    """The result of reading: the trials; each setting that does not exist here, with its runs; a line per folder left
    out."""

    trials: list[PastTrial] = field(default_factory=list)
    unmatched: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_results(path: Path) -> Found:
    """Read one result folder, or a folder of them; of several, one that cannot be read is left out with a line.

    Raises `InputError` if nothing can be read. No code in the files is executed.
    """
    if not path.is_dir():
        raise InputError(f"{path}: is not a folder; give a result folder, or a folder of them")
    folders = [path] if _holds(path) else sorted(p for p in path.iterdir() if p.is_dir() and _holds(p))
    if not folders:
        raise InputError(f"{path}: has no result folders ({', '.join(FILES)}); give one, or a folder of them")
    found = Found()
    for folder in folders:
        try:
            trials, unmatched = _read(folder, found.problems)
        except InputError as error:
            found.problems += error.problems
            continue
        found.trials += trials
        for setting in unmatched:
            found.unmatched.setdefault(setting, []).append(folder.name)
    if not found.trials:
        raise InputError(found.problems)
    return found


def _holds(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILES)


def _read(folder: Path, problems: list[str]) -> tuple[list[PastTrial], list[str]]:
    path = folder / "args"
    if not path.is_file():
        raise InputError(f"{folder}: has no file args; without settings a run cannot be compared, so it is left out")
    values = load_plain(path, _MOST_BYTES)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(
            f"{path}: is a {type(values).__name__}; it must be a dict of settings, as the reference writes it"
        )
    args = _Args(values)
    config, assumed = _config(path, args)
    purpose = args.get("run_purpose")
    runs = _evaluations(folder, problems) or [[]]
    trials = []
    for part, run in enumerate(runs, start=1):
        rows = _rows(run, config)
        split = next((row["eval_split"] for row in run if isinstance(row.get("eval_split"), str)), "test")
        notes = [f"part {part} of {len(runs)}: the run was started again in this folder"] if len(runs) > 1 else []
        notes += [f"settings that do not exist here: {', '.join(args.left)}"] if args.left else []
        about = {
            "run": folder.name if part == 1 else f"{folder.name}_restart{part - 1}",
            "purpose": purpose if isinstance(purpose, str) else None,
            "decoder": "greedy",
            "split": split,
            "assumed": ", ".join(assumed) or None,
            "note": "; ".join(notes) or None,
        }
        trials.append(PastTrial(config, _status(rows, config), about, rows))
    return trials, args.left


def _status(rows: list[dict[str, Any]], config: RunConfig) -> str:
    if not rows:
        return "interrupted"
    if rows[-1]["per"] is None or rows[-1].get("val_loss") is None:
        return "diverged"
    left = config.training.batches - rows[-1]["batch"]
    return "completed" if left <= config.training.batches_per_epoch else "interrupted"


def _evaluations(folder: Path, problems: list[str]) -> list[list[dict[str, Any]]]:
    """The evaluations as dicts with `step`; a list for each time the run was started from the beginning."""
    metrics, stats = folder / "metrics.jsonl", folder / "trainingStats"
    if metrics.is_file():
        rows = _metrics(metrics, problems)
    elif stats.is_file():
        rows = _stats(stats)
    else:
        return []
    runs: list[list[dict[str, Any]]] = []
    for row in rows:
        if not runs or row["step"] <= runs[-1][0]["step"]:
            runs.append([])
        runs[-1].append(row)
    return runs


def _metrics(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: has {path.stat().st_size} bytes; a file of this kind has at most {_MOST_BYTES}")
    rows, bad = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            row = ()
        if isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0:
            rows.append({**row, "per": row.get("per", row.get("cer"))})
        elif row is not None:
            bad.append(str(number))
    if bad and not rows:
        raise InputError(
            f"{path}: has no evaluations; a line must be a JSON object with step, per or cer, ctc_loss, lr"
        )
    if bad:
        problems.append(f"{path}: line {', '.join(bad[:5])}{' ...' * (len(bad) > 5)}: not an evaluation, left out")
    return rows


def _stats(path: Path) -> list[dict[str, Any]]:
    values = load_plain(path, _MOST_BYTES)
    try:
        pers = [float(per) for per in values["testCER"]]
        losses = [float(loss) for loss in values["testLoss"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: does not have the lists testCER and testLoss; is it from this trainer?") from error
    if len(pers) != len(losses):
        raise InputError(
            f"{path}: has {len(pers)} values of testCER and {len(losses)} of testLoss; the numbers must be equal"
        )
    return [
        {"step": _EVERY * index, "per": per, "ctc_loss": loss}
        for index, (per, loss) in enumerate(zip(pers, losses, strict=True))
    ]


def _rows(run: list[dict[str, Any]], config: RunConfig) -> list[dict[str, Any]]:
    """Epoch rows: the n-th evaluation is epoch n; a step that comes again belongs to a further attempt."""
    rows: list[dict[str, Any]] = []
    epochs: dict[int, int] = {}
    attempt, last = 1, -1
    for evaluation in run:
        step = evaluation["step"]
        attempt += step <= last
        last = step
        batch = (step + 1) // config.training.accumulation
        row = {"attempt": attempt, "epoch": epochs.setdefault(step, len(epochs) + 1), "batch": batch}
        row["per"] = _number(evaluation.get("per"))
        row |= {column: _number(evaluation[key]) for key, column in _METRICS.items() if key in evaluation}
        rows.append({**row, "schedule_fraction": min(1.0, batch / config.horizon)})
    return rows


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _config(path: Path, args: _Args) -> tuple[RunConfig, list[str]]:
    """The settings as a RunConfig, and the columns that come from the trainer's code instead of the settings."""
    try:
        micro = max(1, int(args.get("gradient_accumulation_steps", 1)))
        settings = _settings(args, micro)
        config = RunConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InputError(f"{path}: {where}: {first['msg'].splitlines()[0]}; the run is left out") from error
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise InputError(
            f"{path}: a setting has an impossible value ({str(error)[:80]}); the run is left out"
        ) from error
    assumed = ["optimizer_eps"]
    if config.training.precision != "fp32":
        assumed.append("training_precision")  # "amp" is bf16 where the card has it, else fp16
    if args.has("time_mask_prob", "freq_mask_prob"):
        assumed.append("augmentation_time_masks")  # its masks come with a probability, and in bins
    return config, assumed


def _settings(args: _Args, micro: int) -> dict[str, dict[str, Any]]:
    forked = args.has("optimizer")  # the reference has no such key, and eps 0.1; its forks write PyTorch's 1e-8
    kind = str(args.get("optimizer", "adam")).lower()
    l2 = args.get("l2_decay", 0.0)
    batches = max(1, int(args.get("nBatch", 10_000)) // micro)
    return {
        "data": {"bucket_batches": 1},
        "model": {
            "hidden": args.get("nUnits", 1024),
            "layers": args.get("nLayers", 5),
            "bidirectional": args.get("bidirectional", True),
            "dropout": args.get("dropout", 0.0),
            "kernel": args.get("kernelLen", 32),
            "stride": args.get("strideLen", 4),
            "layer_norm": args.get("use_layer_norm", False),
        },
        "optimizer": {
            "kind": kind,
            "weight_decay": args.get("weight_decay", l2),
            **({} if kind == "sgd" else {"eps": 1e-8 if forked else 0.1}),
        },
        "schedule": _schedule(args, micro),
        "averaging": _averaging(args, micro),
        "augmentation": {
            "white_noise": args.get("whiteNoiseSD", 0.0),
            "constant_offset": args.get("constantOffsetSD", 0.0),
            "smoothing_sd": args.get("gaussianSmoothWidth", 0.0),
            "input_dropout": args.get("input_dropout", 0.0),
        },
        "training": {
            "batches": batches,
            "batches_per_epoch": max(1, int(args.get("eval_every", _EVERY)) // micro),
            "batch_size": args.get("batchSize", 64),
            "accumulation": micro,
            "clip": args.get("grad_clip_norm") or None,
            "precision": "bf16" if args.get("use_amp") else "fp32",
            "seed": args.get("seed", 0),
        },
    }


def _schedule(args: _Args, micro: int) -> dict[str, Any]:
    steps = int(args.get("nBatch", 10_000))
    start, end = args.get("lrStart"), args.get("lrEnd")
    peak = args.get("peak_lr", start)
    warmup = int(args.get("warmup_steps", 0))
    cosine = int(args.get("cosine_T_max", 0))
    if args.get("use_onecycle"):
        peak = args.get("onecycle_max_lr", peak)
        first = peak / args.get("onecycle_div_factor", 25.0)
        return {
            "kind": "one_cycle",
            "peak_lr": peak,
            "start_lr": first,
            "end_lr": first / args.get("onecycle_final_div_factor", 1e4),
            "peak_fraction": args.get("onecycle_pct_start", 0.3),
        }
    if args.get("sgdr_T0"):
        return {
            "kind": "sgdr",
            "peak_lr": peak,
            "end_lr": end or 0.0,
            "period_batches": int(args.get("sgdr_T0")),
            "period_multiplier": args.get("sgdr_Tmult", 1.0),
            "warmup_batches": warmup,
        }
    if peak == end or end is None:
        return {"kind": "constant", "peak_lr": peak}
    if warmup or cosine:
        length = warmup + (cosine or max(1, steps - warmup))
        return {
            "kind": "warmup_cosine",
            "peak_lr": peak,
            "end_lr": end,
            "warmup_batches": warmup,
            "horizon": None if length == steps // micro else length,
        }
    return {"kind": "linear", "peak_lr": peak, "end_lr": end}


def _averaging(args: _Args, micro: int) -> dict[str, Any]:
    if args.get("use_swa"):
        return {
            "kind": "swa",
            "start_batch": int(args.get("swa_start", 0)) // micro,
            "every_batches": max(1, int(args.get("swa_update_every", 1)) // micro),
            "lr": args.get("swa_lr"),
        }
    if args.get("use_ema"):
        return {"kind": "ema", "decay": args.get("ema_decay", 0.999), "warmup": False}
    return {"kind": "none"}
