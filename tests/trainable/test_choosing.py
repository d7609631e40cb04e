from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable import checkpoint, loop, train
from trainable.averaging import RAW
from trainable.choosing import Choice, all_are_evaluated, choose, worth_a_pass
from trainable.data.dataset import Dataset
from trainable.evaluation import Evaluation

Make = Callable[..., RunConfig]
DECAYS = {"kind": "ema", "decays": [0.5, 0.9, 0.98], "warmup": False}
LENGTHS = np.array([10, 10, 10, 10])


def evaluation(errors: list[int], loss: float = 1.0) -> Evaluation:
    """What a model with these errors is worth on four utterances of ten phonemes."""
    found = np.array(errors)
    rate = float(found.sum() / LENGTHS.sum())
    return Evaluation(rate, rate, loss, 0.5, [[]] * 4, found)


def test_the_lowest_per_counts_then_the_lowest_loss() -> None:
    """A lower loss does not make up for a higher PER; where PERs are equal it decides, and then the order."""
    better, worse = evaluation([1, 0, 0, 0], loss=5.0), evaluation([2, 0, 0, 0], loss=1.0)
    assert choose({RAW: worse, "0.9": better}, LENGTHS).name == "0.9"
    assert choose({RAW: better, "0.9": worse}, LENGTHS).name == RAW
    all_blank = {name: evaluation([10] * 4, loss) for name, loss in {RAW: 3.0, "0.9": 2.0, "0.99": 2.0}.items()}
    assert choose(all_blank, LENGTHS).name == "0.9"
    assert choose({RAW: evaluation([1] * 4, math.nan), "0.9": evaluation([1] * 4, 9.0)}, LENGTHS).name == "0.9"


def test_the_luck_of_choosing_is_measured_on_the_other_half() -> None:
    """Each half is decoded by what the other half chooses; without luck it is the PER itself."""
    lucky = {RAW: evaluation([0, 4, 0, 4]), "0.9": evaluation([4, 0, 4, 0])}
    assert choose(lucky, LENGTHS).per_halves == pytest.approx(16 / 40)  # each half chooses the one that fails the other
    sound = {RAW: evaluation([3, 3, 3, 3]), "0.9": evaluation([1, 1, 1, 1])}
    assert choose(sound, LENGTHS).per_halves == choose(sound, LENGTHS).best.per == pytest.approx(0.1)
    assert choose({RAW: evaluation([1] * 4)}, np.array([10, 0, 10, 0])).per_halves is None


def test_most_epochs_make_two_passes() -> None:
    """Besides the raw weights, the last winner; the shortest average where the raw weights won; all at the first."""
    names = ["0.5", "0.9", "0.98"]
    assert worth_a_pass(names, "0.9") == ["0.9"]
    assert worth_a_pass(names, RAW) == ["0.5"] and worth_a_pass([], RAW) == []
    assert worth_a_pass(names, None) == names


def test_all_are_evaluated_at_the_end_and_where_it_costs_little(tiny: Dataset, config: Make) -> None:
    """At every fourth epoch and the last; at each where the passes take little beside an epoch of training."""
    often = config(training={"batches": 18, "batches_per_epoch": 3})
    assert [epoch for epoch in range(1, 7) if all_are_evaluated(often, tiny, epoch, 4)] == [4, 6]
    rarely = config(training={"batches": 600, "batches_per_epoch": 100})
    assert all(all_are_evaluated(rarely, tiny, epoch, 4) for epoch in range(1, 7))


def test_all_passes_may_take_a_tenth_of_the_training(tiny: Dataset, config: Make) -> None:
    """A pass costs a third of a step with the same utterances, so three times a tenth of an epoch's bins are passed."""
    settings = config(training={"batches": 600, "batches_per_epoch": 100})
    training = settings.training
    trained = 100 * training.batch_size * training.accumulation * float(tiny.train.bins.mean())
    most = int(3 * 0.1 * trained / int(tiny.val.bins.sum()))
    assert all_are_evaluated(settings, tiny, 1, most) and not all_are_evaluated(settings, tiny, 1, most + 1)


@pytest.fixture(scope="module")
def reports(tiny: Dataset, config: Make) -> list[dict[str, Any]]:
    """The rows and states of a run that tracks three averages, six epochs long."""
    settings = config(
        averaging=DECAYS, training={"batches": 60, "batches_per_epoch": 10}, schedule={"peak_lr": 2e-2},
        model={"dropout": 0.0},
    )  # fmt: skip
    return [{**report.row(), "state": _copied(report.checkpoint())} for report in train(settings, tiny)]


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return checkpoint.on_host(state)  # type: ignore[no-any-return]


def test_the_best_of_the_averages_and_the_raw_weights_is_reported(reports: list[dict[str, Any]]) -> None:
    """per is the lowest of those that were evaluated, with the name of the weights; all are evaluated at the end."""
    for row in reports:
        found = {RAW: row["per_raw"], **{str(each["decay"]): each["per"] for each in row["per_by_decay"]}}
        assert row["per"] == min(found.values()) == found[row["average"]]
        assert row["per_halves"] >= 0
    assert [len(row["per_by_decay"]) for row in reports] == [3, 1, 1, 3, 1, 3]


