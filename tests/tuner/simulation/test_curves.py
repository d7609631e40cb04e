"""Recorded curves are read from anyone's file and from our studies; what is wrong with them is said in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces import InputError
from tuner.simulation.audit import replay
from tuner.simulation.curves import check_rule, read_curves, rule_note

DOCS = Path(__file__).parents[3] / "docs" / "curves.md"
NONE = {"kind": "none"}
ASHA = {"kind": "asha", "grace": 1, "reduction": 2, "max_rungs": None}


def test_csv_and_parquet_of_the_same_rows_are_the_same_bank(banks: Any, tmp_path: Path) -> None:
    """Runs, epochs, horizons and the best PER do not depend on the file's format."""
    one = read_curves(banks.write(tmp_path / "c.csv", banks.rows()), tmp_path)
    pq.write_table(pa.Table.from_pylist(banks.rows()), tmp_path / "c.parquet")
    other = read_curves(tmp_path / "c.parquet", tmp_path)
    assert one.runs == other.runs
    assert [len(run.rows) for run in one.runs] == [4, 8] * 4
    assert [run.horizon for run in one.runs] == [40, 80] * 4
    assert [run.config.horizon for run in one.runs] == [40, 80] * 4
    assert [run.config.epochs for run in one.runs] == [4, 8] * 4
    assert one.best_per == 0.20
    assert one.stopped == 0


def test_three_columns_are_enough(banks: Any, tmp_path: Path) -> None:
    """trial, batch and per make a bank; the last batch is then the horizon, said once, and every run is whole."""
    table = [{key: row[key] for key in ("trial", "batch", "per")} for row in banks.rows()]
    bank = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    assert [run.horizon for run in bank.runs] == [40, 80] * 4
    assert bank.notes == (
        "there is no column horizon, so the last batch of each run that was not stopped counts as its horizon",
    )
    assert all(run.complete for run in bank.runs)
    assert bank.batches == 480


def test_a_per_that_is_no_number_ends_the_run(banks: Any, tmp_path: Path) -> None:
    """NaN, nothing and `diverged` all mean that the run diverged there; what comes after is not read."""
    table = banks.rows()
    table[1]["per"], table[13]["per"] = "nan", ""
    table = [row | {"diverged": str(row["trial"] == 3 and row["batch"] == 50).lower()} for row in table]
    bank = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    ends = {run.label: run.batches for run in bank.runs if run.diverged}
    assert ends == {"0": 20, "2": 20, "3": 50}
    assert all(run.complete for run in bank.runs)


def test_a_run_that_ends_before_its_horizon_was_stopped_unless_the_file_says_not(banks: Any, tmp_path: Path) -> None:
    """How it would have gone on is unknown: it does not set the best PER, and `whole` leaves it out."""
    table = [row for row in banks.rows() if row["trial"] != 3 or row["batch"] <= 70]
    bank = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    assert [run.label for run in bank.runs if not run.complete] == ["3"]
    assert bank.best_per == 0.22
    assert len(bank.whole().runs) == 7
    said = [row | {"stopped": "false"} for row in table]
    assert read_curves(banks.write(tmp_path / "d.csv", said), tmp_path).stopped == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: [{k: v for k, v in r.items() if k != "per"} for r in t],
            r"c.csv: has no column per; .* it has: trial",
        ),
        (lambda t: [r | {"per": "low"} if r is t[2] else r for r in t], r"c.csv: line 4: per: 'low' is not a number"),
        (lambda t: [*t[:3], t[2], *t[3:]], r"line 5: trial 0 has batch 30 twice; keep one row"),
        (lambda t: [t[1], t[0], *t[2:]], r"line 3: trial 0 goes from batch 20 back to 10; sort the rows"),
        (lambda t: t[:20], r"has 4 curves, too few to judge a rule; record 5 or more"),
        (lambda t: [r | {"batch": 10.5} if r is t[0] else r for r in t], r"line 2: batch: '10.5' is not allowed"),
        (lambda t: [r | {"seconds": -1} for r in t], r"line 2: seconds: '-1' is not allowed; give 0 or more"),
        (lambda t: [r | {"lr": "inf"} for r in t], r"line 2: lr: 'inf' is not allowed; give 0 or more"),
        (lambda t: [r | {"trial": ""} if r is t[0] else r for r in t], r"line 2: trial is empty"),
        (lambda t: [r | {"params": "rate 3"} for r in t], r"line 2: params: is not a JSON object"),
        (lambda t: [r | {"config": '{"lr": 1}'} for r in t], r"line 2: config: is not a configuration of this program"),
        (lambda t: [r | {"stopped": "perhaps"} for r in t], r"line 2: stopped: 'perhaps' is not allowed; give true or"),
        (lambda t: [r | {"per": ""} for r in t], r"no run reached its end with a PER"),
        (lambda t: [r | {"batch": 15} if r is t[0] else r for r in t], r"trial 0: is evaluated at batch 15 first and"),
    ],
    ids=[
        "column",
        "text",
        "twice",
        "order",
        "few",
        "fraction",
        "seconds",
        "rate",
        "name",
        "params",
        "config",
        "flag",
        "none",
        "grid",
    ],
)
def test_bad_curves_get_one_line(banks: Any, tmp_path: Path, change: Any, said: str) -> None:
    """The file, the line, what was found, and what to do."""
    path = banks.write(tmp_path / "c.csv", change(banks.rows()))
    with pytest.raises(InputError, match=said) as error:
        read_curves(path, tmp_path)
    assert len(error.value.problems) == 1


