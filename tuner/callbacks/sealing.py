"""Sealing the log of a search while it runs, so that a look at it does not read all of it (`results.store.sealed`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from results.store import sealed
from results.store.paths import StudyPaths
from search_spaces import InputError
from search_spaces.wording import reason_of
from tuner.study.study import Study


class Sealing:
    """An observer of a study: each time its log has grown by `sealed.EVERY` bytes, these are sealed.

    What cannot be written is said once, and costs nothing but the time of those who look.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._log = StudyPaths(study.folder).log
        self._sealed = sealed.size_sealed(study.folder)
        self._off = False

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Seal the log where it has grown enough; nothing else is done for nearly all events."""
        if self._off or event["event"] != "trial_ended":
            return
        try:
            size = self._log.stat().st_size
            if size - self._sealed < sealed.EVERY or (about := self._study.state.sealable()) is None:
                return
            done = sealed.seal(self._study.folder, {**about, "time": event["time"]})
            self._sealed, self._off = size, not done
        except (OSError, InputError, pa.ArrowException) as error:
            self._off = True
            place = StudyPaths(self._study.folder).sealed
            print(f"warning: {place}: {reason_of(error)}; looking at the study is slower", file=sys.stderr)
