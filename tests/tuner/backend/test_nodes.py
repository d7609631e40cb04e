"""Searches on two Ray nodes, started on this machine as `ray start` does on two; the second cannot see the data."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from results.store.events import read_events

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.ray_nodes import Nodes

pytestmark = pytest.mark.ray
HIDE = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny_data):
    """Two nodes of a core each, one with an A100 and one with an H200 (so they say); where possible the data are hidden
    from the second.
    """
    root = tmp_path_factory.mktemp("cluster")
    data = shutil.copytree(tiny_data, root / "data" / "tiny")
    hides = subprocess.run([*HIDE, str(data.parent), "true"], capture_output=True).returncode == 0
    nodes = Nodes()
    try:
        nodes.environment["TUNER_STAGE"] = str(root / "stage")
        nodes.start(1, gpus=1, resources={"accelerator_type:A100": 1})
        nodes.start(
            1, gpus=1, resources={"accelerator_type:H200": 1}, within=(*HIDE, str(data.parent)) if hides else ()
        )
        yield SimpleNamespace(nodes=nodes, data=data, root=root, hides=hides)
    finally:
        nodes.close()


def environment(cluster):
    """That of a driver: the program is here; the nodes get it with the search."""
    return {**cluster.nodes.environment, "PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "200"}


def start(cluster, *arguments):
    """`tuner` on the cluster, in a folder that both nodes see."""
    return subprocess.Popen(
        [sys.executable, "-m", "tuner", *map(str, arguments), "--address", cluster.nodes.address],
        cwd=cluster.root,
        env=environment(cluster),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def nodes_of_trials(process, log, cluster, wait):
    """The node number of each trial, once trials run on both nodes; fails if the search ends before."""
    seen = {}

    def on_both():
        events = read_events(log)[0] if log.exists() else []
        for event in events:
            if event["event"] == "epoch" and event["trial"] not in seen and psutil.pid_exists(event["pid"]):
                above = {parent.pid for parent in psutil.Process(event["pid"]).parents()}
                seen[event["trial"]] = next(n for n, node in enumerate(cluster.nodes.processes) if node.pid in above)
        assert process.poll() is None, process.communicate()
        return set(seen.values()) == {0, 1}

    wait(on_both, lambda: log.exists() and log.stat().st_size)
    return seen


def test_a_node_that_cannot_see_the_data_is_named_before_the_first_trial(cluster, real_space, end):
    """One line with the node, the path and both remedies; exit status 2; no study is made."""
    if not cluster.hides:
        pytest.skip("mounting needs rights that this machine does not give")
    done = end(start(cluster, "search", real_space, "--data", cluster.data, "--study", "none"), cluster.root)
    assert done.status == 2, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert lines == [
        f"error: node 127.0.0.2: {cluster.data} is not there; share it with all nodes, or add --stage-data"
    ]
    assert not (cluster.root / "results").exists()


PLACED = """
import json, os, sys, time
from pathlib import Path
import ray
from tuner.backend import cluster, ray_backend
from tuner.study.study import Study

def work(job, place):
    here = ray.get_runtime_context().get_node_id()
    at_once = Path(place.folder, "at-once"); at_once.mkdir(exist_ok=True)
    mine = at_once / str(job.trial); mine.touch()
    seen = [here, os.environ.get("CUDA_VISIBLE_DEVICES"), len(list(at_once.iterdir()))]
    Path(place.folder, f"placed-{job.trial}.json").write_text(json.dumps(seen))
    for epoch in range(1, job.config.epochs + 1):
        if epoch == job.config.epochs:
            mine.unlink()
        yield {"epoch": epoch, "batch": 2 * epoch, "per": 0.5, "val_loss": 1.0, "seconds": 0.0}

address, folder, custom, gpus = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), float(sys.argv[4])
resources = ray_backend.Resources(0.25, gpus, None, custom)
limit = ray_backend.start_ray(address, None, resources)
study = Study.resume(folder, {}, [])
nodes = cluster.nodes(resources.request())
reason = ray_backend.run(study, folder, resources, limit, work)
study.close()
print(json.dumps({"limit": limit, "nodes": [n["id"] for n in nodes], "reason": reason}))
ray_backend.stop_ray()
"""


def test_trials_run_only_where_their_kind_of_card_is(cluster, toy, end):
    """Half an H200 for each trial: all run on the node that says it has one, on its card, never more than two at once;
    the other node is not even looked at.
    """
    toy.create("cards", budget={"trials": 5, "hours": None}, stopping={"kind": "none"}).close()
    folder = toy.folder / "cards"
    custom = {"accelerator_type:H200": 0.001}
    program = subprocess.Popen(
        [sys.executable, "-c", PLACED, cluster.nodes.address, str(folder), json.dumps(custom), "0.5"],
        env=environment(cluster),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = end(program, folder)
    assert done.status == 0, done.err
    said = json.loads(done.out)
    assert (said["limit"], said["reason"], len(said["nodes"])) == (2, "budget", 1)
    placed = [json.loads((folder / f"placed-{trial}.json").read_text()) for trial in range(5)]
    assert {node for node, _, _ in placed} == set(said["nodes"])
    assert {card for _, card, _ in placed} == {"0"} and max(count for _, _, count in placed) <= 2
    _, _, ends = toy.decisions("cards")
    assert ends == dict.fromkeys(range(5), "completed")


def test_a_search_survives_the_loss_of_a_node(cluster, real_space, tuner, tmp_path, wait, end):
    """The data are sent to both nodes, one node is killed while it trains: its trial goes on elsewhere, no epoch is
    lost or doubled, every trial ends, and the copies are removed.
    """
    run, space = (real_space.parent / "real.yaml").read_text(), tmp_path / real_space.name
    (tmp_path / "real.yaml").write_text(re.sub(r"batches: \d+, batches_per_e", "batches: 160, batches_per_e", run))
    space.write_text(real_space.read_text())
    process = start(cluster, "search", space, "--data", cluster.data, "--study", "lost", "--trials", 4,
                    "--stopping", "none", "--stage-data")  # fmt: skip
    study = cluster.root / "results" / "studies" / "lost"
    log = study / "events.jsonl"
    where = nodes_of_trials(process, log, cluster, wait)
    cluster.nodes.kill(1)
    before = {(e["trial"], e["epoch"]): e["per"] for e in read_events(log)[0] if e["event"] == "epoch"}
    done = end(process, cluster.root)
    assert done.status == 0, done.err
    assert "sending the data" in done.err and "to be tried again" in done.err
    _, epochs, ends = tuner.decisions(study)
    assert ends == dict.fromkeys(range(4), "completed")
    assert {key: epochs[key][0] for key in before} == before
    attempts = {e["trial"]: e["attempt"] for e in read_events(log)[0] if e["event"] == "trial_started"}
    assert {trial for trial, attempt in attempts.items() if attempt > 1} <= {t for t, node in where.items() if node}
    assert not [path for path in (cluster.root / "stage").iterdir() if path.is_dir()]
