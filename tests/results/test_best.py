"""The best-config table: order, what is shown, and when a lead is no lead."""

from __future__ import annotations

import math
import re
import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from results.best import best
from results.columns import short_headers, varying
from search_spaces.errors import InputError


def seeded(studies: Any, pers: dict[float, list[float]], **fields: Any) -> list[dict[str, Any]]:
    """A study in which each peak_lr was run with several seeds, each trial's best PER given; curves at rest."""
    events, number = [studies.started(**fields)], 0
    for lr, values in pers.items():
        for seed, per in enumerate(values):
            config = studies.config(schedule_peak_lr=lr)
            events += studies.trial(
                number, [0.9, *[per] * 8], config=config, seed=seed, origin="replicate" if seed else "searched"
            )
            number += 1
    return events


def test_the_table(results_dir: Path) -> None:
    """Lowest best_per first, over all studies, with the columns that vary and a note where something is unusual.

    beta/0, interrupted, has the configuration of alpha/0, which has its row already.
    """
    answer = best(results_dir)
    rows = answer.table.to_pylist()
    assert [(row["rank"], row["study"], row["trial"], row["best_per"]) for row in rows] == [
        (1, "alpha", 2, 0.3),
        (2, "alpha", 0, 0.4),
        (3, "alpha", 1, 0.6),
    ]
    assert [row["note"] for row in rows] == ["", "", "stopped at epoch 2"]
    assert "1 more trial of configurations that have a row already" in answer.notes
    assert (rows[0]["best_epoch"], rows[0]["last_per"], rows[0]["epochs"]) == (2, 0.35, 3)
    configuration = [name for name in answer.table.column_names if "_" in name and name in answer.headers]
    assert {"model_hidden", "schedule_kind", "schedule_peak_lr"} <= set(configuration)
    assert "optimizer_eps" not in answer.table.column_names
    assert "not ranked, without best_per: 1 diverged" in answer.notes


def test_the_terminal_table_is_short(results_dir: Path) -> None:
    """Short headers, 4 digits, no column that says nothing; the notes stand beneath."""
    text = best(results_dir, ["alpha"], top=2).render(width=120)
    head = text.splitlines()[0].split()
    assert head[:3] == ["rank", "trial", "best_per"]
    assert {"peak_lr", "schedule"} <= set(head)
    assert "hidden" not in head  # the same in both rows
    assert "0.3000" in text
    assert text.splitlines()[-1].startswith(("alpha/2 leads", "a tie", "not ranked"))


@pytest.mark.parametrize(("gpus", "shown"), [((0.0, 0.0), False), ((5.0, 0.0), True), ((5.0, 6.0), True)])
def test_the_terminal_has_the_time_on_a_card_if_any_trial_had_one(
    tmp_path: Path, studies: Any, gpus: tuple[float, float], shown: bool
) -> None:
    """And that on CPUs, which trials have; status and origin are in the note where they are unusual."""
    events = [studies.started()]
    for n, gpu in enumerate(gpus):
        events += studies.trial(n, [0.5 - 0.1 * n], gpu_seconds=gpu, config=studies.config(model_hidden=64 + n))
    studies.write_log(tmp_path / "a", events)
    head = best(tmp_path).render(width=200).splitlines()[0].split()
    assert ("gpu_s" in head, "cpu_s" in head) == (shown, True)
    assert not {"status", "origin", "note", "study"} & set(head)
    assert {"gpu_seconds", "cpu_seconds", "status", "origin"} <= set(best(tmp_path).table.column_names)


def test_top_where_and_studies(results_dir: Path) -> None:
    """`top` cuts, `where` is SQL on the trials table, `studies` chooses."""
    assert best(results_dir, top=1).table["trial"].to_pylist() == [2]
    assert best(results_dir, where="status = 'stopped' OR epochs = 2").table["best_per"].to_pylist() == [0.55, 0.6]
    assert best(results_dir, ["beta"]).table["study"].to_pylist() == ["beta"]
    assert best(results_dir, where="best_per < 0").notes == ["no trials meet the condition"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"by": "best_pre"}, "by: there is no column 'best_pre'; did you mean best_per?"),
        ({"by": "status"}, "by: status has string values"),
        ({"by": "best_per down"}, "by: 'best_per down' is not allowed"),
        ({"group_by": "schedule"}, "group_by: there is no column 'schedule'; did you mean schedule_kind?"),
        ({"pareto": "best_per,gpu_second"}, "by: there is no column 'gpu_second'; did you mean gpu_seconds?"),
        ({"columns": ["modle_hidden"]}, "columns: there is no column 'modle_hidden'; did you mean model_hidden?"),
        ({"where": "best_pr < 1"}, "where: there is no column 'best_pr'; did you mean best_per?"),
        ({"where": "1 = 1); COPY trials TO 'x'; SELECT (1"}, "where: SELECT and COPY and SELECT was given"),
        ({"where": "trial IN (SELECT 1 FROM read_csv('x'))"}, "where: the table function read_csv is not allowed"),
        ({"top": 0}, "top: 0 is not allowed"),
    ],
)
def test_mistakes_are_one_line(results_dir: Path, options: dict[str, Any], line: str) -> None:
    """A wrong name, order, condition or number raises InputError with one line."""
    with pytest.raises(InputError) as caught:
        best(results_dir, **options)
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


