"""The lineage study: the 23 recorded runs, scaled down, as a plan; and the table that compares them with the record."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from results.output import Sheet, render
from results.store.events import read_events
from results.store.paths import StudyPaths, study_folder
from results.store.tables import load_tables
from search_spaces import InputError, RunConfig, diff, flatten, load_run, to_dict
from search_spaces.recorded import LINEAGE, shrink
from search_spaces.wording import nearest_or
from trainable.data.feasible import check_trainable

FOR_PROGRAMS = ("from", "last_per", "batches", "status")
"""Columns that only CSV and JSON have: for people, an unfinished run is marked in its notes."""

SILENT = 0.99
"""Fraction of blank frames from which a decoder outputs no phonemes."""


def make_plan(
    dataset: Any, scale: float, only: Sequence[str] = (), precision: str = "auto", gpu: bool = False
) -> list[Any]:
    """The entries of a planned study, one per run, oldest first; raises InputError if one cannot be trained.

    `precision` "recorded" keeps each run's own, "fp32" and "bf16" replace all others, "auto" uses fp32 where the CPU
    does not support the recorded one (and keeps it where trials use a GPU, `gpu`). A run with the same configuration as
    an earlier one gets another seed: the same seed would only repeat the result.
    """
    plan: list[dict[str, Any]] = []
    seen: dict[str, list[str]] = {}
    problems: dict[str, list[str]] = {}
    for name in _chosen(only):
        run = load_run(name)
        config = shrink(run.config, scale, len(dataset.train))
        config, notes = _in_precision(config, precision, gpu)
        try:
            config, more = fit_windows(config, dataset)
        except InputError as error:
            for line in error.problems:
                problems.setdefault(line, []).append(name)
            continue
        notes += more
        earlier = seen.setdefault(repr(flatten(config)), [])
        if earlier:
            notes.append(f"as {earlier[0]}, seed {len(earlier)}")
            config = _with(config, "training", seed=config.training.seed + len(earlier))
        earlier.append(name)
        before = diff(run.parent_config, run.config) if run.parent_config else {}
        plan.append(
            {
                "run": name,
                "parent": run.parent,
                "origin": "replicate",
                "phase": run.phase,
                "purpose": run.purpose,
                "changed": {path: [_plain(old), _plain(new)] for path, (old, new) in before.items()},
                "recorded": run.recorded,
                "notes": notes,
                "config": to_dict(config),
            }
        )
    if problems:
        raise InputError(f"{_names(names)}: {line}" for line, names in problems.items())
    return plan


def _names(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _chosen(only: Sequence[str]) -> list[str]:
    unknown = [name for name in only if name not in LINEAGE]
    if unknown:
        raise InputError(
            f"--only: {name} is not one of the recorded runs; " + nearest_or(name, LINEAGE, "'tuner runs' lists them")
            for name in unknown
        )
    return [name for name in LINEAGE if not only or name in only]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _with(config: RunConfig, section: str, **values: Any) -> RunConfig:
    sections = to_dict(config)
    sections[section].update(values)
    return RunConfig.model_validate(sections)


def _in_precision(config: RunConfig, wanted: str, gpu: bool) -> tuple[RunConfig, list[str]]:
    recorded = config.training.precision
    if wanted == "recorded" or (wanted == "auto" and (gpu or _cpu_has(recorded))):
        return config, []
    new = "fp32" if wanted == "auto" else wanted
    if new == recorded:
        return config, []
    return _with(config, "training", precision=new), [f"{new} for {recorded}"]


def _cpu_has(precision: str) -> bool:
    from trainable.compute.torch_private import cpu_has  # loads torch

    return cpu_has(precision)


def fit_windows(config: RunConfig, dataset: Any) -> tuple[RunConfig, list[str]]:
    """`config` with its own kernel and stride, or with the largest stride and then kernel that the labels allow.

    Raises InputError, `check_trainable`'s own, where no smaller windows help.
    """
    try:
        check_trainable(config, dataset)
        return config, []
    except InputError as error:
        first = error
    kernel, stride = config.model.kernel, config.model.stride
    for smaller_stride, smaller_kernel in itertools.product(range(stride, 0, -1), range(kernel, 0, -1)):
        smaller = _with(config, "model", kernel=smaller_kernel, stride=smaller_stride)
        try:
            check_trainable(smaller, dataset)
        except InputError:
            continue
        return smaller, [f"kernel {smaller_kernel} for {kernel}, stride {smaller_stride} for {stride}"]
    raise first


@dataclass
class LineageTable:
    """One row per run, and the notes. `spearman` is None where fewer than three runs can be compared."""

    sheet: Sheet
    notes: list[str] = field(default_factory=list)
    spearman: float | None = None
    pairs: int = 0

    def render(self, form: str) -> str:
        """The table in a format of `results.output`; in a terminal and in Markdown the notes follow."""
        text = render(self.sheet, form, headers={"recorded_per": "recorded"}, hide=FOR_PROGRAMS)
        if form not in ("table", "markdown"):
            return text
        return text + "\n" + "".join(f"{'- ' if form == 'markdown' else ''}{note}\n" for note in self.notes)


def lineage_table(results_dir: Path, study: str) -> LineageTable:
    """The runs of a planned study beside their record; raises InputError for any other study."""
    folder = study_folder(results_dir, study)
    if not StudyPaths(folder).log.exists():
        raise InputError(f"{folder}: there is no such study; 'tuner best' lists what there is")
    events, _ = read_events(StudyPaths(folder).log)
    if not events or not events[0].get("lineage"):
        raise InputError(f"{folder}: is not a study of the recorded runs; 'tuner best {study}' shows it")
    plan = events[0]["plan"]
    tables, _ = load_tables(results_dir, [study])
    trials = {row["trial"]: row for row in tables["trials"].to_pylist()}
    blanks = {row["trial"]: row["blank_share"] for row in tables["epochs"].select(["trial", "blank_share"]).to_pylist()}
    rows = [_row(entry, trials.get(number), blanks.get(number)) for number, entry in enumerate(plan)]
    table = LineageTable(Sheet.of(rows))
    _compare(table, plan, rows)
    _seed_spread(table, plan, rows)
    scale, lengths = events[0]["lineage"]["scale"], [entry["config"]["training"]["batches"] for entry in plan]
    table.notes.append(f"scale {scale:g}: {min(lengths)} to {max(lengths)} batches a run, at the recorded rates")
    if any(entry["recorded"].get("comparable") is False for entry in plan):
        names = ", ".join(entry["run"] for entry in plan if entry["recorded"].get("comparable") is False)
        table.notes.append(f"left out of the comparison, because the recorded PER is not that of the training: {names}")
    return table


def check_resumed(results_dir: Path, study: str, given: Mapping[str, Any]) -> None:
    """Raises InputError if the options differ from those with which the study was started."""
    events, _ = read_events(StudyPaths(results_dir / study).log)
    settings = (events[0].get("lineage") if events else None) or {}
    wrong = [key for key, value in given.items() if settings.get(key) != value]
    if wrong:
        raise InputError(
            f"--{key} {given[key]}: the study '{study}' was begun with {settings.get(key)}; leave it out, "
            "or begin another study by --study"
            for key in wrong
        )


def _row(entry: dict[str, Any], trial: dict[str, Any] | None, blank: float | None) -> dict[str, Any]:
    notes = list(entry["notes"])
    if blank is not None and blank >= SILENT:
        notes.append("outputs only blanks")
    recorded = entry["recorded"]
    if recorded.get("per") is not None and recorded.get("decoder") is None:
        notes.append("decoder not recorded")
    trial = trial or {"status": "waiting"}
    if trial["status"] != "completed":
        notes.append(trial["status"])
    return {
        "run": entry["run"],
        "from": entry["parent"],
        "changed": short_changes(entry["changed"]) or ("nothing" if entry["parent"] else ""),
        "per": trial.get("best_per"),
        "recorded_per": recorded.get("per"),
        "last_per": trial.get("last_per"),
        "batches": trial.get("batches"),
        "status": trial["status"],
        "notes": "; ".join(notes),
    }


def short_changes(changed: dict[str, Any]) -> str:
    """The changes of a run in a line: `peak_lr 0.0014, decay 0.9995`, without settings that its new kinds do not
    have."""
    parts = []
    for path, (_, new) in changed.items():
        section, key = path.split(".")
        if new == "absent":
            continue
        value = "none" if new is None else f"{new:g}" if isinstance(new, float) else str(new)
        parts.append(f"{section if key == 'kind' else key} {value}")
    return ", ".join(parts)


def _compare(table: LineageTable, plan: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Compare the order of the runs with the recorded one: those with a recorded greedy PER of their training."""
    pairs = [
        (row["per"], entry["recorded"]["per"])
        for entry, row in zip(plan, rows, strict=True)
        if row["per"] is not None
        and entry["recorded"].get("per") is not None
        and entry["recorded"].get("decoder") == "greedy"
        and entry["recorded"].get("comparable", True)
    ]
    table.pairs = len(pairs)
    if len(pairs) < 3:
        table.notes.append(
            f"{len(pairs)} runs have both a PER here and a recorded greedy PER; too few to compare the order"
        )
        return
    here, there = (np.array(values) for values in zip(*pairs, strict=True))
    table.spearman = spearman(here, there)
    if table.spearman is None:
        table.notes.append(f"all {len(pairs)} compared runs have the same PER: there is no order to compare")
        return
    text = f"order here against the record: Spearman {table.spearman:.2f} over {len(pairs)} runs"
    if len(pairs) <= 8:
        text += f" (p = {chance(here, there):.2f})"
    table.notes.append(text)


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation of two float arrays [n], ties at their mean rank; None where one is constant."""
    ranks = _ranks(a) - (len(a) + 1) / 2, _ranks(b) - (len(b) + 1) / 2
    norm = np.sqrt(np.sum(ranks[0] ** 2) * np.sum(ranks[1] ** 2))
    return float(np.sum(ranks[0] * ranks[1]) / norm) if norm else None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, float64 [n]; equal values share the mean of theirs."""
    return np.array([np.sum(values < value) + (np.sum(values == value) + 1) / 2 for value in values])


