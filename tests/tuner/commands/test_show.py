"""`tuner show` and `tuner compare`, the plots they draw, and the runs that trials become."""

import json
import math
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.terminal_plot import Line, plot
from results.trials import find_trial, load_run_or_trial
from search_spaces import load_run


@pytest.fixture(scope="module")
def driven(toys):
    """A study of 12 trials with rungs at 1 and 3, and one trial that has only started."""
    study = toys.create("toy")
    assert toys.drive(study)
    study.close()
    study = toys.resume("toy", {"budget": [study.settings.budget.as_dict(), {"trials": 13, "hours": None}]})
    assert study.ask() is not None
    study.close()
    return study.folder


@pytest.fixture
def study(driven, toy):
    """A copy of it, in a folder to work in."""
    shutil.copytree(driven, toy.folder / "toy")
    return toy


def refused(done, *words):
    assert done.status == 2
    assert len(done.err.splitlines()) == 1, done.err
    for word in words:
        assert word in done.err


def test_show_has_everything_about_a_trial(cli, study):
    """Status, curve with its rungs, what differs from the base run, what was searched, events, how to run it again."""
    trial = find_trial(study.folder, "toy", "0")
    done = cli("show", "toy", 0, "--results", study.folder)
    assert done.status == 0, done.err
    assert f"best PER {trial.row['best_per']:.4f} at epoch {trial.row['best_epoch']}" in done.out
    assert "start_point" in done.out
    assert "┊ rungs: epoch 1, 3" in done.out
    assert "schedule.peak_lr *" in done.out
    assert "model        hidden 8, layers 1" in " ".join(done.out.split("\n")) or "hidden 8, layers 1" in done.out
    assert "none saved" in done.out
    assert "attempt 1 started" in done.out
    assert f"tuner train toy/0 --data nowhere --results {study.folder}" in done.out


def test_show_as_json_is_the_whole_trial(cli, study):
    """The JSON's configuration is the trial's, and its curve has every epoch."""
    found = json.loads(cli("show", "toy/3", "--results", study.folder, "--format", "json").out)
    trial = find_trial(study.folder, "toy", "3")
    assert found["config"]["schedule"]["peak_lr"] == trial.config.schedule.peak_lr
    assert [row["epoch"] for row in found["curve"]] == list(range(1, trial.row["epochs"] + 1))
    assert found["params"] == trial.params


def test_show_before_the_first_epoch(cli, study):
    """A trial that has reported nothing is shown with its configuration and no curve."""
    done = cli("show", "toy", 12, "--results", study.folder)
    assert done.status == 0, done.err
    assert "no curve" in done.out
    assert "configuration" in done.out


def test_a_recorded_run_is_found_by_its_name(cli, toy):
    """A trial of a study of runs has the run's name too."""
    assert cli("results", "add-recorded", "--results", toy.folder).status == 0
    done = cli("show", "recorded", "run16_5", "--results", toy.folder)
    assert done.status == 0, done.err
    assert "run run16_5" in done.out.splitlines()[0]
    refused(cli("show", "recorded", "run16_6", "--results", toy.folder), "run16_6", "run16_5")


def test_names_that_are_not_there(cli, study):
    """Unknown trials and studies, and a study without trials, are one line each."""
    empty = study.create("empty")
    empty.close()
    refused(cli("show", "toy", 99, "--results", study.folder), "'99'", "0 to 12")
    refused(cli("show", "toy", "best", "--results", study.folder), "'best'", "0 to 12")
    refused(cli("show", "tyo", 0, "--results", study.folder), "did you mean toy")
    refused(cli("show", "empty", 0, "--results", study.folder), "no trials yet")
    assert cli("show", "toy", "--results", study.folder).status == 2
    assert len(cli("compare", "toy/99", "tyo/0", "--results", study.folder).err.splitlines()) == 2


@pytest.mark.parametrize("name", ["<b>bold", "a'b\"c", "line\nbreak", "学習 7", "[red]x", "-o"])
def test_any_study_name_is_shown_as_it_is(cli, study, name):
    """HTML, quotes, line breaks, markup and other letters in a study's name change nothing but the name."""
    (study.folder / "toy").rename(study.folder / name)
    done = cli("show", "--results", study.folder, "--", name, 0)
    assert done.status == 0, done.err
    assert done.out.splitlines()[0].startswith(f"trial {name.replace(chr(10), chr(92) + 'n')}/0: ")
    compared = cli("compare", "--results", study.folder, "--", f"{name}/0", f"{name}/1")
    assert compared.status == 0, compared.err


