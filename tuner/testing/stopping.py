"""The contract of a stopping rule: a kind in `search_spaces/stopping.py` with a function in `RULES`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from search_spaces import RunConfig
from search_spaces.stopping import Rule
from tuner.study.rules.rungs import places, read_rule
from tuner.study.rules.stopping import Curve, Decision, History, Point, decide, promotable
from tuner.testing.contracts import Clause, clauses, examples, hold

Pers = Sequence[Sequence[float]]
"""For each trial the PER of each of its epochs."""


@dataclass(frozen=True)
class RuleUnderTest:
    """A rule by its settings, for trials of nine epochs."""

    rule: Rule
    races: int

    @property
    def config(self) -> RunConfig:
        """What the trials run by: nine epochs of two batches."""
        schedule = {"kind": "one_cycle", "start_lr": 1e-4, "peak_lr": 3e-3, "end_lr": 1e-5}
        return RunConfig.model_validate({"schedule": schedule, "training": {"batches": 18, "batches_per_epoch": 2}})


def contract(rule: Rule | Mapping[str, Any], *, races: int = 25) -> list[Clause]:
    """The clauses for a rule; its kind must be in `RULES`. `races` are made up by Hypothesis for a clause."""
    subject = RuleUnderTest(read_rule(rule), races)
    return clauses(subject, f"stopping rule {subject.rule.kind}", CHECKS)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Step:
    """What happened in a race: an epoch with its decision, a promotion, or the end of a trial."""

    what: str
    trial: int
    point: Point | None = None
    decision: Decision = field(default_factory=Decision)


class _Race:
    """Trials that run two at a time under a rule; `history` is what the rule sees."""

    def __init__(self, subject: RuleUnderTest, pers: Pers) -> None:
        self.subject, self.pers = subject, pers
        self.history = History(subject.rule)
        self.steps: list[_Step] = []
        self.coming = list(range(len(pers)))
        self.running: list[int] = []

    def run(self, before: Callable[[_Race, int, Point], None] = lambda race, trial, point: None) -> Iterator[_Step]:
        """All that happens; `before` is called before each decision. Ends when nothing can go on."""
        limit = 20 * sum(map(len, self.pers)) + 20
        while self._fill():
            trial = self.running.pop(0)
            epoch = self.history.curves[trial].epoch + 1
            point = _point(epoch, self.pers[trial][epoch - 1])
            last = epoch >= len(self.pers[trial])
            if not last:
                before(self, trial, point)
            self.take(_Step("epoch", trial, point, Decision() if last else decide(self.history, trial, point)))
            yield self.steps[-1]
            decision = self.steps[-1].decision
            if last or decision.stop:
                self.take(_Step("end", trial, decision=decision))
            elif not decision.pause:
                self.running.append(trial)
            limit -= 1
            hold(limit > 0, "the race has no end: paused trials go on again and again without an epoch")

    def _fill(self) -> bool:
        while len(self.running) < 2:
            begun = {step.trial for step in self.steps if step.what == "epoch"}
            unheard = len(self.coming) + sum(trial not in begun for trial in self.running)
            again = promotable(self.history, unheard)
            if again is not None:
                hold(again in self.history.paused, f"names trial {again} to go on, which is not paused")
                self.take(_Step("promote", again))
                self.running.append(again)
            elif self.coming:
                trial = self.coming.pop(0)
                self.take(_Step("begin", trial))
                self.running.append(trial)
            else:
                break
        return bool(self.running)

    def take(self, step: _Step) -> None:
        """Record a step, as the study does."""
        self.steps.append(step)
        if step.what == "begin":
            self.history.begin(Curve.of_run(step.trial, self.subject.config))
        elif step.what == "promote":
            self.history.unpause(step.trial)
        elif step.what == "end":
            self.history.end(step.trial, stopped=step.decision.stop)
        elif step.point is not None:
            decision = "stop" if step.decision.stop else "pause" if step.decision.pause else "continue"
            compared = step.decision.rung is not None
            self.history.record(step.trial, step.point, decision, compared=compared, passed=step.decision.passed)


def _point(epoch: int, per: float) -> Point:
    """An epoch of a made-up trial: loss and raw PER go with the PER."""
    return Point(epoch, 2 * epoch, per, 3 * per, per, 1e-3)


def _races(subject: RuleUnderTest, check: Callable[[Pers], None]) -> None:
    """Call `check` with PERs made up by Hypothesis: few values, so that there are ties; NaN among them."""
    per = st.one_of(st.integers(1, 20).map(lambda n: n / 20), st.just(math.nan))
    curve = st.lists(per, min_size=9, max_size=9)

    @examples(subject.races)
    @given(st.lists(curve, min_size=1, max_size=9))
    def every(pers: Pers) -> None:
        check(pers)

    every()


def _seen(history: History) -> Any:
    """All that a history holds, to compare."""
    curves = {
        number: (curve.epoch, curve.best, curve.fails, curve.ended, repr(list(curve.points)))
        for number, curve in history.curves.items()
    }
    rungs = {key: (repr(rung.values), rung.paused, rung.stopped) for key, rung in history.rungs.items()}
    return curves, rungs, dict(history.paused), dict(history.leaders)


def is_a_function_of_the_history(subject: RuleUnderTest) -> None:
    """Asked twice it decides the same, and it changes nothing in the history."""

    def before(race: _Race, trial: int, point: Point) -> None:
        seen = _seen(race.history)
        first, second = (decide(race.history, trial, point) for _ in range(2))
        hold(first == second, f"trial {trial}, epoch {point.epoch}: {first}, then {second}")
        hold(_seen(race.history) == seen, f"trial {trial}, epoch {point.epoch}: the history was changed")

    def check(pers: Pers) -> None:
        for _ in _Race(subject, pers).run(before):
            pass

    _races(subject, check)


def decides_the_same_when_resumed(subject: RuleUnderTest) -> None:
    """With a history made anew from the log it decides, and promotes, as it did live."""

    def check(pers: Pers) -> None:
        race = _Race(subject, pers)

        def before(_: _Race, trial: int, point: Point) -> None:
            again = _Race(subject, pers)
            for step in race.steps:
                again.take(step)
            live, resumed = decide(race.history, trial, point), decide(again.history, trial, point)
            hold(live == resumed, f"trial {trial}, epoch {point.epoch}: {live} live, {resumed} resumed")
            promoted = (promotable(race.history, 0), promotable(again.history, 0))
            hold(promoted[0] == promoted[1], f"promotes trial {promoted[0]} live, {promoted[1]} resumed")

        for _ in race.run(before):
            pass

    _races(replace(subject, races=max(1, subject.races // 5)), check)


def acts_only_at_its_places(subject: RuleUnderTest) -> None:
    """Ends or pauses a trial only at the epochs that `places` names, all before the last one: there the best weights
    are saved.
    """

    def check(pers: Pers) -> None:
        race = _Race(subject, pers)
        for step in race.run():
            assert step.point is not None  # noqa: S101  for mypy: `run` yields epochs
            epoch, grid = step.point.epoch, race.history.curves[step.trial].grid
            named = set(places(subject.rule, grid))
            hold(all(1 <= each < grid.epochs for each in named), f"places {sorted(named)} of {grid.epochs} epochs")
            acts = step.decision.stop or step.decision.pause or step.decision.rung is not None
            hold(not acts or epoch in named, f"acts at epoch {epoch}, its places are {sorted(named)}")

    _races(subject, check)


def says_what_it_decides(subject: RuleUnderTest) -> None:
    """Stops or pauses, never both; a decision names its own epoch as the rung, whether the trial passed, and for a stop
    the reason in one line.
    """

    def check(pers: Pers) -> None:
        for step in _Race(subject, pers).run():
            assert step.point is not None  # noqa: S101  for mypy: `run` yields epochs
            made, epoch = step.decision, step.point.epoch
            hold(not (made.stop and made.pause), f"stops and pauses: {made}")
            hold(made.rung in (None, epoch), f"names epoch {made.rung} as the rung at epoch {epoch}")
            hold(made.rung is not None or made.passed is None, f"passed or not, without a rung: {made}")
            if made.stop or made.pause:
                hold(made.rung == epoch, f"acts without naming the rung: {made}")
            if made.stop:
                hold(made.reason and "\n" not in made.reason, f"stops without a reason in one line: {made}")
            hold(json.loads(json.dumps(made.reason)) == made.reason, f"the reason {made.reason!r} is no text")

    _races(subject, check)


def spares_who_is_alone_or_ahead(subject: RuleUnderTest) -> None:
    """Never stops a trial that nobody can be compared with, nor one that is ahead of all others at every epoch."""

    def check(pers: Pers) -> None:
        ahead = [[0.04 - epoch / 1000 for epoch in range(9)], *pers]
        for place, race in ((0, _Race(subject, ahead[:1])), (0, _Race(subject, ahead))):
            for step in race.run():
                alone = "is alone" if len(race.pers) == 1 else "is ahead of all others"
                hold(step.trial != place or not step.decision.stop, f"stops a trial that {alone}: {step.decision}")

    _races(subject, check)


def takes_what_is_not_a_number(subject: RuleUnderTest) -> None:
    """Decides, and counts as the worst, where a PER or a loss is missing or not a number."""
    race = _Race(subject, [[0.5] * 9] * 6)
    for step in race.run():
        del step
    history = race.history
    history.begin(Curve.of_run(99, subject.config))
    for epoch, odd in enumerate((None, math.nan, math.inf, 0.3), start=1):
        for point in (Point(epoch, 2 * epoch, odd), Point(epoch, 2 * epoch, 0.4, odd, odd, None)):
            hold(isinstance(decide(history, 99, point), Decision), f"gives no decision for {point}")
        history.record(99, Point(epoch, 2 * epoch, odd, odd, odd))


def lets_every_paused_trial_go_on(subject: RuleUnderTest) -> None:
    """Names only paused trials to go on, and every race comes to an end: what is then still paused may be stopped."""

    def check(pers: Pers) -> None:
        race = _Race(subject, pers)
        for _ in race.run():
            pass
        hold(promotable(race.history, 0) is None, "a trial could go on, and nobody was told")
        left = {trial for trial in race.history.curves if not race.history.curves[trial].ended}
        hold(left == set(race.history.paused), f"trials {sorted(left - set(race.history.paused))} neither end nor wait")

    _races(subject, check)


CHECKS: tuple[Callable[[RuleUnderTest], None], ...] = (
    is_a_function_of_the_history,
    decides_the_same_when_resumed,
    acts_only_at_its_places,
    says_what_it_decides,
    spares_who_is_alone_or_ahead,
    takes_what_is_not_a_number,
    lets_every_paused_trial_go_on,
)
"""The clauses; the docstring of each says what must hold."""