def chance(a: np.ndarray, b: np.ndarray) -> float:
    """Fraction of all orders of `b` whose correlation with `a` is at least as far from 0 (exact, two-sided p)."""
    a, b = _ranks(a) - (len(a) + 1) / 2, _ranks(b) - (len(b) + 1) / 2
    found = np.abs([np.sum(a * np.array(order)) for order in itertools.permutations(b)])
    return float(np.mean(found >= abs(np.sum(a * b)) - 1e-9))


def _seed_spread(table: LineageTable, plan: list[dict[str, Any]], rows: Iterable[dict[str, Any]]) -> None:
    """The spread between runs that differ only in the seed."""
    groups: dict[str, list[float]] = {}
    for entry, row in zip(plan, rows, strict=True):
        config = {path: value for path, value in flatten(entry["config"]).items() if path != "training.seed"}
        if row["per"] is not None:
            groups.setdefault(repr(config), []).append(row["per"])
    repeated = [np.array(values) for values in groups.values() if len(values) > 1]
    if repeated:
        freedom = sum(len(values) - 1 for values in repeated)
        spread = np.sqrt(sum(np.sum((values - values.mean()) ** 2) for values in repeated) / freedom)
        table.notes.append(
            f"seed s.d. {spread:.4f}, from {len(repeated)} configurations with several seeds; "
            "'tuner changelog' shows which differences are ties"
        )
