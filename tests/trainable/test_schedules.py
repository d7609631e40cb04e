from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.config import RunConfig
from trainable.schedules import day_lr_at, lr_at, lr_curve


def run(batches: int = 1000, averaging: dict[str, Any] | None = None, **schedule: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "schedule": {"peak_lr": 0.02, **schedule},
            "training": {"batches": batches},
            "averaging": averaging or {"kind": "none"},
        }
    )


LINEAR = {"kind": "linear", "end_lr": 0.002}
WARMUP_COSINE = {"kind": "warmup_cosine", "warmup_batches": 100, "start_lr": 0.001, "end_lr": 0.002}
ONE_CYCLE = {"kind": "one_cycle", "start_lr": 0.004, "end_lr": 0.0001, "peak_fraction": 0.3}
MULTISTEP = {"kind": "multistep", "milestones": [0.5, 0.75], "gamma": 0.1}
SGDR = {"kind": "sgdr", "end_lr": 0.002, "period_batches": 100, "period_multiplier": 2.0, "peak_decay": 0.5}
ODD_SGDR = {**SGDR, "period_batches": 99, "period_multiplier": 1.01}


@pytest.mark.parametrize(
    ("schedule", "batch", "expected"),
    [
        ({"kind": "constant"}, 0, 0.02),
        ({"kind": "constant"}, 777, 0.02),
        ({"kind": "constant"}, 999, 0.02),
        (LINEAR, 0, 0.02),
        (LINEAR, 333, 0.02 - 0.018 * 0.333),
        (LINEAR, 999, 0.02 - 0.018 * 0.999),
        (WARMUP_COSINE, 0, 0.001),
        (WARMUP_COSINE, 37, 0.001 + 0.019 * 0.37),
        (WARMUP_COSINE, 100, 0.02),
        (WARMUP_COSINE, 333, 0.002 + 0.018 * 0.5 * (1 + math.cos(math.pi * 233 / 900))),
        (WARMUP_COSINE, 550, 0.011),
        (WARMUP_COSINE, 999, 0.002 + 0.018 * 0.5 * (1 + math.cos(math.pi * 899 / 900))),
        (ONE_CYCLE, 0, 0.004),
        (ONE_CYCLE, 77, 0.02 - 0.016 * 0.5 * (1 + math.cos(math.pi * 77 / 300))),
        (ONE_CYCLE, 300, 0.02),
        (ONE_CYCLE, 777, 0.0001 + 0.0199 * 0.5 * (1 + math.cos(math.pi * 477 / 700))),
        (ONE_CYCLE, 999, 0.0001 + 0.0199 * 0.5 * (1 + math.cos(math.pi * 699 / 700))),
        (MULTISTEP, 0, 0.02),
        (MULTISTEP, 499, 0.02),
        (MULTISTEP, 500, 0.002),
        (MULTISTEP, 749, 0.002),
        (MULTISTEP, 777, 0.0002),
        (MULTISTEP, 999, 0.0002),
        (SGDR, 0, 0.02),
        (SGDR, 37, 0.002 + 0.018 * 0.5 * (1 + math.cos(math.pi * 0.37))),
        (SGDR, 99, 0.002 + 0.018 * 0.5 * (1 + math.cos(math.pi * 0.99))),
        (SGDR, 100, 0.01),  # the first restart, at half the peak
        (SGDR, 200, 0.006),  # half of the second cycle, 200 batches long
        (SGDR, 300, 0.005),  # the second restart
        (SGDR, 999, 0.002 + 0.0005 * 0.5 * (1 + math.cos(math.pi * 299 / 800))),  # the third restart was at 700
        ({**ONE_CYCLE, "peak_fraction": 0.3007}, 301, 0.02),  # 300.7 batches up are rounded, not cut
        ({**ONE_CYCLE, "peak_fraction": 0.0001}, 0, 0.004),  # at least one batch up
        ({**ONE_CYCLE, "peak_fraction": 0.0001}, 1, 0.02),
        ({**MULTISTEP, "milestones": [0.5006]}, 500, 0.02),  # at 500.6, rounded
        ({**MULTISTEP, "milestones": [0.5006]}, 501, 0.002),
        (ODD_SGDR, 198, 0.002 + 0.008 * 0.5 * (1 + math.cos(math.pi * 0.99))),
        (ODD_SGDR, 199, 0.005),  # after 99 and round(99.99) batches
        ({**SGDR, "peak_decay": 0.01}, 300, 0.002),  # a peak does not come down below the end
        ({**SGDR, "warmup_batches": 50}, 0, 0.0),
        ({**SGDR, "warmup_batches": 50}, 37, 0.02 * 37 / 50),
        ({**SGDR, "warmup_batches": 50}, 50, 0.02),
        ({**SGDR, "warmup_batches": 50}, 150, 0.01),
    ],
)
def test_every_schedule_follows_its_closed_form(schedule: dict[str, Any], batch: int, expected: float) -> None:
    """At the first, the peak, the last and an odd batch, each kind gives the rate of its formula."""
    assert lr_at(run(**schedule), batch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        ({"kind": "constant"}, 0.02),
        (LINEAR, 0.002),
        (WARMUP_COSINE, 0.002),
        (ONE_CYCLE, 0.0001),
        ({**ONE_CYCLE, "peak_fraction": 0.9999}, 0.0001),  # the way up takes all batches
        (MULTISTEP, 0.0002),
        ({**SGDR, "horizon": 300}, 0.002),  # the horizon ends a cycle: no restart after it
        ({**SGDR, "horizon": 200}, 0.006),
    ],
)
def test_the_rate_stays_after_the_horizon(schedule: dict[str, Any], last: float) -> None:
    """From the horizon on the rate is the schedule's value there, however long training goes on."""
    config = run(batches=5000, **{"horizon": 1000, **schedule})
    assert [lr_at(config, batch) for batch in (config.horizon, config.horizon + 1, 4999)] == pytest.approx([last] * 3)


