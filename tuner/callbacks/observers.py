"""The observers of `--log`, `--notify` and `--storage`: checked before a search, and started with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search_spaces import InputError
from tuner.callbacks import loggers, notify, storage
from tuner.callbacks.background import Background


def check(log: Sequence[str], targets: Sequence[str], notify_on: str | None, storage_url: str | None = None) -> None:
    """Raises InputError for a logger that is not installed, a storage that cannot be used, and unknown targets or kinds
    of notifications.
    """
    storage.check(storage_url)
    loggers.check_installed(log)
    notify.check_targets(targets)
    if unknown := [kind for kind in kinds(notify_on) if kind not in notify.KINDS]:
        raise InputError(f"--notify-on {notify_on}: {unknown[0]!r} is not allowed; give {', '.join(notify.KINDS)}")
    if notify_on is not None and not targets:
        raise InputError(f"--notify-on {notify_on}: there is nothing to notify; give --notify COMMAND or URL as well")


def kinds(notify_on: str | None) -> tuple[str, ...]:
    """The kinds of notifications in the options."""
    if notify_on is None:
        return ("end", "failure")
    return tuple(part.strip() for part in notify_on.split(","))


def start(
    folder: Path, log: Sequence[str], targets: Sequence[str], notify_on: str | None, storage_url: str | None
) -> list[Background]:
    """The observers of the study in `folder`; close each when the study has ended."""
    found = [loggers.observer(kind, folder) for kind in dict.fromkeys(log)]
    if targets:
        found.append(notify.notifier(folder, tuple(dict.fromkeys(targets)), kinds(notify_on)))
    if storage_url is not None:
        found.append(storage.observer(folder, storage_url))
    return found
