"""What a rule needs beside its decisions: that it fits the space, its words for users."""

from __future__ import annotations

import json

import pytest

from search_spaces import InputError
from search_spaces.parsing.given import parse_settings
from search_spaces.stopping import STOPPING_KINDS, Stopping, rule_text
from tuner.simulation.rule_fit import check_fit
from tuner.study.settings import StudyBudget

BUDGET = StudyBudget(trials=12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asha grace=9", "--stopping: grace: 9 is not allowed; the longest runs of toy have 9 epochs, so no trial "
         "would ever be compared; give 8 or less"),
        ("asha at=horizon grace=0.95", "grace: 0.95 of the horizon is not allowed; no run of toy is evaluated between "
         "there and its end; give less (such as 0.125), or a smaller training.batches_per_epoch"),
        ("median grace=12", "grace: 12 is not allowed; the longest runs of toy have 9 epochs"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_the_space_is_one_line(toy, text, message):
    """What could never compare anybody, or not as it says, is refused before anything is spent."""
    with pytest.raises(InputError) as raised:
        check_fit(parse_settings(text, Stopping, "stopping"), toy.space, BUDGET, "--stopping")
    assert len(raised.value.problems) == 1
    assert message in str(raised.value)


@pytest.mark.parametrize("kind", list(STOPPING_KINDS))
def test_each_rule_by_its_name_alone_fits_an_ordinary_space(toy, kind):
    """The defaults of every kind are usable as they are."""
    check_fit(parse_settings(kind, Stopping, "stopping"), toy.space, BUDGET, "--stopping")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "asha at=horizon grace=1.5",
            "--stopping: grace: 1.5 is not allowed; give a fraction of the horizon from ",
        ),
        (
            "asha grace=0.5",
            "grace: 0.5 is not allowed; give a whole number of 1 or more, or at: horizon or at: area",
        ),
        ("asha reduction=1", "reduction: 1 is not allowed; give a number of 1.1 or more"),
        ("median promote=true", "promote: unknown key (value true); "),
        ("asha promote=true drain=1.5", "drain: 1.5 is not allowed"),
        ("asha metric=probe", "metric=probe is retired, probes cost what they saved"),
        ("hyperband", "hyperband is retired, it cost more than the default"),
        ("extrapolation top=2", "extrapolation is retired, it stopped winners that start slowly"),
    ],
)
def test_settings_that_a_rule_does_not_take_are_one_line(text, message):
    """A wrong value or key says what is allowed."""
    with pytest.raises(InputError) as raised:
        parse_settings(text, Stopping, "stopping")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "asha promote=true",
        "asha promote=true drain=0.5",
        "asha at=horizon grace=0.5 among=annealed",
        "median at=horizon",
    ],
)
def test_a_rule_s_words_give_the_rule_again(text):
    """What is announced, and shown by status, can be given to --stopping."""
    rule = parse_settings(text, Stopping, "stopping")
    assert parse_settings(rule_text(rule), Stopping, "stopping") == rule


def test_the_rules_and_their_settings_are_listed(cli):
    """`tuner spaces rules` names every kind; with a kind, every setting with its default; a wrong one is one line."""
    listed = json.loads(cli("spaces", "rules", "--format", "json").out)
    assert [row["rule"] for row in listed] == list(STOPPING_KINDS)
    shown = {row["setting"]: row for row in json.loads(cli("spaces", "rules", "asha", "--format", "json").out)}
    assert shown["reduction"]["default"] == "3"
    assert all(row["what it does"] for row in shown.values())
    assert "next: tuner search" in cli("spaces", "rules", "none").out
    wrong = cli("spaces", "rules", "ahsa")
    assert wrong.status == 2
    assert "ahsa: there is no such stopping rule; did you mean asha? give asha, median" in wrong.err