def test_files_that_are_none_get_one_line(tmp_path: Path) -> None:
    """A missing file, another kind of file, and a Parquet file that is none."""
    (tmp_path / "c.txt").write_text("trial,batch,per\n")
    (tmp_path / "c.parquet").write_text("trial,batch,per\n")
    for name, said in (("no.csv", "No such file"), ("c.txt", "neither .csv nor"), ("c.parquet", "cannot be read as P")):
        with pytest.raises(InputError, match=said):
            read_curves(tmp_path / name, tmp_path)


def test_runs_on_different_grids_can_be_brought_on_one(banks: Any, tmp_path: Path) -> None:
    """A rule at epochs refuses them and says how; --every keeps what they share, and the time of what is left out."""
    table = [row | {"seconds": 1.0} for row in banks.rows()]
    table = [row for row in table if row["trial"] != 3 or row["batch"] % 20 == 0]
    path = banks.write(tmp_path / "c.csv", table)
    bank = read_curves(path, tmp_path)
    check_rule(bank, NONE)
    check_rule(bank, {**ASHA, "at": "horizon", "grace": 0.25})
    with pytest.raises(InputError, match=r"epochs, which have 10 batches in one run and 20 .* --every 20"):
        check_rule(bank, ASHA)
    thin = read_curves(path, tmp_path, every=20)
    check_rule(thin, ASHA)
    assert [row["batch"] for row in thin.runs[1].rows] == [20, 40, 60, 80]
    assert [row["seconds"] for row in thin.runs[1].rows] == [2.0] * 4
    assert {run.config.training.batches_per_epoch for run in thin.runs} == {20}
    with pytest.raises(InputError, match="trial 3: has no epoch at each multiple of 30"):
        read_curves(path, tmp_path, every=30)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({**ASHA, "at": "horizon", "grace": 0.25}, "needs the horizon, which is not known; add a column"),
        ({**ASHA, "among": "horizon"}, "needs the horizon, which"),
        ({**ASHA, "metric": "per_raw"}, "compares per_raw, which was not recorded; add the column, or"),
        ({**ASHA, "metric": "either"}, "compares val_loss, which was not recorded; add the column, or"),
        ({**ASHA, "grace": 8}, "grace: 8 epochs is at or after the end of every run; the longest has 8 epochs"),
        ({"kind": "pbt"}, "changes settings during a run"),
    ],
)
def test_a_rule_that_the_curves_do_not_fit_is_refused(banks: Any, tmp_path: Path, rule: Any, said: str) -> None:
    """What the rule compares must have been recorded."""
    table = [{key: row[key] for key in ("trial", "batch", "per")} for row in banks.rows()]
    table = [row | {"stopped": str(row["trial"] == 0)} for row in table]  # of a stopped run no horizon is known
    bank = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    check_rule(bank, ASHA)
    with pytest.raises(InputError, match=said):
        check_rule(bank, rule)


def test_recorded_rates_are_the_schedule_where_every_row_has_one(banks: Any, tmp_path: Path) -> None:
    """`lr` stands for a configuration's schedule; with a gap in it a straight line to the horizon does."""
    table = [row | {"lr": 0.1 if row["batch"] < 40 else 0.01} for row in banks.rows()]
    bank = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    assert bank.runs[0].rates == ([10, 20, 30, 40], [0.1, 0.1, 0.1, 0.01])
    table[1]["lr"] = ""
    bank = read_curves(banks.write(tmp_path / "d.csv", table), tmp_path)
    assert bank.runs[0].rates is None
    assert bank.runs[0].config.schedule.kind == "linear"


