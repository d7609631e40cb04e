"""The wheel: what `pip install` brings."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the tracked files, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0")[:-1]:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_every_file_of_the_rooms(wheel):
    """Modules, run and space files, the report's page: everything tracked below the four rooms, and nothing else."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    rooms = ("search_spaces/", "trainable/", "results/", "tuner/")
    expected = {name for name in tracked if name.startswith(rooms) and (ROOT / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert sum(name.startswith("search_spaces/runs/") for name in found) > 20


def clean():
    """An environment that leads to no other Python."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of a virtual environment that has the wheel, not the checkout.

    What the wheel depends on is that of this environment: a line in a .pth file adds a folder, and the checkout's own
    .pth file, which is in that folder, is not read.
    """
    venv = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, env=clean())
    (site,) = venv.glob("lib/*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"


@pytest.mark.ray
def test_the_installed_wheel_makes_data_searches_and_answers(installed, tmp_path, end):
    """Outside the checkout, from the wheel alone: data, a search of three trials, the best one, SQL, the tables."""

    def run(*arguments):
        process = subprocess.Popen(
            [installed / arguments[0], *arguments[1:]],
            cwd=tmp_path,
            env={**clean(), "COLUMNS": "200"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        done = end(process, tmp_path)
        assert done.status == 0, done.err
        return done.out

    where = run("python", "-c", "import tuner.cli, search_spaces as s; print(tuner.__file__, s.__file__)")
    assert all(path.startswith(str(installed.parent)) for path in where.split())
    assert "quickstart" in run("tuner", "spaces")
    run("tuner", "data", "synthetic", "tiny", "--out", "data")
    searched = run("tuner", "search", "quickstart", "--data", "data", "--study", "s", "--trials", "3")
    assert "tuner best s" in searched
    (row,) = json.loads(run("tuner", "best", "s", "--top", "1", "--format", "json"))
    (answer,) = json.loads(run("tuner", "query", "select count(*) n, min(best_per) p from trials", "--format", "json"))
    assert answer == {"n": 3, "p": row["best_per"]}
    study = tmp_path / "results" / "studies" / "s"
    assert pq.read_table(study / "trials.parquet").num_rows == 3
    assert {path.name for path in tmp_path.iterdir()} == {"data", "results"}
