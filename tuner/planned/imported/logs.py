"""Logs of PER by step in a table: CSV, TSV, JSON, JSON lines, Parquet, and the exports of Weights & Biases.

A column is found by its name (`names.METRICS`), or named with `--map step=iter,per=val_cer`. A chart that W&B exports
has a column for each run, `NAME - METRIC`; each becomes a trial. The settings are those of a file beside the log
(`SETTINGS`; hparams.yaml is PyTorch Lightning's), or of `--settings`; without any, every setting is unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from search_spaces import InputError, load_run
from search_spaces.config import SECTIONS
from search_spaces.wording import did_you_mean
from tuner.planned.imported.curves import COLUMNS, PastLog, trials_of
from tuner.planned.imported.files import place, read_settings, read_table
from tuner.planned.imported.names import METRICS
from tuner.planned.imported.settings import Understood, nothing_known, understand
from tuner.planned.past import PastTrial

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
SETTINGS = ("config.yaml", "config.json", "args.yaml", "args.json", "hparams.yaml", "args")
MAPPED = (*METRICS,)
_NOT_LOGS = re.compile(r"eval|summary|metadata|config|args|requirements|train_val_trials", re.IGNORECASE)
_SAYS_LITTLE = ("history", "metrics", "log", "wandb-history")
_CHART = re.compile(r"(?P<run>.+?) - (?P<metric>[^-]+)")


def parse_map(text: str | None) -> dict[str, str]:
    """`step=iter,per=val_cer` as {column: name in the log}. Raises `InputError` for a column that does not exist."""
    found: dict[str, str] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, column = (each.strip() for each in part.partition("="))
        if not equals or not column:
            raise InputError(f"--map {part}: has no name of a column; write it as per=val_cer,step=iter")
        if name not in MAPPED:
            raise InputError(f"--map {part}: {did_you_mean(name, MAPPED)}the columns are {', '.join(MAPPED)}")
        found[name] = column
    return found


def logs_in(folder: Path) -> list[Path]:
    """The files of a folder that may be logs."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in ENDINGS and path.is_file() and not _NOT_LOGS.match(path.stem)
    )


def settings_of(
    given: str | None, beside: Path, utterances: int | None, inside: Mapping[str, Any] | None = None
) -> Understood:
    """The settings of a file beside the log, of the log itself (`inside`), or of `--settings`: a run, by name or file,
    or a trainer's file.
    """
    own = next((beside / name for name in SETTINGS if (beside / name).is_file()), None)
    if own is not None:
        return understand(read_settings(own), own, utterances)
    if inside:
        return understand(inside, beside, utterances)
    return nothing_known() if given is None else _given(given, utterances)


def _given(given: str, utterances: int | None) -> Understood:
    path = Path(given)
    if path.is_file():
        values = read_settings(path)
        ours = {"from", "purpose", "phase", "notes", "assumed", "recorded", "remarks", *SECTIONS}
        if path.suffix not in (".yaml", ".yml") or not values.keys() <= ours:
            return understand(values, path, utterances)
    run = load_run(given)
    return Understood(run.config, (), tuple(run.assumed), (), (), "run", False, 100, run.purpose or None)


def read(
    path: Path,
    problems: list[str],
    *,
    columns: Mapping[str, str],
    given: str | None = None,
    utterances: int | None = None,
    in_folder: bool = False,
) -> tuple[list[PastTrial], Understood]:
    """The trials of a log. `columns` are those of `--map`, `given` is `--settings`; `in_folder` says that it was found
    in a folder, whose name is then better than `history`. Raises `InputError`.
    """
    settings = settings_of(given, path.parent, utterances)
    rows = read_table(path, problems)
    charts = {} if columns else _charts(rows)
    name = path.parent.name if in_folder and path.stem in _SAYS_LITTLE else path.stem
    trials = []
    for run, own in (charts or {name: rows}).items():
        found, notes, split = table_rows(own, columns, str(path), settings)
        trials += trials_of(PastLog(run, found, _offset(found), split=split, notes=notes), settings, {})
    return trials, settings


