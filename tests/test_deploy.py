"""The files of deploy/ hold against the schemas of what reads them, and are explained in docs/cluster.md."""

import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from tuner.cli import tuner

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def test_what_a_file_tells_to_type_is_on_the_page():
    """Each kubectl command in a comment of deploy/ names a file that is there, and docs/cluster.md has it too."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    told = [
        command for path in DEPLOY.iterdir() for command in re.findall(r"kubectl [a-z]+ -f (\S+)", path.read_text())
    ]
    assert told
    assert all((ROOT / name).is_file() and f"-f {name}" in page for name in told)
    assert not [path.name for path in DEPLOY.iterdir() if "configmap" in path.read_text().lower()]


def options_of(command):
    return {option for parameter in tuner.get_command(None, command).params for option in parameter.opts}


def test_the_cluster_file_is_what_ray_up_takes():
    """It holds against the schema that Ray ships, and Ray's own checks take it; every node asks for the token."""
    import ray
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    validate_config(prepare_config(config))
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert all("RAY_AUTH_MODE=token" in command for command in commands)


@pytest.fixture
def rayjob():
    return yaml.safe_load((DEPLOY / "kuberay-rayjob.yaml").read_text())


@pytest.fixture
def rayjob_schema():
    return json.loads((ROOT / "tests" / "deploy" / "rayjob-schema.json").read_text())


def test_the_rayjob_is_what_kuberay_takes(rayjob, rayjob_schema):
    """It holds against the field names and types of KubeRay v1.7.0's custom resource definition."""
    jsonschema.validate(rayjob, rayjob_schema)


@pytest.mark.parametrize("path", ["spec.entryPoint", "spec.rayClusterSpec.workers", "metadata.name"])
def test_the_schema_refuses_other_fields(rayjob, rayjob_schema, path):
    """A misspelt or missing field is seen: the check above can fail."""
    *above, last = path.split(".")
    node = rayjob
    for key in above:
        node = node[key]
    if last in node:
        del node[last]
    else:
        node[last] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(rayjob, rayjob_schema)


def test_the_rayjob_starts_a_search_with_options_that_there_are(rayjob):
    """Its entrypoint is a command line of this program; the head gets no trials; workers mount what the head mounts."""
    words = rayjob["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "tuner", "search"] and "auto" in words
    assert {word for word in words if word.startswith("--")} <= options_of("search")
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    pods = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    mounts = [pod["spec"]["containers"][0]["volumeMounts"] for pod in pods]
    assert all(mount == mounts[0] for mount in mounts)
    for group in cluster["workerGroupSpecs"]:  # nodes are looked at once, before the first trial
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]


def test_the_image_has_the_ray_version_that_the_files_name(rayjob):
    """Image, RayJob and constraints.txt agree on Ray's version."""
    version = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert f"FROM rayproject/ray:{version}-" in (DEPLOY / "Dockerfile").read_text()


SBATCH = {
    "--job-name", "--nodes", "--ntasks-per-node", "--exclusive", "--gpus-per-node", "--cpus-per-task", "--time",
    "--signal", "--requeue", "--open-mode", "--output",
}  # fmt: skip


def test_the_slurm_script_is_bash_and_its_options_are_slurms():
    """bash reads it; every #SBATCH line is an option of sbatch, before the first command; a node has one task."""
    path = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    found = dict(line.removeprefix("#SBATCH ").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert set(found) <= SBATCH and found["--ntasks-per-node"] == "1"
    assert all(i < first for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert re.fullmatch(r"(\d+-)?\d+:\d\d:\d\d", found["--time"])


def test_the_slurm_script_starts_ray_on_all_nodes_and_the_driver_with_it(tmp_path):
    """With srun, scontrol and ray replaced by programs that write down what they are given: one address, the first
    node's; the user's arguments reach tuner unchanged; a token that is new for each job.
    """
    tools = {
        "srun": 'shift; exec "$@"',
        "scontrol": "printf 'n01\\nn02\\n'",
        "ray": 'printf "%s\\n" "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN" "$@" > "$OUT"',
    }
    (tmp_path / "bin").mkdir()
    for name, body in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    said = []
    for out in ("a", "b"):
        environment = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "OUT": str(tmp_path / out), "B2T_VENV": str(tmp_path),
            "SLURM_JOB_NODELIST": "n[01-02]", "SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "8", "SLURM_GPUS_ON_NODE": "4",
        }  # fmt: skip
        arguments = ["search", "small", "--study", "a name"]
        subprocess.run(["bash", DEPLOY / "slurm.sh", *arguments], env=environment, check=True, timeout=600)
        said.append((tmp_path / out).read_text().splitlines())
    mode, token, command, *options = said[0]
    assert (mode, len(token), command) == ("token", 64, "symmetric-run") and token != said[1][1]
    assert " ".join(options[: options.index("--")]) == "--address n01:20077 --min-nodes 2 --num-cpus 8 --num-gpus 4"
    assert options[options.index("--") + 1 :] == ["tuner", *arguments, "--address", "n01:20077"]


def test_every_file_of_deploy_is_explained():
    """docs/cluster.md names each of them."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    for path in DEPLOY.iterdir():
        assert f"deploy/{path.name}" in text, path