def test_the_checkpoint_keeps_the_weights_that_were_the_best(reports: list[dict[str, Any]], tiny: Dataset) -> None:
    """A checkpoint's decoder, and what is kept of the best epoch, give its PER on the validation split."""
    from trainable.compute.precision import autocast_for
    from trainable.data.batches import Loader
    from trainable.evaluation import evaluate

    for row in reports:
        state = row["state"]
        for kept in (state, checkpoint.for_evaluation(state)):
            model = checkpoint.load_model(kept)
            run = checkpoint.config_of(state)
            device = torch.device("cpu")
            found = evaluate(model, Loader(tiny.val, device), "target_mean", autocast_for(run, device))
            assert found.per == row["per"]
        assert state["average"]["chosen"] == row["average"]


def test_averages_that_are_better_than_the_raw_weights_are_kept(tiny: Dataset, config: Make) -> None:
    """Where the last steps ruin the raw weights, an average counts, and its weights are those of the checkpoint."""
    training = {"batches": 60, "batches_per_epoch": 60}
    settings = config(averaging=DECAYS, training=training, schedule={"peak_lr": 2e-2}, model={"dropout": 0.0})
    run = loop._start(settings, tiny, torch.device("cpu"))
    run.engine.begin_epoch(60)
    for batch in range(60):
        loop._step(run, batch)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.zero_()
    run.epoch, run.batch = 1, 60
    choice = loop._validate(run)
    assert choice.name in ("0.5", "0.9") and choice.best.per < choice.evaluations[RAW].per
    state = loop._state(run, {"batch": 60})
    chosen = next(average for average in run.averages if average.name == choice.name)
    kept = checkpoint.for_evaluation(state)["model"]
    assert all(torch.equal(kept[name], weights) for name, weights in chosen.model.state_dict().items())
    assert any(bool(weights.any()) for weights in kept.values())


def test_one_average_counts_whatever_it_is_worth(tiny: Dataset, config: Make) -> None:
    """With `decay`, per is that of the average even where the raw weights are better, as it always was."""
    slow: dict[str, Any] = {"training": {"batches": 60, "batches_per_epoch": 30}, "schedule": {"peak_lr": 2e-2}}
    one = config(averaging={"kind": "ema", "decay": 0.999, "warmup": False}, **slow)
    *_, row = (report.row() for report in train(one, tiny))
    assert row["average"] == "0.999" and row["per_halves"] is None
    assert row["per_by_decay"] == [{"decay": 0.999, "per": row["per"]}]
    assert row["per"] > row["per_raw"]
    several = config(averaging={"kind": "ema", "decays": [0.999], "warmup": False}, **slow)
    *_, best = (report.row() for report in train(several, tiny))
    assert best["average"] == RAW and best["per"] == row["per_raw"]


def test_swa_competes_with_the_raw_weights_where_it_may(tiny: Dataset, config: Make) -> None:
    """With or_raw the better of the two is reported, and before SWA has begun the raw weights."""
    rows = [report.row() for report in train(config(averaging={"kind": "swa", "start_batch": 6, "or_raw": True}), tiny)]
    assert rows[0]["average"] == RAW and {row["average"] for row in rows} <= {RAW, "swa"}
    assert all(row["per"] <= row["per_raw"] and row["per_by_decay"] is None for row in rows)


def test_a_checkpoint_of_other_decays_is_refused(tiny: Dataset, config: Make) -> None:
    """Averages cannot begin in the middle: one line says which decays the checkpoint has."""
    state = next(train(config(averaging={"kind": "ema", "decay": 0.9}), tiny)).checkpoint()
    with pytest.raises(InputError, match=r"averaging\.decays was None, is \(0\.5, 0\.9, 0\.98\)"):
        train(config(averaging=DECAYS), tiny, resume_from=state)


def test_a_checkpoint_from_before_there_were_several_is_continued(tiny: Dataset, config: Make) -> None:
    """A configuration and a checkpoint that know one decay only go on as they would have."""
    settings = config(averaging={"kind": "ema", "decay": 0.9})
    first, *rest = train(settings, tiny)
    old = _copied(next(train(settings, tiny)).checkpoint())
    del old["config"]["averaging"]["decays"]
    assert set(old["average"]) == {"updates", "model"} and first.epoch == 1
    again = list(train(settings, tiny, resume_from=old))
    assert [report.per for report in again] == [report.per for report in rest]


def test_a_card_without_room_tracks_fewer_averages(
    tiny: Dataset, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned down averages are told, leave the others as they are, and stay away when the run is continued."""
    from trainable import averaging

    settings = config(averaging=DECAYS)

    def scarce(model: Any, config: Any, device: Any, among: Any = None) -> tuple[list[averaging.Average], list[str]]:
        return averaging.make_averages(model, config, ["0.9"]), ["no room"]

    whole = list(train(settings, tiny))
    monkeypatch.setattr(loop, "averages_that_fit", scarce)
    run = train(settings, tiny)
    first = next(run)
    state = _copied(first.checkpoint())
    few = [first, *run]
    monkeypatch.undo()
    assert few[0].notes == ("no room",)
    assert [each["decay"] for report in few for each in report.per_by_decay or []] == [0.9] * 3
    known = {(r.epoch, each["decay"]): each["per"] for r in whole for each in r.per_by_decay or []}
    assert all(
        each["per"] == known[r.epoch, 0.9] for r in few for each in r.per_by_decay or [] if (r.epoch, 0.9) in known
    )
    rest = list(train(settings, tiny, resume_from=state))
    assert [report.per_by_decay for report in rest] == [report.per_by_decay for report in few[1:]]


def test_a_choice_names_its_best() -> None:
    """The evaluation that counts is the one of the name."""
    one, other = evaluation([1] * 4), evaluation([2] * 4)
    assert Choice({RAW: one, "0.9": other}, "0.9", None).best is other
