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
from search_spaces.config import SECTIONS, ConstantSchedule
from search_spaces.parsing.fields import all_paths, kinds
from tuner.planned.imported.names import (
    BATCHES,
    CLIP,
    EPOCHS,
    EVERY,
    EVERY_EPOCHS,
    FACTS,
    OTHER_NETWORKS,
    SIMPLE,
    UTTERANCES,
)
from tuner.planned.imported.reader import ImpossibleSetting, Settings
from tuner.planned.imported.schedules import Length, schedule_of

Paths = dict[str, Any]
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
        _simple(args, paths, notes)
        length = _length(args, paths, utterances)
        assumed += _optimizer(args, family, paths, notes)
        paths |= _section("schedule", schedule_of(args, length))
        paths |= _section("averaging", _averaging(args, paths))
        _masks(args, paths)
        assumed += _training(args, family, paths, length)
        every = args.count(*EVERY) or 100
        config, unknown = _built(paths)
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


def _section(name: str, fields: Mapping[str, Any]) -> Paths:
    return {f"{name}.{key}": value for key, value in fields.items()}


def _own(args: Settings) -> Paths:
    """Settings under the names of this program's columns, as its own loggers write them."""
    found: Paths = {}
    for path in all_paths():
        if args.has(path.replace(".", "_", 1)):
            found[path] = _listed(args.take(path.replace(".", "_", 1)))
    if "model.hidden" in found and "training.batches" in found:  # a whole configuration: what it lacks was null there
        for section in SECTIONS:
            for key, info in _model_of(section, found.get(f"{section}.kind")).model_fields.items():
                if info.get_default() is None:
                    found.setdefault(f"{section}.{key}", None)
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
        for path in [path for path in paths if path.startswith("model.")]:
            del paths[path]
        args.take("dim", *OTHER_NETWORKS)
    for path, names in SIMPLE.items():
        value = args.take(*names)
        if value is not None and not (other and path.startswith("model.")):
            paths[path] = value
    if args.has("smooth_data") and not args.take("smooth_data"):
        paths["augmentation.smoothing_sd"] = 0.0
    if (cut := args.count("random_cut")) is not None:
        paths["augmentation.random_cut"] = max(0, cut - 1)  # those trainers draw from 0 to one less
    if (shared := args.take("shared_input")) is not None:
        paths["model.day_layers"] = not shared
    seeds = args.values.get("seeds")
    if isinstance(seeds, list | tuple) and len(seeds) == 1:
        paths.setdefault("training.seed", args.take("seeds")[0])
    if (value := args.number(*CLIP)) is not None:
        paths["training.clip"] = value if value > 0 else None  # 0 and -1 mean that there is none


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
            paths.pop("training.batches_per_epoch", None)
            args.take(*EVERY_EPOCHS)
            return Length(epochs=epochs)
        pass_batches = max(1, math.ceil(size / batch) // micro)
        every = args.count(*EVERY_EPOCHS) or 1
        paths |= {"training.batches": epochs * pass_batches, "training.batches_per_epoch": every * pass_batches}
        return Length(epochs * pass_batches, pass_batches, epochs, assumed=utterances is None)
    if (between := args.count(*EVERY)) is not None:
        paths["training.batches_per_epoch"] = max(1, between // micro)
    elif "training.batches_per_epoch" in paths:
        paths["training.batches_per_epoch"] = max(1, int(paths["training.batches_per_epoch"]) // micro)
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
        for path in [path for path in paths if path.startswith("optimizer.")]:
            del paths[path]
    if (decay := args.number("weight_decay", "l2_decay", "wd")) is not None:
        paths["optimizer.weight_decay"] = decay
    _day_decay(args, paths)
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


def _day_decay(args: Settings, paths: Paths) -> None:
    """Weight decay of the day layers: the whole network's, or none; another does not exist here and stays unread."""
    own = args.values.get("weight_decay_day")
    if own is None:
        return
    if own in (0, paths.get("optimizer.weight_decay")):
        paths["optimizer.decay_day_layers"] = bool(own)
        args.take("weight_decay_day")
    else:
        paths.pop("optimizer.decay_day_layers", None)


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
                paths.pop(f"augmentation.{what}_mask_width", None)
            elif number:
                paths[f"augmentation.{what}_mask_width"] = widest
    for what, name in (("time", "time_mask_prob"), ("feature", "freq_mask_prob")):
        if args.number(name):
            args.used.discard(name)
            for key in (f"augmentation.{what}_masks", f"augmentation.{what}_mask_width"):
                paths.pop(key, None)


def _training(args: Settings, family: str, paths: Paths, length: Length) -> list[str]:
    assumed = []
    mixed = args.take("use_amp")
    if mixed is not None:
        paths["training.precision"] = "bf16" if mixed else "fp32"
    if mixed:
        assumed.append("training.precision")  # bf16 where the card has it, else fp16
    if family == "baseline25":
        assumed += ["model.bidirectional", "training.ctc_reduction"]
    if length.assumed:
        assumed += ["training.batches", "training.batches_per_epoch"]
    return assumed


def _built(paths: Paths) -> tuple[RunConfig, tuple[str, ...]]:
    """The RunConfig of these paths, and the paths that are not among them and have a placeholder."""
    sections: dict[str, dict[str, Any]] = {}
    unknown: list[str] = []
    places = _placeholders(paths)
    for section in SECTIONS:
        model = _model_of(section, paths.get(f"{section}.kind"))
        values = sections[section] = {}
        for key, field in model.model_fields.items():
            path = f"{section}.{key}"
            if path in paths:
                values[key] = paths[path]
                continue
            unknown.append(path)
            values[key] = places[path] if path in places else field.get_default()
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
    return models.get(kind, usual)