def test_a_condition_may_end_in_a_comment(results_dir: Path) -> None:
    """A trailing SQL comment in `where` does not swallow what comes after it."""
    assert best(results_dir, where="best_per < 0.35 -- the good ones").table.num_rows == 1


def test_by_another_column(results_dir: Path) -> None:
    """`by` takes any numeric column, `desc` the highest first."""
    assert best(results_dir, ["alpha"], by="last_per").table["trial"].to_pylist() == [2, 0, 1]
    assert best(results_dir, ["alpha"], by="last_per desc").table["trial"].to_pylist() == [1, 0, 2]
    assert best(results_dir, ["alpha"], by="epochs DESC", top=1).table["epochs"].to_pylist() == [3]


def test_group_by(results_dir: Path) -> None:
    """The best trial of each value, with the number of trials it was chosen from."""
    rows = best(results_dir, ["alpha"], group_by="schedule_kind").table.to_pylist()
    assert [(row["schedule_kind"], row["trial"], row["trials"]) for row in rows] == [
        ("one_cycle", 2, 1),
        ("linear", 0, 2),
    ]


def test_pareto(tmp_path: Path, studies: Any) -> None:
    """The front keeps what no other trial beats in all targets: ties stay, dominated trials go."""
    costs = {0: (0.3, 9.0), 1: (0.4, 5.0), 2: (0.45, 5.0), 3: (0.5, 1.0), 4: (0.5, 1.0), 5: (0.6, 2.0)}
    events = [studies.started()]
    for number, (per, seconds) in costs.items():
        events += studies.trial(number, [per], cpu_seconds=seconds)
    studies.write_log(tmp_path / "a", events)
    answer = best(tmp_path, pareto="best_per, cpu_seconds")
    assert answer.table["trial"].to_pylist() == [0, 1, 3, 4]
    assert any("4 of 6 trials" in note for note in answer.notes)
    assert best(tmp_path, pareto="best_per,cpu_seconds desc").table["trial"].to_pylist() == [0]


def test_columns_may_be_chosen(results_dir: Path) -> None:
    """Named columns and patterns take the place of the ones that vary."""
    names = best(results_dir, columns=["optimizer_*", "started"]).table.column_names
    assert names[-3:] == ["optimizer_kind", "optimizer_eps", "started"]
    assert "model_hidden" not in names


def test_seeds_give_one_row_with_an_interval(tmp_path: Path, studies: Any) -> None:
    """Trials that differ only in their seed have one rank: that of their mean, with its 95% interval."""
    draws = [0.20, 0.22, 0.21, 0.23]
    studies.write_log(tmp_path / "a", seeded(studies, {0.01: draws, 0.02: [0.213], 0.03: [0.4]}))
    answer = best(tmp_path)
    rows = answer.table.to_pylist()
    half = 3.182446 * statistics.stdev(draws) / math.sqrt(4)
    assert [(row["trial"], row["seeds"]) for row in rows] == [(4, 1), (0, 4), (5, 1)]
    assert rows[1]["mean"] == pytest.approx(0.215)
    assert (rows[1]["low"], rows[1]["high"]) == (pytest.approx(0.215 - half), pytest.approx(0.215 + half))
    assert rows[0]["mean"] is None
    assert "3 more trials of configurations that have a row already" in answer.notes
    assert best(tmp_path, by="last_per desc").table.num_rows == 6  # trials, not configurations


def test_stopped_and_repeated_runs_are_no_draws(tmp_path: Path, studies: Any) -> None:
    """A stopped replicate says nothing about luck at full length, and the same seed twice is one draw."""
    events = seeded(studies, {0.01: [0.20, 0.22]})
    events += studies.trial(2, [0.8], config=studies.config(schedule_peak_lr=0.01), seed=2, status="stopped")
    events += studies.trial(3, [0.20], config=studies.config(schedule_peak_lr=0.01), seed=0)
    studies.write_log(tmp_path / "a", events)
    (row,) = best(tmp_path).table.to_pylist()
    assert (row["trial"], row["seeds"], row["mean"]) == (0, 2, pytest.approx(0.21))


