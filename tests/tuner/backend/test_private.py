"""Nobody else gets into a local Ray: what lies under /tmp and the token are the user's alone."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.backend.private import close_to_others, guard_token, make_scratch

LOCAL = """
import json, os, stat, sys
from pathlib import Path
import psutil
from tuner.backend import ray_backend, start

os.umask(0)
ray_backend.start_ray(None, 1, ray_backend.Resources(1, 0, 1))
scratch = start.scratch()
found = {str(p): p.lstat() for p in (scratch, *scratch.rglob("*")) if not p.is_symlink()}
sockets = [p for p, info in found.items() if stat.S_ISSOCK(info.st_mode)]
wide = [p for p, info in found.items() if info.st_mode & 0o077 and not stat.S_ISREG(info.st_mode)]
processes = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
ray_backend.stop_ray()
print(json.dumps({"sockets": len(sockets), "wide": wide, "left": scratch.exists(), "processes": processes,
                  "torch": "torch" in sys.modules}))
"""


def mode(path):
    """The nine bits of rights."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(scope="module")
def a_ray(tmp_path_factory, end):
    """What a real local Ray had, and the home folder of whoever started it."""
    home = tmp_path_factory.mktemp("home")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(home)}
    program = subprocess.Popen(
        [sys.executable, "-c", LOCAL], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    done = end(program, home)
    assert done.status == 0, done.err
    return json.loads(done.out.splitlines()[-1]), home


@pytest.mark.ray
def test_a_local_ray_is_open_to_its_user_alone(a_ray):
    """Started under a umask of 0: no folder and no socket of its session lets another user in, and the token it made
    is 0600.
    """
    found, home = a_ray
    assert found["sockets"] >= 2
    assert found["wide"] == []
    assert not found["left"]
    assert mode(home / ".ray" / "auth_token") == 0o600


@pytest.mark.ray
def test_a_local_ray_has_only_what_trials_need(a_ray):
    """No autoscaler, server of the dashboard or reader of logs beside it, no worker before a trial asks for one, and
    the driver has not loaded torch: each would cost a search a second at its begin.
    """
    found, _ = a_ray
    running = " ".join(found["processes"])
    assert "gcs_server" in running and "raylet" in running
    assert [name for name in ("monitor.py", "dashboard.py", "log_monitor.py", "ray::IDLE") if name in running] == []
    assert not found["torch"]


def test_close_to_others_leaves_what_links_point_to(tmp_path):
    """Folders, files and sockets lose the rights of others; what a link points to keeps its own."""
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o644)
    inside = tmp_path / "in" / "deep"
    inside.mkdir(parents=True)
    inside.chmod(0o777)
    (inside / "link").symlink_to(outside)
    (inside / "file").write_text("")
    (inside / "file").chmod(0o666)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(inside / "s"))
        close_to_others(tmp_path / "in")
    assert [mode(path) for path in (inside, inside / "file")] == [0o700, 0o600]
    assert mode(inside / "s") & 0o077 == 0
    assert mode(outside) == 0o644


def test_the_scratch_folder_is_private():
    """Before Ray has put anything into it."""
    folder = make_scratch()
    try:
        assert mode(folder) == 0o700
    finally:
        folder.rmdir()


@pytest.mark.parametrize("there", [0o644, 0o666, 0o600, None])
def test_the_token_is_readable_by_its_user_alone(there, tmp_path, monkeypatch):
    """One that is there is kept and its mode mended; one that Ray would make is made here, with 64 hex digits."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / ".ray" / "auth_token"
    if there is not None:
        path.parent.mkdir()
        path.write_text("secret")
        path.chmod(there)
    guard_token()
    assert mode(path) == 0o600
    assert path.read_text() == "secret" if there else len(bytes.fromhex(path.read_text())) == 32
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name, value", [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "mine")])
def test_no_token_is_made_where_none_is_asked_for(name, value, tmp_path, monkeypatch):
    """With tokens switched off, or given by the environment, the home folder is let be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for other in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    guard_token()
    assert not (tmp_path / ".ray").exists()
