"""`import tuner`, and studies that are there: what `tuner.open` gives, as scripts and notebooks see it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import tuner
from results.store.remote import Known, StoreMirror, open_store, working_folder
from search_spaces import RunConfig

HEAVY = ("torch", "ray", "optuna", "pyarrow", "duckdb", "pandas", "numpy", "pydantic", "rich", "click")


@pytest.fixture
def study(toy):
    """A study of twelve trials that has ended."""
    made = toy.create("toy")
    toy.drive(made)
    made.interrupt("budget")
    return tuner.open("toy", results=toy.folder)


def loaded(code: str) -> set[str]:
    """The packages of `HEAVY` that a fresh Python has loaded after `code`."""
    line = f"{code}\nimport sys, json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_tuner_loads_nothing_heavy():
    """`import tuner` and a look at its names load none of the packages that are slow; `tuner.cli` only click."""
    assert loaded("import tuner; dir(tuner)") == set()
    assert loaded("import tuner.cli") == {"click"}


def test_looking_at_a_study_loads_neither_torch_nor_ray_nor_optuna(study):
    """`tuner.open` and what it is asked for need the tables alone."""
    code = f"import tuner; s = tuner.open('toy', results={str(study.folder.parent)!r}); s.best.config, s.ties, repr(s)"
    assert not loaded(code) & {"torch", "ray", "optuna", "click"}


def test_the_names_of_the_package_are_there_and_no_others():
    """Every name of `__all__` can be had, `dir` lists it, and another is an AttributeError."""
    assert set(tuner.__all__) <= set(dir(tuner))
    assert all(getattr(tuner, name) is not None for name in tuner.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        tuner.serach  # noqa: B018


def test_the_best_trial_is_that_of_the_command(study, toy, cli):
    """`best` is rank 1 of `tuner best`, with its PER, epoch, configuration and curve."""
    first = json.loads(cli("best", "toy", "--results", toy.folder, "--format", "json").out)[0]
    best = study.best
    assert (best.number, best.per, best.best_epoch) == (first["trial"], first["best_per"], first["best_epoch"])
    assert (best.name, best.study, best.status) == (f"toy/{best.number}", "toy", first["status"])
    assert isinstance(best.config, RunConfig)
    assert best.config.schedule.peak_lr == pytest.approx(first["schedule_peak_lr"])
    assert min(row["per"] for row in best.curve) == best.per
    assert best.curve.to_dicts()[0]["epoch"] == 1
    assert {row["trial"] for row in best.curve} == {best.number}
    assert best.checkpoint is None  # this study was driven without workers
    assert set(best.params) <= {dimension.name for dimension in toy.space.dimensions}


def test_ties_are_those_that_the_command_names(toy, cli):
    """Trials whose PERs are nearly the same are `ties`, and `tuner best` names the same ones; one far off is none."""
    made = toy.create("toy", stopping={"kind": "none"}, budget={"trials": 3, "hours": None})
    for per in (0.3, 0.3001, 0.6):
        job = made.ask()
        for epoch in range(1, job.config.epochs + 1):
            made.report(job.trial, job.attempt, toy.curve(job.config, epoch) | {"per": per, "diverged": False})
    study = tuner.open("toy", results=toy.folder)
    assert study.best.name == "toy/0"
    assert [trial.name for trial in study.ties] == ["toy/1"]
    (note,) = study.notes
    assert note.startswith("a tie with toy/0: toy/1 ")
    assert note in cli("best", "toy", "--results", toy.folder).out.replace("\n", " ")


def test_a_leader_has_no_ties(toy):
    """Where the best trial leads by more than chance explains, `ties` is empty."""
    made = toy.create("toy", stopping={"kind": "none"}, budget={"trials": 2, "hours": None})
    for per in (0.3, 0.6):
        job = made.ask()
        for epoch in range(1, job.config.epochs + 1):
            made.report(job.trial, job.attempt, toy.curve(job.config, epoch) | {"per": per, "diverged": False})
    assert tuner.open("toy", results=toy.folder).ties == []


def test_tables_open_in_pandas_polars_and_arrow(study):
    """Each table opens in one call, by Arrow's stream too, with the same rows; it is as long as it has rows."""
    for table in (study.trials, study.epochs, study.query("select trial, best_per from trials order by 2")):
        pandas, polars, arrow = table.to_pandas(), table.to_polars(), table.to_arrow()
        assert isinstance(pandas, pd.DataFrame)
        assert isinstance(polars, pl.DataFrame)
        assert isinstance(arrow, pa.Table)
        assert len(table) == len(pandas) == len(polars) == arrow.num_rows > 0
        assert table.columns == list(pandas.columns) == polars.columns == arrow.column_names
        assert list(table) == table.to_dicts() == polars.to_dicts()
        assert pl.DataFrame(table).equals(polars)
    assert len(study.trials) == 12


def test_a_query_sees_this_study_alone_and_only_reads(study, toy):
    """Other studies of the folder are not in the tables, and what is no SELECT is refused in a line."""
    other = toy.create("other")
    toy.drive(other)
    assert study.query("select distinct study from trials").to_dicts() == [{"study": "toy"}]
    with pytest.raises(tuner.InputError, match="only one SELECT over the tables"):
        study.query("drop table trials")
    with pytest.raises(tuner.InputError, match="no column 'best_pre'; did you mean best_per"):
        study.query("select best_pre from trials")


