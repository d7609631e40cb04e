"""Searches on hosts of their own network, name, processes and `/tmp`: what a cluster does to a search, in short.

The long form is `benchmarks/chaos.py --hosts 3`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from results.store.events import read_events

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.hosts import SHARED, Hosts, why_not

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(why_not() is not None, reason=f"no hosts can be made here: {why_not()}"),
]
RUN = """
purpose: a run of many short epochs
model: {hidden: 12, layers: 1, kernel: 8, stride: 4}
optimizer: {kind: adam, eps: 1.0e-8}
schedule: {kind: one_cycle, start_lr: 1.0e-4, peak_lr: 1.0e-2, end_lr: 1.0e-5}
training: {batches: 160, batches_per_epoch: 4, batch_size: 16, clip: 5}
"""
SPACE = """
purpose: a space
base: run.yaml
dimensions:
  schedule.peak_lr: {log_uniform: [1.0e-3, 5.0e-2]}
start_points: [run.yaml]
stopping: {kind: none}
budget: {trials: 2}
"""


@pytest.fixture(scope="module")
def hosts():
    """A head without cores and two hosts of a core each, which share `/mnt`; a third host without Ray."""
    from trainable.data.synthetic import make_synthetic

    with Hosts() as made:
        make_synthetic(made.folder / "data", "tiny")
        (made.folder / "run.yaml").write_text(RUN)
        (made.folder / "space.yaml").write_text(SPACE)
        head = made.add()
        made.begin(head, 0)
        workers = made.add(), made.add()
        made.wait(head)
        for worker in workers:
            made.begin(worker, 1, pair=1)
        made.wait(*workers)
        yield made


def epochs(hosts, study):
    """The epochs in a study's log, now."""
    log = hosts.folder / "results" / study / "events.jsonl"
    return [e for e in read_events(log)[0] if e["event"] == "epoch"] if log.exists() else []


@pytest.fixture
def until(hosts, wait, sizes):
    """Wait until something holds, as long as files in the shared folder grow; fails if the process ends before."""

    def until(process, holds, printed=None):
        def there():
            assert process.poll() is None, printed.read_text()[-3000:] if printed else process.communicate()
            return holds()

        return wait(there, lambda: sizes(hosts.folder))

    return until


def search(hosts, study):
    """The arguments of a search of two trials on the hosts named "pair"."""
    return ("search", "space.yaml", "--data", SHARED / "data", "--results", SHARED / "results", "--study", study,
            "--address", hosts.address, "--trial-resource", "pair=0.001")  # fmt: skip


def test_what_is_wrong_on_a_host_is_said_before_the_first_trial(hosts, end):
    """A host that sees neither data nor results and has another version of a library: a line for each, by its address;
    exit status 2, and no study.
    """
    import optuna

    version = Path(optuna.__file__).parents[1] / f"optuna-{optuna.__version__}.dist-info"
    other = shutil.copytree(version, hosts.folder / "other")
    text = (other / "METADATA").read_text()
    (other / "METADATA").write_text(text.replace(f"Version: {optuna.__version__}", "Version: 1.2.3"))
    odd = hosts.add(hidden=[SHARED / "data"])
    assert odd.run(["mount", "--bind", SHARED / "other", version]).returncode == 0
    (hosts.folder / "results").mkdir(exist_ok=True)
    assert odd.run(["mount", "-t", "tmpfs", "tmpfs", SHARED / "results"]).returncode == 0
    hosts.begin(odd, 1, odd=1)
    hosts.wait(odd)
    done = end(hosts[0].tuner(*search(hosts, "odd")[:-1], "odd=0.001"), hosts.folder)
    odd.kill()
    assert done.status == 2, done.out
    lines = [line for line in done.out.splitlines() if line.startswith("error:")]
    assert len(lines) == 3, done.out
    assert all(f"node {odd.address}: " in line for line in lines)
    for words in ("/mnt/data cannot be read", "/mnt/results is not the driver's folder there", "optuna is 1.2.3 there"):
        assert any(words in line for line in lines), lines
    assert not (hosts.folder / "results" / "odd").exists()


def test_a_search_outlives_a_cut_link_a_lost_host_and_its_own_driver(hosts, until, end):
    """A worker's cable is out for ten seconds: nothing happens. That host is killed: its trial goes on elsewhere, and
    no stack trace reaches the user. The driver is killed with its host's processes and resumed from another host:
    every trial ends, no epoch is lost or has another PER.
    """
    head, first, second = hosts[0], hosts[1], hosts[2]
    with (hosts.folder / "driver.txt").open("w") as output:
        process = head.tuner(*search(hosts, "s"), output=output)
    until(process, lambda: {e["host"] for e in epochs(hosts, "s")} == {first.name, second.name})
    second.cut()
    time.sleep(10)  # what is tested
    second.mend()
    after = len(epochs(hosts, "s"))
    until(process, lambda: len(epochs(hosts, "s")) > after + 2)
    second.kill()
    until(process, lambda: "to be tried again" in (hosts.folder / "driver.txt").read_text())
    process.kill()
    process.wait(600)
    head.run(["pkill", "-9", "-f", "tuner search"])
    said = (hosts.folder / "driver.txt").read_text()
    assert "StackTrace" not in said and "Traceback" not in said
    before = {(e["trial"], e["epoch"]): e["per"] for e in epochs(hosts, "s")}
    given = ("resume", "s", "--results", SHARED / "results", "--address", hosts.address)
    done = end(first.tuner(*given), hosts.folder)
    assert done.status == 0, done.out
    after = {(e["trial"], e["epoch"]): e["per"] for e in epochs(hosts, "s")}
    assert {key: after[key] for key in before} == before
    events = read_events(hosts.folder / "results" / "s" / "events.jsonl")[0]
    ends = {e["trial"]: e["status"] for e in events if e["event"] == "trial_ended" and not e.get("retry")}
    assert ends == {0: "completed", 1: "completed"}
    assert set(after) == {(trial, epoch) for trial in (0, 1) for epoch in range(1, 41)}


def test_a_search_whose_last_node_went_says_so_and_gives_up_as_asked(hosts, until, end):
    """The only host left is killed: told with the lost address and what to do; with --give-up-after
    the search leaves with exit status 1, and everything reported is in the log.
    """
    (hosts.folder / "run.yaml").write_text(RUN.replace("batches: 160", "batches: 4000"))
    with (hosts.folder / "left.txt").open("w") as output:
        process = hosts[0].tuner(*search(hosts, "left"), "--give-up-after", "0.4", output=output)
    until(process, lambda: len(epochs(hosts, "left")) > 1, printed=hosts.folder / "left.txt")
    hosts[1].kill()
    until(process, lambda: "nodes: " in (hosts.folder / "left.txt").read_text(), printed=hosts.folder / "left.txt")
    assert end(process, hosts.folder).status == 1
    said = (hosts.folder / "left.txt").read_text()
    assert f"(before: {hosts[1].address})" in said and "ray start --address" in said
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "--give-up-after" in line and "'tuner resume left" in line
    assert "StackTrace" not in said
    last = json.loads((hosts.folder / "results" / "left" / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["reason"]) == ("study_ended", "failed")
