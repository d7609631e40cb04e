"""Makes the three tables from events. A pure function of the log, so every table can be made again.

A row of `epochs` is a (trial, epoch): where a trial was restarted, the latest attempt that reported the epoch counts. A
trial's `best_per` is the lowest `per` over those rows. Values that an event does not have are null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results.store.columns import BY_DECAY, COLUMNS, SCHEMA_VERSION, TABLES

Tables = dict[str, pa.Table]
_CHUNK = 20_000  # epochs held as Python values (about 1 KB each) before they become Arrow columns (about 200 bytes)
_ENDED = {"interrupted": "interrupted", "failed": "failed"}  # any other reason is a budget that was spent
_EPOCH_KEYS = tuple({"reported": "time"}.get(column.name, column.name) for column in COLUMNS["epochs"][1:])
_epoch_values = itemgetter(*_EPOCH_KEYS)
MARKS = ("tags", "notes")
"""Columns of the trials and the studies table that people fill (`tuner tag`, `tuner note`), at any time."""
NAMED = (
    "parameters",
    "from_trial",
    "from_trial_epoch",
    "replaces",
    "length",
    "shorter",
    "run",
    "parent",
    "phase",
    "purpose",
    "beam_per",
    "test_per",
    "split",
    "assumed",
    "note",
)  # as in `trial_started`


def build(events: Iterable[Mapping[str, Any]], running: bool, study: str | None = None) -> Tables:
    """The tables of one study from its events in order.

    `running` says whether a live driver holds the study's lock: a trial without an end is then `running`, otherwise
    `interrupted`. `study` overrides the name that the events give (a folder may have been renamed).
    """
    replay = Replay()
    for event in events:
        replay.feed(event)
    return replay.tables(running, study)


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a `Column.type`."""
    if name == BY_DECAY:
        return pa.list_(pa.struct([("decay", pa.float64()), ("per", pa.float64())]))
    return pa.timestamp("us") if name == "timestamp" else pa.type_for_alias(name)


def schema(table: str) -> pa.Schema:
    """The fixed columns of a table; `trials` has the configuration's after them."""
    return pa.schema([(column.name, arrow_type(column.type)) for column in COLUMNS[table]])


def empty() -> Tables:
    """The three tables without rows."""
    return {name: schema(name).empty_table() for name in TABLES}


@dataclass
class _Trial:
    first: Mapping[str, Any] | None = None  # trial_started events
    last: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None  # trial_ended, if it came after the last start
    last_end: float | None = None
    checkpoint: str | None = None
    attempts: int = 0
    open_attempts: set[int] = field(default_factory=set)  # started and never ended
    used: dict[str, float] = field(default_factory=lambda: {"cpu_seconds": 0.0, "gpu_seconds": 0.0})


