"""Writes one trial's checkpoints: when, in which files, and what happens when one cannot be written.

last.pt      the full state, as often as `every` says
previous.pt  the one before it, in case last.pt is damaged
best.pt      the evaluated weights of the best epoch

A killed run continues from last.pt and trains the epochs after it again, so the state need not be written at every
epoch; only weights that would not be trained again must be. The weights of a best epoch therefore wait in memory until
the next state is written, or until the trial may end (`rungs`, the last epoch, divergence, `close`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from search_spaces.common.trial_paths import TrialPaths
from trainable.checkpoint import DamagedCheckpoint, for_evaluation, load, on_host, save, size_of
from trainable.loop import EpochReport

SMALL_BYTES = 32 * 2**20
"""States up to this size are written at every epoch by default, and not in the background."""
COST_SHARE = 0.05
"""Larger ones are written so often that writing takes less than this fraction of the time."""


class Keeper:
    """Writes and finds the checkpoints of one attempt at a trial.

    `every` is "auto", "rungs", "N epochs" or "N minutes"; `rungs` are the epochs at which the trial may be ended or
    paused; with `pauses` its state is written at those too. `logged` epochs have been reported by earlier attempts:
    while they are repeated, their best file is not replaced by that of an earlier epoch, and a state more than one
    epoch beyond them is not used; None where nobody keeps count. A state larger than `small` bytes is copied to host
    memory and written by a thread, one at a time. `clock` gives seconds.

    `notes` are lines for the log, on files that could not be read or written; the caller that logs them clears the
    list.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: str = "auto",
        best_weights: Literal["full", "half", "none"] = "full",
        rungs: Collection[int] = (),
        pauses: bool = False,
        logged: int | None = None,
        small: int = SMALL_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.files = TrialPaths(folder)
        self.notes: list[str] = []
        self._every, self._best_weights = every, best_weights
        self._rungs, self._pauses, self._logged = frozenset(rungs), pauses, logged or 0
        self._furthest = None if logged is None else logged + 1
        self._small, self._clock = small, clock
        self._epoch = 0
        self._best: dict[str, Any] | None = None
        """The best weights that are not on the disk yet."""
        self._has_best = self.files.best.exists()
        self._refused = False
        """Whether the disk did not take the last state that was due. Only the writer changes it."""
        self._written = clock()
        self._cost: float | None = None
        """Seconds from the copy to the end of the last writing."""
        self._sound = False
        """Whether last.pt is complete and may become previous.pt."""
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def load(self) -> dict[str, Any] | None:
        """The newest complete state, or None where there is none; partial files of killed writers are removed."""
        for leftover in self.files.leftovers():
            leftover.unlink(missing_ok=True)
        for path in self.files.states:
            if not path.exists():
                continue
            try:
                state = load(path)
            except DamagedCheckpoint as error:
                self.notes.append(f"{error}; it is not used")
                continue
            if self._furthest is not None and state["epoch"] > self._furthest:
                # The log was cut short: its lost epochs are trained again, or the table would lack them.
                self.notes.append(f"{path.name} is of epoch {state['epoch']}, beyond the log; it is not used")
                continue
            self._sound = path == self.files.last
            if self.notes:
                self.notes.append(f"continued from {path.name}, epoch {state['epoch']}")
            return state
        if self._logged:
            self.notes.append("no complete checkpoint was found; the trial started again from epoch 1")
        return None

    def keep(self, report: EpochReport) -> None:
        """Take an epoch's state and write what is due. Returns when the state may be changed again.

        A failed write is noted and tried again after the next epoch.
        """
        epoch = self._epoch = report.epoch
        if report.diverged:
            self.flush()
            return
        whole = report.checkpoint()
        large = size_of(whole) > self._small
        final = report.batch >= whole["config"]["training"]["batches"]
        ends = final or epoch in self._rungs
        due = self._due(epoch, large, final) or self._refused
        began = self._clock()
        if whole["best"] is not None and whole["best"]["epoch"] == epoch and self._best_weights != "none":
            self._best = on_host(for_evaluation(whole, half=self._best_weights == "half"))
        files: list[tuple[Path, Mapping[str, Any]]] = []
        if self._best is not None and not self._repeating and (due or ends or not self._has_best):
            files.append((self.files.best, self._best))
        if due:
            files.append((self.files.last, on_host(whole) if large else whole))
        if not files:
            return
        self._wait()
        self._start(lambda: self._write(files, epoch, began), background=large)
        if ends:
            self._wait()

    def flush(self) -> None:
        """Write the best weights that wait in memory, and wait for the writer: the attempt may end."""
        self._wait()
        if self._best is not None and not self._repeating:
            self._write([(self.files.best, self._best)], self._best["epoch"], self._clock())

    @property
    def _repeating(self) -> bool:
        return self._epoch < self._logged

    def _due(self, epoch: int, large: bool, final: bool) -> bool:
        if epoch in self._rungs and (self._pauses or self._every == "rungs"):
            return True
        if self._every == "rungs":
            return False
        if self._every == "auto" and not large:
            return True
        if final:
            return False  # the trial ends here; its state is not needed
        since = self._clock() - self._written
        if self._every == "auto":
            return self._cost is None or since >= self._cost / COST_SHARE
        number, unit = self._every.split()
        return epoch % int(number) == 0 if unit == "epochs" else since >= 60 * float(number)

    def _write(self, files: list[tuple[Path, Mapping[str, Any]]], epoch: int, began: float) -> None:
        """Write in order: the best weights first, because after a newer state their epoch is not trained again."""
        try:
            for path, state in files:
                is_last = path == self.files.last
                save(path, state, self.files.previous if is_last and self._sound else None)
                if is_last:
                    self._sound, self._refused, self._written = True, False, self._clock()
                    self._cost = self._written - began
                else:
                    self._has_best = True
                    self._best = None if self._best is state else self._best  # a newer one may be waiting now
        except OSError as error:
            self._refused |= any(path == self.files.last for path, _ in files)
            self.notes.append(
                f"checkpoint of epoch {epoch} skipped: {error.strerror or error}; the one before it is kept"
            )

    def _start(self, work: Callable[[], None], *, background: bool) -> None:
        if not background:
            work()
            return

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="checkpoint-writer")
        self._thread.start()

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
