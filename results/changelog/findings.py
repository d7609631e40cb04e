"""What a page kept by hand misses, read from the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

from results.changelog.purpose import contradictions
from results.changelog.run_history import Row, RunHistory, dotted
from results.output import format_value

COLLAPSED = 0.9
"""A decoder with this PER or more has learnt nothing: it outputs only blanks, or the same few phonemes."""
_ALL_BLANK = 0.98
_BLANK_PHASE = {"stopped": 0.25, "running": 0.25, "interrupted": 0.05}
"""CTC first outputs only blanks: a run that ended before this fraction of its schedule may not have passed that."""
_BEAM = 0.02  # a correct beam search without a language model is within 0.005 of greedy
_FELL_BACK = 0.05


@dataclass(frozen=True)
class Finding:
    """One finding: its kind (a heading), the trials that it is about, and a sentence of plain text."""

    kind: str
    trials: tuple[int, ...]
    text: str


def findings(history: RunHistory) -> list[Finding]:
    """All findings, kind by kind."""
    return [finding for look in _LOOKS for finding in look(history)]


def _identical(history: RunHistory) -> Iterator[Finding]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in history.trials:
        groups[history.key(row)].append(row)
    for rows in groups.values():
        if len(rows) < 2:
            continue
        names = " and ".join(history.name(row) for row in rows)
        pers = [row["best_per"] for row in rows if not history.unusable(row)]
        results = f"; PER {', '.join(_per(per) for per in pers)}" if pers else ""
        if len({row["seed"] for row in rows}) < len(rows):
            text = f"{names}: the same configuration and seed; a repeat confirms nothing{results}"
        else:
            seeds = ", ".join(str(row["seed"]) for row in rows)
            text = f"{names}: one configuration with seeds {seeds}, replicates of each other{results}"
        assumed = max(len((row["assumed"] or "").split(", ")) if row["assumed"] else 0 for row in rows)
        text += f" (as far as is known: up to {assumed} settings are assumed)" if assumed else ""
        yield Finding("Identical configurations", _numbers(rows), text)


def _incomplete(history: RunHistory) -> Iterator[Finding]:
    for row in history.trials:
        if row["status"] in ("interrupted", "failed", "paused", "running"):
            planned = row.get("training_batches")
            how_far = f" after {row['batches']} of {planned} batches" if row["batches"] is not None else ""
            error = f": {row['error']}" if row["error"] else ""
            result = f"; its PER of {_per(row['best_per'])} is not compared" if row["best_per"] else ""
            text = f"{history.name(row)}: {row['status']}{how_far}{error}{result}"
            yield Finding("Incomplete runs", (row["trial"],), text)
    silent = [row for row in history.trials if row["status"] == "completed" and row["best_per"] is None]
    if silent:
        names = ", ".join(map(history.name, silent))
        yield Finding("Incomplete runs", _numbers(silent), f"no result is known for {len(silent)} runs: {names}")


def _diverged(history: RunHistory) -> Iterator[Finding]:
    for row in history.trials:
        curve = history.curve(row)
        bad = next((epoch for epoch in curve if epoch["per"] is None or epoch["val_loss"] is None), None)
        if row["status"] == "diverged" or (bad is not None and bad["per"] is None):
            where = f" at epoch {bad['epoch']} (batch {bad['batch']})" if bad else ""
            text = f"{history.name(row)}: the loss or the gradient was NaN or infinite{where}"
            yield Finding("Divergence", (row["trial"],), text)
        elif row["best_per"] is not None and row["last_per"] is not None and row["best_per"] < COLLAPSED:
            lost = row["last_per"] - row["best_per"]
            if lost > _FELL_BACK:
                text = (
                    f"{history.name(row)}: fell back from {_per(row['best_per'])} at epoch {row['best_epoch']} "
                    f"to {_per(row['last_per'])} at epoch {curve[-1]['epoch'] if curve else '?'}"
                )
                yield Finding("Got worse again", (row["trial"],), text)


def _collapsed(history: RunHistory) -> Iterator[Finding]:
    for row in history.trials:
        curve = history.curve(row)
        if not curve:
            if row["best_per"] is not None and row["best_per"] >= COLLAPSED:
                text = f"{history.name(row)}: a PER of {_per(row['best_per'])} means that the decoder learnt nothing"
                yield Finding("Collapse", (row["trial"],), text)
            continue
        least = _BLANK_PHASE.get(row["status"], 0.0) * (history.horizon(row) or 0)
        if curve[-1]["per"] is None or curve[-1]["per"] < COLLAPSED or (curve[-1]["batch"] or 0) < least:
            continue
        start = next(i for i in range(len(curve)) if all((e["per"] or 1) >= COLLAPSED for e in curve[i:]))
        blank = curve[-1]["blank_share"]
        if blank is None:
            what = "collapsed"
        else:
            what = "blank collapse" if blank >= _ALL_BLANK else "learnt nothing"
            what += f" ({blank:.0%} of frames are blank)"
        since = f"since epoch {curve[start]['epoch']}" if start else "from the first epoch on"
        text = f"{history.name(row)}: {what}, PER {_per(curve[-1]['per'])} at epoch {curve[-1]['epoch']}, {since}"
        yield Finding("Collapse", (row["trial"],), text)


def _cut_short(history: RunHistory) -> Iterator[Finding]:
    stopped = []
    for row in history.trials:
        horizon, planned = history.horizon(row), row.get("training_batches")
        if (
            horizon is None
            or planned is None
            or row.get("schedule_kind") == "constant"
            or row["status"] in ("running", "paused")
        ):
            continue
        epoch = row.get("training_batches_per_epoch") or 0
        done = row["batches"]
        if row["status"] == "stopped":
            stopped.append(row)
        elif horizon > planned + epoch or (done is not None and done + epoch < horizon):
            last = next((e["lr"] for e in reversed(history.curve(row)) if e["lr"] is not None), None)
            rate = f"; the rate ended at {format_value(last, 'lr')}" if last is not None else ""
            rate += f", its peak is {format_value(row.get('schedule_peak_lr'), 'lr')}" if rate else ""
            end = f"{done if done is not None else planned} batches"
            text = f"{history.name(row)}: a schedule for {horizon} batches ended after {end}{rate}"
            yield Finding("Schedules that never completed", (row["trial"],), text)
    if stopped:
        text = f"{len(stopped)} trials were stopped early, before their schedules ended; their PERs are not final"
        yield Finding("Schedules that never completed", _numbers(stopped), text)


def _contradicted(history: RunHistory) -> Iterator[Finding]:
    for row in history.trials:
        for line in contradictions(history, row):
            yield Finding("Purpose against configuration", (row["trial"],), f"{history.name(row)}: {line}")


def _beam(history: RunHistory) -> Iterator[Finding]:
    for row in history.trials:
        if row["beam_per"] is None:
            continue
        known = row if row["best_per"] is not None else history.rival(row)
        if known is None or row["beam_per"] - known["best_per"] <= _BEAM:
            continue
        near = f"greedy {_per(known['best_per'])}"
        if known is not row:
            near = f"no greedy PER is known, and {history.name(known)} before it had {_per(known['best_per'])}"
        text = (
            f"{history.name(row)}: beam search {_per(row['beam_per'])}, {near}; a correct beam search without a "
            "language model is within about 0.005 of greedy"
        )
        yield Finding("Beam search far from greedy", (row["trial"],), text)


def _selected(history: RunHistory) -> Iterator[Finding]:
    kind = "Selection on the set that is reported"
    on_test = [row for row in history.trials if row["best_per"] is not None and row["split"] == "test"]
    if on_test:
        names = ", ".join(map(history.name, on_test))
        text = (
            f"the PERs of {len(on_test)} runs were measured, and the best checkpoint or run chosen, on the test set: "
        )
        yield Finding(kind, _numbers(on_test), f"{text}{names}")
    own = [
        row
        for row in history.trials
        if row["best_per"] is not None and row["last_per"] is not None and not row["split"] and (row["epochs"] or 0) > 1
    ]
    if own:
        gain = fmean(row["last_per"] - row["best_per"] for row in own)
        text = (
            f"best_per is the lowest of a trial's epochs on the validation set, and the best of {len(own)} trials was "
            f"chosen there too; the last epoch is {_per(gain)} higher on average; new data show the full difference"
        )
        yield Finding(kind, (), text)


def _single(history: RunHistory) -> Iterator[Finding]:
    usable = [row for row in history.trials if not history.unusable(row)]
    guessed = [row for row in usable if history.spread(row).degrees is None]
    if guessed:
        text = (
            f"for {len(guessed)} of {len(usable)} PERs the spread over seeds is from a model: too few configurations "
            "of like PER have several seeds; training the best ones with more seeds would measure it"
        )
        yield Finding("One seed each", (), text)
    if history.study["data_val_phonemes"] is None:
        text = f"the study does not record the number of validation phonemes; {history.phonemes} are assumed"
        yield Finding("One seed each", (), text)


def _assumed(history: RunHistory) -> Iterator[Finding]:
    """Settings that were not recorded, by the number of runs that lack them."""
    runs: dict[str, list[Row]] = defaultdict(list)
    for row in history.trials:
        for column in filter(None, (row["assumed"] or "").split(", ")):
            runs[column].append(row)
    if runs:
        worst = sorted(runs.items(), key=lambda item: -len(item[1]))
        text = ", ".join(f"{dotted(column)} ({len(rows)} run{'s' * (len(rows) > 1)})" for column, rows in worst)
        yield Finding("Settings that were not recorded", (), f"assumed here: {text}")


_LOOKS: tuple[Callable[[RunHistory], Iterator[Finding]], ...] = (
    _identical,
    _incomplete,
    _diverged,
    _collapsed,
    _cut_short,
    _contradicted,
    _beam,
    _selected,
    _single,
    _assumed,
)


def _numbers(rows: list[Row]) -> tuple[int, ...]:
    return tuple(row["trial"] for row in rows)


def _per(per: float) -> str:
    return f"{per:.4f}"
