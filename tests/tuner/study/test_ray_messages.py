"""Ray's messages are recognised in two versions: the oldest that is allowed, and the one of the lock file.

The messages are in tests/fixtures/ray_messages, a file each, made with a real Ray by its `make.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.backend import cluster, jobs, local
from tuner.study.faults import fault_of, killed_actors
from tuner.study.ray_messages import SIGNS, said

FOLDER = Path(__file__).parents[2] / "fixtures" / "ray_messages"
VERSIONS = tuple(path.name for path in sorted(FOLDER.iterdir()) if path.is_dir())
LATER = {"token_missing": "2.60.0"}
"""Messages that earlier versions do not have: they ask for no token."""

FAULTS = {
    "worker_killed": ("killed", "the worker process was killed or crashed"),
    "killed_earlier": ("killed", "the worker process was killed or crashed"),
    "constructor_killed": ("killed", "the worker process was killed or crashed"),
    "node_died": ("node", "the node that it ran on was lost"),
    "connection_lost": ("node", "the node that it ran on was lost, or the network to it"),
    "memory_monitor": ("memory", "Ray's memory monitor killed the worker ("),
    "constructor_raises": ("start", "the worker could not be started: RuntimeError: no data"),
    "library_missing": ("error", "ModuleNotFoundError: No module named 'no_such_library'"),
}
"""A message -> the fault of the trial's attempt, and what its line has."""


def message(version: str, name: str) -> str:
    """A message as Ray gave it."""
    path = FOLDER / version / f"{name}.txt"
    if not path.exists():
        assert version < LATER[name]
        pytest.skip(f"Ray {version} has no such message")
    first, _, text = path.read_text(encoding="utf-8").partition("\n")
    assert first.startswith(f"# Ray {version}, make.py: "), "the first line says where the message came from"
    return text


def test_there_are_two_versions():
    """The oldest Ray that pyproject.toml allows, and the one that the lock file pins; with the same messages."""
    pins = [(FOLDER.parents[2] / name).read_text() for name in ("constraints-oldest.txt", "constraints.txt")]
    assert [f"ray=={version}\n" in pin for version, pin in zip(VERSIONS, pins, strict=True)] == [True, True]
    oldest, newest = ({path.stem for path in (FOLDER / version).iterdir()} for version in VERSIONS)
    assert newest - oldest == set(LATER) and not oldest - newest


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FAULTS)
def test_what_happened_to_a_worker_is_told_from_what_ray_says(version, name):
    """Each way in which a worker ends has its kind, which decides how often it is tried again, and its line."""
    fault = fault_of(message(version, name))
    kind, words = FAULTS[name]
    assert fault.kind == kind
    assert words in fault.text and "\n" not in fault.text


@pytest.mark.parametrize("version", VERSIONS)
def test_the_memory_in_use_is_told(version):
    """The line of a worker that the memory monitor killed has how much was in use, and of how much."""
    assert "GB of 23.54GB used)" in fault_of(message(version, "memory_monitor")).text


def test_the_workers_that_the_memory_monitor_chose_are_named_where_ray_names_them():
    """Ray 2.60 names the two actors; 2.50 kills one, tells its driver alone, and names a worker."""
    found = [killed_actors(message(version, "memory_monitor")) for version in VERSIONS]
    assert [len(set(each)) for each in found] == [0, 2]
    assert all(len(name) == 32 for each in found for name in each)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_of_another_version_is_one_line_with_both(version):
    """The user reads which versions the cluster has and which are here."""
    line = cluster._refusal("h:1", RuntimeError(message(version, "other_version")))
    assert "the cluster has Ray 2.0.0 and Python 3.11.7" in line
    assert f"here are Ray {version} and Python 3.11.7; use the cluster's versions" in line and "\n" not in line


@pytest.mark.parametrize("version", VERSIONS)
def test_a_token_that_is_missing_is_asked_for(version):
    """Whoever joins without the cluster's token reads how to give it."""
    line = cluster._refusal("h:1", ConnectionError(message(version, "token_missing")))
    assert "copy the head's ~/.ray/auth_token here" in line


@pytest.mark.parametrize("version", VERSIONS)
def test_a_library_that_a_node_lacks_is_named(version):
    """The node's error is one line with the library's name."""
    line = cluster.why(RuntimeError(message(version, "library_missing")))
    assert line == "lacks a library (No module named 'no_such_library'); install the driver's version there"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "words"),
    [("no_job_client", "pip install '.[cluster]'"), ("job_token_missing", "the cluster asks for its token")],
)
def test_a_job_that_cannot_be_sent_is_one_line(version, name, words):
    """Without Ray's job client, or without the cluster's token: what to do."""
    line = jobs._no_client("http://h:8265", message(version, name))
    assert words in line and "\n" not in line


@pytest.mark.parametrize("version", VERSIONS)
def test_the_cause_is_found_in_the_logs_of_rays_processes(version, tmp_path):
    """Of a crash with its stack trace, the line that says why is told, and not the last of the trace."""
    log = tmp_path / "session_2026" / "logs" / "gcs_server.out"
    log.parent.mkdir(parents=True)
    log.write_text(message(version, "open_files"))
    assert said("too many files", local._own_words(tmp_path))


@pytest.mark.parametrize("sign", SIGNS)
def test_every_sign_is_in_a_message(sign):
    """No pattern is there that no message of either version has: each was seen."""
    texts = [path.read_text(encoding="utf-8") for version in VERSIONS for path in (FOLDER / version).iterdir()]
    assert any(said(sign, text.partition("\n")[2]) for text in texts)
