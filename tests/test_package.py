"""The wheel: what `pip install` brings."""

import subprocess
import sys
import zipfile
from pathlib import Path

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
    assert sum(name.startswith("search_spaces/runs/") for name in found) == 25


def test_the_installed_wheel_gives_a_working_command(wheel, tmp_path):
    """From the wheel alone, outside the checkout, the command line lists the shipped spaces."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import sys; sys.path[:] = [{str(site)!r}] + [p for p in sys.path if p and p != {str(ROOT)!r}];"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')"
        " and 'editable' not in repr(f).lower()];"
        "import tuner; assert tuner.__file__.startswith(sys.path[0]), tuner.__file__;"
        "from tuner.cli import main; main(['spaces'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
    assert "schedule_averaging_augmentation" in done.stdout
