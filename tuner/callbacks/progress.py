"""The progress of a running search: a live view in a terminal, plain lines elsewhere. It only reads the state."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from results.output import clock, visible
from search_spaces import flatten
from tuner.study import checkpoints
from tuner.study.state import StudyState
from tuner.study.trial_state import OPEN, TrialState

SHOWN = 12
"""Most running trials in the live view; the rest is counted."""
RUNGS_SHOWN = 8
"""Most rungs in the live view: if there are more, the last ones at which a trial was stopped."""
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
        """Expected seconds to the end, from the mean time of the trials that have ended; None while none has."""
        ended = [t for t in state.trials.values() if t.status not in OPEN]
        budget = state.settings.budget
        left: list[float] = []
        if ended and budget.trials:
            mean = sum(t.seconds for t in ended) / len(ended)
            open_trials = budget.trials - len(ended)
            done = sum(min(t.seconds, mean) for t in state.running)
            left.append(max(0.0, mean * open_trials - done) / self.concurrent)
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

    def render(self) -> Group | Text:
        """The live view."""
        state = self._get_state()
        if state is None or not state.begun:
            return Text("starting ...")
        counts = Counter(t.status for t in state.trials.values())
        budget = state.settings.budget.trials
        ended = len(state.trials) - sum(counts[status] for status in OPEN)
        remaining = self.remaining(state)
        head = Text()
        head.append(state.settings.study, style="bold")
        head.append(f"  {ended}" + (f" of {budget}" if budget else "") + " trials ended")
        head.append(f" ({counts['stopped']} stopped, {counts['diverged']} diverged, {counts['failed']} failed)")
        head.append(f"   elapsed {clock(self._elapsed())}")
        head.append(f", about {clock(remaining)} left" if remaining is not None else "")
        leader = state.leader
        best = Text("best so far: none yet")
        if leader and leader.best:
            best = Text.assemble(
                "best so far: ",
                (f"PER {leader.best[0]:.4f}", "bold green"),
                f"  trial {leader.number}, epoch {leader.best[1]} of {leader.config.epochs}  ({summarise(leader)})",
            )
        return Group(head, best, _running_table(state), *_rung_lines(state))


def summarise(trial: TrialState, limit: int = 5) -> str:
    """The values that the searcher chose for a trial, as a short text."""
    values = flatten(trial.config)
    parts = []
    for name in trial.params:
        # A parameter's name has its condition ([...]), what it is relative to (/...), and 1- for a complement.
        path = name.split("[")[0].split("/")[0].removeprefix("1-")
        section, _, key = path.partition(".")
        value = values.get(path)
        if key == "kind":
            parts.append(f"averaging {value}" if section == "averaging" else str(value))
        else:
            parts.append(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}")
    return ", ".join(parts[:limit]) + (", ..." if len(parts) > limit else "")


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


def _running_table(state: StudyState) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("trial", "epoch", "PER", "best", "rate", "samples/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("parameters")  # the only column that may be cut: rich narrows the columns that may wrap
    for trial in state.running[:SHOWN]:
        row = trial.last_row
        best = trial.best
        table.add_row(
            str(trial.number),
            f"{trial.epoch}/{trial.config.epochs}",
            _number(row.get("per"), ".4f"),
            f"{best[0]:.4f}" if best else "",
            _number(row.get("lr"), ".2e"),
            _number(row.get("samples_per_second"), ".0f"),
            Text(visible(summarise(trial)), no_wrap=True, overflow="ellipsis"),
        )
    if len(state.running) > SHOWN:
        table.add_row("...", f"and {len(state.running) - SHOWN} more")
    return table


def _rung_lines(state: StudyState) -> list[Text]:
    rungs = sorted(state.history.rungs.items())
    if len(rungs) > RUNGS_SHOWN:  # a rule that compares at every epoch
        rungs = [(key, rung) for key, rung in rungs if rung.stopped or rung.paused][-RUNGS_SHOWN:]
    if not rungs:
        return []
    cells = [
        f"{key}: {len(rung)} reached, {rung.stopped} stopped" + (f", {rung.paused} paused" if rung.paused else "")
        for key, rung in rungs
    ]
    return [Text("rungs: " + "; ".join(cells), style="dim")]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
