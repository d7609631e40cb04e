"""`--storage URL`: a copy of the running study as an Optuna study, for optuna-dashboard.

It is a copy for reading (`tuner/callbacks/mirror.py`); the log is the state. If the storage is locked or unavailable,
there is one warning; the storage is tried again, and updated from the log when it answers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from results.store.events import scan_events
from results.store.paths import StudyPaths
from search_spaces import InputError
from search_spaces.redact import redacted
from tuner.callbacks.background import Background, warn
from tuner.callbacks.mirror import OptunaMirror

AGAIN_SECONDS = 20.0
"""Seconds until a failed storage is tried again."""
_BUSY_SECONDS = 30
"""Seconds for which SQLite waits for another program's lock."""


def check(url: str | None) -> None:
    """Raises InputError for a storage that cannot be used: an unknown kind, a missing driver or folder."""
    if url is None:
        return
    if "://" not in url:
        if not Path(url).absolute().parent.is_dir() or Path(url).is_dir():
            raise InputError(
                f"--storage {url}: a journal file cannot be written there; give a file in a folder that exists"
            )
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        parsed = make_url(url)
        parsed.get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InputError(
            f"--storage {url}: is not a database that can be used; give sqlite:///FILE.db, "
            "postgresql://USER@HOST/NAME, or the name of a journal file"
        ) from error
    except ImportError as error:
        raise InputError(f"--storage {url}: needs the package {error.name}; pip install {error.name}") from error
    if parsed.get_backend_name() == "sqlite" and not (
        parsed.database and Path(parsed.database).absolute().parent.is_dir()
    ):
        raise InputError(f"--storage {url}: the folder does not exist; give sqlite:///FILE.db")


def settled(url: str) -> str:
    """The address with the whole path of its file, so that it names it from any folder. Raises as `check` does."""
    check(url)
    if "://" not in url:
        return str(Path(url).absolute())
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return url
    return parsed.set(database=str(Path(parsed.database).absolute())).render_as_string(hide_password=False)


def open_storage(url: str) -> Any:
    """The Optuna storage at a database URL, or in a journal file. Raises whatever the database raises."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" not in url:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.JournalStorage(JournalFileBackend(url))
    busy = {"connect_args": {"timeout": _BUSY_SECONDS}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=busy)


def observer(folder: Path, url: str) -> Background:
    """An observer of the study in `folder` that updates its copy in the storage at `url`, in the background."""
    live = Live(folder, url)
    return Background(f"--storage {redacted(url)}", live.handle, live.finish)


class Live:
    """The copy in a storage; `now` tells seconds."""

    def __init__(self, folder: Path, url: str, now: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._url, self._now = folder, url, now
        self._mirror: Any = None
        self._again: float | None = None
        self._behind = False
        self._warned = False

    def handle(self, event: Mapping[str, Any]) -> None:
        """Take an event. Raises InputError if the storage has another study of that name."""
        if self._again is not None and self._now() < self._again:
            self._behind = True
            return
        try:
            if self._mirror is None:
                self._open(event["seq"])
            else:
                self._mirror.take(event)
            self._behind, self._again = False, None
        except InputError:
            raise
        except Exception as error:
            self._mirror, self._behind, self._again = None, True, self._now() + AGAIN_SECONDS
            if not self._warned:
                text = (str(error).splitlines() or [""])[0][:200]
                warn(
                    f"--storage {self._url}: {type(error).__name__}: {text}; the search continues, and the copy "
                    "is updated when the storage answers"
                )
                self._warned = True

    def finish(self) -> None:
        """Update the copy if it is behind."""
        if self._behind:
            self._open(None)

    def _open(self, seq: int | None) -> None:
        events = scan_events(StudyPaths(self._folder).log, [])
        storage = open_storage(self._url)
        self._mirror = OptunaMirror(storage, (event for event in events if seq is None or event["seq"] <= seq))
