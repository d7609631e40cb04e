"""The contract of a searcher: a kind in `search_spaces/searchers.py` with a `Method`."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError, Space
from tuner.study.searchers.method import Method
from tuner.study.searchers.searcher import OptunaSearcher
from tuner.testing.contracts import Clause, clauses, examples, hold
from tuner.testing.toy import make_space

SEED = 5
ENDS = ("completed", "completed", "stopped", "stopped", "diverged", "failed")
"""How trials end in the suite's searches."""


@dataclass(frozen=True)
class SearcherUnderTest:
    """A searcher by its settings; `method` where its kind is not in `METHODS`."""

    settings: Any
    method: type[Method[Any]] | None = None
    trials: int = 14
    """Trials of a search of the suite."""
    searches: int = 8
    """Searches that Hypothesis makes up for a clause."""
    space: Space = field(default_factory=lambda: make_space(wide=True))

    def make(self, seed: int = SEED) -> OptunaSearcher:
        """A new searcher that was told nothing."""
        return OptunaSearcher(self.space, self.settings, seed, method=self.method)


def contract(
    settings: Any, method: type[Method[Any]] | None = None, *, trials: int = 14, searches: int = 8
) -> list[Clause]:
    """The clauses for a searcher with these settings; `method` where its kind is not in `METHODS`.

    A slow searcher takes fewer `trials`, and fewer `searches` made up by Hypothesis.
    """
    subject = SearcherUnderTest(settings, method, trials, searches)
    kind = settings["kind"] if isinstance(settings, Mapping) else settings.kind
    return clauses(subject, f"searcher {kind}", CHECKS)