def test_a_horizon_is_what_the_schedule_is_laid_out_for() -> None:
    """A schedule with its own horizon has the same rates in a run of another length."""
    short, long = run(batches=100, horizon=1000, **LINEAR), run(batches=1000, **LINEAR)
    assert [lr_at(short, i) for i in range(100)] == [lr_at(long, i) for i in range(100)]


def test_swa_takes_over_the_rate_from_its_start() -> None:
    """With a rate of its own, SWA's holds from start_batch to the end; without, the schedule's goes on."""
    own = run(averaging={"kind": "swa", "start_batch": 700, "lr": 0.005}, **LINEAR)
    none = run(averaging={"kind": "swa", "start_batch": 700}, **LINEAR)
    assert lr_at(own, 699) == lr_at(none, 699) == pytest.approx(0.02 - 0.018 * 0.699)
    assert {lr_at(own, batch) for batch in (700, 701, 999, 5000)} == {0.005}
    assert lr_at(none, 700) == pytest.approx(0.02 - 0.018 * 0.7)


DROP = {**WARMUP_COSINE, "start_lr": 0.0, "drop_at": 0.5, "drop_factor": 0.2}


@pytest.mark.parametrize(
    ("schedule", "batch", "expected"),
    [
        ({**WARMUP_COSINE, "warmup_shape": "linear_next"}, 0, 0.001 + 0.019 / 100),
        ({**WARMUP_COSINE, "warmup_shape": "linear_next"}, 99, 0.02),
        ({**WARMUP_COSINE, "warmup_shape": "cosine"}, 0, 0.001),
        ({**WARMUP_COSINE, "warmup_shape": "cosine"}, 50, 0.0105),
        ({**WARMUP_COSINE, "warmup_shape": "cosine"}, 25, 0.001 + 0.019 * (1 - math.cos(math.pi / 4)) / 2),
        ({**WARMUP_COSINE, "warmup_shape": "cosine"}, 100, 0.02),
        ({**WARMUP_COSINE, "kind": "warmup_linear"}, 37, 0.001 + 0.019 * 0.37),
        ({**WARMUP_COSINE, "kind": "warmup_linear"}, 100, 0.02),
        ({**WARMUP_COSINE, "kind": "warmup_linear"}, 550, 0.011),
        ({**WARMUP_COSINE, "kind": "warmup_linear"}, 2000, 0.002),
        (DROP, 499, 0.002 + 0.018 * 0.5 * (1 + math.cos(math.pi * 399 / 900))),
        (DROP, 500, 0.2 * (0.002 + 0.018 * 0.5 * (1 + math.cos(math.pi * 400 / 900)))),
        (DROP, 5000, 0.2 * 0.002),
        ({**DROP, "kind": "warmup_linear"}, 550, 0.2 * 0.011),
    ],
)
def test_variants_of_warm_up_and_a_drop(schedule: dict[str, Any], batch: int, expected: float) -> None:
    """Warm-ups that count from 1 or rise as a cosine, a line down after one, and a drop to a fraction of the rate."""
    assert lr_at(run(**schedule), batch) == pytest.approx(expected, rel=1e-12)


