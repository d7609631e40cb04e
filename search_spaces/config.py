"""`RunConfig`: everything that defines one training run.

A run file holds one. A space searches over its dotted paths (`schedule.peak_lr`). A trial receives one, and a
checkpoint contains it. Flattened with `_` (`schedule_peak_lr`), it is the configuration columns of the trials table.

A *batch* is one optimizer step: with `accumulation` k it consumes k micro-batches of `batch_size` utterances. Warm-up,
horizons and SWA positions are counted in batches, never in micro-batches.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from search_spaces.parsing.feature_choice import parse_features

Rate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
"""A learning rate."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A number from 0 to 1, both included."""
Decay = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
"""The fraction of an average that is kept at each batch."""
MOST_DECAYS = 8
"""Averages that one run may track: each holds a copy of the weights."""


DAY_DECAY = "weight decay of the day layers; null = as decay_day_layers says"


class Section(BaseModel):
    """A group of settings. It is frozen and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Which utterances are used for training, and how they are put into batches."""

    max_bins: int | None = Field(None, ge=1, description="training utterances longer than this many bins are left out")
    bucket_batches: int = Field(
        16,
        ge=1,
        description="number of batches that are sorted by length together; 1 = random batches (the reference)",
    )
    days_per_batch: int | None = Field(
        None, ge=1, description="each batch has utterances of this many random days, drawn with replacement; null = off"
    )
    features: str | None = Field(
        None, description="features that are used: ranges such as 0:64,256:320, or '25 subsets by name; null = all"
    )

    @field_validator("features")
    @classmethod
    def _features_can_be_read(cls, choice: str | None) -> str | None:
        if choice is not None:
            parse_features(choice)
        return choice


class ModelConfig(Section):
    """The GRU-CTC decoder."""

    hidden: int = Field(256, ge=1, le=8192, description="units of each GRU layer and direction")
    layers: int = Field(3, ge=1, le=16, description="GRU layers")
    bidirectional: bool = Field(True, description="whether each layer also reads backwards")
    dropout: float = Field(0.4, ge=0, lt=1, description="dropout between GRU layers")
    kernel: int = Field(32, ge=1, description="bins in one input window")
    stride: int = Field(4, ge=1, description="bins from one window to the next")
    day_layers: bool = Field(True, description="one affine input layer per recording day")
    layer_norm: bool = Field(False, description="layer norm after each GRU layer")
    day_dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the day layer's output, before the windows")
    residual: bool = Field(False, description="whether each GRU layer after the first adds its input to its output")
    learned_start: bool = Field(
        False, description="whether the first state of the GRU layers is learned, one for all layers; else it is 0"
    )
    head_layers: int = Field(0, ge=0, le=8, description="feed-forward layers between the GRU and the output")
    head_kind: Literal["residual", "plain"] = Field(
        "residual",
        description="residual: x + dropout(activation(linear(norm(x)))); plain: activation(dropout(norm(linear(x))))",
    )
    head_norm: Literal["layer", "rms", "none"] = Field("layer", description="norm in a feed-forward layer")
    head_activation: Literal["gelu", "relu", "silu"] = Field("gelu", description="activation of a feed-forward layer")
    head_dropout: float = Field(0.1, ge=0, lt=1, description="dropout in a feed-forward layer")


