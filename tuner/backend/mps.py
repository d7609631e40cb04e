"""NVIDIA's Multi-Process Service for the trials that share a card: without it their kernels take turns.

Each node that has cards gets a daemon of its own for a search, in a private folder below the machine's temporary one;
no setting of a card is changed, and a daemon of somebody else (CUDA_MPS_PIPE_DIRECTORY is set) is used as it is.
Nothing has to be ended by hand: each worker holds a shared lock on the folder's file `users`, and a guardian process
beside the daemon waits for the lock alone. The kernel lets go of a dead worker's lock, so the guardian gets it when the
last one is gone, also after a crash; it ends the daemon and removes the folder.

    python -m tuner.backend.mps FOLDER       # the guardian

See https://docs.nvidia.com/deploy/mps.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

CONTROL = "nvidia-cuda-mps-control"
LINGER = 30.0
"""Seconds for which a daemon without users stays: between two trials of a worker there may be none."""
PATIENCE = 30.0
"""Seconds for which the daemon is waited for."""
_held: IO[str] | None = None  # this process's lock, held until it ends


def join(key: str, share: float) -> str:
    """Make this process a client of the daemon of the search `key`, and start the daemon if it does not run.

    Call it before CUDA is used. `share` is the process's share of a card: it gets up to twice that share of the card's
    threads, as NVIDIA advises for clients that seldom need theirs all at once. Returns what was done,
    or why there is no daemon; a trial runs without one too.
    """
    global _held
    if not 0 < share < 1:
        return ""
    if os.environ.get("TUNER_NO_MPS"):
        return "no MPS, trials take turns on the card: TUNER_NO_MPS is set"
    os.environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(max(1, min(100, round(200 * share))))
    if "CUDA_MPS_PIPE_DIRECTORY" in os.environ:
        return "MPS: the daemon that CUDA_MPS_PIPE_DIRECTORY names"
    if shutil.which(CONTROL) is None:
        return f"no MPS, trials take turns on the card: {CONTROL} is not installed"
    folder = place(key)
    try:
        _held = _lock(folder)
        _begin(folder)
    except (OSError, subprocess.SubprocessError) as error:
        if _held is not None:
            _give_up(_held, folder)
            _held = None
        detail = getattr(error, "stderr", None) or str(error)
        return f"no MPS, trials take turns on the card: {CONTROL} did not start: {' '.join(str(detail).split())[:200]}"
    os.environ.update(_places(folder))
    return f"MPS: up to {os.environ['CUDA_MPS_ACTIVE_THREAD_PERCENTAGE']} % of the card's threads"


def has_card() -> bool:
    """Whether this node has an NVIDIA card, without CUDA: its driver makes a file for each."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


def place(key: str) -> Path:
    """The folder of the daemon of a search on this node: short, as the path of a socket may have 107 letters."""
    name = hashlib.sha256(f"{os.getuid()} {key}".encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"tuner-mps-{name}"


def _places(folder: Path) -> dict[str, str]:
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}


def _lock(folder: Path) -> IO[str]:
    """A shared lock on the file `users` of the folder, which is made. Raises OSError where it is somebody else's."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or folder.is_symlink():
            raise PermissionError(f"{folder} belongs to somebody else")
        with contextlib.suppress(FileNotFoundError):  # the guardian has just removed it
            file = (folder / "users").open("a")
            fcntl.flock(file, fcntl.LOCK_SH)
            if _is(file, folder / "users"):
                return file
            file.close()


def _give_up(held: IO[str], folder: Path) -> None:
    """Let go of the lock where no daemon started; the last to do so removes the folder."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    held.close()


def _is(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of that path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _begin(folder: Path) -> None:
    """Start the daemon and its guardian, once: the first of several workers does it while the others wait."""
    with (folder / "begun").open("a+") as begun:
        fcntl.flock(begun, fcntl.LOCK_EX)
        begun.seek(0)
        if begun.read():
            return
        for name in ("pipe", "log"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        environment = {**os.environ, **_places(folder)}
        environment.pop("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", None)  # of the daemon it would be the limit of all
        environment.pop("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", None)
        with (folder / "daemon.txt").open("w+") as said:
            try:
                subprocess.run(
                    [CONTROL, "-d"], env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                    check=True, timeout=PATIENCE,
                )  # fmt: skip
            except subprocess.SubprocessError as error:
                said.seek(0)
                raise OSError(said.read() or str(error)) from error
        # The guardian must outlive this process and must not hold its lock.
        subprocess.Popen(
            [sys.executable, "-m", "tuner.backend.mps", str(folder)], env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        begun.write("yes\n")
        begun.flush()


def guard(folder: Path, linger: float = LINGER) -> None:
    """Wait until nobody uses the daemon of `folder` for `linger` seconds; then end it and remove the folder."""
    users = (folder / "users").open("a")
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(linger)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        break
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [CONTROL], input="quit\n", text=True, env={**os.environ, **_places(folder)}, timeout=PATIENCE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    users.close()


if __name__ == "__main__":
    guard(Path(sys.argv[1]), float(os.environ.get("TUNER_MPS_LINGER", LINGER)))
