"""Restricts Ray's session folder, sockets and token, which Ray opens to all users of the machine, to this user.

Ray makes its temporary folder and its contents 0777, and the token for access to the cluster 0644. Anyone who can write
to a socket of Ray can run code as the user who started it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

from search_spaces.common.processes import is_alive


def make_scratch() -> Path:
    """A folder for temporary files of Ray and Tune; folders of drivers that were killed are removed.

    It is open to this user alone. Ray makes the folder that it is given 0777: give it one inside.
    """
    root = Path("/tmp")  # noqa: S108  Ray's socket paths must be short, whatever TMPDIR says
    for old in root.glob("tuner-*-*"):
        pid = old.name.split("-")[1]
        if pid.isdigit() and not is_alive(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"tuner-{os.getpid()}-", dir=root))


def close_to_others(folder: Path) -> None:
    """Take the rights of group and others from a folder and the folders, sockets and files in it; links are not
    followed."""
    for where, _, names in os.walk(folder):
        for path in (Path(where), *(Path(where, name) for name in names)):
            with contextlib.suppress(OSError):  # Ray's processes make and remove files meanwhile
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode) and mode & 0o077:
                    path.chmod(stat.S_IMODE(mode) & 0o700)


def guard_token() -> None:
    """Before a local Ray starts: the token that it would make and leave readable is made here, or its mode mended.

    Only the file in the user's own `~/.ray` is touched; a token by RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH is the user's.
    Where the file cannot be written Ray says so itself.
    """
    path = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):
        info = path.lstat()
        if stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid() and info.st_mode & 0o077:
            path.chmod(0o600)
        return
    elsewhere = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if elsewhere or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".auth_token.")  # mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
            os.link(temporary, path)  # of two searches that start at once, one makes it
        finally:
            Path(temporary).unlink()
