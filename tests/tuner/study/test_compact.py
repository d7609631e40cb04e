"""What a driver keeps of thousands of trials is little, and says what the whole would."""

from __future__ import annotations

import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from search_spaces import RunConfig, load_run
from tuner.study.compact import KeptConfig, Series
from tuner.study.state import StudyState
from tuner.study.trial_state import TrialState

PER = st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3]))


def trial(number: int, config: RunConfig) -> TrialState:
    return TrialState(number=number, seed=0, origin="searched", params={}, kept=KeptConfig(config))


def test_a_packed_configuration_is_the_same() -> None:
    """Packed and asked for again, a configuration equals what it was, and stays packed."""
    config = load_run("run16_5").config
    kept = KeptConfig(config)
    kept.pack()
    assert kept.get() == config
    assert kept.get() is kept.get()


@given(st.dictionaries(st.integers(0, 2000), PER))
def test_a_series_reads_as_the_dictionary_that_it_was(values: dict[int, float | None]) -> None:
    """Epochs, PERs and those that are unknown, in their order."""
    series = Series(values)
    assert series == values
    assert list(series.items()) == list(values.items())
    assert list(series.values()) == list(values.values())
    assert all(item in series.items() for item in values.items())
    assert series.get(-1) is None and len(series) == len(values)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), PER)))
def test_the_leader_is_the_best_of_all_after_every_epoch(reports: list[tuple[int, int, float | None]]) -> None:
    """Also where epochs are repeated with another PER, a trial's best and the leader are those of a look at all."""
    config = load_run("small").config
    state = StudyState(searching=False)
    state.trials = {number: trial(number, config) for number in range(4)}
    for number, epoch, per in reports:
        one = state.trials[number]
        state._lead(one, one.record(epoch, per))
        best = {
            n: min((value, at) for at, value in t.pers.items() if value is not None)
            for n, t in state.trials.items()
            if any(value is not None for value in t.pers.values())
        }
        assert {n: t.best for n, t in state.trials.items() if t.best} == best
        assert (state.leader.number if state.leader else None) == min(best, key=lambda n: (best[n], n), default=None)


def test_a_trial_that_has_ended_takes_little_memory(toy) -> None:
    """Of trials of a few epochs that have ended, the driver holds under 12 KB each (66 KB before)."""
    study = toy.create("s", searcher={"kind": "random"}, budget={"trials": 240, "hours": None})

    def held(events: int) -> tuple[int, int]:
        toy.drive(study, events=events)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], study.state.ended_trials

    held(100)
    tracemalloc.start()
    try:
        before, trials = held(1)
        after, more = held(250)
    finally:
        tracemalloc.stop()
    assert more - trials > 60
    assert (after - before) / (more - trials) < 12_000
    assert study.state.ended_trials == sum(t.final for t in study.state.trials.values())