def test_a_tie_is_called_by_the_published_spread(tmp_path: Path, studies: Any) -> None:
    """Without replicates two runs closer than 0.0036 at PER 0.2046 are a tie (the published s.d. is 0.0013)."""
    studies.write_log(
        tmp_path / "a", seeded(studies, {0.01: [0.2046], 0.02: [0.2046 + 0.0035], 0.03: [0.2046 + 0.0037]})
    )
    (tie,) = [note for note in best(tmp_path).notes if note.startswith("a tie")]
    assert "a tie with a/0: a/1 " in tie
    assert "a/2" not in tie
    assert "seed s.d. 0.0013, from the model for 24,700 phonemes" in tie


def test_a_small_validation_set_widens_the_tie(tmp_path: Path, studies: Any) -> None:
    """Where the data says how few phonemes validate, the assumed spread is that much larger."""
    data = {"fingerprint": "f", "val_phonemes": 2470}
    studies.write_log(tmp_path / "a", seeded(studies, {0.01: [0.2046], 0.02: [0.2046 + 0.010]}, data=data))
    assert any("a tie" in note and "0.0041" in note and "2,470 phonemes" in note for note in best(tmp_path).notes)


def test_a_clear_lead_is_said(tmp_path: Path, studies: Any) -> None:
    """A lead beyond the margin is called one, with its size."""
    studies.write_log(tmp_path / "a", seeded(studies, {0.01: [0.20], 0.02: [0.25]}))
    assert any(note.startswith("a/0 leads by 0.0500, more than chance explains") for note in best(tmp_path).notes)


def test_measured_spread_replaces_the_assumed(tmp_path: Path, studies: Any) -> None:
    """With enough replicates the margin comes from them: a lead that would count at s.d. 0.0013 is a tie at 0.02."""
    wide = [0.20, 0.24, 0.22, 0.18, 0.21]
    studies.write_log(tmp_path / "a", seeded(studies, {0.01: wide, 0.02: [0.215]}))
    (tie,) = [note for note in best(tmp_path).notes if note.startswith("a tie")]
    assert "measured on this data: 1 configuration with several seeds at PER 0.21, 4 degrees of freedom" in tie


@pytest.mark.parametrize(
    ("seeds", "ties"),
    [
        ({0.01: [0.20, 0.24, 0.22, 0.18, 0.21], 0.02: [0.215], 0.03: [0.9]}, [("a", 5)]),
        ({0.01: [0.19, 0.29, 0.28], 0.02: [0.20, 0.201, 0.202]}, [("a", 0)]),  # the mean of a/3 leads, a/0 is tied
        ({0.01: [0.20], 0.02: [0.25]}, []),
    ],
)
def test_ties_are_what_the_note_calls_a_tie(tmp_path: Path, studies: Any, seeds: Any, ties: Any) -> None:
    """`ties` has the trials of the note, the leader by the mean among them, less the one in the first row."""
    studies.write_log(tmp_path / "a", seeded(studies, seeds))
    answer = best(tmp_path, top=1)
    assert answer.ties == ties
    first = f"a/{answer.table['trial'].to_pylist()[0]}"
    named = [set(re.findall(r"a/\d+", note)) - {first} for note in answer.notes if note.startswith("a tie")]
    assert named == ([{f"{study}/{trial}" for study, trial in ties}] if ties else [])


def test_the_margin_counts_the_seeds_of_both_and_the_degrees_of_freedom(tmp_path: Path, studies: Any) -> None:
    """Four seeds against one: Student's t with 3 degrees of freedom (3.18) times s.d. * sqrt(1/4 + 1/1)."""
    draws = [0.20, 0.24, 0.22, 0.18]
    studies.write_log(tmp_path / "a", seeded(studies, {0.01: draws, 0.02: [0.25]}))
    margin = 3.182446 * statistics.stdev(draws) * math.sqrt(1 / 4 + 1)
    (tie,) = [note for note in best(tmp_path).notes if note.startswith("a tie")]
    assert f"(differences below {margin:.4f} can be chance; " in tie
    assert "3 degrees of freedom" in tie


