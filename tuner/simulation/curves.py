"""Recorded learning curves for judging stopping rules and searchers: from one of our studies, or from a plain file.

A `Bank` holds one `RecordedRun` for each trial: its epochs as rows, the batches it was planned for, and where they are
known its configuration and its searched parameters. The plain format (CSV or Parquet) is described in docs/curves.md.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from results.output import repeated
from results.store.events import read_events
from results.store.made import open_parquet
from results.store.paths import StudyPaths, find_studies
from search_spaces import InputError, RunConfig, Space
from search_spaces.config import to_dict
from search_spaces.measures import MEASURES
from search_spaces.stopping import FIRST_RUNGS, ComparingRule
from search_spaces.wording import reason_of
from tuner.study.rules.rungs import Grid, grid_under, places, read_rule
from tuner.study.settings import StudySettings

Row = dict[str, Any]

LEAST_RUNS = 5
"""Least number of curves to judge a rule."""
NUMBERS = (
    *("batch", "epoch", "per", "per_raw", "val_loss", "train_loss", "lr", "schedule_fraction", "horizon", "seconds"),
)
_REQUIRED = ("trial", "batch", "per")
_KEPT = tuple(name for name in NUMBERS if name not in ("horizon", "epoch"))
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}


@dataclass(frozen=True)
class RecordedRun:
    """One recorded run. `rows` are its epochs 1, 2, ... with `epoch`, `batch`, `per` and what else was recorded."""

    label: str
    rows: tuple[Row, ...]
    config: RunConfig
    """Its own, or a replacement with its length, its grid and (a straight line over) its horizon."""
    horizon: int | None
    """Length of its schedule in batches; None where the file does not have it."""
    params: Mapping[str, Any] | None = None
    """What a searcher chose: dimension name -> sample."""
    own_config: bool = True
    """Whether `config` is its own."""
    complete: bool = True
    """Whether it reached its end; the end of a stopped run's curve is unknown."""

    @property
    def batches(self) -> int:
        """Batches it ran."""
        return int(self.rows[-1]["batch"])

    @property
    def step(self) -> int:
        """Batches in an epoch."""
        return int(self.rows[0]["batch"])

    @property
    def rates(self) -> tuple[list[int], list[float]] | None:
        """(batches, learning rates) as recorded, for a run without a configuration of its own; None if not known."""
        if self.own_config or any(row["lr"] is None for row in self.rows):
            return None
        return [row["batch"] for row in self.rows], [row["lr"] for row in self.rows]

    @property
    def diverged(self) -> bool:
        """Whether it ended because a value was NaN."""
        return bool(self.rows[-1]["diverged"])

    @property
    def best_per(self) -> float:
        """The lowest PER of its epochs; infinity for a run that never had one."""
        return min((row["per"] for row in self.rows if row["per"] is not None), default=math.inf)


@dataclass(frozen=True)
class Bank:
    """Recorded runs of one kind: the same data, the same measure."""

    name: str
    runs: tuple[RecordedRun, ...]
    arrival: tuple[tuple[int, int], ...] = ()
    """(index of the run, epoch) in the order in which the epochs were reported: the log's, or of a file's rows."""
    space: Mapping[str, Any] | None = None
    """The space the runs were drawn from, as `Space.as_dict` has it."""
    stopping: Mapping[str, Any] | None = None
    """The stopping rule that was in force; None for a plain file."""
    notes: tuple[str, ...] = ()
    """What was assumed when they were read."""

    @property
    def best_per(self) -> float:
        """The lowest PER of the runs that reached their end."""
        return min((run.best_per for run in self.runs if run.complete), default=math.inf)

    @property
    def batches(self) -> int:
        """Batches of all runs together."""
        return sum(run.batches for run in self.runs)

    @property
    def stopped(self) -> int:
        """Runs whose end is unknown because they were stopped."""
        return sum(not run.complete for run in self.runs)

    def whole(self) -> Bank:
        """The bank without the runs that were stopped. Raises InputError if too few are left."""
        runs = tuple(run for run in self.runs if run.complete)
        _enough(self.name, len(runs), f" that reached their end ({self.stopped} were stopped)" if self.stopped else "")
        place = {run.label: index for index, run in enumerate(runs)}
        arrival = ((place.get(self.runs[index].label, -1), epoch) for index, epoch in self.arrival)
        return replace(self, runs=runs, arrival=tuple(pair for pair in arrival if pair[0] >= 0))

    def has(self, column: str) -> bool:
        """Whether some epoch has a value in `column`."""
        return any(row.get(column) is not None for run in self.runs for row in run.rows)


