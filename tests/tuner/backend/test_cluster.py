"""A cluster: what is looked at on every node before the first trial, and what is said where something is wrong."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import InputError
from trainable.data.dataset import open_dataset
from tuner.backend import cluster
from tuner.backend.cluster import Expected
from tuner.study.faults import Fault, fault_of


@pytest.fixture
def expected(tiny_data, tmp_path):
    """What a driver expects of a node, its probe file written."""
    pytest.importorskip("torch")  # the versions of a node are compared
    results = tmp_path / "studies"
    with cluster.probe_file(results) as (probe, nonce):
        fingerprint = open_dataset(tiny_data).fingerprint
        yield Expected(str(tiny_data), fingerprint, str(probe), nonce, cluster.versions(), cluster.source_fingerprint())


def test_a_node_that_sees_everything_has_no_problem(expected):
    """Data, results, versions and code agree: nothing is said, and the node's answer lies beside the probe."""
    assert cluster.look(expected, "n1") == []
    assert Path(expected.probe + ".n1").read_text() == expected.nonce


def test_each_problem_of_a_node_is_a_line_that_says_what_to_do(expected, tmp_path):
    """Missing and other data, a results folder that is another or read-only, other versions, other code."""
    changed = {
        "is not there; share it with all nodes, or add --stage-data": {"data": "/nowhere"},
        "is another data set there": {"fingerprint": "0" * 64},
        "cannot be read": {"data": str(tmp_path)},
        "a file just written here is not found": {"probe": str(tmp_path / "not-written")},
        "is another folder there than here": {"nonce": "other"},
        "torch is ": {"versions": {**cluster.versions(), "torch": "1.0.0"}},
        "has another version of this program": {"source": "0"},
    }
    for words, change in changed.items():
        problems = cluster.look(dataclasses.replace(expected, **change), "n")
        assert len(problems) == 1 and words in problems[0], (words, problems)
        assert "\n" not in problems[0] and ";" in problems[0]
    both = dataclasses.replace(expected, data="/nowhere", source="0")
    assert len(cluster.look(both, "n")) == 2


def test_a_library_that_is_missing_on_a_node_is_named(expected, monkeypatch):
    """No torch on the node: the line says which version to install."""
    here = cluster.versions()
    monkeypatch.setattr(cluster, "versions", lambda: {**here, "torch": "none"})
    (problem,) = cluster.look(expected, "n")
    assert problem == f"torch is not installed for its Ray's Python; install torch {here['torch']} there"


def test_shipped_data_need_not_be_there(expected):
    """With --stage-data the node's own path is not looked at."""
    assert cluster.look(dataclasses.replace(expected, data=""), "n") == []


def test_the_probe_leaves_nothing_behind(tmp_path):
    """Folders made for the probe go with it; what was there before, or came meanwhile, stays."""
    new = tmp_path / "a" / "b"
    with cluster.probe_file(new) as (probe, nonce):
        assert probe.read_text() == nonce
        (new / f"{probe.name}.node").touch()
    assert not (tmp_path / "a").exists()
    with cluster.probe_file(new):
        (new / "study").mkdir()
    assert [path.name for path in new.iterdir()] == ["study"]


def test_the_source_fingerprint_is_that_of_the_program(monkeypatch, tmp_path):
    """A copy elsewhere has the same; one changed byte makes another."""
    whole = cluster.source_fingerprint()
    copies = []
    for folder in cluster.room_folders():
        copies.append(shutil.copytree(folder, tmp_path / folder.name))
    monkeypatch.setattr(cluster, "room_folders", lambda: copies)
    fingerprint = cluster.source_fingerprint.__wrapped__
    assert fingerprint() == whole
    with (copies[0] / "errors.py").open("a") as file:
        file.write("\n")
    assert fingerprint() != whole


@given(
    st.dictionaries(st.sampled_from(["CPU", "GPU", "x"]), st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.6, 1.0, 2.0])),
    st.dictionaries(st.sampled_from(["CPU", "GPU", "x"]), st.integers(0, 9).map(float)),
)
def test_a_node_is_never_given_more_than_it_has(request_, resources):
    """As many trials as fit, no more; a share of a card is on one card."""
    count = cluster.trials_at_once(request_, resources)
    wanted = {name: need for name, need in request_.items() if need}
    for name, need in wanted.items():
        assert count * need <= resources.get(name, 0.0) + 1e-6
    if 0 < wanted.get("GPU", 0) < 1:
        assert count <= int(1 / wanted["GPU"] + 1e-9) * resources.get("GPU", 0)
    elif wanted:
        assert any((count + 1) * need > resources.get(name, 0.0) - 1e-6 for name, need in wanted.items())


def test_shares_of_cards_that_do_not_add_up_to_a_card():
    """Two cards hold two trials of 0.6 of a card, not three."""
    assert cluster.trials_at_once({"CPU": 1, "GPU": 0.6}, {"CPU": 8, "GPU": 2}) == 2


@pytest.mark.parametrize("given_", ["x", "=1", "x=0", "x=nan", "x=inf", "x=-1", "GPU=1", "CPU=2"])
def test_a_resource_that_is_none_is_refused(cli, tiny_data, given_):
    """NAME=AMOUNT above zero; cores and cards have options of their own."""
    said = cli("search", "quickstart", "--data", tiny_data, "--trial-resource", given_)
    assert said.status == 2 and "accelerator_type:H200=0.001" in said.err


def test_the_token_is_used_where_there_is_one(monkeypatch, tmp_path):
    """RAY_AUTH_MODE stays what a user set; otherwise a token file or variable turns it on."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cluster.authentication() == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert cluster.authentication() == {"RAY_AUTH_MODE": "token"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert cluster.authentication() == {}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("RPC error: InvalidAuthToken: token is missing", "RAY_AUTH_TOKEN"),
        ("Version mismatch: in a form of a later Ray", "use the cluster's versions"),
        ("Failed to connect to Ray cluster at h:1", "is Ray running there"),
    ],
)
def test_a_cluster_that_lets_nobody_in_is_one_line(said, words):
    """A token, another version, nobody there: each says what to do."""
    outer = ConnectionError("Failed to connect to Ray cluster at h:1")
    outer.__cause__ = RuntimeError(said)
    line = cluster._refusal("h:1", outer)
    assert words in line and line.startswith("--address h:1: ") and "\n" not in line
    assert InputError(line).problems == [line]


def test_a_broken_connection_is_the_nodes_fault_not_the_trials():
    """What Ray says first when a node loses power: the trial has a node's number of retries, not --retries."""
    said = (
        "The actor 079e8f4d4010a1b874cfff9202000000 is unavailable: The actor is temporarily unavailable: RpcError: "
        "RPC error: Socket closed rpc_code: 14. The task may or may not have been executed on the actor."
    )
    assert fault_of(said) == Fault("node", "the node that it ran on was lost, or the network to it")
    assert fault_of("ValueError: the card is unavailable").kind == "error"
