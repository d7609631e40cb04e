from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable import EpochReport, loop, train
from trainable.checkpoint import for_evaluation, load, load_model, save
from trainable.compute import precision, torch_private
from trainable.data.batches import Loader
from trainable.data.dataset import Dataset, Split
from trainable.decoding import error_counts, greedy
from trainable.evaluation import ctc_losses
from trainable.schedules import lr_at

Make = Callable[..., RunConfig]
CLOCKS = ("seconds", "samples_per_second", "peak_memory_mb")

EVERYTHING = {
    "model": {"dropout": 0.3, "layer_norm": True},
    "augmentation": {
        "white_noise": 0.2, "constant_offset": 0.1, "time_masks": 2, "time_mask_width": 0.1, "feature_masks": 1,
        "feature_mask_width": 0.2, "input_dropout": 0.1, "speckle": 0.05, "random_cut": 3,
    },
}  # fmt: skip
OPTIMIZERS = {
    "adam": {"kind": "adam", "eps": 1e-6, "weight_decay": 1e-4},
    "adamw": {"kind": "adamw", "weight_decay": 1e-2},
    "sgd": {"kind": "sgd", "weight_decay": 1e-4},
}
AVERAGES = {
    "none": {"kind": "none"},
    "ema": {"kind": "ema", "decay": 0.9},
    "swa": {"kind": "swa", "start_batch": 5, "every_batches": 2, "lr": 1e-3},
    "emas": {"kind": "ema", "decays": [0.5, 0.9, 0.999], "warmup": False},
    "emas that warm up": {"kind": "ema", "decays": [0.2, 0.5, 0.9, 0.99]},
    "swa or raw": {"kind": "swa", "start_batch": 5, "every_batches": 2, "or_raw": True},
}


def untimed(report: EpochReport) -> dict[str, Any]:
    return {key: value for key, value in report.row().items() if key not in CLOCKS}


def numbers(report: EpochReport) -> list[Any]:
    """The values of a report's row that are measurements."""
    return [value for key, value in report.row().items() if key not in ("average", "per_by_decay", "per_halves")]


