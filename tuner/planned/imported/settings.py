"""A foreign trainer's settings as a RunConfig, and what of it is not known.

A setting that was not understood never leaves a default that looks measured: its path is under `unknown`, and its
column of the trials table stays empty. Under `assumed` are those that come from the trainer's code and not from its
settings, and differ between trainers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from search_spaces import InputError, RunConfig
from search_spaces.config import SECTIONS, ConstantSchedule, TrainingConfig
from search_spaces.parsing.fields import all_paths, default_kind, kinds
from tuner.planned.imported.names import (
    BATCHES,
    CLIP,
    EPOCHS,
    EVERY,
    EVERY_EPOCHS,
    FACTS,
    OTHER_NETWORKS,
    SAID,
    SIMPLE,
    UTTERANCES,
)
from tuner.planned.imported.reader import ImpossibleSetting, Settings, whole
from tuner.planned.imported.schedules import Length, schedule_of

Paths = dict[str, Any]
_NOT_KNOWN = object()
"""The value of a path that was there and was not understood."""
_PLACES = {"schedule.peak_lr": 1e-3, "schedule.end_lr": 0.0, "schedule.start_lr": 0.0}


@dataclass(frozen=True)
class Understood:
    """A run's settings. `unknown` and `assumed` are dotted paths; a value at an unknown path is a placeholder.

    `unmatched` are names of settings that are on and do not exist here. `every` is the number of micro-batches between
    two evaluations, where they are counted in those; `by_epochs` says that there is one after each epoch instead.
    """

    config: RunConfig
    unknown: tuple[str, ...]
    assumed: tuple[str, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]
    family: str
    by_epochs: bool
    every: int
    purpose: str | None

    def known(self, path: str) -> Any:
        """The value at a path, None where it is not known."""
        section, _, key = path.partition(".")
        return None if path in self.unknown else getattr(getattr(self.config, section), key)


def nothing_known() -> Understood:
    """The settings of a log without any."""
    return understand({}, Path("-"))


def understand(values: Mapping[str, Any], where: Path, utterances: int | None = None) -> Understood:
    """The settings `values`, from the file `where`. `utterances` is the size of the training data, if known.

    Raises `InputError`, one line, for a value that is impossible.
    """
    args = Settings(values)
    family = args.family
    paths: Paths = dict(FACTS[family])
    assumed: list[str] = []
    notes: list[str] = []
    try:
        paths |= _own(args)
        if {"model.hidden", "training.batches"} <= paths.keys():
            family, length = "own", Length()
            paths |= _section("training", {"seed": args.take("seed")} if args.has("seed") else {})
        else:
            length = _foreign(args, family, paths, utterances, assumed, notes)
        every = args.count(*EVERY) or 100
        config, unknown = _built(paths, family)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InputError(f"{where}: {place}: {first['msg'].splitlines()[0][:160]}; the run is left out") from error
    except (ImpossibleSetting, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{where}: a setting has an impossible value ({str(error)[:80]}); the run is left out"
        ) from error
    purpose = args.take("run_purpose", "purpose")
    return Understood(
        config=config,
        unknown=unknown,
        assumed=tuple(path for path in dict.fromkeys(assumed) if path not in unknown),
        unmatched=tuple(args.left),
        notes=tuple(notes),
        family=family,
        by_epochs=length.epochs is not None,
        every=every,
        purpose=purpose if isinstance(purpose, str) else None,
    )


def _foreign(
    args: Settings, family: str, paths: Paths, utterances: int | None, assumed: list[str], notes: list[str]
) -> Length:
    """Reads another trainer's settings into `paths`, `assumed` and `notes`; returns the run's length."""
    _simple(args, paths, notes)
    length = _length(args, paths, utterances)
    assumed += _optimizer(args, family, paths, notes)
    paths |= _section("schedule", schedule_of(args, length))
    paths |= _section("averaging", _averaging(args, paths))
    _masks(args, paths)
    assumed += _training(args, family, paths, length)
    return length


def _section(name: str, fields: Mapping[str, Any]) -> Paths:
    return {f"{name}.{key}": value for key, value in fields.items()}


def _own(args: Settings) -> Paths:
    """Settings under the names of this program's columns, as its own loggers write them."""
    found: Paths = {}
    for path in all_paths():
        if args.has(path.replace(".", "_", 1)):
            found[path] = _listed(args.take(path.replace(".", "_", 1)))
    return found


