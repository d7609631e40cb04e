"""The observers of `--log`, `--notify` and `--storage`: checked before a search, started with it, kept for a resume.

They are settings of the study, so that a resume goes on with them. What may hold a secret is never written: an address
with a password, the path of a webhook, the arguments of a command. Those must be given again, and the resume says so.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search_spaces import InputError
from search_spaces.redact import redacted
from tuner.callbacks import loggers, notify, storage
from tuner.callbacks.background import Background
from tuner.study.request import Request
from tuner.study.settings import StudyListeners

NONE = "none"
"""The value of an option that ends what a study had before."""


@dataclass(frozen=True)
class Listening:
    """What follows a search: kinds of loggers, targets of notifications and their kinds, an Optuna storage."""

    log: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    notify_on: str | None = None
    storage: str | None = None


def check(log: Sequence[str], targets: Sequence[str], notify_on: str | None, storage_url: str | None = None) -> None:
    """Raises InputError for a logger that is not installed, a storage that cannot be used, and unknown targets or kinds
    of notifications.
    """
    storage.check(None if storage_url == NONE else storage_url)
    loggers.check_installed(_some("--log", log))
    targets = _some("--notify", targets)
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


def kept(request: Request, before: StudyListeners | None = None) -> dict[str, Any] | None:
    """The setting of the study: what is given, else what it had `before`; None if it never had any.

    What may hold a secret is only named, under `unsaved`.
    """
    had = before or StudyListeners()
    given: dict[str, Any] = {"notify_on": request.notify_on or had.notify_on}
    unsaved: list[str] = []
    for key, option in (("log", "--log"), ("notify", "--notify"), ("storage", "--storage")):
        asked = getattr(request, key)
        if not asked:
            given[key] = getattr(had, key)
            unsaved += [line for line in had.unsaved if line.startswith(f"{option} ")]
            continue
        values = _some(option, [asked] if isinstance(asked, str) else asked)
        plain = [_settled(key, value) for value in values if _plain(key, value)]
        unsaved += [f"{option} {_named(key, value)}" for value in values if not _plain(key, value)]
        given[key] = (plain[0] if plain else None) if key == "storage" else plain
    if not (given["notify"] or any(line.startswith("--notify ") for line in unsaved)):
        given["notify_on"] = None
    found = {key: value for key, value in {**given, "unsaved": unsaved}.items() if value}
    return found if found or before is not None else None


def carried(request: Request, before: StudyListeners | None) -> tuple[Listening, list[str]]:
    """What follows the search from now on, checked, and notes on what goes on, and what does not.

    `before` is the study's setting; None for a new study. Raises InputError for what is given and cannot be used; what
    the study had before and cannot be used here is left out with a note.
    """
    had, notes = before or StudyListeners(), []
    asked = Listening(request.log, request.notify, request.notify_on, request.storage)
    usable, goes_on = [], []
    for key, value in _each(had):
        if getattr(asked, key):
            continue
        try:
            check(**{"log": (), "targets": (), "notify_on": None, **_as_checked(key, value)})
        except InputError as error:
            notes.append(f"{error.problems[0]}; the search goes on without it")
            continue
        usable.append((key, value))
        goes_on.append(f"--{key} {value}")
    for line in had.unsaved:
        option = line.split(" ")[0]
        if not getattr(asked, option.removeprefix("--")):
            notes.append(f"{line} was given before and may hold a secret, so it was not stored; give {option} again")
    now = Listening(
        tuple(_some("--log", asked.log)) or tuple(value for key, value in usable if key == "log"),
        tuple(_some("--notify", asked.notify)) or tuple(value for key, value in usable if key == "notify"),
        asked.notify_on,
        None if asked.storage == NONE else asked.storage or next((v for key, v in usable if key == "storage"), None),
    )
    check(now.log, now.notify, now.notify_on, now.storage)
    if goes_on:
        notes.insert(0, f"as before: {', '.join(goes_on)} ({NONE} ends one: {goes_on[0].split(' ')[0]} {NONE})")
    return replace(now, notify_on=now.notify_on or had.notify_on), notes


def start(folder: Path, listening: Listening) -> list[Background]:
    """The observers of the study in `folder`; close each when the study has ended."""
    found = [loggers.observer(kind, folder) for kind in dict.fromkeys(listening.log)]
    if listening.notify:
        targets = tuple(dict.fromkeys(listening.notify))
        found.append(notify.notifier(folder, targets, kinds(listening.notify_on)))
    if listening.storage is not None:
        found.append(storage.observer(folder, listening.storage))
    return found


def _some(option: str, values: Sequence[str]) -> list[str]:
    """The values without `none`. Raises InputError for `none` beside others."""
    some = [value for value in values if value != NONE]
    if some and len(some) < len(values):
        raise InputError(f"{option} {NONE}: is given beside {option} {redacted(some[0])}; leave one of the two out")
    return some


def _each(had: StudyListeners) -> list[tuple[str, str]]:
    found = [("log", value) for value in had.log] + [("notify", value) for value in had.notify]
    return found + ([("storage", had.storage)] if had.storage else [])


def _as_checked(key: str, value: str) -> dict[str, Any]:
    return {"storage_url": value} if key == "storage" else {"log" if key == "log" else "targets": (value,)}


def _plain(key: str, value: str) -> bool:
    """Whether a value can hold no secret, so that it may be written."""
    return redacted(value) == value and (key != "notify" or notify.named(value) == value)


def _named(key: str, value: str) -> str:
    return notify.named(value) if key == "notify" else redacted(value)


def _settled(key: str, value: str) -> str:
    """The value as it means the same from any working folder."""
    if key == "storage":
        return storage.settled(value)
    if key == "notify" and "://" not in value and os.sep in value:
        return shlex.quote(str(Path(shlex.split(value)[0]).absolute()))
    return value
