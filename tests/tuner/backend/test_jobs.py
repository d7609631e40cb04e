"""Submitting a search as a Ray job: what is sent, what is shown, and a real submission where the job client is."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from results.store.events import read_events
from search_spaces import InputError
from tuner.backend import jobs

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.ray_nodes import Nodes

SEARCH = ["--address", "--data", "--results", "--trials", "--study"]


def test_folders_are_made_absolute_and_the_cluster_is_joined(tmp_path, monkeypatch):
    """What is relative here is meant as here; results and address are added; other arguments stay as they are."""
    monkeypatch.chdir(tmp_path)
    line, files = jobs.command_line(["search", "small", "--data", "an4", "--trials", "3"], SEARCH, "results")
    assert line == [
        "search", "small", "--data", f"{tmp_path}/an4", "--trials", "3", "--results", f"{tmp_path}/results",
        "--address", "auto",
    ]  # fmt: skip
    assert files is None
    line, _ = jobs.command_line(["search", "small", "--data=/d", "--results=r"], SEARCH, "results")
    assert line == ["search", "small", "--data", "/d", "--results", f"{tmp_path}/r", "--address", "auto"]


@pytest.mark.parametrize("uri", ["s3://b/p", "gs://b/p?scheme=http", "file:///shared/studies", "abfss://c@a/p"])
def test_stores_are_left_alone(uri):
    """A URI is no path of this machine, however it is given: --results, --results=, --data, or TUNER_RESULTS."""
    for given in (["--results", uri], [f"--results={uri}"], []):
        line, _ = jobs.command_line(["search", "small", "--data", uri, *given], SEARCH, uri)
        assert line[:4] == ["search", "small", "--data", uri]
        assert line[line.index("--results") + 1] == uri
    assert (line.count("--results"), line.count(uri)) == (1, 2)


def test_a_key_in_a_uri_is_not_sent():
    """Everybody on a cluster reads a job's command line: a key in it is refused, and not said again."""
    with pytest.raises(InputError, match="set it on the head with environment") as error:
        jobs.command_line(["search", "small"], SEARCH, "s3://AKIAKEY:topsecret@bucket/p")
    assert "topsecret" not in str(error.value)


def test_a_space_file_travels_with_those_beside_it(tmp_path):
    """The file is named without its folder, and that folder's YAML files are sent; two folders are refused."""
    for name in ("a/space.yaml", "a/base.yaml", "a/data.npy", "b/other.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    line, files = jobs.command_line(["search", f"{tmp_path}/a/space.yaml"], SEARCH, "r")
    assert line[:2] == ["search", "space.yaml"] and files == tmp_path / "a"
    sent = {}

    def submit_job(entrypoint, runtime_env):
        sent.update(entrypoint=entrypoint, files=sorted(p.name for p in Path(runtime_env["working_dir"]).iterdir()))
        return "job-1"

    assert jobs.send(SimpleNamespace(submit_job=submit_job), line, files, "/venv/bin/python") == "job-1"
    assert sent["files"] == ["base.yaml", "space.yaml"]
    assert sent["entrypoint"].startswith("/venv/bin/python -m tuner search space.yaml ")
    with pytest.raises(InputError, match="into one folder"):
        jobs.command_line(["search", f"{tmp_path}/a/space.yaml", f"{tmp_path}/b/other.yaml"], SEARCH, "r")


def test_the_log_is_shown_as_it_grows():
    """Every character once, to the job's end; the exit status is the driver's."""
    logs = ["", "one\n", "one\ntw", "one\ntwo\n"]
    states = iter(["PENDING", "RUNNING", "RUNNING", "FAILED"])

    def get_job_info(job):
        value = next(states)
        status = SimpleNamespace(value=value, is_terminal=lambda: value in ("FAILED", "SUCCEEDED"))
        return SimpleNamespace(status=status, message="", driver_exit_code=3)

    client = SimpleNamespace(get_job_info=get_job_info, get_job_logs=lambda job: logs.pop(0))
    shown = []
    assert jobs.follow(client, "job-1", shown.append, sleep=lambda _: None) == 3
    assert "".join(shown) == "one\ntwo\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--address", "head:8265", "--", "search", "small"], "such as http://HEAD:8265"),
        (["--address", "http://h:1", "--", "best"], "'best' is not allowed after '--'; give "),
        (["--address", "http://h:1", "--", "search", "small", "--address", "auto"], "--address after '--'"),
        (["--address", "http://h:1"], "Missing argument"),
    ],
)
def test_what_cannot_be_submitted_is_refused(cli, arguments, words):
    """A head that is none, a command that needs no cluster, an address within: exit status 2 and what is allowed."""
    said = cli("submit", *arguments)
    assert said.status == 2 and words in said.err


def test_a_missing_job_client_is_one_line(monkeypatch):
    """Without ray[default] the line names the extra to install."""
    line = jobs._no_client("http://h:1", "The Ray jobs CLI & SDK require the ray[default] installation")
    assert line.endswith("pip install '.[cluster]' in the checkout of b2t-tuner") and "\n" not in line


@pytest.mark.parametrize("kind", ["AuthenticationError", "RayError"])
def test_a_head_that_refuses_is_one_line(monkeypatch, kind):
    """What Ray raises where the token is missing is no RuntimeError: it is wrong input too, and says what to give."""
    import ray.job_submission

    def refuse(address):
        raise getattr(ray.exceptions, kind)("Authentication required: Unauthorized: Missing authentication token")

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", refuse)
    with pytest.raises(InputError, match="the cluster asks for its token") as error:
        jobs.connect("http://h:8265")
    assert len(error.value.problems) == 1


@pytest.mark.ray
@pytest.mark.skipif(
    importlib.util.find_spec("aiohttp_cors") is None, reason="needs ray[default]: pip install '.[cluster]'"
)
def test_a_submitted_search_runs_on_the_cluster(tmp_path, tiny_data, real_space, end):
    """A head with its dashboard, a search sent to it: its log is shown, its study is in the results folder."""
    nodes = Nodes(dashboard=True)
    root = str(Path(__file__).parents[3])
    extra = os.environ.get("PYTHONPATH", "")
    environment = {**nodes.environment, "PYTHONPATH": os.pathsep.join(filter(None, [root, extra])), "COLUMNS": "200"}
    try:
        nodes.environment["PYTHONPATH"] = extra
        nodes.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        nodes.start(1)
        program = subprocess.Popen(
            [sys.executable, "-m", "tuner", "submit", "--address", nodes.dashboard, "--", "search", str(real_space),
             "--data", str(tiny_data), "--results", "r", "--study", "sent", "--trials", "2"],
            cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        done = end(program, tmp_path)
    finally:
        nodes.close()
    assert done.status == 0, done.out + done.err
    assert "2 of 2 ended" in done.out and "tuner stop sent --results" in done.err
    assert read_events(tmp_path / "r" / "sent" / "events.jsonl")[0][-1]["event"] == "study_ended"


def test_a_key_is_not_sent_to_the_clusters_job_list(cli):
    """A job's command line is shown to everybody there: an address with a key in it is refused before anything is."""
    given = ["submit", "--address", "http://127.0.0.1:1", "--", "resume", "s", "--results"]
    said = cli(*given, "s3://KEYID:SECRET@bucket/p")
    assert said.status == 2 and said.err.count("\n") == 1
    assert "a key in an address after '--'" in said.err and "SECRET" not in said.err and "KEYID" not in said.err
