"""Versions of the program and its libraries, and the git state, for the studies table."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "ray", "optuna", "numpy", "pyarrow", "duckdb", "rapidfuzz")


def packages() -> dict[str, str]:
    """Installed versions of the libraries that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code() -> dict[str, Any]:
    """{version, git, dirty} of this program; git is None where it does not run from a checkout."""
    try:
        version = metadata.version("b2t-tuner")
    except metadata.PackageNotFoundError:
        version = "unknown"
    root = Path(__file__).resolve().parents[2]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no")) if commit else None
    return {"version": version, "git": commit, "dirty": dirty}


def host() -> str:
    """The machine's name."""
    return os.uname().nodename


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