def test_two_degrees_of_freedom_are_too_few_to_measure_the_spread(tmp_path: Path, studies: Any) -> None:
    """Three seeds of one configuration: the spread is still the assumed one, and a note says how to measure it."""
    studies.write_log(tmp_path / "a", seeded(studies, {0.01: [0.20, 0.24, 0.22], 0.02: [0.30]}))
    (lead,) = [note for note in best(tmp_path).notes if "leads by" in note]
    assert "from the model for 24,700 phonemes, times" in lead
    assert "because of the repeats that there are; 'tuner confirm' measures it" in lead


def test_the_luckiest_seed_does_not_hide_a_better_mean(tmp_path: Path, studies: Any) -> None:
    """The configuration with the better mean is first, not the one that has one lucky seed."""
    studies.write_log(tmp_path / "a", seeded(studies, {0.01: [0.19, 0.29, 0.28], 0.02: [0.20, 0.201, 0.202]}))
    rows = best(tmp_path).table.to_pylist()
    assert [(row["trial"], row["seeds"]) for row in rows] == [(3, 3), (0, 3)]


def test_different_data_sets_are_never_in_one_ranking(tmp_path: Path, studies: Any) -> None:
    """The data set of the study begun last is ranked, or of the one named first; a note names the others."""
    for name in ("a", "b"):
        data = {"fingerprint": name, "name": f"set {name}"}
        studies.write_log(tmp_path / name, [studies.started(data=data), *studies.trial(0, [0.5], seed=len(name))])
    answer = best(tmp_path)
    assert answer.table["study"].to_pylist() == ["b"]
    assert answer.notes[0].startswith("only trials on the data set set b are ranked; 1 on other data")
    assert "tuner best a" in answer.notes[0]
    assert best(tmp_path, ["a", "b"]).table["study"].to_pylist() == ["a"]
    assert best(tmp_path, by="epochs").table.num_rows == 2  # no PER: nothing to keep apart
    assert best(tmp_path, pareto="best_per,epochs").table["study"].to_pylist() == ["b"]


def test_a_trial_that_did_not_end_is_not_compared(tmp_path: Path, studies: Any) -> None:
    """A running trial may be first in the table; the verdict is between those that ended, and says so."""
    events = [studies.started(), *studies.trial(0, [0.9, 0.5, 0.3], config=studies.config(model_hidden=64))]
    events += studies.trial(1, [0.8, 0.4, 0.35], config=studies.config(model_hidden=32))
    events += studies.trial(2, [0.2, 0.15], status="stopped")
    studies.write_log(tmp_path / "a", events)
    notes = best(tmp_path).notes
    assert "not compared with the others, because they did not run to their end: a/2 (stopped at epoch 2)" in notes[0]
    assert "tuner compare a/2 a/0" in notes[0]
    assert notes[1].startswith("a/0 leads by 0.0500, more than chance explains")
    studies.write_log(tmp_path / "a", [event for event in events if event.get("trial") != 1])
    assert best(tmp_path).notes[1] == "no verdict: 1 of 2 configurations ran to their end; it needs two"


def test_only_failures(tmp_path: Path, studies: Any) -> None:
    """A study of failures, and one without trials, give an empty table and say why."""
    studies.write_log(tmp_path / "a", [studies.started(), *studies.trial(0, [], status="failed", error="x")])
    assert best(tmp_path).notes == ["not ranked, without best_per: 1 failed"]
    assert best(tmp_path).table.num_rows == 0
    studies.write_log(tmp_path / "a", [studies.started()])
    assert best(tmp_path).notes == ["no trials yet"]
    assert "(no rows)" in best(tmp_path).render()


def test_nulls_that_the_kind_implies_do_not_vary() -> None:
    """A key that another kind does not have is no difference; a null that is a choice is one."""
    rows = [
        {"opt_kind": "adam", "opt_eps": 0.1, "opt_momentum": None, "model_cap": None, "model_same": 1},
        {"opt_kind": "sgd", "opt_eps": None, "opt_momentum": 0.9, "model_cap": 5, "model_same": 1},
    ]
    assert varying(pa.Table.from_pylist(rows)) == ["opt_kind", "model_cap"]
    rows.append({**rows[0], "opt_eps": 0.2})
    assert varying(pa.Table.from_pylist(rows)) == ["opt_kind", "opt_eps", "model_cap"]


def test_short_headers_stay_unambiguous() -> None:
    """A section's prefix goes where no other column would get the same header, or a fixed column's."""
    names = ["schedule_kind", "averaging_kind", "model_x", "augmentation_x", "schedule_peak_lr", "data_seed"]
    assert short_headers(names) == {
        "schedule_kind": "schedule",
        "averaging_kind": "averaging",
        "model_x": "model_x",
        "augmentation_x": "augmentation_x",
        "schedule_peak_lr": "peak_lr",
        "data_seed": "data_seed",
    }
