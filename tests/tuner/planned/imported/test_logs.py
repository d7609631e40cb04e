"""Logs of PER by step: tables in several forms, W&B's exports, and columns by name or by map."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces import InputError
from tests.tuner.planned.imported.conftest import ARGS, EPOCHS
from tuner.planned.imported.logs import parse_map
from tuner.planned.imported.reading import read_results

CSV = "iter,val_cer,loss\n100,0.9,3\n200,0.5,2\n300,0.4,1.5\n"


def curve(tables):
    return [(row["batch"], row["per"]) for row in tables.epochs]


def test_a_csv_with_a_map(tmp_path, write, imported):
    """`--map` names the columns; without settings every setting is empty and named."""
    write(tmp_path / "log.csv", CSV)
    tables = imported(tmp_path / "log.csv", columns="step=iter,per=val_cer,val_loss=loss")
    assert curve(tables) == [(100, 0.9), (200, 0.5), (300, 0.4)]
    assert [row["val_loss"] for row in tables.epochs] == [3, 2, 1.5]
    (trial,) = tables.trials
    assert trial["model_hidden"] is trial["schedule_kind"] is trial["training_batches"] is None
    assert {"model_hidden", "schedule_kind"} <= set(trial["assumed"].split(", "))
    assert (trial["status"], trial["decoder"]) == ("completed", None)
    assert "how long it was meant to run is not known" in trial["note"]


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "jsonl", "columns", "pandas", "parquet"])
def test_every_form_gives_the_same(form, tmp_path, write, imported):
    """CSV, TSV, a list of objects, JSON lines, an object of lists, pandas' JSON, Parquet: the usual names are found."""
    rows = [{"global_step": 10 * n, "val/PER": per} for n, per in enumerate([0.9, 0.5, 0.4], start=1)]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    path = tmp_path / f"curve.{'json' if form in ('columns', 'pandas') else form}"
    if form in ("csv", "tsv"):
        separator = "," if form == "csv" else "\t"
        lines = [separator.join(columns), *(separator.join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif form == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        pandas = {key: {str(n): value for n, value in enumerate(values)} for key, values in columns.items()}
        write(path, {"columns": columns, "pandas": pandas}.get(form, rows))
    assert curve(imported(path)) == [(10, 0.9), (20, 0.5), (30, 0.4)]


def test_the_settings_beside_a_log_or_given(tmp_path, write, imported):
    """A trainer's settings beside the log are its own; `--settings` takes a run of this program, or another file."""
    write(tmp_path / "a" / "log.csv", CSV)
    write(tmp_path / "a" / "config.json", {**ARGS, "nBatch": 300})
    found = read_results(tmp_path / "a", columns="step=iter,per=val_cer", settings="small").trials[0]
    assert (found.config.model.hidden, found.status) == (256, "completed")
    write(tmp_path / "b.csv", CSV)
    given = read_results(tmp_path / "b.csv", columns="step=iter,per=val_cer", settings="small").trials[0]
    assert given.unknown == () and given.config.model.hidden != 256
    write(tmp_path / "other.yaml", ARGS)
    other = read_results(tmp_path / "b.csv", columns="step=iter,per=val_cer", settings=str(tmp_path / "other.yaml"))
    assert other.trials[0].config.model.kernel == 24


def test_an_export_of_a_wandb_run(tmp_path, write, imported):
    """History and config.yaml of a run: `{value: x}` is x; `_step` counts calls, so each evaluation is an epoch; a row
    of training alone is none.
    """
    config = {
        name: {"desc": None, "value": value} for name, value in {**EPOCHS, "n_epochs": 3, "milestones": [2]}.items()
    }
    write(tmp_path / "run-7" / "config.yaml", {"wandb_version": 1, "_wandb": {"value": {"m": []}}, **config})
    history = "_step,_runtime,Parameter Count,train_ctc_Loss,ctc_loss,cer\n0,1.5,1000,,,\n"
    history += "".join(f"{n},{n * 60}.5,,{3 - n},{4 - n},{per}\n" for n, per in enumerate([0.9, 0.5, 0.4], start=1))
    write(tmp_path / "run-7" / "history.csv", history)
    tables = imported(tmp_path, utterances=1000)
    assert curve(tables) == [(32, 0.9), (64, 0.5), (96, 0.4)]
    assert [(row["val_loss"], row["train_loss"]) for row in tables.epochs] == [(3, 2), (2, 1), (1, 0)]
    (trial,) = tables.trials
    assert (trial["run"], trial["optimizer_kind"], trial["status"]) == ("run-7", "adamw", "completed")


def test_wandbs_step_is_batches_where_it_leaps(tmp_path, write, imported):
    """A trainer that gives W&B its own step has leaps in `_step`."""
    write(tmp_path / "h.csv", "_step,val_per\n0,0.9\n500,0.5\n1000,0.4\n")
    assert curve(imported(tmp_path / "h.csv")) == [(0, 0.9), (500, 0.5), (1000, 0.4)]


def test_a_chart_of_several_wandb_runs(tmp_path, write, imported):
    """A chart's CSV has a column for each run, and its least and greatest; each run is a trial."""
    write(
        tmp_path / "chart.csv",
        '"Step","calm-1 - val_per","calm-1 - val_per__MIN","calm-1 - val_per__MAX","wild-2 - val_per"\n'
        "0,0.9,0.9,0.9,0.95\n100,0.5,0.5,0.5,\n200,0.4,0.4,0.4,0.7\n",
    )
    trials = {row["run"]: row for row in imported(tmp_path / "chart.csv").trials}
    assert {name: (row["best_per"], row["epochs"]) for name, row in trials.items()} == {
        "calm-1": (0.4, 3),
        "wild-2": (0.7, 2),
    }


def test_a_log_that_begins_again_is_two_runs(tmp_path, write, imported):
    """As in a result folder: the second start does not overwrite the first one's best PER."""
    write(tmp_path / "log.csv", "step,per\n0,0.9\n100,0.3\n0,0.91\n")
    trials = imported(tmp_path / "log.csv").trials
    assert [(row["run"], row["best_per"]) for row in trials] == [("log", 0.3), ("log_restart1", 0.91)]
    assert "started again" in trials[1]["note"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no column is known as a PER; name it with --map per=NAME"),
        ("step,per\n", "has no rows"),
        ("step,per\n1,high\n", "no row has both a number in per and a step"),
        ('step,per\n1,"0.5', "unexpected end of data"),
        ("step,per\n1,\0\n", "null characters"),
    ],
)
def test_a_log_that_cannot_be_read_is_one_line(tmp_path, write, text, said):
    """The file, what is wrong, and what to do."""
    write(tmp_path / "log.csv", text)
    with pytest.raises(InputError) as caught:
        read_results(tmp_path / "log.csv")
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0] and "log.csv" in caught.value.problems[0]