def test_a_study_is_read_in_the_order_in_which_its_epochs_came(toy: Any) -> None:
    """Runs, configurations, parameters, what was stopped, and the arrival of two workers' reports."""
    study = toy.create("s", searcher={"kind": "random"})
    toy.drive(study, workers=2)
    study.close()
    bank = read_curves("s", toy.folder)
    states = study.state.trials
    assert [run.label for run in bank.runs] == [str(number) for number in states]
    for run, trial in zip(bank.runs, states.values(), strict=True):
        assert [row["per"] for row in run.rows] == list(trial.pers.values())
        assert (run.config, dict(run.params or {})) == (trial.config, trial.params)
        assert run.complete == (trial.status in ("completed", "diverged"))
    assert 0 < bank.stopped < 12
    assert bank.arrival[:3] == ((0, 1), (1, 1), (0, 2))
    assert sorted(bank.arrival) == [(i, row["epoch"]) for i, run in enumerate(bank.runs) for row in run.rows]
    assert bank.stopping is not None and bank.stopping["kind"] == "asha"


def test_the_export_that_the_page_shows_is_read_back(toy: Any, cli: Any) -> None:
    """docs/curves.md's query makes a file with the same curves, horizons and stops as the study itself."""
    study = toy.create("an4", searcher={"kind": "random"})
    toy.drive(study, workers=2)
    study.close()
    (sql,) = re.findall(r'tuner query "(.*?)" --out', DOCS.read_text(encoding="utf-8"), re.DOTALL)
    out = toy.folder / "curves.csv"
    assert cli("query", sql, "--out", out, "--results", toy.folder).status == 0
    ours, theirs = read_curves("an4", toy.folder), read_curves(out, toy.folder)
    for run, other in zip(ours.runs, theirs.runs, strict=True):
        assert [row["per"] for row in run.rows] == [row["per"] for row in other.rows]
        assert (run.horizon, run.complete, run.diverged) == (other.horizon, other.complete, other.diverged)


def test_the_page_s_example_has_the_columns_it_describes() -> None:
    """Each column of the example is in the table below it, and the needed ones are said to be."""
    text = DOCS.read_text(encoding="utf-8")
    example = re.findall(r"```csv\n(.*?)\n", text)[0].split(",")
    described = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    names = [name for cell in described for name in re.findall(r"`(\w+)`", cell)]
    assert set(example) <= set(names)
    assert re.findall(r"^\| `(\w+)` \|.*Required(?! with)", text, re.MULTILINE) == ["trial", "batch", "per"]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_two_columns_of_one_name_are_one_line(ending, tmp_path):
    """Which of them is meant nobody knows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"c{ending}"
    if ending == ".csv":
        path.write_text("trial,batch,per,per\n0,10,0.5,0.6\n")
    else:
        pq.write_table(pa.table([pa.array([1])] * 4, names=["trial", "batch", "per", "per"]), path)
    with pytest.raises(InputError, match="two columns have the name 'per'"):
        read_curves(path, tmp_path)


def test_a_row_at_batch_0_is_left_out(banks: Any, tmp_path: Path) -> None:
    """An evaluation before the first step belongs to no epoch; the runs are those without it."""
    table = banks.rows()
    first = [{**row, "batch": 0, "per": 1.0} for row in table if row["batch"] == 10]
    with_0 = sorted([*first, *table], key=lambda row: (row["trial"], row["batch"]))
    one = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    other = read_curves(banks.write(tmp_path / "c0.csv", with_0), tmp_path)
    assert other.runs == one.runs
    assert other.arrival == one.arrival


def test_rungs_by_area_fall_back_to_batches_where_no_rate_was_recorded(banks: Any, tmp_path: Path) -> None:
    """The note says so; with a column lr the recorded schedule counts, and nothing is said."""
    rule = {**ASHA, "at": "area", "grace": 0.5}
    plain = read_curves(banks.write(tmp_path / "c.csv", banks.rows()), tmp_path)
    assert "8 of 8 runs have no learning rates" in (rule_note(plain, rule) or "")
    rates = [row | {"lr": 0.0 if row["batch"] <= 20 else 1.0} for row in banks.rows()]
    known = read_curves(banks.write(tmp_path / "d.csv", rates), tmp_path)
    assert rule_note(known, rule) is None
    assert rule_note(plain, ASHA) is None
    stops = {bank.name: dict(replay(bank, {**rule, "reduction": 8}).stopped) for bank in (plain, known)}
    assert {batch for batch, _ in stops[plain.name].values()} == {20, 40}
    assert {batch for batch, _ in stops[known.name].values()} == {60}  # the short runs have half only at their end
