"""What the searcher proposes."""

import pytest

from search_spaces import InputError, load_space
from tuner.study.searchers.searcher import OptunaSearcher

TPE = {"kind": "tpe", "startup_trials": 8}
RANDOM = {"kind": "random"}


def regret(space, kind, seed, trials=40):
    """|log10(rate / 0.01)| of the best of so many trials, told one after another."""
    import math

    searcher = OptunaSearcher(space, kind, seed)
    found = []
    for number in range(trials):
        params = searcher.propose(number)
        searcher.started(number, params)
        rate = params["schedule.peak_lr"]
        value = abs(math.log10(rate / 0.01)) + (0.3 if params["averaging.kind"] == "none" else 0)
        value += 0.3 * (params["schedule.kind"] == "constant")
        searcher.ended(number, "completed", value)
        found.append(value)
    # The mean over the last trials: a model that learns proposes good points, not only one lucky one.
    return sum(found[-10:]) / 10


def test_tpe_learns_where_random_search_does_not(toy):
    """Over five seeds, TPE's last proposals are far better than random ones."""
    tpe = [regret(toy.space, TPE, seed) for seed in range(5)]
    random = [regret(toy.space, RANDOM, seed) for seed in range(5)]
    assert sum(tpe) < 0.6 * sum(random), (tpe, random)


def test_a_proposal_depends_only_on_the_seed_the_number_and_what_was_told(toy):
    """Two searchers told the same propose the same; another seed or number proposes otherwise."""

    def proposals(seed):
        searcher = OptunaSearcher(toy.space, TPE, seed)
        out = []
        for number in range(12):
            out.append(searcher.propose(number))
            searcher.started(number, out[-1])
            searcher.ended(number, "completed", 0.1 * number)
        return out

    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)
    assert len({p["schedule.peak_lr"] for p in proposals(1)}) == 12


def test_proposals_keep_the_declared_constraints(toy, space_file):
    """Draws that break a constraint are drawn again; conditional parameters appear only where they apply."""
    text = space_file.read_text() + "constraints: ['schedule.peak_lr < 0.003']\n"
    space_file.write_text(text)
    searcher = OptunaSearcher(load_space(space_file), RANDOM, 0)
    for number in range(30):
        params = searcher.propose(number)
        assert params["schedule.peak_lr"] < 0.003
        assert ("1-averaging.decay" in params) == (params["averaging.kind"] == "ema")
        searcher.started(number, params)


def test_a_constraint_nothing_keeps_is_one_line(toy, space_file):
    """A constraint that no draw keeps ends with what to change, not with an endless loop."""
    space_file.write_text(space_file.read_text() + "constraints: ['schedule.peak_lr < 0.00101']\n")
    searcher = OptunaSearcher(load_space(space_file), RANDOM, 0)
    with pytest.raises(InputError, match="widen the ranges or relax the constraint"):
        for number in range(20):
            searcher.started(number, searcher.propose(number))