def table_rows(
    rows: list[dict[str, Any]], columns: Mapping[str, str], where: str, settings: Understood
) -> tuple[list[dict[str, Any]], list[str], str | None]:
    """(evaluations, notes, split) of the rows of a log. Raises `InputError` where no column is the PER or the step."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    chosen = _chosen(names, columns, where)
    if "per" not in chosen:
        raise InputError(
            f"{where}: no column is known as a PER; name it with --map per=NAME. The columns are: {_some(names)}"
        )
    by_count = "step" not in chosen and "epoch" not in chosen
    if chosen.get("step") == "_step" and ("epoch" in chosen or _counts_calls(rows)):
        del chosen["step"]  # W&B's own count of calls, and no batches
        by_count = "epoch" not in chosen
    found: list[dict[str, Any]] = []
    for row in rows:
        per = row.get(chosen["per"])
        if isinstance(per, str) and per.strip().lower() in ("nan", "infinity", "inf"):
            per = math.nan  # as W&B writes it into JSON
        if isinstance(per, bool) or not isinstance(per, int | float) or (math.isfinite(per) and per < 0):
            continue
        where_at = {key: place(row.get(chosen[key])) for key in ("step", "epoch") if key in chosen}
        if by_count:
            where_at = {"epoch": len(found) + 1}
        if all(value is None for value in where_at.values()):
            continue
        values = {key: row[chosen[key]] for key in COLUMNS if key in chosen and row.get(chosen[key]) is not None}
        found.append({"per": float(per), **{k: v for k, v in where_at.items() if v is not None}, **values})
    if not found:
        raise InputError(f"{where}: no row has both a number in {chosen['per']} and a step or an epoch")
    notes = [f"PER from the column {chosen['per']}"]
    if by_count:
        notes.append("the log has no step and no epoch, so each evaluation counts as an epoch")
    return found, notes, "test" if "test" in chosen["per"].lower() else None


def _chosen(names: Iterable[str], columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Column here -> its name in the log."""
    names = list(names)
    for key, name in columns.items():
        if name not in names:
            raise InputError(f"{where}: --map {key}={name}: {did_you_mean(name, names)}the columns are: {_some(names)}")
    plain = {re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_"): name for name in reversed(names)}
    plain |= {name: name for name in names if name == "_step"}
    found = {key: next((plain[each] for each in known if each in plain), None) for key, known in METRICS.items()}
    if "step" in columns:
        found["epoch"] = None
    if "epoch" in columns:
        found["step"] = None
    return {key: name for key, name in found.items() if name is not None} | dict(columns)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _counts_calls(rows: list[dict[str, Any]]) -> bool:
    """Whether `_step` rises by one from row to row: W&B then counted the calls of its log, and not batches."""
    steps = [step for row in rows if "_step" in row and (step := place(row["_step"])) is not None]
    return len(steps) > 1 and all(after - before == 1 for before, after in pairwise(steps))


def _charts(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """A chart exported from W&B: run -> rows of step and metrics; empty where it is none."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    step = next((name for name in names if name in ("Step", "epoch", "global_step")), None)
    found: dict[str, list[dict[str, Any]]] = {}
    if step is None:
        return found
    matches = {
        name: match
        for name in names
        if name != step and not name.endswith(("__MIN", "__MAX")) and (match := _CHART.fullmatch(name))
    }
    for name, match in matches.items():
        own = [
            {step.lower(): row[step], match["metric"].strip(): row[name]} for row in rows if name in row and step in row
        ]
        if own and match["run"] not in found:
            found[match["run"]] = own
    return found


def _offset(rows: list[dict[str, Any]]) -> int:
    """Epochs that are counted from 0; steps are taken as batches done."""
    return 1 if rows and "step" not in rows[0] and rows[0].get("epoch") == 0 else 0