def tensors(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, copied, by its path."""
    found: dict[str, torch.Tensor] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, torch.Tensor):
            found[path] = value.clone()
        elif isinstance(value, dict):
            for key in value:
                walk(value[key], f"{path}.{key}")
        elif isinstance(value, list):
            for i, item in enumerate(value):
                walk(item, f"{path}.{i}")

    walk(state, "")
    return found


@pytest.mark.parametrize("averaging", AVERAGES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_interrupted_and_resumed_equals_uninterrupted(
    tiny: Dataset, config: Make, tmp_path: Any, optimizer: str, averaging: str
) -> None:
    """With dropout, every augmentation, accumulation and any average on: same reports and weights to the last bit."""
    training = {"accumulation": 2, "batch_size": 5}
    settings = config(
        **EVERYTHING, optimizer=OPTIMIZERS[optimizer], averaging=AVERAGES[averaging], training=training,
        schedule={"kind": "one_cycle", "start_lr": 1e-3, "peak_lr": 5e-3, "end_lr": 0.0},
    )  # fmt: skip
    whole = []
    for report in train(settings, tiny):
        save(tmp_path / f"{report.epoch}.pt", report.checkpoint())
        whole.append((untimed(report), tensors(report.checkpoint())))
    assert len(whole) == settings.epochs == 3
    for stop in (1, 2):
        torch.manual_seed(12345)  # whatever else happens in the process meanwhile
        rest = [
            (untimed(report), tensors(report.checkpoint()))
            for report in train(settings, tiny, resume_from=load(tmp_path / f"{stop}.pt"))
        ]
        assert [row for row, _ in rest] == [row for row, _ in whole[stop:]]
        for (_, resumed), (_, uninterrupted) in zip(rest, whole[stop:], strict=True):
            assert resumed.keys() == uninterrupted.keys()
            assert all(torch.equal(resumed[path], uninterrupted[path]) for path in resumed)


def test_two_runs_in_turn_do_not_disturb_each_other(tiny: Dataset, config: Make) -> None:
    """Generators advanced alternately give what they give alone."""
    settings = config(**EVERYTHING)
    alone = [untimed(report) for report in train(settings, tiny)]
    pairs = list(zip(train(settings, tiny), train(settings, tiny), strict=True))
    assert [untimed(a) for a, _ in pairs] == [untimed(b) for _, b in pairs] == alone


def test_resuming_leaves_the_given_checkpoint_alone(tiny: Dataset, config: Make) -> None:
    """Training on from a checkpoint held in memory does not change its tensors."""
    first = next(train(config(averaging=AVERAGES["ema"]), tiny))
    state = first.checkpoint()
    before = tensors(state)
    list(train(config(averaging=AVERAGES["ema"]), tiny, resume_from=state))
    after = tensors(state)
    assert all(torch.equal(before[path], after[path]) for path in before)


def test_a_finished_run_resumes_to_nothing(tiny: Dataset, config: Make) -> None:
    """Resumed after its last epoch, a run has no more reports."""
    *_, last = train(config(), tiny)
    assert list(train(config(), tiny, resume_from=last.checkpoint())) == []


def test_the_seed_decides_and_only_the_seed(tiny: Dataset, config: Make) -> None:
    """The same seed gives the same run, whatever the global generator's state; another seed another run."""

    def first_loss(seed: int) -> float:
        torch.rand(seed + 1)
        return next(train(config(training={"seed": seed}), tiny)).train_loss

    assert first_loss(1) == first_loss(1) != first_loss(2)


def test_training_learns(tiny: Dataset, config: Make) -> None:
    """On patterns in noise the PER falls from above 0.5 to below 0.2, and the losses with it."""
    training = {"batches": 120, "batches_per_epoch": 20}
    rate = {"kind": "constant", "peak_lr": 1e-2}
    reports = list(train(config(training=training, model={"dropout": 0.0}, schedule=rate), tiny))
    assert reports[-1].per < 0.2 and reports[0].per > 0.5
    assert reports[-1].train_loss < reports[0].train_loss
    assert reports[-1].val_loss < reports[0].val_loss


def test_a_report_says_what_happened(tiny: Dataset, config: Make) -> None:
    """Epochs, batches, rate and schedule fraction are those of the configuration; the last epoch may be shorter."""
    settings = config(
        training={"batches": 10}, schedule={"kind": "linear", "peak_lr": 5e-3, "end_lr": 1e-3, "horizon": 20}
    )
    reports = list(train(settings, tiny))
    assert [(r.epoch, r.batch) for r in reports] == [(1, 4), (2, 8), (3, 10)]
    assert [r.lr for r in reports] == [lr_at(settings, batch) for batch in (3, 7, 9)]
    assert [r.schedule_fraction for r in reports] == [0.2, 0.4, 0.5]
    for report in reports:
        row = report.row()
        assert not report.diverged and "checkpoint" not in row and "diverged" not in row
        assert all(isinstance(value, int | float) and math.isfinite(value) for value in numbers(report))
        assert (report.average, report.per_by_decay, report.per_halves) == ("raw", None, None)
        assert report.seconds > 0 and report.samples_per_second > 0 and report.peak_memory_mb > 1
        assert report.per == report.per_raw


def test_the_reported_per_is_that_of_the_checkpoint(tiny: Dataset, config: Make) -> None:
    """Decoding the validation split one by one with the checkpoint's evaluated weights gives the reported numbers."""
    *_, report = train(config(averaging=AVERAGES["ema"], training={"batches": 40, "batches_per_epoch": 40}), tiny)
    model = load_model(report.checkpoint())
    references, hypotheses, blanks, total = [], [], 0, 0
    for i in range(len(tiny.val)):
        features = torch.from_numpy(tiny.val.features(i).copy())[None]
        logits, frames = model(features, torch.tensor([features.shape[1]]), torch.tensor([int(tiny.val.day[i])]))
        hypotheses += greedy(logits, frames)
        references.append(tiny.val.label(i).tolist())
        blanks += int((logits.argmax(2) == 0).sum())
        total += int(frames.sum())
    errors, lengths = error_counts(references, hypotheses), np.array([len(r) for r in references])
    assert report.per == pytest.approx(errors.sum() / lengths.sum())
    assert report.per_utterance_mean == pytest.approx((errors / lengths).mean())
    assert report.blank_share == pytest.approx(blanks / total)


def test_swa_is_evaluated_only_once_it_has_begun(tiny: Dataset, config: Make) -> None:
    """Before start_batch the raw weights are evaluated and no second pass is made."""
    settings = config(averaging={"kind": "swa", "start_batch": 6}, training={"batches": 12})
    reports = list(train(settings, tiny))
    assert reports[0].per == reports[0].per_raw
    assert reports[2].checkpoint()["average"]["updates"] == 6


def gradient(settings: RunConfig, dataset: Dataset, micro: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """The gradient of the first step when its micro-batches are these rows."""
    run = loop._start(settings, dataset, torch.device("cpu"))
    rows = iter(micro)

    class Fixed:
        def micro_batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            part = next(rows)
            return part, np.zeros(len(part), dtype=np.int64)

    run.sampler = Fixed()  # type: ignore[assignment]
    run.model.train()
    loop._step(run, 0)
    return {name: p.grad.clone() for name, p in run.model.named_parameters()}


@pytest.mark.parametrize("reduction", ["target_mean", "utterance_mean"])
def test_accumulated_micro_batches_equal_one_large_batch(tiny: Dataset, config: Make, reduction: str) -> None:
    """The gradient of four micro-batches of unequal size is that of one batch of all their utterances."""
    plain = {"model": {"dropout": 0.0}, "augmentation": {"white_noise": 0.0}, "optimizer": {"kind": "sgd"}}
    common = {"clip": None, "ctc_reduction": reduction}
    rows = np.argsort(-tiny.train.bins, kind="stable")
    whole = gradient(config(**plain, training={**common, "batch_size": 24}), tiny, [rows])
    parts = np.split(rows, [5, 9, 18])
    split = gradient(config(**plain, training={**common, "batch_size": 9, "accumulation": 4}), tiny, parts)
    for name, expected in whole.items():
        torch.testing.assert_close(split[name], expected, rtol=1e-4, atol=1e-6)


def test_the_two_reductions_weigh_labels_differently(tiny: Dataset, config: Make) -> None:
    """utterance_mean averages the utterances' losses; target_mean first divides each by its label's length."""
    run = loop._start(config(), tiny, torch.device("cpu"))
    batch = next(Loader(tiny.val, torch.device("cpu")).in_order())
    logits, frames = run.model.eval()(batch.features, batch.bins, batch.day)
    whole = ctc_losses(logits, frames, batch, "utterance_mean")
    torch.testing.assert_close(ctc_losses(logits, frames, batch, "target_mean"), whole / batch.label_lengths)
    log_probs = logits.log_softmax(2)[:1, : int(frames[0])].transpose(0, 1)
    alone = torch.nn.functional.ctc_loss(
        log_probs,
        batch.labels[: int(batch.label_lengths[0])][None],
        frames[:1],
        batch.label_lengths[:1],
        reduction="sum",
    )
    assert float(whole[0].detach()) == pytest.approx(float(alone.detach()), rel=1e-5)


def test_the_gradient_norm_is_measured_before_clipping(tiny: Dataset, config: Make) -> None:
    """Clipping far below the norm leaves the reported norm as it is and holds the step back."""

    def first(clip: float | None) -> tuple[float, float]:
        settings = config(optimizer={"kind": "sgd"}, training={"clip": clip, "batches": 1})
        start = loop._start(settings, tiny, torch.device("cpu")).model.output.weight.detach().clone()
        report = next(train(settings, tiny))
        return report.grad_norm, float((report.checkpoint()["model"]["output.weight"] - start).norm())

    norm, moved = first(None)
    clipped_norm, clipped_moved = first(1e-3 * norm)
    assert clipped_norm == pytest.approx(norm, rel=1e-5)
    assert clipped_moved == pytest.approx(1e-3 * moved, rel=1e-2)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("days", [False, True])
def test_weight_decay_reaches_what_it_is_meant_for(
    tiny: Dataset, config: Make, kind: str, biases: bool, days: bool
) -> None:
    """Matrices decay always, biases and norms with decay_biases, day layers with decay_day_layers, nothing else."""
    decay = {"weight_decay": 0.01, "decay_biases": biases, "decay_day_layers": days}
    run = loop._start(config(optimizer={"kind": kind, **decay}, model={"layer_norm": True}), tiny, torch.device("cpu"))
    names = {id(p): name for name, p in run.model.named_parameters()}
    decaying = {names[id(p)] for g in run.optimizer.param_groups if g["weight_decay"] > 0 for p in g["params"]}
    for name, parameter in run.model.named_parameters():
        day, flat = name.startswith("day_"), parameter.ndim == 1
        assert (name in decaying) == (days if day else biases if flat else True), name
    assert sum(len(g["params"]) for g in run.optimizer.param_groups) == len(names)


def test_optimizer_settings_arrive(tiny: Dataset, config: Make) -> None:
    """eps, betas, momentum and Nesterov are the configuration's."""
    cpu = torch.device("cpu")
    adam = loop._start(config(optimizer={"kind": "adam", "eps": 0.1, "beta1": 0.8, "beta2": 0.95}), tiny, cpu).optimizer
    assert isinstance(adam, torch.optim.Adam) and adam.defaults["eps"] == 0.1 and adam.defaults["betas"] == (0.8, 0.95)
    assert isinstance(loop._start(config(optimizer={"kind": "adamw"}), tiny, cpu).optimizer, torch.optim.AdamW)
    sgd = loop._start(config(optimizer={"kind": "sgd", "momentum": 0.5, "nesterov": False}), tiny, cpu).optimizer
    assert isinstance(sgd, torch.optim.SGD) and sgd.defaults["momentum"] == 0.5 and not sgd.defaults["nesterov"]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_divergence_ends_the_run_at_once(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A loss or gradient that is not finite gives one report, diverged, in the middle of the epoch, and the end."""
    exact = loop.ctc_losses

    def poisoned(logits: Any, *rest: Any) -> Any:
        losses = exact(logits, *rest)
        calls.append(1)
        if len(calls) == 3:
            if where == "loss":
                return losses * math.nan
            logits.register_hook(lambda g: g * math.inf)
        return losses

    calls: list[int] = []
    monkeypatch.setattr(loop, "ctc_losses", poisoned)
    reports = list(train(config(training={"batches_per_epoch": 12}), tiny))
    assert len(reports) == 1
    report = reports[0]
    assert report.diverged and report.batch == 3 and report.epoch == 1
    assert math.isnan(report.val_loss) and math.isnan(report.per)
    assert set(report.row()) == set(EpochReport.__dataclass_fields__) - {"diverged", "notes", "checkpoint"}


def test_a_rate_far_too_high_is_divergence_or_a_number(tiny: Dataset, config: Make) -> None:
    """Whatever a bad configuration does, the run ends with a report, never with an exception."""
    settings = config(
        optimizer={"kind": "sgd"}, schedule={"kind": "constant", "peak_lr": 10.0}, training={"clip": None}
    )
    *_, last = train(settings, tiny)
    assert last.diverged == math.isnan(last.val_loss)


def test_half_precision_skips_overflows_instead_of_diverging(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fp16 the scaler finds its scale: a first step that overflows is skipped, not taken for divergence."""
    monkeypatch.setattr(torch_private, "cpu_has", lambda precision: True)
    exact = loop.ctc_losses
    calls: list[int] = []

    def poisoned(logits: Any, *rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            logits.register_hook(lambda g: g * math.inf)
        return exact(logits, *rest)

    monkeypatch.setattr(loop, "ctc_losses", poisoned)
    reports = list(train(config(training={"precision": "fp16"}), tiny))
    assert len(reports) == 3 and not any(report.diverged for report in reports)
    assert all(math.isfinite(value) for report in reports for value in numbers(report))
    assert reports[-1].checkpoint()["scaler"]["scale"] < 65536.0


def test_half_precision_that_always_overflows_has_diverged(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no scale down to 1 makes the gradients finite, the run is over."""
    monkeypatch.setattr(torch_private, "cpu_has", lambda precision: True)
    exact = loop.ctc_losses

    def poisoned(logits: Any, *rest: Any) -> Any:
        logits.register_hook(lambda g: g * math.inf)
        return exact(logits, *rest)

    monkeypatch.setattr(loop, "ctc_losses", poisoned)
    reports = list(train(config(training={"precision": "fp16", "batches": 40, "batches_per_epoch": 40}), tiny))
    assert reports[-1].diverged and reports[-1].batch < 40


@pytest.mark.parametrize("lowered", ["bf16", "fp16"])
def test_lower_precision_trains_and_resumes(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch, lowered: str
) -> None:
    """bf16 and fp16 learn nearly as fp32 does, and a resumed run equals one that was not interrupted."""
    monkeypatch.setattr(torch_private, "cpu_has", lambda precision: True)
    exact = list(train(config(), tiny))
    settings = config(training={"precision": lowered})
    _, second, third = train(settings, tiny)
    assert third.train_loss == pytest.approx(exact[2].train_loss, rel=0.05) and third.train_loss != exact[2].train_loss
    state = next(train(settings, tiny)).checkpoint()
    resumed = list(train(settings, tiny, resume_from=state))
    assert [untimed(r) for r in resumed] == [untimed(second), untimed(third)]


def test_half_precision_needs_a_processor_that_has_it(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp16 on a CPU without it is one line before any work."""
    monkeypatch.setattr(torch_private, "cpu_has", lambda precision: False)
    with pytest.raises(InputError, match=r"training\.precision: fp16 is not supported by this CPU") as caught:
        train(config(training={"precision": "fp16"}), tiny)
    assert len(caught.value.problems) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA card")
def test_a_missing_card_is_one_line(tiny: Dataset, config: Make) -> None:
    """device cuda without a card is refused; auto takes the CPU."""
    with pytest.raises(InputError, match=r"training\.device: cuda is not available"):
        train(config(training={"device": "cuda"}), tiny)
    assert precision.choose_device(config(training={"device": "auto"})).type == "cpu"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"hidden": 13}}, "model was"),
        ({"optimizer": {"kind": "adamw"}}, "optimizer.kind was adam, is adamw"),
        ({"averaging": {"kind": "ema"}}, "averaging.kind was none, is ema"),
        ({"training": {"precision": "bf16"}}, "training.precision was fp32, is bf16"),
        ({"training": {"batches_per_epoch": 3}}, "batch 4 does not end epoch 1"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tiny: Dataset, config: Make, change: dict[str, Any], said: str) -> None:
    """A checkpoint that cannot go on under this configuration is one line that says what differs."""
    state = next(train(config(), tiny)).checkpoint()
    with pytest.raises(InputError, match=said) as caught:
        train(config(**change), tiny, resume_from=state)
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)


def test_a_checkpoint_of_other_data_is_refused(tiny: Dataset, config: Make, dataset: Callable[..., Dataset]) -> None:
    """A checkpoint of a data set with another fingerprint is refused in one line, one for evaluation only too."""
    state = next(train(config(), tiny)).checkpoint()
    with pytest.raises(InputError, match=r"data\.fingerprint differs"):
        train(config(), dataset(tiny.train, tiny.val, fingerprint="0" * 64), resume_from=state)
    with pytest.raises(InputError, match="weights for evaluation only"):
        train(config(), tiny, resume_from=for_evaluation(state))
    with pytest.raises(InputError, match="not a checkpoint"):
        train(config(), tiny, resume_from={"hello": 1})


@pytest.mark.parametrize("change", [{"weight_decay": 0.5}, {"eps": 1e-3}, {"beta1": 0.5}], ids=str)
def test_a_resumed_optimizer_has_the_settings_of_its_configuration(
    tiny: Dataset, config: Make, change: dict[str, float]
) -> None:
    """Going on with another weight decay, say, trains with it: the checkpoint's does not win."""
    state = next(train(config(), tiny)).checkpoint()
    same = next(train(config(), tiny, resume_from=state)).checkpoint()
    other = next(train(config(optimizer=change), tiny, resume_from=state)).checkpoint()
    assert any(not torch.equal(same["model"][name], other["model"][name]) for name in same["model"])


def test_a_run_may_be_resumed_to_go_on_longer(tiny: Dataset, config: Make) -> None:
    """More batches, or another rate, than the checkpoint's run had are no obstacle."""
    *_, last = train(config(), tiny)
    reports = list(train(config(training={"batches": 20}), tiny, resume_from=last.checkpoint()))
    assert [report.epoch for report in reports] == [4, 5]


def test_data_that_cannot_train_is_refused_at_the_call(tiny: Dataset, config: Make) -> None:
    """`train` itself raises, before the first epoch is asked for."""
    with pytest.raises(InputError, match=r"model\.kernel"):
        train(config(model={"kernel": 500}), tiny)


def test_infeasible_utterances_are_counted_and_harmless(
    split: Callable[..., Split], dataset: Callable[..., Dataset], config: Make
) -> None:
    """Labels longer than the output are left out of training and of the loss, and still count as errors."""
    labels = [[1, 2, 3]] * 6 + [[1, 2] * 10]
    data = dataset(
        split(labels, bins=[40] * 6 + [16]), split([[1, 2], [3, 4] * 8, [1], [2], [3]], bins=[40, 16, 5, 20, 20])
    )
    report = next(train(config(), data))
    assert report.infeasible == 1
    assert math.isfinite(report.val_loss) and 0 < report.per <= 1.5


def test_a_checkpoint_is_gone_once_training_goes_on(tiny: Dataset, config: Make) -> None:
    """Asking an old report for its checkpoint is an error, not the state of another epoch."""
    run = train(config(), tiny)
    first = next(run)
    next(run)
    with pytest.raises(RuntimeError, match="no longer valid"):
        first.checkpoint()


def test_the_best_epoch_travels_with_the_state(tiny: Dataset, config: Make) -> None:
    """`best` is the lowest PER so far and its epoch, the first on ties."""
    seen: list[float] = []
    for report in train(config(training={"batches": 24}), tiny):
        seen.append(report.per)
        assert report.checkpoint()["best"] == {"per": min(seen), "epoch": seen.index(min(seen)) + 1}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("given", ["fp32", "bf16", "fp16"])
def test_a_card_trains_in_every_precision(tiny: Dataset, config: Make, given: str) -> None:
    """On CUDA each precision learns, resumes from its checkpoint, and its checkpoint loads on a CPU."""
    settings = config(
        training={"device": "cuda", "precision": given, "batches": 120, "batches_per_epoch": 60},
        averaging={"kind": "ema", "decay": 0.9},
    )
    first, second = train(settings, tiny)
    assert second.train_loss < first.train_loss and second.per < 0.5
    state = next(train(settings, tiny)).checkpoint()
    resumed = list(train(settings, tiny, resume_from=state))
    assert resumed[0].train_loss == pytest.approx(second.train_loss, rel=0.1)
    assert load_model(state).output.weight.device.type == "cpu"