def read_curves(source: str | Path, results_dir: Path, *, space: Space | None = None, every: int | None = None) -> Bank:
    """The curves of a study (by name) or of a file that ends in .csv or .parquet.

    `space` is the space that the `params` of a file belong to. `every` keeps the epochs at multiples of so many
    batches, and each run's last, so that runs with different grids can be compared. Raises InputError with a line
    for the first thing wrong: the file, the row, what was found, and what to do.
    """
    path = Path(source)
    if path.suffix.lower() in (".csv", ".parquet"):
        bank = _plain_bank(path)
    elif path.exists() and path.is_file():
        raise InputError(
            f"{path}: is neither .csv nor .parquet; give a file of one of these types, or the name of a study"
        )
    else:
        bank = _study_bank(str(source), results_dir)
    if every is not None:
        bank = _thin_bank(bank, every)
    for run in bank.runs:
        _check_grid(bank.name, run)
    _enough(bank.name, len(bank.runs))
    if not math.isfinite(bank.best_per):
        raise InputError(f"{bank.name}: no run reached its end with a PER; a rule cannot be judged without one")
    return replace(bank, space=space.as_dict()) if space is not None else bank


def check_rule(bank: Bank, rule: Mapping[str, Any]) -> None:
    """Raise InputError where the bank does not have the values that a stopping rule compares."""
    where = f"{bank.name}: rule {rule['kind']}"
    if rule["kind"] == "pbt":
        raise InputError(f"{where}: changes settings during a run, which recorded curves do not show; leave it out")
    by_share = rule.get("at") in FIRST_RUNGS
    if (rule.get("at") == "horizon" or rule.get("among", "all") != "all") and any(
        run.horizon is None for run in bank.runs
    ):
        raise InputError(
            f"{where}: needs the horizon, which is not known; add a column horizon (batches), or choose a rule with "
            "at=epochs among=all, or at=area"
        )
    steps = sorted({run.step for run in bank.runs if run.batches > run.step})
    if len(steps) > 1 and not by_share and rule["kind"] != "none":
        raise InputError(
            f"{where}: compares at epochs, which have {steps[0]} batches in one run and {steps[-1]} in another; "
            f"give --every {math.lcm(*steps)} for a common grid, or choose a rule with at=horizon or at=area"
        )
    _check_rungs(bank, rule, where)
    metric = {"either": "val_loss"}.get(rule.get("metric") or "per", rule.get("metric") or "per")
    if metric != "per" and not bank.has(metric):
        raise InputError(f"{where}: compares {metric}, which was not recorded; add the column, or choose metric=per")


def _check_rungs(bank: Bank, rule: Mapping[str, Any], where: str) -> None:
    """Raise InputError for a rule that would compare no run of the bank."""
    model = read_rule(rule)
    if not isinstance(model, ComparingRule):
        return
    longest = max(len(run.rows) for run in bank.runs)
    for run in bank.runs:
        known = run.own_config or run.rates is not None
        grid = grid_under(model, run.config) if known else Grid.of(run.config)
        if places(model, grid):
            return
    unit = "epochs" if model.at == "epochs" else f"of the {model.at}"
    if longest > 1:
        raise InputError(
            f"{where}: grace: {model.grace:g} {unit} is at or after the end of every run; the longest has {longest} "
            "epochs; give less"
        )


def rule_note(bank: Bank, rule: Mapping[str, Any]) -> str | None:
    """What a rule does otherwise with these curves than in a search; None where there is nothing."""
    without = sum(not run.own_config and run.rates is None for run in bank.runs)
    if rule.get("at") != "area" or not without:
        return None
    return (
        f"{bank.name}: {without} of {len(bank.runs)} runs have no learning rates, so their rungs are at shares of "
        "their batches; add a column lr"
    )