class AdamConfig(Section):
    """Adam; weight decay is an L2 term in the gradient (Kingma & Ba 2015)."""

    kind: Literal["adam"] = "adam"
    eps: float = Field(
        0.1, gt=0, le=1, description="added to the square root of the second moment; the reference uses 0.1"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the second moment")
    weight_decay: float = Field(1e-5, ge=0, le=1, description="weight decay")
    decay_biases: bool = Field(True, description="whether biases and layer norms decay too")
    decay_day_layers: bool = Field(True, description="whether the day layers decay too")
    day_weight_decay: float | None = Field(None, ge=0, le=1, description=DAY_DECAY)
    day_eps: float | None = Field(None, gt=0, le=1, description="eps of the day layers; null = eps")


class AdamWConfig(AdamConfig):
    """AdamW: decoupled weight decay (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    eps: float = Field(1e-8, gt=0, le=1, description="added to the square root of the second moment")
    decay_biases: bool = Field(False, description="whether biases and layer norms decay too")
    decay_day_layers: bool = Field(False, description="whether the day layers decay too")


class SGDConfig(Section):
    """SGD with momentum (Nesterov's by default)."""

    kind: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum")
    nesterov: bool = Field(True, description="Nesterov momentum")
    weight_decay: float = Field(1e-5, ge=0, le=1, description="weight decay")
    decay_biases: bool = Field(False, description="whether biases and layer norms decay too")
    decay_day_layers: bool = Field(False, description="whether the day layers decay too")
    day_weight_decay: float | None = Field(None, ge=0, le=1, description=DAY_DECAY)

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGDConfig:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0; set nesterov: false or a momentum")
        return self


class ScheduleConfig(Section):
    """What every schedule has. The formulas are in `trainable/schedules.py`."""

    peak_lr: Rate = Field(description="highest learning rate")
    horizon: int | None = Field(None, ge=1, description="length of the schedule in batches; null = training.batches")
    day_peak_lr: Rate | None = Field(None, description="highest rate of the day layers; null = as the other weights")
    day_end_lr: float | None = Field(
        None, ge=0, description="end_lr of the day layers; null = end_lr times day_peak_lr / peak_lr"
    )


class ConstantSchedule(ScheduleConfig):
    """A constant rate."""

    kind: Literal["constant"] = "constant"


class LinearSchedule(ScheduleConfig):
    """A straight line from the peak to the end rate."""

    kind: Literal["linear"] = "linear"
    end_lr: float = Field(ge=0, description="rate at the horizon")


class WarmupCosineSchedule(ScheduleConfig):
    """A warm-up from `start_lr`, then half a cosine down to `end_lr`; after `drop_at` a fraction of that."""

    kind: Literal["warmup_cosine"] = "warmup_cosine"
    warmup_batches: int = Field(0, ge=0, description="batches of warm-up")
    start_lr: float = Field(0.0, ge=0, description="rate the warm-up starts from")
    end_lr: float = Field(ge=0, description="rate at the horizon")
    warmup_shape: Literal["linear", "linear_next", "cosine"] = Field(
        "linear",
        description="linear: share i / W of the way at batch i of W; linear_next: (i + 1) / W, so that batch 0 learns; "
        "cosine: half a cosine",
    )
    drop_at: Share | None = Field(
        None, description="fraction of the horizon from which the rate is multiplied by drop_factor; null = never"
    )
    drop_factor: float = Field(0.1, gt=0, le=1, description="factor from drop_at on")


class WarmupLinearSchedule(WarmupCosineSchedule):
    """As `WarmupCosineSchedule`, with a straight line down to `end_lr`."""

    kind: Literal["warmup_linear"] = "warmup_linear"  # type: ignore[assignment]


class OneCycleSchedule(ScheduleConfig):
    """Half a cosine up to the peak, half a cosine down (Smith & Topin 2019)."""

    kind: Literal["one_cycle"] = "one_cycle"
    start_lr: float = Field(ge=0, description="rate at batch 0")
    end_lr: float = Field(ge=0, description="rate at the horizon")
    peak_fraction: float = Field(0.3, gt=0, lt=1, description="where the peak is, as a fraction of the horizon")


class MultistepSchedule(ScheduleConfig):
    """The rate is multiplied by `gamma` at each milestone."""

    kind: Literal["multistep"] = "multistep"
    milestones: tuple[Share, ...] = Field((0.5, 0.75), min_length=1, description="rising fractions of the horizon")
    gamma: float = Field(0.1, gt=0, lt=1, description="factor at each milestone")

    @model_validator(mode="after")
    def _rising(self) -> MultistepSchedule:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must rise strictly")
        return self


class SGDRSchedule(ScheduleConfig):
    """Cosine cycles with warm restarts (Loshchilov & Hutter 2017)."""

    kind: Literal["sgdr"] = "sgdr"
    end_lr: float = Field(ge=0, description="rate at the end of each cycle")
    period_batches: int = Field(ge=1, description="batches of the first cycle")
    period_multiplier: float = Field(2.0, ge=1, le=10, description="factor between the lengths of successive cycles")
    peak_decay: float = Field(1.0, gt=0, le=1, description="factor between the peaks of successive cycles")
    warmup_batches: int = Field(0, ge=0, description="batches of linear warm-up from 0 before the first cycle")


class NoAveraging(Section):
    """No averaging: the raw weights are used."""

    kind: Literal["none"] = "none"


class EMAConfig(Section):
    """Exponential moving averages of the weights: one of `decay`, updated every batch, or one of each of `decays`.

    With `decay` the average is what is evaluated. With `decays` each average and the raw weights are evaluated, and the
    best of them counts; `decay` is then null. Neither given means a `decay` of 0.999.
    """

    kind: Literal["ema"] = "ema"
    decay: float | None = Field(
        0.999, gt=0, lt=1, description="fraction of the average that is kept at each batch; null with decays"
    )
    decays: tuple[Decay, ...] | None = Field(
        None,
        min_length=1,
        max_length=MOST_DECAYS,
        description="rising decays of averages that are tracked side by side: per is that of the best of them and the "
        "raw weights; null = decay alone",
    )
    warmup: bool = Field(
        True, description="use decay min(decay, (1 + batch) / (10 + batch)), so that early weights are forgotten"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_of_the_two(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        several = given.get("decays") is not None
        if several and given.get("decay") is not None:
            raise ValueError("decay and decays are both given; leave one of them out")
        if not several and given.get("decay", 0.999) is None:
            raise ValueError("decay is null and there are no decays; give one of them")
        return {**given, "decay": None} if several else given

    @model_validator(mode="after")
    def _rising(self) -> EMAConfig:
        if self.decays is not None and list(self.decays) != sorted(set(self.decays)):
            raise ValueError(f"decays {list(self.decays)} must rise strictly")
        return self


class SWAConfig(Section):
    """Stochastic weight averaging: an equal-weight mean late in training (Izmailov et al. 2018)."""

    kind: Literal["swa"] = "swa"
    start_batch: int = Field(ge=0, description="batch at which averaging starts")
    every_batches: int = Field(1, ge=1, description="batches between two updates of the mean")
    lr: Rate | None = Field(None, description="rate from start_batch on; null = the schedule's")
    or_raw: bool = Field(
        False, description="whether per is that of the better of the mean and the raw weights; else of the mean"
    )


class AugmentationConfig(Section):
    """Augmentation of the features [batch, time, features] of a training batch; smoothing also in evaluation."""

    white_noise: float = Field(0.0, ge=0, le=10, description="s.d. of the noise on every bin and feature")
    constant_offset: float = Field(0.0, ge=0, le=10, description="s.d. of a per-utterance offset of every feature")
    smoothing_sd: float = Field(2.0, ge=0, le=50, description="s.d. in bins of the Gaussian over time; 0 = off")
    smoothing_kernel: int = Field(20, ge=1, le=200, description="bins in the smoothing kernel")
    time_masks: int = Field(0, ge=0, le=200, description="time intervals set to 0 in each utterance")
    time_mask_width: Share = Field(0.05, description="longest time mask as a fraction of the utterance")
    feature_masks: int = Field(0, ge=0, le=200, description="bands of features set to 0 in each utterance")
    feature_mask_width: Share = Field(0.05, description="widest feature mask as a fraction of the features")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the windows that enter the GRU")
    speckle: float = Field(0.0, ge=0, lt=1, description="probability that a single bin of a feature is set to 0")
    random_cut: int = Field(0, ge=0, le=100, description="up to this many bins are cut from an utterance's start")
    speckle_features: float = Field(
        0.0, ge=0, lt=1, description="probability that an input of the GRU is 0 in all frames of an utterance"
    )
    speckle_frames: float = Field(
        0.0, ge=0, lt=1, description="probability that all inputs of the GRU are 0 in a frame"
    )
    gain_noise: float = Field(
        0.0, ge=0, le=10, description="s.d. of a per-utterance matrix that mixes the features, added to the identity"
    )
    random_walk: float = Field(
        0.0, ge=0, le=10, description="s.d. of the steps of a random walk that is added to the features"
    )
    random_walk_over: Literal["time", "features"] = Field(
        "time",
        description="time: each feature drifts; features: summed over the features of each bin (as the '25 code)",
    )
    smoothing_even: bool = Field(
        False, description="an even smoothing_kernel stays even, which shifts features by half a bin (the reference)"
    )


class TrainingConfig(Section):
    """Length of the training, batch size, precision, device, seed."""

    batches: int = Field(10_000, ge=1, description="optimizer steps in all")
    batches_per_epoch: int = Field(100, ge=1, description="optimizer steps between two evaluations")
    batch_size: int = Field(64, ge=1, le=65536, description="utterances in a micro-batch")
    accumulation: int = Field(1, ge=1, le=1024, description="micro-batches in one optimizer step")
    clip: float | None = Field(None, gt=0, description="largest gradient norm; null = no clipping")
    ctc_reduction: Literal["target_mean", "utterance_mean"] = Field(
        "target_mean",
        description="target_mean divides each utterance's loss by its label length (the reference); "
        "utterance_mean only averages over utterances",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="arithmetic of the forward pass")
    tf32: bool | None = Field(
        None,
        description="TF32 for fp32 products on a card: null = torch's default (in the GRU, not elsewhere), "
        "true = everywhere, false = nowhere",
    )
    graphs: Literal["auto", "on", "off"] = Field(
        "auto", description="CUDA graphs on a card: auto = where they pay and memory allows, on = where memory allows"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = CUDA if there is a GPU")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of weights, batches, augmentation and dropout")
    init_from: str | None = Field(
        None, description="file of weights the training starts from: a checkpoint, or one of a public reference model"
    )


Optimizer = Annotated[AdamConfig | AdamWConfig | SGDConfig, Field(discriminator="kind")]
Schedule = Annotated[
    ConstantSchedule
    | LinearSchedule
    | WarmupCosineSchedule
    | WarmupLinearSchedule
    | OneCycleSchedule
    | MultistepSchedule
    | SGDRSchedule,
    Field(discriminator="kind"),
]
Averaging = Annotated[NoAveraging | EMAConfig | SWAConfig, Field(discriminator="kind")]


class RunConfig(Section):
    """One training run. Frozen; unknown keys are refused; read it with `search_spaces.load_run`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: Optimizer = AdamConfig()
    schedule: Schedule
    averaging: Averaging = NoAveraging()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @property
    def horizon(self) -> int:
        """Length of the schedule in batches."""
        return self.schedule.horizon or self.training.batches

    @property
    def epochs(self) -> int:
        """Epochs in the whole run; the last one may be shorter than the others."""
        return -(-self.training.batches // self.training.batches_per_epoch)

    @property
    def days_apart(self) -> bool:
        """Whether the day layers have a rate, eps or weight decay of their own."""
        schedule, optimizer = self.schedule, self.optimizer
        given = (schedule.day_peak_lr, schedule.day_end_lr, optimizer.day_weight_decay)
        return any(value is not None for value in (*given, getattr(optimizer, "day_eps", None)))

    @model_validator(mode="after")
    def _values_agree(self) -> RunConfig:
        problems = []
        peak = self.schedule.peak_lr
        for name in ("end_lr", "start_lr"):
            rate = getattr(self.schedule, name, 0.0)
            if rate > peak:
                problems.append(f"schedule.{name}: {rate:g} is above schedule.peak_lr {peak:g}; give {peak:g} or less")
        problems += self._day_problems()
        warmup = getattr(self.schedule, "warmup_batches", 0)
        if warmup and warmup >= self.horizon:
            problems.append(
                f"schedule.warmup_batches: {warmup} is not shorter than the horizon of {self.horizon} batches; "
                f"give {self.horizon - 1} or less, or a longer training.batches"
            )
        if isinstance(self.averaging, SWAConfig) and self.averaging.start_batch >= self.training.batches:
            problems.append(
                f"averaging.start_batch: {self.averaging.start_batch} is at or after the end of the run "
                f"({self.training.batches} batches); give {self.training.batches - 1} or less"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _day_problems(self) -> list[str]:
        """Settings of day layers that mean nothing here."""
        schedule, optimizer, problems = self.schedule, self.optimizer, []
        day_peak = schedule.peak_lr if schedule.day_peak_lr is None else schedule.day_peak_lr
        if schedule.day_end_lr is not None:
            if not hasattr(schedule, "end_lr"):
                problems.append(
                    f"schedule.day_end_lr: schedule.kind {schedule.kind} has no end_lr; give null or another kind"
                )
            elif schedule.day_end_lr > day_peak:
                problems.append(
                    f"schedule.day_end_lr: {schedule.day_end_lr:g} is above the day layers' highest rate {day_peak:g}; "
                    f"give {day_peak:g} or less"
                )
        if not self.model.day_layers:
            given = {
                "schedule.day_peak_lr": schedule.day_peak_lr,
                "schedule.day_end_lr": schedule.day_end_lr,
                "optimizer.day_eps": getattr(optimizer, "day_eps", None),
                "optimizer.day_weight_decay": optimizer.day_weight_decay,
            }
            problems += [
                f"{path}: {value:g} is given, but model.day_layers is false; give null or model.day_layers true"
                for path, value in given.items()
                if value is not None
            ]
        return problems


SECTIONS = tuple(RunConfig.model_fields)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain JSON types; `RunConfig.model_validate` takes it back."""
    return config.model_dump(mode="json")


def flatten(config: RunConfig | dict[str, Any]) -> dict[str, Any]:
    """Dotted path -> value, lists as tuples; only the keys that the chosen kinds have."""
    sections = to_dict(config) if isinstance(config, RunConfig) else config
    return {
        f"{section}.{key}": tuple(value) if isinstance(value, list) else value
        for section, values in sections.items()
        for key, value in values.items()
    }
