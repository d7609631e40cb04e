"""Nobody is led out of the results folder: not by a name, and not by a symbolic link."""

import pytest

from results.store import maintain
from results.store.events import EventLog
from results.store.paths import find_studies, is_name, study_folder
from search_spaces import InputError

LOG_NAME = "events.jsonl"


def study(folder, trial=0):
    """A study with a log of an ended trial, and its checkpoint folder."""
    with EventLog(folder / LOG_NAME) as log:
        log.append("study_started", study=folder.name, settings={})
    kept = folder / "checkpoints" / str(trial)
    kept.mkdir(parents=True)
    for name in ("best.pt", "last.pt"):
        (kept / name).write_text(name)
    return folder


def content(folder):
    """Everything below a folder, with what is in it."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def places(tmp_path):
    """A results folder, and a place outside of it that has a study too."""
    results, outside = tmp_path / "results", tmp_path / "outside"
    study(results / "a")
    study(outside / "b")
    return results, outside


@pytest.mark.parametrize(
    "name", ["../outside/b", "/etc", "..", ".", "a/..", ".hidden", "", "x\0y", "n" * 256, "é" * 200]
)
def test_a_name_is_one_step_down(name, places, cli):
    """What would lie elsewhere, or can be no folder's name, is one line; the same from each command that has STUDY."""
    results, outside = places
    before = content(outside)
    assert not is_name(name)
    with pytest.raises(InputError, match="is not a study's name"):
        study_folder(results, name)
    for command in (
        ["resume", name],
        ["status", name],
        ["watch", name, "--once"],
        ["stop", name],
        ["sync", name],
        ["show", name, "0"],
        ["confirm", name],
        ["changelog", name],
        ["importance", name],
        ["report", name, "--out", "/dev/null"],
        ["best", name],
        ["export", name, "--best", "config", "--out", "/dev/null"],
        ["log", name, "--to", "tensorboard", "--out", results.parent / "tb"],
        ["dashboard", name],
        ["lineage", "--table", "--study", name],
        ["confirm", "a", "--study", name, "--resume"],
        ["simulate", name],
        ["audit", name],
        ["runs", "save", name, "0", "x", "--out", results],
        ["spaces", "narrow", name, "--out", results.parent / "x.yaml"],
        *(["results", each, name] for each in ("check", "compact", "clean", "delete")),
    ):
        said = cli(*command, "--results", results)
        assert said.status == 2, command
        lines = said.err.splitlines()
        assert sum(line.startswith(("error: ", "Error: ")) for line in lines) == 1, (command, said.err)
        assert "this is a bug" not in said.err and "Traceback" not in said.err
        assert max(map(len, lines)) < 700
    assert content(outside) == before


def test_delete_of_a_link_removes_the_link(places, cli):
    """What it points to is as it was, also where it lies among the studies; nothing half-deleted is left."""
    results, outside = places
    before, own = content(outside), content(results / "a")
    (results / "b").symlink_to(outside / "b")
    (results / "c").symlink_to(results / "a")
    said = cli("results", "delete", "b", "c", "--yes", "--results", results)
    assert said.status == 0 and said.out.count("what it points to is kept") == 2
    assert content(outside) == before and content(results / "a") == own
    assert [path.name for path in results.iterdir()] == ["a"]


def test_delete_does_not_follow_links_inside(places):
    """Folders and files that a study only points to survive it."""
    results, outside = places
    before = content(outside)
    (results / "a" / "checkpoints" / "7").symlink_to(outside / "b" / "checkpoints" / "0")
    (results / "a" / "notes").symlink_to(outside)
    maintain.delete(results, "a")
    assert content(outside) == before and not (results / "a").exists()


@pytest.mark.parametrize("which", ["study", "log", "checkpoints"])
@pytest.mark.parametrize("command", ["clean", "compact"])
def test_clean_and_compact_stay_inside(which, command, places, cli):
    """A study, log or checkpoint folder that is a link out of the results folder is left alone, with a line."""
    results, outside = places
    if which == "study":
        (results / "b").symlink_to(outside / "b")
    else:
        study(results / "b")
        inside, target = {
            "log": (results / "b" / LOG_NAME, outside / "b" / LOG_NAME),
            "checkpoints": (results / "b" / "checkpoints", outside / "b" / "checkpoints"),
        }[which]
        inside.rename(results / "kept")
        inside.symlink_to(target)
    before = content(outside)
    said = cli("results", command, "b", "--results", results)
    assert said.status == 2 and "is a link out of the results folder" in said.err and said.err.count("\n") == 1
    assert content(outside) == before


def test_clean_leaves_a_trial_that_is_a_link(toy, tmp_path, cli):
    """The states of ended trials go; those behind a link stay."""
    driven = toy.create("s", budget={"trials": 2, "hours": None}, stopping={"kind": "none"})
    toy.drive(driven)
    driven.close()
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    kept = toy.folder / "s" / "checkpoints"
    (kept / "0").mkdir(parents=True)
    for folder in (outside, kept / "0"):
        for name in ("last.pt", "best.pt", ".last.pt.1"):
            (folder / name).write_text("x")
    (kept / "1").symlink_to(outside)
    (kept / "0" / "previous.pt").symlink_to(outside / "best.pt")
    said = cli("results", "clean", "s", "--results", toy.folder)
    assert said.status == 0, said.err
    assert sorted(content(outside)) == [".last.pt.1", "best.pt", "last.pt"]
    assert sorted(content(kept / "0")) == ["best.pt"]


def test_clean_works_on_a_link_that_stays_inside(places, cli):
    """A second name for a study of the same results folder is that study."""
    results, _ = places
    (results / "c").symlink_to(results / "a")
    assert cli("results", "compact", "c", "--results", results).status == 0


@pytest.mark.parametrize("which", ["study", "nowhere", "checkpoints", "trial", "source log"])
def test_merge_stays_inside(which, places, tmp_path, cli):
    """Neither the study that is brought up to date nor what is in it leads out; a source whose log is a link: told."""
    results, outside = places
    source = study(tmp_path / "incoming" / "b", trial=3)
    target = results / "b"
    if which == "study":
        target.symlink_to(outside / "b")
    elif which == "nowhere":
        target.symlink_to(outside / "nothing")
    elif which == "source log":
        (source / LOG_NAME).rename(source / "log")
        (source / LOG_NAME).symlink_to("log")
    else:
        study(target)
        (target / LOG_NAME).write_bytes((source / LOG_NAME).read_bytes())
        with EventLog(source / LOG_NAME) as log:
            log.append("study_resumed")
        inside = target / "checkpoints" if which == "checkpoints" else target / "checkpoints" / "3"
        if inside.exists():
            inside.rename(results.parent / "away")
        inside.symlink_to(outside / "b" / "checkpoints")
    before = content(outside)
    said = cli("results", "merge", source, "--results", results)
    assert content(outside) == before
    if which == "trial":
        assert said.status == 0 and ": updated" in said.out
    else:
        assert said.status == 2 and said.err.count("\n") == 1 and "is a link" in said.err
    assert not [path for path in results.iterdir() if path.name.startswith(".")]


def test_a_long_name_among_the_studies_is_no_trouble(places):
    """The longest name that a file system takes is found; one that is longer is said not to be there."""
    results, _ = places
    study(results / ("n" * 255))
    assert find_studies(results, ["n" * 255])
    with pytest.raises(InputError, match="there is no study"):
        find_studies(results, ["n" * 300])
