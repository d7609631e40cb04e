"""How a campaign's budget is divided, and which budgets are too small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError, RunConfig, load_run, to_dict
from tuner.campaign.costs import (
    LEAST_NARROWED,
    LEAST_SEARCHED,
    LEAST_SEEDS,
    Price,
    affordable,
    amount_text,
    chosen_limit,
    divided,
    least_amount,
    parse_shares,
)
from tuner.campaign.planning import amounts_of, configs_of, fitted, runs_of
from tuner.campaign.record import SHARES
from tuner.campaign.steps import fitting

runs = st.lists(st.floats(1, 1000), min_size=1, max_size=20)


@given(runs, st.floats(1, 100), st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.floats(0, 0.9))
def test_no_step_gets_more_than_there_is(costs, times, search, confirm, narrow):
    """From the least budget on: the parts add up to it, the confirmation can pay its seeds and the search its runs."""
    amount = times * least_amount(costs)
    parts = divided(amount, costs, {"search": search, "narrow": narrow, "confirm": min(confirm, 1 - 1e-9)})
    middle = sorted(costs)[len(costs) // 2]
    assert sum(parts.values()) == pytest.approx(amount)
    assert parts["confirm"] >= LEAST_SEEDS * max(costs) - 1e-9
    assert parts["narrow"] == 0 or parts["narrow"] >= LEAST_NARROWED * middle - 1e-9
    if parts["confirm"] > confirm * amount + 1e-9:  # its least: then the searches have theirs too
        assert parts["search"] + parts["narrow"] >= LEAST_SEARCHED * middle - 1e-6


@given(runs, st.floats(0, 20_000), st.integers(1, 8), st.integers(2, 8))
def test_what_is_confirmed_is_paid_for(costs, budget, top, seeds):
    """Never more than the budget, never fewer than two seeds, and nothing only where the first is too dear."""
    leaders, each = affordable(budget, costs, top, seeds)
    assert leaders <= min(top, len(costs)) and each <= seeds
    if leaders:
        assert each >= LEAST_SEEDS and leaders * each * max(costs[:leaders]) <= budget * (1 + 1e-9) + 1e-6
    else:
        assert LEAST_SEEDS * costs[0] > budget * (1 - 1e-9) - 1e-6


@pytest.mark.parametrize(
    ("count", "found"), [(1, (0, 0)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (9, (3, 3)), (25, (5, 5)), (99, (5, 5))]
)
def test_few_runs_go_to_as_many_seeds_as_configurations(count, found):
    """So many whole runs, at most five leaders with five seeds."""
    assert affordable(count, [1.0] * 9, 5, 5) == found


def test_runs_are_paid_in_the_unit_of_the_limit(asked):
    """Batches, utterances with accumulation, trials, hours of wall time and of GPUs."""
    (config, *_) = configs_of(__import__("search_spaces").Space.from_dict(asked().space))
    training = config.training
    assert Price("batches").run(config) == training.batches
    assert Price("utterances").run(config) == training.batches * training.batch_size * training.accumulation
    assert Price("trials").run(config) == 1
    assert Price("hours", 36.0, 0.0, 2).run(config) == pytest.approx(training.batches / 200)
    assert Price("gpu_hours", 36.0, 0.25, 2).run(config) == pytest.approx(training.batches / 400)
    assert Price("batches").epoch(config) == training.batches_per_epoch


def test_a_budget_that_holds_no_confirmed_answer_is_refused_with_the_least_that_would(asked):
    """The number in the line is accepted, and one less is not."""
    with pytest.raises(InputError, match="cannot hold a confirmed answer") as error:
        fitted(asked(amount=3), yes=False)
    least = float(str(error.value).split("give --batches ")[1].split(",")[0].split(" ")[0])
    fitted(asked(amount=least), yes=False)
    with pytest.raises(InputError):
        fitted(asked(amount=least - 1), yes=False)
    parts = amounts_of(asked(amount=least))
    assert sum(parts.values()) <= least and parts["narrow"] == 0


def test_shares_are_checked():
    """Defaults, a part of them, and a line for what is wrong."""
    assert parse_shares(None) == SHARES
    assert parse_shares("search=0.5,narrow=0,confirm=0.5") == {"search": 0.5, "narrow": 0, "confirm": 0.5}
    assert parse_shares("confirm=0.6") == pytest.approx({"search": 0.3, "narrow": 0.1, "confirm": 0.6})
    for text, words in (
        ("serch=0.5", "'serch=0.5' is not allowed"),
        ("search=x", "'search=x' is not allowed"),
        ("search=0.9,confirm=0.9", "add up to 1.8"),
        ("search=0.2,narrow=0.2,confirm=0.2", "add up to 0.6"),
        ("search=1", "confirm gets 0"),
    ):
        with pytest.raises(InputError, match=words) as error:
            parse_shares(text)
        assert len(error.value.problems) == 1


def test_one_limit_is_divided():
    """None or two are refused; numbers read as people write them."""
    assert chosen_limit({"hours": None, "batches": 40}) == ("batches", 40.0)
    for given_limits in ({}, {"hours": 1, "batches": 40}):
        with pytest.raises(InputError, match="divides one budget"):
            chosen_limit(given_limits)
    assert amount_text("utterances", 21_336.9) == "21,336 utterances"
    assert amount_text("trials", 1) == "1 trial" and amount_text("hours", 2.5) == "2.5 hours"


def test_a_space_is_drawn_from_once(asked):
    """The lengths of a space's runs are the same each time they are asked for."""
    from search_spaces import Space

    space = Space.from_dict(asked().space)
    assert runs_of(space, Price("batches")) == runs_of(space, Price("batches"))


@given(left=st.integers(40, 4000))
def test_what_is_confirmed_is_made_short_enough_for_what_is_left(left: int) -> None:
    """Two new seeds never cost more than the budget has, and a run that fits is left as it is."""
    config, price = to_dict(load_run("small").config), Price("batches")
    found = RunConfig.model_validate(fitting(config, price, left))
    assert LEAST_SEEDS * price.run(found) <= left
    whole = RunConfig.model_validate(config).training.batches
    assert (found.training.batches == whole) == (LEAST_SEEDS * whole <= left)
    assert fitting(config, Price("trials"), 1.0) == config
