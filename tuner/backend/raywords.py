"""Ray's own messages (a lost node, a raylet's stack trace) go to a file; the user gets one line, not fifty."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tuner.backend import ray_private


class RayWords:
    """Takes Ray's messages to the driver: kept until there is a file for them, then appended to it."""

    def __init__(self, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)) -> None:
        self._path: Path | None = None
        self._waiting: list[str] = []
        self._told = False
        self._say = say
        self._mutex = threading.Lock()

    def catch(self) -> None:
        """Start; call this after Ray has been started."""
        ray_private.divert_messages(self)

    def __call__(self, data: Mapping[str, Any], *arguments: Any, **named: Any) -> None:
        """A message from Ray."""
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        lines = [f"{now} {data.get('pid', 'ray')}: {line}" for line in data.get("lines", ())]
        with self._mutex:
            self._waiting += lines
            self._write()

    def to(self, path: Path) -> None:
        """The file for them; made when there is something to write."""
        with self._mutex:
            self._path = path
            self._write()

    def _write(self) -> None:
        if self._path is None or not self._waiting:
            return
        try:
            with self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.writelines(f"{line}\n" for line in self._waiting)
        except OSError:  # the results disk is full or unavailable, which the log reports
            return
        self._waiting.clear()
        if not self._told:
            self._told = True
            self._say(f"note: Ray reports problems with its nodes or workers: {self._path}")