class _Search:
    """A search: what was reported to the searcher, in order, so that it can be reported to another one."""

    def __init__(self, subject: SearcherUnderTest) -> None:
        self.subject, self.searcher = subject, subject.make()
        self.log: list[tuple[str, int, Any]] = []
        self.running: list[tuple[int, Mapping[str, Any]]] = []
        self.number = 0

    def propose(self) -> Mapping[str, Any] | None:
        """The proposal for the next trial; None where the searcher has no more."""
        return None if self.searcher.left() == 0 else self.searcher.propose(self.number)

    def start(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Start the next trial at a point, proposed or not."""
        self.searcher.started(self.number, params)
        self.log.append(("started", self.number, json.loads(json.dumps(params))))
        self.running.append((self.number, params))
        self.number += 1
        return params

    def end(self, place: int, how: str) -> None:
        """End a running trial."""
        number, params = self.running.pop(place % len(self.running))
        self.log.append((how, number, json.loads(json.dumps(params))))
        report(self.searcher, self.subject.space, number, params, how)

    def again(self) -> OptunaSearcher:
        """A new searcher that was told the same."""
        searcher = self.subject.make()
        for how, number, params in self.log:
            if how == "started":
                searcher.started(number, params)
            else:
                report(searcher, self.subject.space, number, params, how)
        return searcher


def report(searcher: OptunaSearcher, space: Space, number: int, params: Mapping[str, Any], how: str) -> None:
    """Report the rungs and the end of a trial, with a made-up PER that is a function of its point."""
    inside = [d.to_unit(params[d.name]) for d in space.dimensions if d.name in params and d.kind != "choice"]
    per = 0.1 + sum((u - 0.3) ** 2 for u in inside) / max(1, len(inside))
    if how in ("completed", "stopped"):
        searcher.rung(number, 1, per + 0.5)
    searcher.ended(number, how, per if how == "completed" else None)


def _searches(subject: SearcherUnderTest, check: Callable[[_Search, Mapping[str, Any]], None]) -> None:
    """Call `check(search, proposal)` in searches made up by Hypothesis: which trial ends next, and how."""
    step = st.tuples(st.integers(0, 3), st.sampled_from(ENDS))

    @examples(subject.searches)
    @given(st.lists(step, min_size=subject.trials, max_size=subject.trials))
    def every(steps: list[tuple[int, str]]) -> None:
        search = _Search(subject)
        for place, how in steps:
            params = search.propose()
            if params is None:
                return
            check(search, params)
            search.start(params)
            if len(search.running) > 3:
                search.end(place, how)

    every()


def proposes_points_of_the_space(subject: SearcherUnderTest) -> None:
    """Proposes only points of its space: a sample for each active dimension and no other, in its range, as plain JSON,
    that keep the constraints and make a valid configuration.
    """
    space = subject.space

    def check(search: _Search, params: Mapping[str, Any]) -> None:
        hold(json.loads(json.dumps(params)) == params, f"{params} is not plain JSON")
        by_name = {d.name: d for d in space.dimensions if d.sampled}
        for name, sample in params.items():
            hold(name in by_name, f"proposes {name}, which is no dimension")
            dimension = by_name[name]
            if dimension.kind == "choice":
                hold(sample in dimension.choices, f"{name} = {sample!r} is none of {list(dimension.choices)}")
            else:
                low, high = dimension.ends
                hold(low <= sample <= high, f"{name} = {sample!r} is outside {low:g} to {high:g}")
        try:
            config = space.config(params, 0)
        except InputError as error:
            raise AssertionError(f"{params} is no configuration: {error}") from error
        hold(not space.violations(params), f"{params} breaks {space.violations(params)}")
        hold(list(space.params_of(config)[0]) == list(params), f"{params} has a sample of an inactive dimension")

    _searches(subject, check)


def has_no_state_but_what_it_was_told(subject: SearcherUnderTest) -> None:
    """Made anew from the log at any place, whatever runs and however trials ended, it proposes what the live one
    does.
    """

    def check(search: _Search, params: Mapping[str, Any]) -> None:
        if search.number % 3 == 2:
            again = search.again().propose(search.number)
            hold(again == params, f"trial {search.number}: {params} live, {again} made anew")

    _searches(subject, check)


def proposes_the_same_for_the_same_seed(subject: SearcherUnderTest) -> None:
    """With the same seed and the same reports it proposes the same, whatever the global random generators have done;
    it leaves those as they are.
    """
    found: list[list[Any]] = []
    for noise in (1, 2):
        random.seed(noise)
        np.random.seed(noise)  # noqa: NPY002  the global generator is what is meant
        before = (random.getstate(), repr(np.random.get_state(legacy=False)))  # noqa: NPY002
        search = _Search(subject)
        found.append([])
        for turn in range(subject.trials):
            if (params := search.propose()) is None:
                break
            found[-1].append(search.start(params))
            if len(search.running) > 2:
                search.end(turn, ENDS[turn % len(ENDS)])
        after = (random.getstate(), repr(np.random.get_state(legacy=False)))  # noqa: NPY002
        hold(before == after, "draws from a global random generator")
    place = next((n for n, (a, b) in enumerate(zip(*found, strict=True)) if a != b), None)
    hold(place is None, f"trial {place}: {found[0][place or 0]}, then {found[1][place or 0]}")


def other_seeds_give_other_proposals(subject: SearcherUnderTest) -> None:
    """Searches with other seeds are other searches."""
    found = {json.dumps([subject.make(seed).propose(0)]) for seed in range(6)}
    hold(len(found) > 1, f"six seeds begin with the same proposal: {found}")


def leaves_what_it_is_given_as_it_is(subject: SearcherUnderTest) -> None:
    """Does not change the parameters and the settings that it is given."""
    settings, search = copy.deepcopy(subject.settings), _Search(subject)
    params = dict(search.propose() or {})
    kept = copy.deepcopy(params)
    search.start(params)
    search.end(0, "completed")
    search.propose()
    hold(params == kept, f"{kept} became {params}")
    hold(subject.settings == settings, f"the settings {settings} became {subject.settings}")


def takes_trials_that_it_did_not_propose(subject: SearcherUnderTest) -> None:
    """Takes start points, proposals that were withdrawn, and trials that end in any way, also all of them badly."""
    other = SearcherUnderTest({"kind": "random"}).make(1)
    for ends in (("failed",), ("diverged",), ("stopped",), ("completed", "diverged", "failed", "stopped")):
        search = _Search(subject)
        for turn in range(min(subject.trials, 8)):
            if turn % 3 == 1 and search.propose() is not None:
                search.searcher.withdraw(search.number)
            params = search.propose() if turn % 2 else other.propose(turn)
            if params is None:
                break
            search.start(params)
            search.end(0, ends[turn % len(ends)])


def says_how_many_are_left(subject: SearcherUnderTest) -> None:
    """`left` is None, or counts down by one with each trial, and at 0 a proposal is refused with InputError."""
    search = _Search(subject)
    left = search.searcher.left()
    for _ in range(5):
        if left is None or left == 0:
            break
        search.start(search.propose() or {})
        now = search.searcher.left()
        hold(now == left - 1, f"{left} were left, then {now} after one trial")
        left = now
    hold(left is None or left >= 0, f"{left} are left")
    if left == 0:
        try:
            search.searcher.propose(search.number)
        except InputError:
            return
        hold(False, "none is left, and it proposes one more")


CHECKS: tuple[Callable[[SearcherUnderTest], None], ...] = (
    proposes_points_of_the_space,
    has_no_state_but_what_it_was_told,
    proposes_the_same_for_the_same_seed,
    other_seeds_give_other_proposals,
    leaves_what_it_is_given_as_it_is,
    takes_trials_that_it_did_not_propose,
    says_how_many_are_left,
)
"""The clauses; the docstring of each says what must hold."""
