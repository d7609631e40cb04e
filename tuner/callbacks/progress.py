"""The progress of a running search: a live view in a terminal, plain lines elsewhere. It only reads the state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from results.output import clock, visible
from tuner.callbacks.display import SHOWN, View
from tuner.study import checkpoints
from tuner.study.state import StudyState
from tuner.study.trial_state import OPEN, TrialState

QUIET_SECONDS = 30.0
"""Without a terminal, a status line comes at least this often while epochs are reported."""


class Progress:
    """Shows a study. Use as a context manager around the run, and give `event` to the study as an observer.

    `elapsed` gives the seconds since the driver's session began; without it, that is now.
    """

    def __init__(
        self,
        console: Console,
        get_state: Callable[[], StudyState | None],
        concurrent: int,
        elapsed: Callable[[], float] | None = None,
    ) -> None:
        self._console = console
        self._get_state = get_state
        self.concurrent = concurrent
        begin = time.monotonic()
        self._elapsed = elapsed or (lambda: time.monotonic() - begin)
        self._last_line = begin
        self._live = (
            Live(get_renderable=self.render, console=console, refresh_per_second=2, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def event(self, event: Mapping[str, Any]) -> None:
        """Apply an event of the log; prints a line if needed."""
        state = self._get_state()
        if state is None:
            return
        if event["event"] == "checkpoints_dropped":
            self._say(checkpoints.describe(event))
        elif event["event"] == "study_changed" and "at_once" in event:
            self.concurrent = event["at_once"]
            self._say(f"from now on {self.concurrent} at once, asked by {event.get('by')}")
        elif event.get("note") and event["event"] == "epoch":
            self._say(f"trial {event['trial']}: {event['note']}")
        if self._live is not None:
            return
        if event["event"] == "trial_ended":
            self._line(describe_end(event, state))
        elif event["event"] == "epoch" and time.monotonic() - self._last_line > QUIET_SECONDS:
            running = ", ".join(f"{t.number} at epoch {t.epoch}/{t.config.epochs}" for t in state.running[:SHOWN])
            self._line(f"running: {running}")

    def _say(self, text: str) -> None:
        """Print a line that stays: above the live view where there is one."""
        if self._live is None:
            self._line(text)
        else:
            self._console.print(escape(visible(text)), highlight=False)

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        # Not through rich: a log file needs unwrapped lines.
        print(f"[{clock(self._elapsed())}] {text}", file=self._console.file, flush=True)

    def remaining(self, state: StudyState) -> float | None:
        """Expected seconds to the end, from the mean time of the trials that have ended; None while none has.

        A running trial that has taken longer than that mean is expected to train all its epochs.
        """
        ended = [t for t in state.trials.values() if t.status not in OPEN]
        budget = state.settings.budget
        left: list[float] = []
        if ended and budget.trials:
            mean = sum(t.seconds for t in ended) / len(ended)
            now = [mean - t.seconds if t.seconds < mean else _own_rest(t) for t in state.running]
            later = mean * max(0, budget.trials - len(ended) - len(now))
            left.append(max([(sum(now) + later) / self.concurrent, *now]))
        if budget.hours:
            left.append(max(0.0, budget.hours * 3600 - state.driver_seconds - self._elapsed()))
        if budget.gpu_hours:
            cards = state.settings.resources.gpus_per_trial * self.concurrent
            left.append(max(0.0, 3600 * budget.gpu_hours - state.spent.gpu_seconds) / cards)
        for limit in ("batches", "utterances"):
            asked, used = getattr(budget, limit), getattr(state.spent, limit)
            if asked and used:  # by what the search has needed so far
                left.append(max(0.0, asked / used - 1) * (state.driver_seconds + self._elapsed()))
        return min(left) if left else None

    def render(self) -> View | Text:
        """The live view."""
        state = self._get_state()
        if state is None or not state.begun:
            return Text("starting ...")
        return View(state, self._elapsed(), self.remaining(state))


def describe_end(event: Mapping[str, Any], state: StudyState) -> str:
    """One line on the end of a trial and the state of the search."""
    trial = state.trials[event["trial"]]
    status = "failed, to be tried again" if event.get("retry") else event["status"]
    per = trial.best
    text = f"trial {trial.number} {status} at epoch {trial.epoch} of {trial.config.epochs}"
    text += f": best PER {per[0]:.4f}" if per else ""
    reason = event.get("error") or (trial.last_row.get("reason") if status in ("stopped", "paused") else None)
    text += f" ({reason})" if reason else ""
    leader = state.leader
    if leader and leader.best:
        text += f" | best so far {leader.best[0]:.4f} (trial {leader.number})"
    budget = state.settings.budget.trials
    ended = state.ended_trials
    return text + (f" | {ended} of {budget} ended" if budget else f" | {ended} ended")


def _own_rest(trial: TrialState) -> float:
    """Expected seconds of the epochs that a trial has left, by those that it has trained."""
    return trial.seconds / max(1, len(trial.pers)) * max(0, trial.config.epochs - trial.epoch)
