"""What the command line says: help, light imports, and one clear line for bad input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from tuner.cli import tuner as root


def every_command(group=root, path=("tuner",)):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
            if not command.invoke_without_command:
                continue
        yield (*path, name), command


@pytest.mark.parametrize(("path", "command"), [pytest.param(p, c, id=" ".join(p[1:])) for p, c in every_command()])
def test_every_command_is_documented_with_an_example(path, command):
    """Each command's help says what it does and ends with an example that begins with the command itself."""
    assert command.help
    assert "xample" in (command.epilog or "")
    assert f"tuner {path[1]}" in command.epilog
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)}: {parameter.opts} has no help"


def test_the_command_line_imports_nothing_heavy():
    """`import tuner.cli` brings in neither torch, ray nor optuna, and no table library either; commands of which only
    one option draws a picture bring in no library for pictures.
    """
    code = (
        "import sys, tuner.cli\n"
        "print(sorted({'torch','ray','optuna','duckdb','pyarrow','pandas'} & set(sys.modules)))\n"
        "import tuner.commands.data, tuner.commands.runs, tuner.commands.simulate\n"
        "print('matplotlib' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", "False"]


def refused(done, *words):
    """Exit status 2, one line of error with all words, no traceback."""
    assert done.status == 2, done.err
    errors = [line for line in done.err.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(errors) == 1, done.err
    for word in words:
        assert word in errors[0]
    assert "Traceback" not in done.err


def test_a_missing_data_folder_is_one_line(cli, tmp_path, real_space):
    """A data folder that does not exist is named; nothing is made."""
    refused(cli("search", real_space, "--data", "nowhere", cwd=tmp_path), "nowhere")
    (tmp_path / "empty").mkdir()
    refused(cli("search", real_space, "--data", "empty", cwd=tmp_path), "empty")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_an_unknown_space_names_the_nearest(cli, tmp_path, tiny_data):
    """A misspelt space name is answered with the right one."""
    refused(cli("search", "quickstrat", "--data", tiny_data, cwd=tmp_path), "quickstrat", "quickstart")


def test_every_error_of_a_space_file_is_shown_at_once(cli, tmp_path, tiny_data, real_space):
    """An unknown key and an inverted range are two lines, each with file, path and what is allowed."""
    text = real_space.read_text().replace("[1.0e-4, 5.0e-2]", "[5.0e-2, 1.0e-4]")
    (tmp_path / "real.yaml").write_text((real_space.parent / "real.yaml").read_text())
    (tmp_path / "bad.yaml").write_text(text + "sercher: {kind: tpe}\n")
    done = cli("search", "bad.yaml", "--data", tiny_data, cwd=tmp_path)
    assert done.status == 2
    lines = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 2
    assert any("sercher" in line and "searcher" in line for line in lines)
    assert any("schedule.peak_lr" in line for line in lines)
    assert all("bad.yaml" in line for line in lines)


def test_a_study_that_exists_is_refused(cli, tmp_path, tiny_data, real_space):
    """A name that is taken is answered with --resume and with choosing another."""
    (tmp_path / "results" / "studies" / "taken").mkdir(parents=True)
    done = cli("search", real_space, "--data", tiny_data, "--study", "taken", cwd=tmp_path)
    refused(done, "taken", "--resume", "another name")


@pytest.mark.parametrize("name", ["../up", "a b", "", ".hidden", "x" * 200])
def test_a_study_name_must_be_a_plain_file_name(cli, tmp_path, tiny_data, real_space, name):
    """Names that are paths, empty or too long are refused with what is allowed."""
    done = cli("search", real_space, "--data", tiny_data, f"--study={name}", cwd=tmp_path)
    refused(done, "letters, digits")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_results_folder_is_one_line(cli, tmp_path, tiny_data, real_space):
    """Results that would have to lie below a file are refused before anything starts."""
    (tmp_path / "file").write_text("")
    done = cli("search", real_space, "--data", tiny_data, "--results", "file/studies", cwd=tmp_path)
    refused(done, "file", "--results")


def test_more_cores_than_there_are_is_one_line(cli, tmp_path, tiny_data, real_space):
    """A trial that needs more cores than the machine has is refused with the number there is."""
    done = cli("search", real_space, "--data", tiny_data, "--cpus-per-trial", 4096, cwd=tmp_path)
    refused(done, "--cpus-per-trial 4096", "cores")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--hours", "--cpus-per-trial", "--gpus-per-trial"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_number_that_is_none_is_a_usage_error(cli, tmp_path, tiny_data, real_space, option, value):
    """nan, infinity and negative numbers are refused before anything starts."""
    refused(cli("search", real_space, "--data", tiny_data, f"{option}={value}", cwd=tmp_path), option)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_more_cards_than_there_are_is_one_line(tuner, tmp_path, tiny_data, real_space):
    """A trial that needs more cards than Ray finds is refused, and no study is left behind."""
    done = tuner.run("search", real_space, "--data", tiny_data, "--gpus-per-trial", 4096, cwd=tmp_path)
    refused(done, "--gpus-per-trial 4096", "GPU")
    assert not list(tmp_path.rglob("events.jsonl"))


def test_a_kernel_that_makes_labels_infeasible_is_one_line(cli, tmp_path, tiny_data):
    """A stride so long that most labels do not fit is refused before training, with the numbers."""
    done = cli("train", "quickstart", "--data", tiny_data, "--set", "model.stride=40", cwd=tmp_path)
    assert done.status == 2
    assert [("stride" in line, "labels" in line) for line in done.err.splitlines()] == [(True, True)] * 2
    assert done.out == ""


@pytest.fixture
def spoilt(tiny_data, tmp_path):
    """A copy of the tiny data to spoil: spoilt(function of the features array) -> folder."""

    def spoil(change):
        folder = tmp_path / "spoilt"
        shutil.copytree(tiny_data, folder)
        features = np.load(folder / "features.npy")
        change(features)
        np.save(folder / "features.npy", features)
        return folder

    return spoil


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_numbers_are_refused(cli, tmp_path, spoilt, value):
    """NaN or infinity in the features is found before training starts, with its place."""

    def change(features):
        features[100, 3] = value

    refused(cli("train", "quickstart", "--data", spoilt(change), cwd=tmp_path), "features")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("schedule.peek_lr=1e-3", ("peek_lr", "peak_lr")),
        ("schedule.peak_lr=fast", ("schedule.peak_lr", "fast")),
        ("schedule.peak_lr", ("schedule.peak_lr", "=")),
        ("training.batches=0", ("training.batches", "0")),
        ("schedule.end_lr=1", ("schedule.end_lr", "peak_lr")),
    ],
)
def test_a_wrong_override_is_one_line(cli, tmp_path, tiny_data, override, words):
    """--set with a misspelt key, a wrong type, no value or a value out of range."""
    refused(cli("train", "quickstart", "--data", tiny_data, "--set", override, cwd=tmp_path), *words)