def test_maps_are_checked():
    """A column that does not exist here, and a part without a name, are refused with the columns there are."""
    assert parse_map("step=a, per=b") == {"step": "a", "per": "b"}
    for text, said in (("pre=x", "per"), ("per", "has no name of a column"), ("per=", "has no name of a column")):
        with pytest.raises(InputError, match=said):
            parse_map(text)


def test_the_command_reads_a_log(tmp_path, write, cli):
    """`tuner results import log.csv --map ...` says what came in; a wrong column is one line with the nearest."""
    write(tmp_path / "log.csv", CSV)
    done = cli("results", "import", "log.csv", "--map", "step=iter,per=val_cer", cwd=tmp_path)
    assert "added 1 runs with 3 evaluations as results/studies/log" in done.out
    wrong = cli("results", "import", "log.csv", "--map", "per=val_cet", "--study", "x", cwd=tmp_path)
    assert (wrong.status, wrong.err.count("\n")) == (2, 1)
    assert "val_cer" in wrong.err
    rows = json.loads(cli("best", "log", "--format", "json", cwd=tmp_path).out)
    assert rows[0]["best_per"] == 0.4


def test_runs_of_which_nothing_is_known_are_no_replicates(tmp_path, write, imported, cli):
    """Two logs without settings are not one configuration with two seeds, and no setting of them has changed."""
    for name, last in (("a", 0.4), ("b", 0.2)):
        write(tmp_path / "lab" / f"{name}.csv", f"step,per\n100,0.9\n200,{last}\n")
    trials = imported(tmp_path / "lab").trials
    assert "model_hidden" in trials[0]["unknown"].split(", ")
    best = cli("best", "lab", "--results", "results", cwd=tmp_path).out
    assert "seeds" not in best.split("\n")[0] and "leads by 0.2" in best
    page = cli("changelog", "lab", "--results", "results", cwd=tmp_path).out
    assert "same configuration" not in page and "(was none)" not in page


def test_lightnings_csv_and_a_per_that_became_nan(tmp_path, write, imported):
    """metrics.csv has rows of training and of validation, hparams.yaml the settings; W&B's "NaN" is a divergence."""
    write(
        tmp_path / "lab" / "version_3" / "metrics.csv",
        "epoch,step,train_loss,val_per\n0,99,2.0,\n0,99,,0.9\n1,199,,0.5\n",
    )
    write(tmp_path / "lab" / "version_3" / "hparams.yaml", {**ARGS, "nBatch": 200})
    write(tmp_path / "lab" / "w" / "history.json", [{"step": 1, "per": 0.9}, {"step": 2, "per": "NaN"}])
    trials = {row["run"]: row for row in imported(tmp_path / "lab").trials}
    assert (trials["version_3"]["best_per"], trials["version_3"]["epochs"]) == (0.5, 2)
    assert (trials["version_3"]["model_hidden"], trials["version_3"]["status"]) == (256, "completed")
    assert trials["w"]["status"] == "diverged"
