"""The best-config table where leaders were run again with fresh seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results.best import best
from results.confirmed import confirmations, confirmed


def write(root: Path, studies: Any, searched: dict[float, float], fresh: dict[int, list[float]], **ends: str) -> None:
    """A search `s` of {rate: PER}, and `s-confirm` of {trial: PERs, one a fresh seed}."""
    events, rates = [studies.started(study="s")], list(searched)
    for number, rate in enumerate(rates):
        config = studies.config(schedule_peak_lr=rate)
        status = ends.get(f"trial_{number}", "completed")
        events += studies.trial(number, [0.9, searched[rate]], config=config, status=status)
    studies.write_log(root / "s", events)
    events, number = [studies.started(study="s-confirm", space=None, confirms="s")], 0
    for trial, pers in fresh.items():
        for seed, per in enumerate(pers):
            made = studies.trial(
                number, [0.9, per], config=studies.config(schedule_peak_lr=rates[trial]), seed=1000 + seed,
                origin="replicate",
            )  # fmt: skip
            made[0]["parent"] = f"s/{trial}"
            events += made
            number += 1
    studies.write_log(root / "s-confirm", events)


def test_the_mean_over_fresh_seeds_ranks(tmp_path: Path, studies: Any) -> None:
    """The search's own PER takes no part in a mean; the lucky leader falls, and the note says by how much."""
    searched = {0.01: 0.20, 0.02: 0.24, 0.03: 0.30}
    write(tmp_path, studies, searched, {0: [0.29, 0.30, 0.31], 1: [0.24, 0.25, 0.26]})
    found = confirmed(tmp_path, ["s"])
    assert found is not None
    rows = found.table.to_pylist()
    assert [(row["study"], row["trial"]) for row in rows] == [("s", 1), ("s", 0), ("s", 2)]
    assert [row["mean"] for row in rows] == [pytest.approx(0.25), pytest.approx(0.30), None]
    assert [row["seeds"] for row in rows] == [3, 3, 0]
    assert [row["luck"] for row in rows] == [pytest.approx(0.01), pytest.approx(0.10), None]
    assert rows[0]["low"] == pytest.approx(0.25 - 4.303 * 0.01 / 3**0.5, abs=1e-4)
    assert "s/0, first in the search, was lucky: s/1 is 0.0500 better with new seeds" in found.notes[0]
    assert any(note.startswith("s/1 leads by 0.0500, more than chance explains") for note in found.notes)
    assert any("0.0550 higher than in the search (mean of 2 configurations)" in note for note in found.notes)


def test_one_study_and_all_studies_give_one_mean(tmp_path: Path, studies: Any) -> None:
    """`best` of all studies has a configuration once, by the mean of its new seeds; the chosen PER is none."""
    write(tmp_path, studies, {0.01: 0.20, 0.02: 0.24, 0.03: 0.5}, {0: [0.29, 0.31], 1: [0.25, 0.26]})
    one = confirmed(tmp_path, ["s"])
    assert one is not None
    every = best(tmp_path).table.to_pylist()
    assert [(row["study"], row["trial"]) for row in every] == [("s", 1), ("s", 0), ("s", 2)]
    means = {row["trial"]: (row["seeds"], row["mean"]) for row in one.table.to_pylist()[:2]}
    assert {row["trial"]: (row["seeds"], row["mean"]) for row in every[:2]} == means
    assert means[0] == (2, pytest.approx(0.30))


def test_a_longer_run_is_not_luck(tmp_path: Path, studies: Any) -> None:
    """A campaign confirms in longer runs than it searches in: the two PERs say nothing about luck."""
    short, long = studies.config(training_batches=90), studies.config(training_batches=438)
    studies.write_log(tmp_path / "s", [studies.started(study="s"), *studies.trial(0, [0.9, 0.38], config=short)])
    made = studies.trial(0, [0.9, 0.14], config=long, seed=1000, origin="replicate")
    made[0]["parent"] = "s/0"
    studies.write_log(tmp_path / "s-confirm", [studies.started(study="s-confirm", space=None, confirms="s"), *made])
    found = confirmed(tmp_path, ["s"])
    assert found is not None
    (row,) = found.table.to_pylist()
    assert (row["mean"], row["best_per"], row["luck"]) == (0.14, 0.38, None)
    assert not any("in the search (mean of" in note for note in found.notes)