def test_a_published_recipe_gives_the_rates_of_its_trainer() -> None:
    """`cosine_stepdrop` of sergiolsantamaria2/brain2text, re-stated: batch after batch, of both groups of weights."""
    batches, warmup, step, factor = 2000, 50, 800, 0.1
    rates = {"peak_lr": 0.004, "end_lr": 0.0001333, "day_peak_lr": 0.00133, "day_end_lr": 0.0001333}

    def theirs(batch: int, peak: float, low: float) -> float:
        if batch < warmup:
            share = (batch + 1) / warmup
        else:
            share = low / peak + (1 - low / peak) * 0.5 * (
                1 + math.cos(math.pi * (batch - warmup) / (batches - warmup))
            )
        return peak * share * (factor if batch >= step else 1)

    config = run(
        batches, kind="warmup_cosine", warmup_batches=warmup, warmup_shape="linear_next", drop_at=step / batches,
        drop_factor=factor, **rates,
    )  # fmt: skip
    for batch in range(batches):
        assert lr_at(config, batch) == pytest.approx(theirs(batch, 0.004, 0.0001333), rel=1e-12)
        assert day_lr_at(config, batch) == pytest.approx(theirs(batch, 0.00133, 0.0001333), rel=1e-12)


@pytest.mark.parametrize("schedule", [{"kind": "constant"}, LINEAR, WARMUP_COSINE, ONE_CYCLE, MULTISTEP, SGDR])
def test_day_layers_have_the_same_schedule_at_another_height(schedule: dict[str, Any]) -> None:
    """With `day_peak_lr` alone every rate is in proportion; without it, the day layers' rates are the others'."""
    own, same = run(**schedule, day_peak_lr=0.005), run(**schedule)
    for batch in (0, 37, 100, 333, 500, 777, 999):
        assert day_lr_at(own, batch) == pytest.approx(lr_at(own, batch) / 4, rel=1e-12)
        assert day_lr_at(same, batch) == lr_at(same, batch) == lr_at(own, batch)
    swa = run(**schedule, day_peak_lr=0.005, averaging={"kind": "swa", "start_batch": 500, "lr": 0.008})
    assert day_lr_at(swa, 700) == pytest.approx(0.002)


def test_the_curve_is_the_rate_of_every_batch() -> None:
    """`lr_curve` has one float64 per batch of the run, equal to `lr_at`."""
    config = run(batches=240, **SGDR)
    curve = lr_curve(config)
    assert curve.shape == (240,) and curve.dtype == np.float64
    assert curve.tolist() == [lr_at(config, batch) for batch in range(240)]


rates = st.floats(1e-6, 1.0)
shares = st.floats(0.0, 1.0)


