"""Every schedule keeps the contract, and one that breaks a clause is told which and how."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from search_spaces.config import Schedule
from trainable.schedules import lr_at
from tuner.testing import schedules
from tuner.testing.contracts import ContractBroken

SECTIONS = (
    {"kind": "constant", "peak_lr": 0.02},
    {"kind": "linear", "peak_lr": 0.02, "end_lr": 0.001},
    {"kind": "warmup_cosine", "peak_lr": 0.02, "end_lr": 0.0, "warmup_batches": 30},
    {"kind": "warmup_cosine", "peak_lr": 0.02, "end_lr": 1e-4, "warmup_batches": 30, "warmup_shape": "linear_next"},
    {"kind": "warmup_cosine", "peak_lr": 0.02, "end_lr": 1e-4, "start_lr": 1e-3, "drop_at": 0.8, "drop_factor": 0.1},
    {"kind": "warmup_linear", "peak_lr": 0.02, "end_lr": 1e-4, "warmup_batches": 30, "warmup_shape": "cosine"},
    {"kind": "one_cycle", "peak_lr": 0.02, "start_lr": 1e-3, "end_lr": 1e-5, "peak_fraction": 0.3},
    {"kind": "multistep", "peak_lr": 0.02, "milestones": [0.3, 0.7], "gamma": 0.3},
    {"kind": "sgdr", "peak_lr": 0.02, "end_lr": 1e-4, "period_batches": 40, "warmup_batches": 10},
)
LINEAR = {"kind": "linear", "peak_lr": 0.02, "end_lr": 0.001}


def kinds() -> set[str]:
    """The kinds of schedule that a run can name."""
    return {model.model_fields["kind"].default for model in get_args(get_args(Schedule)[0])}


def test_every_kind_is_here():
    """A new kind of schedule gets a line in SECTIONS, and with it the contract."""
    assert {section["kind"] for section in SECTIONS} == kinds()


@pytest.mark.parametrize("clause", schedules.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["kind"])
def test_schedules_keep_the_contract(section, clause):
    """Every registered kind, every clause."""
    {each.name: each for each in schedules.contract(section, horizons=40)}[clause.__name__]()


def counting():
    """Counts its calls, not the batches."""
    calls = itertools.count()
    return lambda config, batch: 0.02 / (1 + next(calls))


@pytest.mark.parametrize(
    ("rate", "clause", "words"),
    [
        (counting(), "is_a_function_of_the_batch", "the order in which one asks"),
        (lambda config, i: 0.02 * (1 - i / config.horizon), "lies_between_nothing_and_the_peak", "at batch"),
        (lambda config, i: float("nan"), "lies_between_nothing_and_the_peak", "nan at batch"),
        (lambda config, i: 0.5 * lr_at(config, i), "reaches_its_peak", "is 0.01, not 0.02"),
        (lambda config, i: 0.02 / (1 + i), "stays_after_the_horizon", "at the horizon"),
        (
            lambda config, i: 0.02 * min(1, i / config.training.batches),
            "does_not_depend_on_the_length_of_the_run",
            "by the length of the run",
        ),
    ],
)
def test_a_broken_schedule_is_told_what_it_breaks(rate, clause, words):
    """Each kind of mistake fails its clause, with the schedule, what must hold and what happened in the message."""
    found = {each.name: each for each in schedules.contract(LINEAR, rate)}[clause]
    with pytest.raises(ContractBroken) as error:
        found()
    assert str(error.value).startswith(f"schedule linear: {found.says} Here: ")
    assert words in str(error.value)


def test_a_formula_can_be_tried_before_it_is_in_the_program():
    """A third party's formula runs the suite with the section of a schedule that has its keys."""

    def staircase(config, batch):
        return config.schedule.peak_lr if batch < config.horizon / 2 else config.schedule.end_lr

    for clause in schedules.contract(LINEAR, staircase):
        clause()