class Replay:
    """`build` fed one event at a time; its memory is that of the tables, not of the events."""

    def __init__(self) -> None:
        self._study: dict[str, Any] = {}
        self._created: float | None = None
        self._resumed = 0
        self._end: Mapping[str, Any] | None = None
        self._trials: dict[int, _Trial] = {}
        self._epochs: list[tuple[Any, ...]] = []
        self._batches: list[pa.RecordBatch] = []
        self._tags: dict[int | None, dict[str, None]] = {}
        self._notes: dict[int | None, list[str]] = {}
        self.last_seq = 0
        self.dropped: list[str] = []
        """Checkpoints that were removed for want of room."""

    def feed(self, event: Mapping[str, Any]) -> None:
        """Apply the next event; unknown kinds and keys are ignored."""
        self.last_seq = event.get("seq", self.last_seq)
        kind = event["event"]
        if kind in ("study_started", "study_resumed"):
            self._feed_study(kind, event)
        elif kind == "study_changed":
            self._feed_changed(event)
        elif kind == "marked":
            self._feed_mark(event)
        elif kind == "study_ended":
            self._end = event
        elif kind == "checkpoints_dropped":
            self._feed_dropped(event)
        elif kind in ("trial_started", "trial_ended", "epoch") and _is_count(event.get("trial")):
            if kind == "epoch":
                self._feed_epoch(event)
            else:
                self._feed_trial(self._trials.setdefault(event["trial"], _Trial()), event)

    def feed_epochs(self, epochs: pa.RecordBatch) -> None:
        """Apply many epoch events at once: the columns of `epochs`, and `time` in seconds."""
        times = pc.round(pc.multiply(epochs["time"], scalar(1e6, pa.float64())), round_mode="half_to_even").cast(
            pa.int64()
        )
        arrays = {"study": pa.nulls(epochs.num_rows, pa.string()), "reported": times.cast(pa.timestamp("us"))}
        for f in schema("epochs"):
            if f.name not in arrays:
                arrays[f.name] = _finite(epochs[f.name])
        arrays["attempt"] = pc.fill_null(arrays["attempt"], scalar(0, pa.int32()))
        self._flush()
        self._batches.append(pa.record_batch([arrays[f.name] for f in schema("epochs")], schema=schema("epochs")))

    @property
    def settings(self) -> dict[str, Any]:
        """What the study was started with, and what resuming changed."""
        return {key: value for key, value in self._study.items() if key not in ("event", "seq", "time", "elapsed")}

    def tables(self, running: bool, study: str | None = None) -> Tables:
        """The tables of the events so far; more can be applied afterwards."""
        name = clean_text(study if study is not None else str(self._study.get("study", "")))
        epochs = self._epoch_table(name)
        trials = self._trial_table(name, epochs, running)
        return {"studies": self.study_table(name, trials, running), "trials": trials, "epochs": epochs}

    def numbers(self) -> set[int]:
        """The trials of which there was any event."""
        self._flush()
        batches = (pc.unique(batch["trial"]).to_pylist() for batch in self._batches)
        return set(self._trials).union(*batches)

    def ended(self, statuses: Collection[str]) -> list[int]:
        """The trials that have ended in one of these states and are not tried again."""
        ends = ((number, trial.end) for number, trial in sorted(self._trials.items()))
        return [n for n, end in ends if end is not None and end.get("status") in statuses and not end.get("retry")]

    def part(self, study: str, numbers: Sequence[int]) -> tuple[pa.Table, pa.Table]:
        """(trials, epochs) of some trials."""
        name = clean_text(study)
        epochs = self._epoch_table(name)
        trials = self._trial_table(name, epochs, False, numbers)
        return trials, epochs.filter(pc.is_in(epochs["trial"], pa.array(numbers, pa.int32())))

    def _feed_study(self, kind: str, event: Mapping[str, Any]) -> None:
        self._end = None
        changes = {key: value for key, value in event.items() if key not in ("event", "seq", "time", "changed")}
        for key, value in changes.items():
            old = self._study.get(key)
            self._study[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        self._feed_changed(event)
        if kind == "study_started":
            self._created = event.get("time")
        else:
            self._resumed += 1

    def _feed_changed(self, event: Mapping[str, Any]) -> None:
        """Settings that a resume, or `tuner set`, changed: key -> [old, new]."""
        for key, pair in _mapping(event.get("changed")).items():
            if isinstance(pair, list) and len(pair) == 2:
                self._study[key] = pair[1]

    def _feed_mark(self, event: Mapping[str, Any]) -> None:
        """A note, or tags that come and go, of a person on a trial (`of`), or on the study (null)."""
        tags = self._tags.setdefault(event.get("of"), {})
        for tag in event.get("remove") or ():
            tags.pop(tag, None)
        tags.update(dict.fromkeys(event.get("add") or ()))
        if note := event.get("note"):
            self._notes.setdefault(event.get("of"), []).append(note)

    def _marks(self, of: int | None) -> dict[str, str | None]:
        """The columns `MARKS` of a trial, or of the study (None)."""
        return {"tags": ", ".join(self._tags.get(of, ())) or None, "notes": "; ".join(self._notes.get(of, ())) or None}

    def _feed_trial(self, trial: _Trial, event: Mapping[str, Any]) -> None:
        if event["event"] == "trial_started":
            trial.attempts += 1
            trial.first = trial.first or event
            trial.last, trial.end = event, None
            trial.open_attempts.add(event.get("attempt", trial.attempts))
            return
        for name in trial.used:
            trial.used[name] += _number(event.get(name))
        trial.open_attempts.discard(event.get("attempt", (trial.last or {}).get("attempt", trial.attempts)))
        trial.end, trial.last_end = event, event.get("time")
        trial.checkpoint = event.get("checkpoint") or trial.checkpoint

    def _feed_dropped(self, event: Mapping[str, Any]) -> None:
        """The tables do not name a checkpoint that was removed to save space."""
        gone = set(event.get("files") or ())
        self.dropped += gone
        for trial in self._trials.values():
            if trial.checkpoint in gone:
                trial.checkpoint = None

    def _feed_epoch(self, event: Mapping[str, Any]) -> None:
        if not _is_count(event.get("epoch")):
            return
        try:
            self._epochs.append(_epoch_values(event))
        except KeyError:  # an event of an older version, or one without a rule's decision
            self._epochs.append(tuple(map(event.get, _EPOCH_KEYS)))
        if len(self._epochs) >= _CHUNK:
            self._flush()

    def _open_seconds(self) -> dict[tuple[int, int], float]:
        """Seconds of the epochs of each (trial, attempt), repeated epochs included: the time was spent."""
        self._flush()
        table = pa.Table.from_batches(self._batches, schema=schema("epochs")).select(["trial", "attempt", "seconds"])
        sums = table.group_by(["trial", "attempt"], use_threads=False).aggregate([("seconds", "sum")])
        columns = [sums[name].to_pylist() for name in ("trial", "attempt", "seconds_sum")]
        return {(trial, attempt): seconds or 0.0 for trial, attempt, seconds in zip(*columns, strict=True)}

    def _flush(self) -> None:
        if not self._epochs:
            return
        columns = dict(zip(_EPOCH_KEYS, map(list, zip(*self._epochs, strict=True)), strict=True))
        columns["reported"] = [_micros(seconds) for seconds in columns.pop("time")]
        columns["study"] = [None] * len(self._epochs)
        columns["attempt"] = [attempt if _is_count(attempt) else 0 for attempt in columns["attempt"]]
        arrays = [column_array(columns[f.name], f.type) for f in schema("epochs")]
        self._batches.append(pa.record_batch(arrays, schema=schema("epochs")))
        self._epochs = []

    def _epoch_table(self, study: str) -> pa.Table:
        self._flush()
        table = pa.Table.from_batches(self._batches, schema=schema("epochs"))
        order = table.append_column("_row", pa.array(range(table.num_rows), pa.int64()))
        keys = [(key, "ascending") for key in ("trial", "epoch", "attempt", "_row")]
        table = table.take(pc.sort_indices(order, keys)).combine_chunks()
        if table.num_rows > 1:
            following = table.slice(1)
            previous = table.slice(0, table.num_rows - 1)
            last = pc.or_(
                pc.not_equal(previous["trial"], following["trial"]), pc.not_equal(previous["epoch"], following["epoch"])
            )
            table = table.filter(pa.chunked_array([*last.chunks, pa.array([True])]))
        return table.set_column(0, "study", pa.repeat(scalar(study, pa.string()), table.num_rows))

    def _trial_table(self, study: str, epochs: pa.Table, running: bool, only: Sequence[int] | None = None) -> pa.Table:
        curves, spent = _summaries(epochs), self._open_seconds()
        for number in curves.keys() - self._trials.keys():
            self._trials[number] = _Trial()  # its start was lost with a damaged line
        numbers = sorted(self._trials if only is None else only)
        fixed = [self._trial_row(study, number, curves.get(number, {}), spent, running) for number in numbers]
        arrays = {f.name: column_array([row.get(f.name) for row in fixed], f.type) for f in schema("trials")}
        configs = [_known_config(self._trials[number].last or {}) for number in numbers]
        for name in by_section(name for config in configs for name in config):
            if name not in arrays:
                arrays[name] = config_array([config.get(name) for config in configs])
        return pa.table(arrays)

    def _trial_row(
        self,
        study: str,
        number: int,
        curve: Mapping[str, Any],
        spent: Mapping[tuple[int, int], float],
        running: bool,
    ) -> dict[str, Any]:
        trial = self._trials[number]
        first, last, end = trial.first or {}, trial.last or {}, trial.end
        resources = _mapping(self._study.get("resources"))
        seconds = sum(spent.get((number, attempt), 0.0) for attempt in sorted(trial.open_attempts))
        per_second = {
            "cpu_seconds": _number(resources.get("cpus_per_trial"), 1.0),
            "gpu_seconds": _number(resources.get("gpus_per_trial")),
        }
        if not curve and end:  # a result that was recorded without its curve
            curve = {name: end[name] for name in ("best_per", "last_per", "batches") if name in end}
        return {
            "study": study,
            "trial": number,
            "seed": last.get("seed"),
            "status": end.get("status") if end else ("running" if running else "interrupted"),
            "origin": last.get("origin"),
            **curve,
            **{name: used + seconds * per_second[name] for name, used in trial.used.items()},
            "train_seconds": sum(spent.get((number, attempt), 0.0) for attempt in range(1, trial.attempts + 1)),
            "started": _micros(first.get("time")),
            "ended": _ended(first.get("time"), trial.last_end) if end else None,
            "attempts": trial.attempts,
            "host": last.get("host") or curve.get("host"),
            "error": end.get("error") if end else None,
            "checkpoint": trial.checkpoint,
            **{name: last.get(name) for name in NAMED},
            "unknown": ", ".join(_hidden(last)) or None,
            "decoder": last.get("decoder", "greedy"),
            **self._marks(number),
        }

    def marked(self, trials: pa.Table) -> pa.Table:
        """Rows of trials that were made earlier, with the tags and notes that the events give them by now."""
        if not (self._tags or self._notes):
            return trials
        rows = [self._marks(number) for number in trials["trial"].to_pylist()]
        for name in MARKS:
            column = pa.array([row[name] for row in rows], pa.string())
            trials = trials.drop_columns([name]) if name in trials.column_names else trials
            trials = trials.append_column(name, column)
        return trials

    def study_table(self, study: str, trials: pa.Table, running: bool) -> pa.Table:
        """The one row of the study that has these trials."""
        about, end = self._study, self._end
        parts = {key: _mapping(about.get(key)) for key in ("space", "searcher", "stopping", "budget", "resources")}
        data, code = _mapping(about.get("data")), _mapping(about.get("code"))
        best = first_minimum(trials["best_per"].to_pylist())
        reason = end.get("reason") if end else None
        row = {
            "study": study,
            "schema_version": SCHEMA_VERSION,
            "status": _ENDED.get(str(reason), "completed") if end else ("running" if running else "interrupted"),
            "reason": reason,
            "created": _micros(self._created),
            "ended": _ended(self._created, end.get("time")) if end else None,
            "resumed": self._resumed,
            "space": parts["space"].get("name"),
            "objective": about.get("objective"),
            "costs": ",".join(map(str, about.get("costs") or [])) or None,
            "seed": about.get("seed"),
            **{
                f"budget_{key}": parts["budget"].get(key)
                for key in (
                    "trials",
                    "hours",
                    "gpu_hours",
                    "batches",
                    "utterances",
                    "target_per",
                    "no_improvement",
                    "then",
                )
            },
            **{key: parts["resources"].get(key) for key in ("cpus_per_trial", "gpus_per_trial", "concurrent")},
            **{f"data_{key}": data.get(key) for key in ("name", "path", "fingerprint", "val_phonemes")},
            **{f"code_{key}": code.get(key) for key in ("version", "git", "dirty")},
            "packages": _json(about.get("packages")),
            "host": about.get("host"),
            "trials": trials.num_rows,
            "epochs": pc.sum(trials["epochs"]).as_py() or 0,
            "best_per": trials["best_per"][best].as_py() if best is not None else None,
            "best_trial": trials["trial"][best].as_py() if best is not None else None,
            **{name: pc.sum(trials[name]).as_py() or 0.0 for name in ("cpu_seconds", "gpu_seconds")},
            "origin_note": about.get("origin_note"),
            "confirms": about.get("confirms"),
            "space_definition": _json(about.get("space")),
            **self._marks(None),
        }
        for key in ("searcher", "stopping"):
            row[key] = parts[key].get("kind")
            row[f"{key}_options"] = _json(about.get(key))
        return pa.table({f.name: column_array([row.get(f.name)], f.type) for f in schema("studies")})


def first_minimum(values: list[float | None]) -> int | None:
    """Index of the lowest value that is there; the first on ties; None if there is none."""
    present = [(value, index) for index, value in enumerate(values) if value is not None]
    return min(present)[1] if present else None


def _summaries(epochs: pa.Table) -> dict[int, dict[str, Any]]:
    """Per trial: best_per, best_epoch, best_average, last_per, epochs, batches, host.

    From rows ordered by trial and epoch.
    """
    last = pc.ScalarAggregateOptions(skip_nulls=False)
    wanted = [
        ("per", "min"),
        ("epoch", "count"),
        ("per", "last", last),
        ("batch", "last", last),
        ("host", "last", last),
        ("probe_batches", "sum", pc.ScalarAggregateOptions(min_count=1)),
    ]
    sums = epochs.group_by("trial", use_threads=False).aggregate(wanted)
    lowest = sums["per_min"].take(pc.index_in(epochs["trial"], sums["trial"].combine_chunks()))
    at_best = epochs.select(["trial", "epoch", "average"]).filter(pc.equal(epochs["per"], lowest))
    firsts = at_best.group_by("trial", use_threads=False).aggregate([("epoch", "first"), ("average", "first", last)])
    named = firsts.select(["trial", "epoch_first", "average_first"]).rename_columns(
        ["trial", "best_epoch", "best_average"]
    )
    best = {row["trial"]: row for row in named.to_pylist()}
    names = {
        "per_min": "best_per",
        "epoch_count": "epochs",
        "per_last": "last_per",
        "batch_last": "batches",
        "host_last": "host",
        "probe_batches_sum": "probe_batches",
    }
    rows = sums.select(["trial", *names]).rename_columns(["trial", *names.values()]).to_pylist()
    return {row["trial"]: {**row, **best.get(row["trial"], {})} for row in rows}


def flat_config(config: Any) -> dict[str, Any]:
    """`section_key` -> value; lists and objects as JSON text; `training_seed` left out, as `seed` is a column."""
    flat: dict[str, Any] = {}
    for section, values in _mapping(config).items():
        items = values.items() if isinstance(values, dict) else [("", values)]
        for key, value in items:
            name = re.sub(r"\W", "_", f"{section}_{key}" if key else section)
            flat[name] = _json(value) if isinstance(value, list | dict) else value
    flat.pop("training_seed", None)
    return flat


def _known_config(started: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration columns of a trial; null where it was imported and a setting is not known."""
    config = flat_config(started.get("config"))
    return config | dict.fromkeys(name for name in _hidden(started) if name in config)


def _hidden(started: Mapping[str, Any]) -> list[str]:
    """The columns of the settings that are not known of an imported run."""
    paths = started.get("unknown")
    return [re.sub(r"\W", "_", str(path)) for path in paths] if isinstance(paths, list) else []


def by_section(names: Iterable[str]) -> list[str]:
    """Each name once, the first sections and the first names first, a section's (`schedule_...`) together."""
    unique = list(dict.fromkeys(names))
    sections = list(dict.fromkeys(name.split("_")[0] for name in unique))
    return sorted(unique, key=lambda name: sections.index(name.split("_")[0]))


def config_array(values: list[Any]) -> pa.Array:
    """A configuration column: bool, int64, float64 or string, whichever holds every value; null where a kind lacks it.

    A column without any value has Arrow's null type, which takes any other's place in a union.
    """
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return column_array(values, pa.float64())
    texts = [value if value is None or isinstance(value, str) else _json(value) for value in values]
    return column_array(texts, pa.string())


def scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    """One value as Arrow has it."""
    return pa.array([value], kind)[0]


def column_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values as one Arrow array; NaN, infinity and whatever does not fit the type become null."""
    try:
        array = pa.array(values, kind)  # its `from_pandas` would do for NaN, and import pandas
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        array = pa.array([_fit(value, kind) for value in values], kind)
    return _finite(array)


def _finite(array: pa.Array) -> pa.Array:
    if pa.types.is_floating(array.type):
        return pc.if_else(pc.is_finite(array), array, scalar(None, array.type))
    return array


def clean_text(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate, from a file name that is no UTF-8, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _fit(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, str) and pa.types.is_string(kind):
        return clean_text(value)
    if isinstance(value, int) and pa.types.is_floating(kind):
        return float(value) if abs(value) < 1e300 else None
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    return value


def _is_count(value: Any) -> bool:
    """Whether a trial, attempt or epoch number fits its column."""
    return type(value) is int and 0 <= value < 2**31


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _ended(started: Any, ended: Any) -> int | None:
    """When it ended, in microseconds; never before it started, even if the clock was set back."""
    begin, end = _micros(started), _micros(ended)
    return end if begin is None or end is None else max(begin, end)


def _micros(seconds: Any) -> int | None:
    if isinstance(seconds, int | float) and math.isfinite(seconds) and abs(seconds) < 1e12:
        return round(seconds * 1e6)
    return None


def _number(value: Any, missing: float = 0.0) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else missing