def test_a_running_study_is_seen_as_it_grows(toy):
    """The same object shows the epochs that came since it was last asked."""
    made = toy.create("toy")
    study = tuner.open("toy", results=toy.folder)
    with pytest.raises(tuner.InputError, match="no trial has a PER yet"):
        study.best  # noqa: B018
    assert "no PER yet" in repr(study)
    job = made.ask()
    made.report(job.trial, job.attempt, toy.curve(job.config, 1))
    assert len(study.epochs) == 1
    assert study.best.number == 0


def test_a_name_that_is_no_study_is_one_line_with_the_nearest(study, toy):
    """`open` names the nearest study, `trial` what there is; what is no name at all is said."""
    with pytest.raises(tuner.InputError) as error:
        tuner.open("tyo", results=toy.folder)
    assert str(error.value) == f"{toy.folder}: there is no study 'tyo'; did you mean toy?"
    with pytest.raises(tuner.InputError, match="toy: there is no trial '99'; the trials are 0 to 11"):
        study.trial(99)
    with pytest.raises(tuner.InputError, match="study: 3 is not allowed; give the name of a study"):
        tuner.open(3)
    assert study.trial(2).number == study.trial("2").number == 2


def test_studies_are_found_where_the_command_line_finds_them(study, toy, monkeypatch, tmp_path):
    """`results` wins over TUNER_RESULTS, which wins over results/studies; `studies` lists all by name."""
    toy.create("other")
    assert [one.name for one in tuner.studies(toy.folder)] == ["other", "toy"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNER_RESULTS", raising=False)
    with pytest.raises(tuner.InputError, match="results/studies: is not a results folder"):
        tuner.studies()
    monkeypatch.setenv("TUNER_RESULTS", str(toy.folder))
    assert tuner.open("toy").folder == study.folder
    with pytest.raises(tuner.InputError, match="nowhere"):
        tuner.studies(tmp_path / "nowhere")


def test_a_study_in_an_object_store_opens_by_its_uri(study, tmp_path, monkeypatch):
    """`results` takes the URI of a store, as --results does, and brings the study here."""
    uri = (tmp_path / "bucket").as_uri()
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "another machine"))
    here = working_folder(uri) / "toy"
    shutil.copytree(study.folder, here)
    StoreMirror(open_store(uri), here, Known.load(here)).push()
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    found = tuner.open("toy", results=uri)
    assert tmp_path / "cache" in found.folder.parents
    assert found.best.per == study.best.per
    assert [one.name for one in tuner.studies(uri)] == ["toy"]


def test_a_study_of_the_version_before_opens():
    """A log that was written by the version before answers as it did then."""
    fixture = Path(__file__).parents[2] / "fixtures" / "before_rooms"
    study = tuner.open("study", results=fixture)
    before = json.loads((fixture / "best.json").read_text())
    assert study.best.per == before[0]["best_per"]
    assert study.best.number == before[0]["trial"]
    assert study.settings.space["name"] == "toy_real"
    assert study.settings.searcher.kind == "tpe"


def test_a_report_is_a_file(study, tmp_path):
    """`report` writes the page of `tuner report` and returns its path."""
    path = study.report(tmp_path / "page.html")
    assert path.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(tuner.InputError, match="cannot be written"):
        study.report(tmp_path / "none" / "page.html")


def test_text_forms_say_what_it_is(study, monkeypatch):
    """A study, a trial and a table show what they are; a long table says that there is more."""
    assert (
        repr(study) == f"<study toy: completed, 12 trials, best PER {study.best.per:.4f} (trial {study.best.number})>"
    )
    assert repr(study.best).startswith(f"<trial toy/{study.best.number}: {study.best.status}, PER")
    monkeypatch.setenv("COLUMNS", "200")
    text = repr(study.trials)
    assert text.startswith("trial  status")
    assert "12 rows, " in text
    assert "to_pandas()" in text
    assert len(text.splitlines()) == 13


def test_html_forms_escape_what_the_files_hold(study, toy):
    """In a notebook nothing that a study's files or a query's answer hold is taken for HTML."""
    evil = "<script>alert(1)</script>"
    table = study.query(f"select '{evil}' as \"<b>name</b>\"")
    assert "<script" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_()
    assert "<b>name" not in table._repr_html_()
    study.folder.rename(toy.folder / "<b>x<")
    renamed = tuner.open("<b>x<", results=toy.folder)
    for shown in (renamed, renamed.best):
        assert "<b>x" not in shown._repr_html_()
        assert "&lt;b&gt;x&lt;" in shown._repr_html_()


def test_html_forms_show_the_best_trials_and_the_curve(study):
    """A study shows its best trials and the sentence on ties, a trial its curve and what was drawn for it."""
    shown = study._repr_html_()
    assert shown.count("<tr>") == 6  # a heading and five trials
    assert all(note.split(" ")[0] in shown for note in study.notes)
    assert "<polyline" in study.best._repr_html_()
    assert "schedule.peak_lr" in study.best._repr_html_()


def test_a_damaged_log_is_a_warning(study):
    """What is no event in the log is named by a Python warning; the rest is there."""
    log = study.folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:5], b"not an event\n", *lines[5:]]))
    with pytest.warns(UserWarning, match="events.jsonl"):
        assert len(study.trials) == 12
