"""Every stopping rule keeps the contract, and one that breaks a clause is told which and how."""

from __future__ import annotations

from typing import Literal

import pytest

from search_spaces.parsing.given import parse_settings
from search_spaces.stopping import STOPPING_KINDS, ComparingRule, Stopping
from tuner.study.rules import stopping as rules
from tuner.study.rules.stopping import RULES, Decision
from tuner.testing import stopping
from tuner.testing.contracts import ContractBroken

SETTINGS = (
    "asha grace=1 reduction=2",
    "asha grace=1 reduction=2 promote=true",
    "asha at=horizon grace=0.25 reduction=1.5 patience=2 min_curves=3 protect=1",
    "asha among=annealed",
    "asha at=area metric=either reduction=4 promote=true drain=0.5",
    "median min_curves=2 among=horizon",
    "pbt population=3 interval=2",
    "none",
)


def test_every_kind_is_here():
    """A new kind of rule gets a line in SETTINGS, and with it the contract."""
    assert {text.split()[0] for text in SETTINGS} == set(STOPPING_KINDS) == set(RULES)


@pytest.mark.parametrize("clause", stopping.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("text", SETTINGS)
def test_rules_keep_the_contract(text, clause):
    """Every registered kind, with the settings that make it another rule; every clause."""
    rule = parse_settings(text, Stopping, "stopping")
    found = {each.name: each for each in stopping.contract(rule, races=12)}
    found[clause.__name__]()


class Mine(ComparingRule):
    """Settings of a rule that is not part of the program."""

    kind: Literal["mine"] = "mine"
    metric: Literal["per"] = "per"
    interval: int = 2


def third_party(history, curve, point):
    """Stops a trial whose PER is twice the best that others had at the rung."""
    key = history.key(curve.trial, point.epoch)
    if key is None:
        return Decision()
    others = [value for trial, value in history.rung(key).values.items() if trial != curve.trial]
    value = point.value("per")
    stop = bool(others) and value is not None and value[0] > 2 * min(others)[0]
    return Decision(stop=stop, rung=point.epoch, passed=not stop, reason="twice the best" if stop else None)


@pytest.mark.parametrize("clause", stopping.CHECKS, ids=lambda check: check.__name__)
def test_a_third_partys_rule_runs_the_suite(clause, monkeypatch):
    """A rule of another package: its settings are a `ComparingRule`, its function is put into `RULES`."""
    monkeypatch.setitem(RULES, "mine", third_party)
    {each.name: each for each in stopping.contract(Mine(), races=8)}[clause.__name__]()


def counting():
    """Decides by how often it was asked."""
    asked = [0]

    def rule(history, curve, point):
        asked[0] += 1
        stop = asked[0] % 5 == 0 and history.key(curve.trial, point.epoch) is not None
        return Decision(stop=stop, rung=point.epoch if stop else None, passed=False if stop else None, reason="fifth")

    return rule


def changing(history, curve, point):
    """Notes in the history whom it has seen."""
    history.leaders[curve.trial] = curve.best
    return Decision()


def hasty(history, curve, point):
    """Stops at an epoch that is no place."""
    return Decision(stop=point.epoch == 2, rung=2 if point.epoch == 2 else None, passed=None, reason="hasty")


def silent(history, curve, point):
    """Stops without a word."""
    key = history.key(curve.trial, point.epoch)
    return Decision(
        stop=key is not None, rung=None if key is None else point.epoch, passed=None if key is None else False
    )


def merciless(history, curve, point):
    """Stops everybody."""
    key = history.key(curve.trial, point.epoch)
    return Decision() if key is None else Decision(stop=True, rung=point.epoch, passed=False, reason="no mercy")


def exact(history, curve, point):
    """Cannot do without a number."""
    return Decision(reason="bad" if point.per > 0.9 else None)


@pytest.mark.parametrize(
    ("rule", "clause", "words"),
    [
        (counting(), "is_a_function_of_the_history", "then Decision("),
        (changing, "is_a_function_of_the_history", "the history was changed"),
        (hasty, "acts_only_at_its_places", "acts at epoch 2, its places are [1, 3, 5, 7]"),
        (silent, "says_what_it_decides", "stops without a reason"),
        (merciless, "spares_who_is_alone_or_ahead", "stops a trial that is alone"),
        (exact, "takes_what_is_not_a_number", "raised TypeError"),
    ],
)
def test_a_broken_rule_is_told_what_it_breaks(rule, clause, words, monkeypatch):
    """Each kind of mistake fails its clause, with the rule, what must hold and what happened in the message."""
    monkeypatch.setitem(RULES, "mine", rule)
    found = {each.name: each for each in stopping.contract(Mine())}[clause]
    with pytest.raises(ContractBroken) as error:
        found()
    assert str(error.value).startswith(f"stopping rule mine: {found.says} Here")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("named", "clause", "words"),
    [
        (lambda history, left: 0 if history.curves else None, "lets_every_paused_trial_go_on", "which is not paused"),
        (lambda history, left: None, "lets_every_paused_trial_go_on", None),
    ],
)
def test_whom_a_rule_lets_go_on_is_checked(named, clause, words, monkeypatch):
    """A running trial cannot be promoted; trials that stay paused to the end are the study's to stop."""
    monkeypatch.setattr(stopping, "promotable", named)
    found = {each.name: each for each in stopping.contract(rules.read_rule({"kind": "asha", "promote": True}))}[clause]
    if words is None:
        found()
        return
    with pytest.raises(ContractBroken, match=words):
        found()
