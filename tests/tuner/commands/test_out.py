"""Every option that names a file to write: what is there is never replaced unasked, and a device is never replaced."""

import os
import shutil
import stat
import threading
from pathlib import Path

import click
import pytest

from tuner.cli import tuner as root

FOLDERS = {"data import", "data synthetic", "log", "runs save"}
"""Commands whose --out is a folder that they make or write into; their own tests have them."""


def commands(group=root, path=()):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


WRITERS = {
    name: next(flag for flag in parameter.opts)
    for name, command in commands()
    for parameter in command.params
    if {"--out", "--save", "--plot"} & set(parameter.opts) and name not in FOLDERS
}


@pytest.fixture(scope="module")
def study(tmp_path_factory, real_space, tiny_data):
    """The results folder of a study that was driven over the toy space, and a trained checkpoint."""
    from types import SimpleNamespace

    from search_spaces import load_run, load_space
    from tests.tuner.conftest import RUN, SPACE, drive, settings_for
    from trainable import train
    from trainable.checkpoint import save
    from trainable.data.dataset import open_dataset
    from tuner.study.settings import StudySettings
    from tuner.study.study import Study

    folder = tmp_path_factory.mktemp("out")
    (folder / "base.yaml").write_text(RUN)
    (folder / "toy.yaml").write_text(SPACE)
    (folder / "sweep.yaml").write_text("method: bayes\nparameters: {dropout: {min: 0.1, max: 0.5}}\n")
    results = folder / "results"
    for name, changes in (("s", {}), ("whole", {"stopping": {"kind": "none"}})):
        settings = StudySettings.read(settings_for(load_space(folder / "toy.yaml"), **changes))
        driven = Study.create(results / name, settings, [])
        drive(driven)
        driven.close()
    first = next(iter(train(load_run(real_space.parent / "real.yaml").config, open_dataset(tiny_data))))
    save(folder / "net.pt", first.checkpoint())
    return SimpleNamespace(
        folder=folder,
        results=results,
        data=tiny_data,
        run=real_space.parent / "real.yaml",
        net=folder / "net.pt",
        sweep=folder / "sweep.yaml",
    )


def line(name, study):
    """Arguments of a command that writes a file, and that file's ending."""
    there = ["--results", study.results]
    return {
        "report": (["report", "s", *there], ".html"),
        "changelog": (["changelog", "s", *there], ".md"),
        "query": (["query", "select 1 as one", *there], ".csv"),
        "export": (["export", "s", "--trial", "0", "--best", "config", *there], ".yaml"),
        "spaces narrow": (["spaces", "narrow", "s", *there], ".yaml"),
        "spaces import": (["spaces", "import", study.sweep], ".yaml"),
        "runs plot": (["runs", "plot", "small"], ".svg"),
        "data plot": (["data", "plot", study.data], ".svg"),
        "simulate": (["simulate", "whole", "--stopping", "median", "--repeats", "2", *there], ".svg"),
        "dashboard": (["dashboard", "s", *there], ".db"),
        "train": (["train", study.run, "--data", study.data, "--set", "training.batches=4"], ".pt"),
        "evaluate": (["evaluate", study.net, "--data", study.data, "--split", "val"], ".jsonl"),
    }[name]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_file_is_replaced_with_force_only(name, study, tmp_path, cli):
    """What was there stays to the byte, and a line says how to replace it; --force does. A link is one too, even one to
    nothing.
    """
    arguments, ending = line(name, study)
    taken, link = tmp_path / f"taken{ending}", tmp_path / f"link{ending}"
    taken.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    for out in (taken, link):
        said = cli(*arguments, WRITERS[name], out)
        assert said.status == 2
        assert f"{out}: exists; choose another {WRITERS[name]}, or replace it by --force" in said.err
        assert said.err.count("\n") == 1
    assert taken.read_text() == "mine" and link.is_symlink()
    said = cli(*arguments, WRITERS[name], taken, "--force")
    assert said.status == 0, said.err
    assert taken.read_bytes() != b"mine"
    fresh = cli(*arguments, WRITERS[name], tmp_path / f"fresh{ending}")
    assert fresh.status == 0, fresh.err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_device_is_written_to(name, study, tmp_path, monkeypatch, cli):
    """/dev/null is the same device afterwards; a pipe gets the file's bytes and is a pipe still."""
    monkeypatch.chdir(tmp_path)
    arguments, ending = line(name, study)
    before = Path("/dev/null").stat()
    said = cli(*arguments, WRITERS[name], "/dev/null")
    assert said.status == 0, said.err
    after = Path("/dev/null").stat()
    assert stat.S_ISCHR(after.st_mode) and (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)
    pipe, got = tmp_path / f"pipe{ending}", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    said = cli(*arguments, WRITERS[name], pipe)
    reader.join(600)
    assert said.status == 0, said.err
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert got and got[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == [pipe.name]


def test_the_default_name_is_no_exception(study, tmp_path, monkeypatch, cli):
    """report.html, schedules.png, session.png and STUDY-narrow.yaml are refused too where they exist; a report that is
    only served writes none.
    """
    monkeypatch.chdir(tmp_path)
    for name, file in (
        ("report", "report.html"),
        ("runs plot", "schedules.png"),
        ("data plot", "session.png"),
        ("spaces narrow", "s-narrow.yaml"),
    ):
        arguments, _ = line(name, study)
        assert cli(*arguments).status == 0
        said = cli(*arguments)
        assert said.status == 2 and f"{file}: exists; choose another --out, or replace it by --force" in said.err
        assert cli(*arguments, "--force").status == 0
    said = cli("report", "no-such-study", "--serve", "--results", study.results)
    assert "exists" not in said.err and "there is no study" in said.err


def test_a_folder_in_place_of_a_file_is_one_line(study, tmp_path, cli):
    """Also with --force: nothing of a folder is replaced by a file."""
    (tmp_path / "x.html").mkdir()
    said = cli("report", "s", "--results", study.results, "--out", tmp_path / "x.html", "--force")
    assert said.status == 2 and "is a directory" in said.err
    said = cli("report", "s", "--results", study.results, "--out", tmp_path / "no" / "x.html")
    assert said.status == 2 and "does not exist; make it, or choose another --out" in said.err
    shutil.rmtree(tmp_path / "x.html")


def test_a_required_option_cannot_be_left_out(cli):
    """Every command says which one is missing: an option that is required has no default, not even none."""
    found = []
    for path, command in commands():
        for option in command.params:
            if isinstance(option, click.Option) and option.required:
                found.append(path)
                assert option.to_info_dict()["default"] is None
                assert (
                    option.get_default(click.Context(command)) is not None
                    or option.default is click.Option(["--x"]).default
                ), path
    assert "export" in found
    done = cli("export", "--tables")
    assert (done.status, "Missing option '--out'" in done.err) == (2, True)