@st.composite
def any_schedule(draw: st.DrawFn) -> RunConfig:
    batches = draw(st.integers(2, 400))
    peak = draw(rates)
    end, start = peak * draw(shares), peak * draw(shares)
    warmup = draw(st.integers(0, batches - 1))
    schedule = draw(
        st.sampled_from(
            [
                {"kind": "constant"},
                {"kind": "linear", "end_lr": end},
                {"kind": "warmup_cosine", "end_lr": end, "start_lr": start, "warmup_batches": warmup},
                {
                    "kind": "warmup_linear",
                    "end_lr": end,
                    "start_lr": start,
                    "warmup_batches": warmup,
                    "warmup_shape": draw(st.sampled_from(["linear", "linear_next", "cosine"])),
                    "drop_at": draw(shares),
                },
                {"kind": "one_cycle", "end_lr": end, "start_lr": start, "peak_fraction": draw(st.floats(0.01, 0.99))},
                {"kind": "multistep", "milestones": sorted({draw(shares), draw(shares)}), "gamma": 0.3},
                {
                    "kind": "sgdr",
                    "end_lr": end,
                    "period_batches": draw(st.integers(1, 100)),
                    "period_multiplier": draw(st.floats(1.0, 3.0)),
                    "peak_decay": draw(st.floats(0.1, 1.0)),
                    "warmup_batches": warmup,
                },
            ]
        )
    )
    return run(batches=batches, **{**schedule, "peak_lr": peak})


@given(any_schedule())
def test_rates_lie_between_zero_and_the_peak(config: RunConfig) -> None:
    """No schedule ever leaves the range from 0 to its peak."""
    curve = np.array([lr_at(config, batch) for batch in range(config.training.batches + 5)])
    assert (curve >= 0).all()
    assert (curve <= config.schedule.peak_lr * (1 + 1e-12)).all()


@given(any_schedule())
def test_only_restarts_and_milestones_jump(config: RunConfig) -> None:
    """Between batches a rate moves by no more than the steepest slope of its line or half cosine."""
    schedule = config.schedule
    if schedule.kind in ("sgdr", "multistep") or getattr(schedule, "drop_at", None) is not None:
        return
    curve = lr_curve(config)
    parts = {
        "constant": [math.inf],
        "linear": [config.horizon],
        "warmup_cosine": [getattr(schedule, "warmup_batches", 0) or math.inf],
        "one_cycle": [max(1, round(getattr(schedule, "peak_fraction", 1) * config.horizon))],
    }[schedule.kind]
    rest = config.horizon - parts[0] if math.isfinite(parts[0]) else config.horizon
    shortest = min(parts[0], rest if rest > 0 else config.horizon)
    assert np.abs(np.diff(curve)).max() <= math.pi / 2 * schedule.peak_lr / shortest * (1 + 1e-9)


def test_schedules_need_no_torch() -> None:
    """A rate can be computed, and plotted, without importing torch."""
    code = "import sys, trainable, trainable.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("batches", "most"), [(200, 0.028), (10_000, 0.0006)])
def test_one_cycle_differs_from_torchs_by_one_batch(batches: int, most: float) -> None:
    """Torch's peak is one batch earlier, its end too; the module says by how much the rates differ, and no more."""
    config = run(batches, kind="one_cycle", start_lr=0.002, end_lr=2e-5, peak_fraction=0.15)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.02, total_steps=batches, pct_start=0.15, div_factor=10, final_div_factor=100
    )
    theirs = [schedule.get_last_lr()[0]]
    for _ in range(batches - 1):
        optimizer.step()
        schedule.step()
        theirs.append(schedule.get_last_lr()[0])
    ours = lr_curve(config)
    assert int(np.argmax(theirs)) + 1 == int(np.argmax(ours)) == round(0.15 * batches)
    difference = float(np.abs(ours - theirs).max()) / 0.02
    assert 0.9 * most < difference <= most