def _enough(name: str, runs: int, which: str = "") -> None:
    if runs < LEAST_RUNS:
        raise InputError(
            f"{name}: has {runs} curves{which}, too few to judge a rule; record {LEAST_RUNS} or more, with "
            "--stopping none"
        )


# Plain files


def _plain_bank(path: Path) -> Bank:
    columns, rows = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    for name in _REQUIRED:
        if name not in columns:
            raise InputError(
                f"{path}: has no column {name}; the columns {', '.join(_REQUIRED)} are needed, it has: "
                f"{', '.join(columns) or 'none'}"
            )
    found: dict[str, list[tuple[str, Row]]] = {}
    came: list[tuple[str, int]] = []
    for where, raw in rows:
        row = _typed(f"{path}: {where}", raw)
        known = found.setdefault(row["trial"], [])
        before = known[-1][1]["batch"] if known else -1
        if any(row["batch"] == old["batch"] for _, old in known):
            raise InputError(
                f"{path}: {where}: trial {row['trial']} has batch {row['batch']} twice; keep one row for each"
            )
        if row["batch"] <= before:
            raise InputError(
                f"{path}: {where}: trial {row['trial']} goes from batch {before} back to {row['batch']}; "
                "sort the rows by trial and batch"
            )
        known.append((f"{path}: {where}", row))
        came.append((row["trial"], row["batch"]))
    runs = tuple(_plain_run(label, rows) for label, rows in found.items())
    place = {run.label: index for index, run in enumerate(runs)}
    epochs = [{row["batch"]: row["epoch"] for row in run.rows} for run in runs]
    kept = ((place[label], epochs[place[label]].get(batch)) for label, batch in came)
    arrival = tuple((index, epoch) for index, epoch in kept if epoch is not None)
    return Bank(str(path), runs, arrival, notes=_horizon_note(columns, runs))


def _horizon_note(columns: Sequence[str], runs: Sequence[RecordedRun]) -> tuple[str, ...]:
    taken = [run for run in runs if not run.own_config and run.horizon is not None]
    if "horizon" in columns or not taken:
        return ()
    return ("there is no column horizon, so the last batch of each run that was not stopped counts as its horizon",)