def _listed(value: Any) -> Any:
    """Lists come as text from loggers that store only plain values."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        return [float(part) for part in value[1:-1].split(",") if part.strip()]
    return value


def _simple(args: Settings, paths: Paths, notes: list[str]) -> None:
    other = args.has(*OTHER_NETWORKS) and not args.has("nUnits", "n_units")
    if other:
        notes.append("its network is no GRU, so its model columns are empty")
        paths |= {path: _NOT_KNOWN for path in all_paths() if path.startswith("model.")}
        args.take("dim", *OTHER_NETWORKS)
    for path, names in SIMPLE.items():
        value = args.take(*names)
        if value is not None and not (other and path.startswith("model.")):
            paths[path] = value
    _features(args, paths)
    if args.has("smooth_data") and not args.take("smooth_data"):
        paths["augmentation.smoothing_sd"] = 0.0
    if (cut := args.count("random_cut")) is not None:
        paths["augmentation.random_cut"] = max(0, cut - 1)  # those trainers draw from 0 to one less
    if paths.get("augmentation.random_walk"):
        paths["augmentation.random_walk_over"] = "time" if args.take("random_walk_axis") == 1 else "features"
    if (size := args.count("smooth_kernel_size")) is not None:
        paths["augmentation.smoothing_kernel"] = _kept_taps(size, paths.get("augmentation.smoothing_sd"))
    if (shared := args.take("shared_input")) is not None:
        paths["model.day_layers"] = not shared
    seeds = args.values.get("seeds")
    if isinstance(seeds, list | tuple) and len(seeds) == 1:
        paths.setdefault("training.seed", args.take("seeds")[0])
    if (value := args.number(*CLIP)) is not None:
        paths["training.clip"] = value if value > 0 else None  # 0 and -1 mean that there is none


def _kept_taps(size: int, sd: Any) -> Any:
    """The taps of a smoothing kernel of `size` bins that the '25 baseline keeps: those above 0.01."""
    if isinstance(sd, bool) or not isinstance(sd, int | float) or not sd > 0:
        return _NOT_KNOWN
    weights = [math.exp(-0.5 * (tap / sd) ** 2) for tap in range(-(size // 2), size - size // 2)]
    total = sum(weights)
    return max(1, sum(weight / total > 0.01 for weight in weights))


def _features(args: Settings, paths: Paths) -> None:
    """A list of columns as ranges."""
    chosen = args.values.get("feature_subset")
    if not isinstance(chosen, list | tuple) or not chosen:
        return
    columns = sorted({int(column) for column in whole(args.take("feature_subset"))})
    begins = [c for c in columns if c - 1 not in columns]
    ends = [c + 1 for c in columns if c + 1 not in columns]
    paths["data.features"] = ",".join(f"{begin}:{end}" for begin, end in zip(begins, ends, strict=True))


def _length(args: Settings, paths: Paths, utterances: int | None) -> Length:
    """Sets the lengths of the training in `paths` as far as they are known."""
    micro = paths.get("training.accumulation") or 1
    if isinstance(micro, bool) or not isinstance(micro, int | float) or micro < 1:
        raise ImpossibleSetting(f"gradient accumulation is {str(micro)[:40]!r}, not a count")
    micro = int(micro)
    epochs, by_batches = args.count(*EPOCHS), args.take("batchStyle")
    steps = args.count(*BATCHES)
    if epochs and not (by_batches and steps):
        size = utterances or (UTTERANCES if args.family != "unknown" else None)
        batch = paths.get("training.batch_size")
        if not size or not isinstance(batch, int | float) or batch < 1:
            paths |= {"training.batches": _NOT_KNOWN, "training.batches_per_epoch": _NOT_KNOWN}
            args.take(*EVERY_EPOCHS)
            return Length(epochs=epochs)
        pass_batches = max(1, math.ceil(size / batch) // micro)
        every = args.count(*EVERY_EPOCHS) or 1
        paths |= {"training.batches": epochs * pass_batches, "training.batches_per_epoch": every * pass_batches}
        return Length(epochs * pass_batches, pass_batches, epochs, assumed=utterances is None)
    if (between := args.count(*EVERY)) is not None:
        paths["training.batches_per_epoch"] = max(1, between // micro)
    elif args.family in ("reference", "fork"):
        paths["training.batches_per_epoch"] = max(1, TrainingConfig().batches_per_epoch // micro)
    if steps is None:
        return Length(batches=paths.get("training.batches"))
    paths["training.batches"] = max(1, steps // micro)
    return Length(paths["training.batches"], steps=steps)


def _optimizer(args: Settings, family: str, paths: Paths, notes: list[str]) -> list[str]:
    """Sets the optimizer's paths; returns those that come from the trainer's code."""
    assumed: list[str] = []
    decoupled, named = args.take("AdamW"), args.take("optimizer")
    kind = None if named is None else str(named).lower().rpartition(".")[2]
    if kind is None and decoupled is not None:
        kind = "adamw" if decoupled else "adam"
    if kind is None and family != "unknown":
        kind = "adamw" if family == "baseline25" else "adam"
        assumed.append("optimizer.kind")
    if kind in ("adam", "adamw", "sgd"):
        paths["optimizer.kind"] = kind
    elif kind is not None:
        args.used.discard("optimizer")  # it does not exist here, and is named as that
        paths |= {path: _NOT_KNOWN for path in all_paths() if path.startswith("optimizer.")}
    if (decay := args.number("weight_decay", "l2_decay", "wd")) is not None:
        paths["optimizer.weight_decay"] = decay
    if kind == "sgd":
        for path, name in (("optimizer.momentum", "momentum"), ("optimizer.nesterov", "nesterov")):
            if (value := args.take(name)) is not None:
                paths[path] = value
    elif kind in ("adam", "adamw"):
        assumed += _adam(args, family, paths, notes, fixed=decoupled is not None and not decoupled)
    return assumed


def _adam(args: Settings, family: str, paths: Paths, notes: list[str], fixed: bool) -> list[str]:
    """`fixed`: the trainer's code has the betas and eps of the reference, whatever its settings say."""
    assumed: list[str] = []
    eps = args.number("eps", "epsilon", "adam_eps")
    if eps is not None:
        paths["optimizer.eps"] = eps
    elif family != "unknown":
        plain = args.has("optimizer") or paths["optimizer.kind"] == "adamw"
        paths["optimizer.eps"] = 1e-8 if plain else 0.1  # the reference's 0.1; its forks write PyTorch's
        assumed.append("optimizer.eps")
    first, second = ("beta0", "beta1") if args.has("beta0") else ("beta1", "beta2")
    given = args.number(first), args.number(second)
    if fixed and any(value not in (None, usual) for value, usual in zip(given, (0.9, 0.999), strict=True)):
        notes.append("its settings give betas, which its code does not use with Adam")
    for path, value, usual in zip(("optimizer.beta1", "optimizer.beta2"), given, (0.9, 0.999), strict=True):
        if value is not None and not fixed:
            paths[path] = value
        elif family != "unknown":
            paths[path] = usual
    return assumed


def _averaging(args: Settings, paths: Paths) -> dict[str, Any]:
    micro = int(paths.get("training.accumulation") or 1)
    if args.take("use_swa"):
        return {
            "kind": "swa",
            "start_batch": (args.count("swa_start") or 0) // micro,
            "every_batches": max(1, (args.count("swa_update_every") or 1) // micro),
            "lr": args.number("swa_lr"),
        }
    wanted = args.take("use_ema", "ema")
    decay = args.number("ema_decay") if wanted or wanted is None else None
    args.used.add("ema_decay")
    if wanted or decay:
        return {"kind": "ema", "warmup": False, **({} if decay is None else {"decay": decay})}
    return {"kind": "none"} if wanted is not None else {}


def _masks(args: Settings, paths: Paths) -> None:
    """Masks of the published kind are read; masks with a probability, in bins, do not exist here."""
    for what, count, width in (
        ("time", ("num_masks", "n_time_masks"), ("max_mask_pct",)),
        ("feature", ("num_masks_channels", "n_feature_masks"), ("max_mask_channels",)),
    ):
        number, widest = args.count(*count), args.number(*width)
        if number is not None:
            paths[f"augmentation.{what}_masks"] = number
            features = args.number("nInputFeatures", "n_input_features", "neural_dim") or 0
            if widest is not None and widest > 1 and features:
                widest /= features  # channels, not a share
            if number and widest is None:
                paths[f"augmentation.{what}_mask_width"] = _NOT_KNOWN
            elif number:
                paths[f"augmentation.{what}_mask_width"] = widest
    for what, name in (("time", "time_mask_prob"), ("feature", "freq_mask_prob")):
        if args.number(name):
            args.used.discard(name)
            paths |= {f"augmentation.{what}_masks": _NOT_KNOWN, f"augmentation.{what}_mask_width": _NOT_KNOWN}


def _training(args: Settings, family: str, paths: Paths, length: Length) -> list[str]:
    assumed = []
    mixed = args.take("use_amp")
    if mixed is not None:
        paths["training.precision"] = "bf16" if mixed else "fp32"
    if mixed:
        assumed.append("training.precision")  # bf16 where the card has it, else fp16
    if family == "baseline25":
        assumed += ["model.bidirectional", "model.learned_start", "training.ctc_reduction"]
    if length.assumed:
        assumed += ["training.batches", "training.batches_per_epoch"]
    return assumed


def _built(paths: Paths, family: str) -> tuple[RunConfig, tuple[str, ...]]:
    """The RunConfig of these paths, and the paths that are not known and have a placeholder.

    Where a known family's settings are silent, the default holds, which is off; but not for what they always say
    (`names.SAID`), and not in a section whose kind is not known.
    """
    sections: dict[str, dict[str, Any]] = {}
    unknown: list[str] = []
    places = _placeholders(paths)
    for section in SECTIONS:
        kind = paths.get(f"{section}.kind", None if section == "schedule" else default_kind(section))
        by_silence = family in SAID and kind in kinds(section)
        values = sections[section] = {}
        for key, field in _model_of(section, kind).model_fields.items():
            path = f"{section}.{key}"
            if paths.get(path, _NOT_KNOWN) is not _NOT_KNOWN:
                values[key] = paths[path]
                continue
            values[key] = places[path] if path in places else field.get_default()
            off = by_silence and (family != "own" or values[key] is None)  # our loggers write all but null
            if path in paths or not off or path in SAID[family] or field.is_required():
                unknown.append(path)
    return RunConfig.model_validate(sections), tuple(unknown)


def _placeholders(paths: Paths) -> Paths:
    """Values that go with the known ones: a rate not below the others, a run longer than what lies in it."""
    rates = [value for key in ("end_lr", "start_lr") if isinstance(value := paths.get(f"schedule.{key}"), float)]
    inside = [paths.get("averaging.start_batch"), paths.get("schedule.warmup_batches")]
    longest = max([9_999, *(int(value) for value in inside if isinstance(value, int | float))]) + 1
    return {
        **_PLACES,
        "schedule.peak_lr": max([1e-3, *rates]),
        "schedule.period_batches": 1,
        "averaging.start_batch": 0,
        "training.batches": longest,
    }


def _model_of(section: str, kind: Any) -> type[BaseModel]:
    models = kinds(section)
    usual: type[BaseModel] = ConstantSchedule if section == "schedule" else next(iter(models.values()))
    return usual if kind is _NOT_KNOWN else models.get(kind, usual)
