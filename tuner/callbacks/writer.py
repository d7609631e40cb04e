"""What a driver does for those who look at a long log: it writes where it stands, and seals parts of the log."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from results.store import sealed
from results.store.paths import StudyPaths
from search_spaces import InputError
from search_spaces.common import atomic
from tuner.callbacks.standing import of_state
from tuner.study.study import Study

EVERY_SECONDS = 2.0
"""Between two times that the driver writes where it stands."""


class Writer:
    """Once a study's log is longer than `sealed.EVERY`: seals it as it grows, and writes `now.json`.

    `event` is an observer of the study. What cannot be written is said once, and costs nothing but the time of those
    who look.
    """

    def __init__(self, study: Study, every: float = EVERY_SECONDS) -> None:
        self._study, self._every = study, every
        self._paths = StudyPaths(study.folder)
        self._sealed = sealed.size_sealed(study.folder)
        self._seq = self._written = 0
        self._long = self._off = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="where it stands", daemon=True)
        self._thread.start()

    def event(self, event: Mapping[str, Any]) -> None:
        """Note that there is something new; seal the log where it has grown enough."""
        self._seq = event["seq"]
        if self._off or self._seq % 100:
            return
        try:
            size = self._paths.log.stat().st_size
            self._long = size >= sealed.EVERY
            if size - self._sealed >= sealed.EVERY:
                sealed.seal(self._study.folder)
                self._sealed = size  # where it could not be: not again before it has grown as much
        except (OSError, InputError, pa.ArrowException) as error:
            self._give_up(error)

    def close(self) -> None:
        """Nobody runs the study any more: what was written of that is removed."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._paths.now.unlink(missing_ok=True)

    def _work(self) -> None:
        while not self._stop.wait(self._every):
            seq = self._seq
            if not self._long or self._off or seq == self._written:
                continue
            try:
                standing = of_state(self._study.folder.name, self._study.state, held=True)
                atomic.write(self._paths.now, json.dumps({"seq": seq, **standing}))
                self._written = seq
            except RuntimeError:  # the study has just begun another trial, which changes what is gone through
                continue
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self._off:
            self._off = True
            print(f"warning: {self._paths.sealed}: {error}; looking at the study is slower", file=sys.stderr)