def test_a_trial_is_a_run_with_the_same_configuration(study):
    """`STUDY/TRIAL` and its saved file give the trial's RunConfig to the last digit; overrides go on top."""
    for number in range(12):
        trial = find_trial(study.folder, "toy", str(number))
        assert load_run_or_trial(f"toy/{number}", study.folder).config == trial.config
    changed = load_run_or_trial("toy/0", study.folder, ["training.seed=5", "model.hidden=16"]).config
    assert (changed.training.seed, changed.model.hidden) == (5, 16)
    assert load_run_or_trial("small", study.folder).config == load_run("small").config


def test_runs_save_writes_a_run_file(cli, study, monkeypatch):
    """The file loads as the trial's configuration, says where it came from, and records its PER."""
    monkeypatch.chdir(study.folder)
    done = cli("runs", "save", "toy", 4, "mine", "--results", study.folder)
    assert done.status == 0, done.err
    run, trial = load_run(study.folder / "mine.yaml"), find_trial(study.folder, "toy", "4")
    assert run.config == trial.config
    assert run.parent is None
    assert run.recorded["per"] == trial.row["best_per"]
    assert "Trial 4 of the study toy" in run.purpose
    for arguments, word in (
        (["mine"], "--force"),
        (["small"], "comes with the program"),
        (["../up"], "letters, digits"),
        (["a b"], "letters, digits"),
    ):
        refused(cli("runs", "save", "toy", 4, *arguments, "--results", study.folder), word)
    refused(cli("runs", "save", "toy", 77, "other", "--results", study.folder), "'77'")
    assert cli("runs", "save", "toy", 5, "mine", "--force", "--results", study.folder).status == 0
    assert load_run(study.folder / "mine.yaml").config == find_trial(study.folder, "toy", "5").config


def test_compare_shows_differences_curves_and_a_verdict(cli, study):
    """Settings that are equal are left out; each trial has a letter in the plot; the last line is the tie rule's."""
    done = cli("compare", "toy/0", "toy/4", "--results", study.folder)
    assert done.status == 0, done.err
    assert "schedule.peak_lr" in done.out
    assert "model.hidden" not in done.out
    assert "A toy/0   B toy/4" in done.out
    assert "seed s.d." in done.out


def test_compare_of_equal_configurations_says_so(cli, study):
    """A trial with itself, and with its own saved file."""
    assert cli("compare", "toy/0", "toy/0", "--results", study.folder).out.startswith("the same configuration\n")
    out = study.folder
    assert cli("runs", "save", "toy", 0, "same", "--out", out, "--results", out).status == 0
    done = cli("compare", "toy/0", out / "same.yaml", "--results", out)
    assert done.out.startswith("the same configuration\n"), done.out
    assert "recorded PER" in done.out


def test_compare_takes_shipped_runs(cli, study):
    """Runs stand beside trials; a misspelt one is answered with the nearest."""
    done = cli("compare", "run16_5", "run16_4", "toy/1", "--results", study.folder)
    assert done.status == 0, done.err
    assert "C toy/1" in done.out
    assert cli("compare", "run16_5", "--results", study.folder).status == 2
    refused(cli("compare", "run16_5", "smal", "--results", study.folder), "small")


def cells(text):
    """The picture's rows without the axis."""
    return [line.split("┤", 1)[1] for line in text.splitlines() if "┤" in line]


def test_a_falling_line_goes_from_top_left_to_bottom_right():
    """The first point is in the top left corner, the last in the bottom right; the axes have their values."""
    text = plot([Line("a", [(1, 1.0), (2, 0.6), (3, 0.2)], "●")], width=60, height=10, x_label="epoch")
    picture = cells(text)
    assert picture[0].startswith("●")
    assert picture[-1].rstrip().endswith("●") and len(picture[-1].rstrip()) == 51
    assert text.splitlines()[0].strip().startswith("1.000")
    assert "0.200" in text.splitlines()[9]
    assert sum(row.count("●") for row in picture) == 3


def test_gaps_and_empty_curves():
    """A value that is not a number leaves a gap; without any value there is one sentence."""
    text = plot([Line("a", [(1, 1.0), (2, math.nan), (3, None), (4, 0.2)], "●")], width=60, height=10)
    assert not any("\u2801" <= character <= "\u28ff" for character in text)
    assert plot([Line("a", [(1, math.nan)], "●")]) == "(no curve: nothing was reported)\n"
    assert plot([]) == "(no curve: nothing was reported)\n"


@given(
    values=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=300),
    width=st.integers(30, 120),
    height=st.integers(3, 30),
)
def test_a_plot_keeps_to_its_size(values, width, height):
    """Whatever the curve, every row fits the width, there are as many as asked for, and the last point is marked."""
    points = list(enumerate(values, start=1))
    text = plot([Line("a", points, "X")], width=width, height=height, x_label="epoch", verticals=[1, 5])
    if all(value is None for value in values):
        return
    assert all(len(line) <= width for line in text.splitlines())
    assert len(cells(text)) == height
    assert any("X" in row for row in cells(text))