@pytest.mark.parametrize(
    ("fresh", "said"),
    [
        ({0: [0.20, 0.21, 0.22], 1: [0.40, 0.41, 0.42]}, "s/0, first in the search, stays first with new seeds"),
        ({0: [0.20, 0.21, 0.22], 1: [0.21, 0.22, 0.23]}, "its lead of 0.0100 can be chance"),
        ({0: [0.21, 0.22, 0.23], 1: [0.20, 0.21, 0.22]}, "s/0, first in the search, does not stay first"),
    ],
)
def test_one_sentence_says_whether_the_leader_stays(
    tmp_path: Path, studies: Any, fresh: dict[int, list[float]], said: str
) -> None:
    """Ahead, ahead within luck, or overtaken within luck."""
    write(tmp_path, studies, {0.01: 0.20, 0.02: 0.24}, fresh)
    found = confirmed(tmp_path, ["s"])
    assert found is not None
    assert said in found.notes[0]


def test_either_name_gives_the_table(tmp_path: Path, studies: Any) -> None:
    """The search, its confirmation, or both names: the same means; only the search's name adds the other trials."""
    write(tmp_path, studies, {0.01: 0.20, 0.02: 0.24, 0.03: 0.3}, {1: [0.24, 0.26], 0: [0.2, 0.21]})
    tables = [confirmed(tmp_path, names) for names in (["s"], ["s-confirm"], ["s", "s-confirm"])]
    first, second, both = (found.table.to_pylist() for found in tables if found is not None)
    assert first == both
    assert first[:2] == second
    assert len(first) == 3
    assert confirmations(tmp_path, "s") == ["s-confirm"]


def test_a_stopped_leader_has_no_luck_to_speak_of(tmp_path: Path, studies: Any) -> None:
    """A trial that was stopped early had less training than its replicates: what they differ by is not luck."""
    write(tmp_path, studies, {0.01: 0.30, 0.02: 0.20}, {0: [0.1, 0.2], 1: [0.3, 0.31]}, trial_0="stopped")
    found = confirmed(tmp_path, ["s"])
    assert found is not None
    rows = {row["trial"]: row for row in found.table.to_pylist()}
    assert rows[0]["luck"] is None
    assert rows[1]["luck"] == pytest.approx(0.105)
    assert rows[0]["note"] == "confirmed; stopped at epoch 2"


def test_two_confirmations_are_pooled(tmp_path: Path, studies: Any) -> None:
    """Further seeds in a second study count with the first ones."""
    write(tmp_path, studies, {0.01: 0.20}, {0: [0.2, 0.3]})
    text = (tmp_path / "s-confirm" / "events.jsonl").read_text()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "events.jsonl").write_text(
        text.replace("s-confirm", "more").replace('"seed":100', '"seed":200')
    )
    found = confirmed(tmp_path, ["s"])
    assert found is not None
    assert found.table.to_pylist()[0]["seeds"] == 4


def test_without_fresh_seeds_there_is_no_such_table(tmp_path: Path, studies: Any) -> None:
    """A study that nobody confirmed, and one whose replicates have not ended, are ranked as ever."""
    write(tmp_path, studies, {0.01: 0.20}, {})
    assert confirmed(tmp_path, ["s"]) is None
    studies.write_log(tmp_path / "other", [studies.started(study="other"), *studies.trial(0, [0.5])])
    assert confirmed(tmp_path, ["other"]) is None
    assert best(tmp_path, ["s"]).table.num_rows == 1


def test_open_seeds_are_said(tmp_path: Path, studies: Any) -> None:
    """While some fresh seeds have not ended, a note says so and how to go on."""
    write(tmp_path, studies, {0.01: 0.20}, {0: [0.2, 0.3]})
    more = studies.trial(7, [0.9], config=studies.config(schedule_peak_lr=0.01), origin="replicate", ended=False)
    more[0]["parent"] = "s/0"
    with (tmp_path / "s-confirm" / "events.jsonl").open("a") as log:
        import json

        log.writelines(json.dumps({**event, "seq": 99 + i, "time": 2e9}) + "\n" for i, event in enumerate(more))
    found = confirmed(tmp_path, ["s"])
    assert found is not None
    assert "trials with new seeds that have not ended: 1; continue with: tuner resume s-confirm" in found.notes
    assert found.table.to_pylist()[0]["seeds"] == 2