def _read_csv(path: Path) -> tuple[list[str], list[tuple[str, Row]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(f"line {reader.line_num}", dict(row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {getattr(error, 'strerror', None) or error}") from error
    _no_repeats(path, columns := list(reader.fieldnames or []))
    return columns, rows


def _no_repeats(path: Path, columns: Sequence[str]) -> None:
    if twice := repeated(columns):
        raise InputError(f"{path}: two columns have the name {twice!r}; leave one out")


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[str, Row]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_parquet(path) as file:
            table = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {reason_of(error)}") from error
    _no_repeats(path, table.column_names)
    return table.column_names, [(f"row {number}", row) for number, row in enumerate(table.to_pylist(), 1)]


def _typed(where: str, raw: Mapping[str, Any]) -> Row:
    """A row with its values in their types; text that is not a number where one belongs is refused."""
    row: Row = {name: _number(where, name, raw[name]) for name in NUMBERS if name in raw}
    label = "" if raw["trial"] is None else str(raw["trial"]).strip()
    if not label:
        raise InputError(f"{where}: trial is empty; give each run a number or a name")
    for name in ("seconds", "lr"):
        if _given(raw.get(name)) and not (math.isnan(float(raw[name])) or 0 <= float(raw[name]) < math.inf):
            raise InputError(f"{where}: {name}: {raw[name]!r} is not allowed; give 0 or more, or leave it empty")
    for name in ("batch", "horizon"):
        value = row.get(name)
        if (name == "batch" and value is None) or (value is not None and (value < 0 or value != int(value))):
            raise InputError(f"{where}: {name}: {raw[name]!r} is not allowed; give a whole number of batches")
        row[name] = None if value is None else int(value)
    for name in ("diverged", "stopped"):
        flag = raw.get(name)
        row[name] = flag if isinstance(flag, bool) else _FLAGS.get(str("" if flag is None else flag).strip().lower(), 0)
        if row[name] == 0 and row[name] is not False:
            raise InputError(f"{where}: {name}: {flag!r} is not allowed; give true or false")
    for name in ("config", "params"):
        row[name] = _json(where, name, raw.get(name))
    return {**row, "trial": label}


def _given(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _number(where: str, name: str, value: Any) -> float | None:
    """A finite number, else None."""
    if not _given(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: {name}: {value!r} is not a number; give one, or leave it empty") from None
    return number if math.isfinite(number) else None


def _json(where: str, name: str, value: Any) -> dict[str, Any] | None:
    if value is None or value == "":
        return None
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{where}: {name}: is not a JSON object; give one, or leave it empty")
    return found


def _plain_run(label: str, rows: Sequence[tuple[str, Row]]) -> RecordedRun:
    where, first = rows[0]
    kept: list[Row] = []
    for _, row in rows:
        if row["batch"] == 0:  # an evaluation before the first step is not part of the training
            continue
        diverged = bool(row["diverged"]) or row["per"] is None
        kept.append(_row(len(kept) + 1, row, diverged))
        if diverged:
            break
    if not kept:
        raise InputError(f"{where}: trial {label} has no evaluation after batch 0; leave it out")
    last = kept[-1]
    config = None if first["config"] is None else _config(f"{where}: config", first["config"])
    horizon = config.horizon if config else first["horizon"]
    planned = config.training.batches if config else max(last["batch"], horizon or 0)
    stopped = rows[-1][1]["stopped"]
    complete = not stopped if stopped is not None else last["batch"] >= planned
    if not config and stopped is False:
        planned = last["batch"]
    if horizon is None and not stopped:
        horizon = last["batch"]
    return _run(label, kept, config, horizon, planned, first["params"], complete or last["diverged"])


def _row(epoch: int, row: Mapping[str, Any], diverged: bool) -> Row:
    values = {name: row[name] for name in MEASURES if row.get(name) is not None}
    values |= {name: row.get(name) for name in _KEPT}
    return {"per_raw": None, **values, "epoch": epoch, "batch": int(row["batch"]), "diverged": diverged}


def _config(where: str, given: Mapping[str, Any]) -> RunConfig:
    from pydantic import ValidationError

    try:
        return RunConfig.model_validate(given)
    except ValidationError as error:
        raise InputError(
            f"{where}: is not a configuration of this program: {error.errors()[0]['msg']}; leave it out"
        ) from error


def _run(
    label: str,
    rows: Sequence[Row],
    config: RunConfig | None,
    horizon: int | None,
    planned: int,
    params: Mapping[str, Any] | None,
    complete: bool,
) -> RecordedRun:
    """A run whose configuration has the recorded grid, so that epoch k is its k-th row."""
    step, own = rows[0]["batch"], config is not None
    if config is None:
        schedule = {"kind": "linear", "peak_lr": 1.0, "end_lr": 0.0, "horizon": horizon}
        training = {"batches": max(planned, rows[-1]["batch"]), "batches_per_epoch": step}
        config = RunConfig.model_validate({"schedule": schedule, "training": training})
    elif config.training.batches_per_epoch != step:
        raw = to_dict(config)
        raw["training"]["batches_per_epoch"] = step
        config = RunConfig.model_validate(raw)
    return RecordedRun(label, tuple(rows), config, horizon, params, own, complete)


def _check_grid(name: str, run: RecordedRun) -> None:
    """Epoch k ends at k x step; only the last may be shorter."""
    batches = [row["batch"] for row in run.rows]
    wrong = next((batch for number, batch in enumerate(batches[:-1], 1) if batch != number * run.step), None)
    if wrong is None and batches[-1] > len(batches) * run.step:
        wrong = batches[-1]
    if wrong is not None:
        have, last = set(batches), batches[-1]
        every = next(batch for batch in batches if have.issuperset(range(batch, last + 1, batch)))
        raise InputError(
            f"{name}: trial {run.label}: is evaluated at batch {run.step} first and then at {wrong}, not on an even "
            f"grid; keep the epochs at multiples of a common number, such as --every {every}"
        )


def _thin_bank(bank: Bank, every: int) -> Bank:
    runs = tuple(_thin(bank.name, run, every) for run in bank.runs)
    epochs = [{row["batch"]: row["epoch"] for row in run.rows} for run in runs]
    batches = [[row["batch"] for row in run.rows] for run in bank.runs]
    kept = ((index, epochs[index].get(batches[index][epoch - 1])) for index, epoch in bank.arrival)
    return replace(bank, runs=runs, arrival=tuple((index, epoch) for index, epoch in kept if epoch is not None))


def _thin(name: str, run: RecordedRun, every: int) -> RecordedRun:
    """The run at multiples of `every` batches and at its end; seconds and rows between are added up."""
    kept: list[Row] = []
    seconds = 0.0
    for row in run.rows:
        seconds += row["seconds"] or 0.0
        if row["batch"] % every == 0 or row is run.rows[-1]:
            kept.append({**row, "epoch": len(kept) + 1, "seconds": seconds if row["seconds"] is not None else None})
            seconds = 0.0
    short = len(kept) == 1 and run.batches < every
    if not short and [row["batch"] for row in kept[:-1]] != [every * (k + 1) for k in range(len(kept) - 1)]:
        have = ", ".join(str(row["batch"]) for row in run.rows[:4])
        raise InputError(f"{name}: trial {run.label}: has no epoch at each multiple of {every} (it has {have}, ...)")
    raw = to_dict(run.config)
    raw["training"]["batches_per_epoch"] = kept[0]["batch"] if not short else every
    return replace(run, rows=tuple(kept), config=RunConfig.model_validate(raw))


# Studies of ours


def _study_bank(study: str, results_dir: Path) -> Bank:
    folder = find_studies(results_dir, [study])[0]
    if not StudyPaths(folder).log.is_file():
        raise InputError(
            f"{folder}: has tables but no log; write its epochs to a file with 'tuner query' and give that"
        )
    events, _ = read_events(StudyPaths(folder).log)
    return _bank_of(study, events)


def _bank_of(study: str, events: Iterable[Mapping[str, Any]]) -> Bank:
    settings = StudySettings()
    started: dict[int, Mapping[str, Any]] = {}
    status: dict[int, str] = {}
    rows: dict[int, dict[int, Row]] = {}
    order: list[tuple[int, int]] = []
    for event in events:
        if event["event"] == "study_started":
            settings = StudySettings.read(event)
        elif event["event"] == "trial_started":
            started.setdefault(event["trial"], event)
            rows.setdefault(event["trial"], {})
        elif event["event"] == "epoch" and event["batch"] and event["epoch"] not in rows[event["trial"]]:
            diverged = event.get("status") == "diverged" or event["per"] is None
            rows[event["trial"]][event["epoch"]] = _row(event["epoch"], event, diverged)
            order.append((event["trial"], event["epoch"]))
        elif event["event"] == "trial_ended":
            status[event["trial"]] = event["status"]
    place: dict[tuple[int, int], tuple[int, int]] = {}
    runs: list[RecordedRun] = []
    for number, epochs in rows.items():
        # Nothing was reported, or its beginning is another trial's.
        if not epochs or started[number].get("from_trial") is not None:
            continue
        kept = [{**epochs[epoch], "epoch": count} for count, epoch in enumerate(sorted(epochs), 1)]
        place |= {(number, epoch): (len(runs), count) for count, epoch in enumerate(sorted(epochs), 1)}
        config = _config(f"{study}: trial {number}", started[number]["config"])
        complete = status.get(number) in ("completed", "diverged")
        params = started[number]["params"] or None
        runs.append(_run(str(number), kept, config, config.horizon, config.training.batches, params, complete))
    return Bank(
        study,
        tuple(runs),
        tuple(place[pair] for pair in order if pair in place),
        settings.space,
        settings.stopping.as_dict() or None,
    )