def test_train_prints_an_epoch_table_and_keeps_the_best(cli, tmp_path, tiny_data):
    """One line an epoch; the file holds the best epoch's weights."""
    done = cli(
        "train", "quickstart", "--data", tiny_data, "--out", "best.pt",
        "--set", "training.batches=30", "--set", "training.batches_per_epoch=10", "--set", "model.hidden=12",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.err
    rows = [line.split() for line in done.out.splitlines()]
    epochs = [row for row in rows if row and row[0] in "123"]
    assert [row[0] for row in epochs] == ["1", "2", "3"]
    from trainable.checkpoint import load

    state = load(tmp_path / "best.pt")
    pers = [float(row[2]) for row in epochs]
    assert state["epoch"] == 1 + pers.index(min(pers))
    assert f"best PER {min(pers):.4f}" in done.out


def test_train_scales_a_run(cli, tmp_path, tiny_data):
    """--scale: as many epochs as the square root of the scale leaves, and the last batch is that share of the run."""
    done = cli("train", "quickstart", "--data", tiny_data, "--scale", 0.05, "--set", "model.hidden=12", cwd=tmp_path)
    assert done.status == 0, done.err
    rows = [line.split()[:2] for line in done.out.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert rows == [["1", "4"], ["2", "8"], ["3", "10"]]


def test_data_show_counts_infeasible_labels(cli, tmp_path, tiny_data):
    """`tuner data show` gives the utterances whose labels do not fit a stride; a longer stride has more."""
    found = []
    for stride in (4, 12):
        done = cli("data", "show", tiny_data, "--kernel", 8, "--stride", stride, "--format", "json", cwd=tmp_path)
        facts = json.loads(done.out)
        found.append(facts["splits"]["train"]["infeasible"])
    assert found[0] < found[1]


def test_queries_and_best_without_studies_are_one_line(cli, tmp_path):
    """Asking an empty results folder says that there are no studies and what to do."""
    refused(cli("best", cwd=tmp_path), "results/studies")
    refused(cli("query", "select 1 from trials", cwd=tmp_path), "results/studies")
    refused(cli("resume", "nothing", cwd=tmp_path), "results/studies")


def test_a_wrong_option_is_a_usage_error(cli, tmp_path):
    """Unknown options and missing arguments exit with 2 and name themselves."""
    done = cli("search", "small", "--dta", "x", cwd=tmp_path)
    assert done.status == 2
    assert "--dta" in done.err
    assert cli("query", cwd=tmp_path).status == 2


def test_the_version_is_the_package_s(cli, tmp_path):
    """`tuner --version` prints the version that pyproject.toml gives."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    version = next(line.split('"')[1] for line in text.splitlines() if line.startswith("version"))
    assert version in cli("--version", cwd=tmp_path).out
