"""What `tuner doctor` finds: each check with what is right and with what is not."""

import json
import sys
from importlib import metadata

import pytest

from tuner.commands import doctor


def version_of(**known):
    """A lookup of versions that knows only these."""

    def version(name):
        if name not in known:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    return version


def test_this_machine_can_search(cli, tmp_path):
    """Here the suite runs, so nothing is a problem: exit status 0, one line for each check, and the next step."""
    said = cli("doctor", "--results", tmp_path / "new")
    assert said.status == 0, said.out
    names = ["Python", "packages", "versions", "torch", "card", "Ray", "cores", "results", "writing", "open"]
    assert not [name for name in names if name not in said.out]
    assert "a search can run" in said.out
    assert not (tmp_path / "new").exists()
    found = json.loads(cli("doctor", "--format", "json", "--results", tmp_path).out)
    assert {each["state"] for each in found} <= {"ok", "warning"}
    assert set(found[0]) == {"name", "state", "found", "todo"}


def test_a_problem_is_exit_status_1(cli, tmp_path, monkeypatch):
    """A results folder that is a file: the line says so, the last line counts, and the status is 1."""
    (tmp_path / "taken").write_text("")
    said = cli("doctor", "--results", tmp_path / "taken" / "inside")
    assert said.status == 1
    assert "problem writing" in " ".join(said.out.split())
    assert said.out.rstrip().endswith("to solve before a search can run")


def test_the_states_have_colours_where_they_are_wanted(monkeypatch):
    """Green, yellow, red; none with NO_COLOR. (click leaves them out where the output is no terminal.)"""
    checks = [doctor.Check(state, state, "") for state in ("ok", "warning", "problem")]
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert [line[:5] for line in doctor._lines(checks)] == ["\x1b[32m", "\x1b[33m", "\x1b[31m"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in "".join(doctor._lines(checks))


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 1), "problem"), ((3, 11, 0), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "warning")]
)
def test_python_must_not_be_older_than_it_is_tested(version, state):
    """Older does not run, newer is told."""
    assert doctor.python(version).state == state


def test_missing_and_wrong_packages_are_named():
    """What is missing and what has a version that is not allowed; extras and other systems' packages are not asked."""
    wanted = ["numpy>=1.26", "click>=8.1", 'x>=1; extra == "test"', 'y; sys_platform == "never"']
    assert doctor.requirements(wanted, version_of(numpy="2.0", click="8.1.0")).state == "ok"
    wrong = doctor.requirements(wanted, version_of(numpy="1.2"))
    assert wrong.state == "problem"
    assert "missing: click" in wrong.found and "numpy 1.2, not >=1.26" in wrong.found


def test_other_versions_than_the_tested_ones_are_a_warning(tmp_path):
    """A local part (+cpu) is no other version; without the file there is nothing to compare with."""
    path = tmp_path / "constraints.txt"
    path.write_text("# made by hand\ntorch==2.9.0\nnumpy==2.0.0\nnot-here==1\n")
    same = version_of(torch="2.9.0+cpu", numpy="2.0.0")
    assert doctor.constraints(path, same).state == "ok"
    other = doctor.constraints(path, version_of(torch="2.8.0", numpy="2.0.0"))
    assert (other.state, other.found) == ("warning", "torch 2.8.0 (tested: 2.9.0)")
    assert doctor.constraints(tmp_path / "none", same).state == "ok"


def test_a_broken_library_is_a_line(monkeypatch):
    """torch or Ray that cannot be imported: a problem each, with what it said, and no traceback."""
    for name, check in (("torch", doctor.torch_works), ("ray", doctor.ray_works)):
        monkeypatch.setitem(sys.modules, name, None)
        found = check()
        assert (found.state, found.name.lower()) == ("problem", name)
        assert found.found.startswith("ModuleNotFoundError") and found.todo


def test_a_card_that_torch_cannot_use_is_told(tmp_path):
    """A device is there and torch has no CUDA: a warning; without one the CPU trains, and that is fine."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch uses this machine's card")
    assert doctor.card([tmp_path / "nvidia0"]).state == "warning"
    assert doctor.card([]).state == "ok"


def test_a_full_disk_is_a_problem_and_a_small_one_a_warning(monkeypatch, tmp_path):
    """By the room that checkpoints need; a folder that cannot be asked is a problem too."""
    for free, state in ((1e8, "problem"), (1e9, "warning"), (1e11, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": int(free)}))
        assert doctor.disk("disk", tmp_path).state == state
        assert doctor.shared_memory(tmp_path).state == ("warning" if free < 2e8 else "ok")
    monkeypatch.undo()
    assert doctor.disk("disk", tmp_path / "none").state == "problem"
    assert doctor.shared_memory(tmp_path / "none").state == "ok"


def test_a_cluster_that_is_not_there_is_a_problem(cli, tmp_path, monkeypatch):
    """`--address` of nothing: the line that a search would print, and exit status 1."""
    from search_spaces import InputError
    from tuner.backend import cluster

    def refuse(address):
        raise InputError(f"--address {address}: nobody answers")

    monkeypatch.setattr(cluster, "join", refuse)
    said = cli("doctor", "--address", "10.0.0.9:1", "--results", tmp_path)
    assert said.status == 1
    assert "problem cluster" in " ".join(said.out.split()) and "nobody answers" in said.out


def test_nodes_are_asked_what_they_have(monkeypatch):
    """A line for each living node: its cores and cards; another version of a library is a problem."""
    ray = pytest.importorskip("ray")
    from tuner.backend import cluster

    def node(number, alive=True):
        resources = {"CPU": 4.0, "GPU": 1.0, "memory": 8e9}
        address = f"10.0.0.{number}"
        return {"NodeID": str(number), "NodeManagerAddress": address, "Alive": alive, "Resources": resources}

    here = cluster.versions()

    def answers(function, arguments, where):
        assert function is doctor.has_versions
        return zip(where, (here, {**here, "torch": "1.0"}, RuntimeError("gone")), strict=True)

    monkeypatch.setattr(ray, "nodes", lambda: [node(1), node(2), node(3), node(4, alive=False)])
    monkeypatch.setattr(cluster, "on_every_node", answers)
    found = doctor._nodes()
    assert [each.state for each in found] == ["ok", "problem", "problem"]
    assert "4 cores, 1 GPUs" in found[0].found
    assert "torch 1.0 (here" in found[1].found
    assert "gone" in found[2].found
