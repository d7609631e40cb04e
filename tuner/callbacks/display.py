"""The live view of a search, for terminals of any width: the numbers first, the settings in what room is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from results.output import clock, visible
from search_spaces import flatten
from tuner.study.state import StudyState
from tuner.study.trial_state import OPEN, TrialState

SHOWN = 12
"""Most running trials in the live view; the rest is counted."""
RUNGS_SHOWN = 8
"""Most rungs in the live view: if there are more, the last ones at which a trial was stopped."""
GAP = "  "
"""Between two columns, and between two facts in a line."""
LEAST = 16
"""Characters from which on it is worth showing a trial's settings."""


class View:
    """What is shown of a running search, laid out for the width at which it is drawn.

    Nothing is cut off but settings: a line whose facts do not fit goes on in the next one, and a table leaves out
    whole columns, the last first.
    """

    def __init__(self, state: StudyState, elapsed: float, remaining: float | None) -> None:
        """`elapsed` and `remaining` are seconds; None = not known yet."""
        self._state = state
        self._elapsed = elapsed
        self._remaining = remaining

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, for `options.max_width` characters."""
        width = options.max_width
        yield from _filled(self._head(), width)
        yield from _best_lines(self._state, width)
        yield from _running_lines(self._state, width)
        yield from _filled(_rungs(self._state), width, first="rungs: ", style="dim")

    def _head(self) -> list[Text]:
        state = self._state
        counts = Counter(trial.status for trial in state.trials.values())
        ended = len(state.trials) - sum(counts[status] for status in OPEN)
        budget = state.settings.budget.trials
        facts = [
            Text(visible(state.settings.study), style="bold"),
            Text(f"{ended} of {budget} trials ended" if budget else f"{ended} trials ended"),
        ]
        for status, style in (("paused", ""), ("stopped", ""), ("diverged", "yellow"), ("failed", "red")):
            if counts[status]:
                facts.append(Text(f"{counts[status]} {status}", style=style))
        facts.append(Text(f"elapsed {clock(self._elapsed)}", style="cyan"))
        if (left := time_left(self._remaining, running=bool(state.running))) is not None:
            facts.append(Text(left, style="cyan"))
        return facts


def time_left(seconds: float | None, *, running: bool) -> str | None:
    """How long a search still takes, as text; None where that is not known, or nothing is left.

    Never "about 0:00 left" beside trials that run: an estimate that has run out says that it is the end.
    """
    if seconds is None or (seconds < 1 and not running):
        return None
    return f"about {clock(seconds)} left" if seconds >= 1 else "about to end"


def summarise(trial: TrialState, limit: int | None = 5) -> str:
    """The values that the searcher chose for a trial, as a short text; the first `limit` of them."""
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
    return ", ".join(parts[:limit]) + (", ..." if len(parts[:limit]) < len(parts) else "")


def _filled(facts: Sequence[Text], width: int, first: str = "", style: str = "") -> list[Text]:
    """The facts beside each other, as many in a line as fit: no fact is broken unless it alone is too wide."""
    lines: list[Text] = []
    for fact in facts:
        if lines and lines[-1].cell_len + len(GAP) + fact.cell_len <= width:
            lines[-1].append(GAP).append_text(fact)
        else:
            start = first if not lines else " " * len(first)
            lines.append(Text.assemble(start, fact, style=style, overflow="fold"))
    return lines


def _best_lines(state: StudyState, width: int) -> list[Text]:
    leader = state.leader
    if leader is None or leader.best is None:
        return [Text("best so far: none yet")]
    per, epoch = leader.best
    facts = [
        Text.assemble("best so far: ", (f"PER {per:.4f}", "bold green")),
        Text(f"trial {leader.number}"),
        Text(f"epoch {epoch} of {leader.config.epochs}"),
    ]
    lines = _filled(facts, width)
    room = width - lines[-1].cell_len - len(GAP)
    if (settings := visible(summarise(leader, None))) and room >= LEAST:
        lines[-1].append(GAP).append(_cut(f"({settings})", room), style="dim")
    return lines


def _cut(text: str, room: int) -> str:
    """The text in at most `room` cells, with an ellipsis where it was cut."""
    short = Text(text)
    short.truncate(max(1, room), overflow="ellipsis")
    return short.plain


Cell = Callable[[TrialState], str]
COLUMNS: tuple[tuple[str, Cell], ...] = (
    ("trial", lambda trial: str(trial.number)),
    ("epoch", lambda trial: f"{trial.epoch}/{trial.config.epochs}"),
    ("PER", lambda trial: _number(trial.last_row.get("per"), ".4f")),
    ("best", lambda trial: f"{trial.best[0]:.4f}" if trial.best else ""),
    ("rate", lambda trial: _number(trial.last_row.get("lr"), ".2e")),
    ("samples/s", lambda trial: _number(trial.last_row.get("samples_per_second"), ".0f")),
)
"""The columns of the running trials, title and text: where there is no room, the last are left out."""


def _running_lines(state: StudyState, width: int) -> Iterable[RenderableType]:
    """The table of the running trials: every number that fits, then the settings, cut to what is left."""
    running = state.running
    if not running:
        return
    shown = running[:SHOWN]
    table = [(title, [cell(trial) for trial in shown]) for title, cell in COLUMNS]
    sizes = {title: max(map(len, (title, *cells))) for title, cells in table}
    while len(table) > 1 and sum(sizes[title] + len(GAP) for title, _ in table) - len(GAP) > width:
        table.pop()
    used = sum(sizes[title] + len(GAP) for title, _ in table)
    room = width - used
    head = GAP.join(title.rjust(sizes[title]) for title, _ in table)
    yield Text(head + (GAP + "settings" if room >= LEAST else ""), style="dim", no_wrap=True)
    for row, trial in enumerate(shown):
        line = Text(no_wrap=True)
        for place, (title, cells) in enumerate(table):
            leads = title in ("PER", "best") and trial is state.leader
            line.append(GAP if place else "").append(cells[row].rjust(sizes[title]), style="green" if leads else "")
        if room >= LEAST:
            line.append(GAP).append(_cut(visible(summarise(trial, None)), room), style="dim")
        yield line
    if len(running) > SHOWN:
        yield Text(f"and {len(running) - SHOWN} more", style="dim")


def _rungs(state: StudyState) -> list[Text]:
    rungs = sorted(state.history.rungs.items())
    if len(rungs) > RUNGS_SHOWN:  # a rule that compares at every epoch
        rungs = [(key, rung) for key, rung in rungs if rung.stopped or rung.paused][-RUNGS_SHOWN:]
    last = len(rungs) - 1
    return [
        Text(
            f"{key}: {len(rung)} reached, {rung.stopped} stopped"
            + (f", {rung.paused} paused" if rung.paused else "")
            + (";" if place < last else "")
        )
        for place, (key, rung) in enumerate(rungs)
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
