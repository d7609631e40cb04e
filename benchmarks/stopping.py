"""Early-stopping rules judged on recorded full runs: what each costs, what it finds, how often it kills the winner.

    python benchmarks/stopping.py                     # 50 repeats on both banks, a few minutes
    python benchmarks/stopping.py --banks benchmarks/data/an4.parquet --repeats 10 --rules "asha grace=4" none

Each repeat is a search in virtual time (`tuner.simulation.simulate`: the real study, 8 workers) that draws the bank's
runs in a random order; every rule sees the same orders. `whole` repeats draw all runs; `halves` a random half of them,
so that the run that ought to win is another one from repeat to repeat.

Columns. *cost*: batches until a PER within 2 % of the best drawn run's was seen, probes included, over what random
search with full runs spends until it sees one: the sum over repeats of batches spent (up to that PER, or in all where
it was never seen) over the number of repeats that saw it (expected running time, Hansen et al. 2009), with the 95 %
interval of a bootstrap over repeats. *killed*: repeats in which the best of the drawn runs was stopped. *missed*: that
never saw that PER. *regret*: best PER at the end over the best drawn run's, less 1. *spent*: batches over all the
batches of the drawn runs. *area*: mean regret over the budgets from 0 to all batches of the drawn runs; *less than
Ray's ASHA*: by how much that is less than under `ray ASHA grace=4`, paired by repeat, with its interval.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program, this file's own folder comes first
from benchmarks.rivals import rivals
from results.output import Sheet, render
from tuner.commands.options import parse_rule
from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.regret import bootstrap
from tuner.simulation.simulate import Search, repeats

BANKS = tuple(Path(__file__).parent / "data" / f"{name}.parquet" for name in ("an4", "synthetic"))
RULES = (
    "none",
    "one_epoch",
    "median",
    "asha grace=1 reduction=3",
    "asha grace=4 reduction=2",
    "asha grace=4 reduction=2 promote=true",
    "asha grace=4 reduction=2 among=horizon",
    "asha at=horizon reduction=1.5",
    "asha at=horizon reduction=2",
    "asha at=horizon reduction=2 metric=probe",
    "hyperband",
    "extrapolation",
)
WITHIN = 1.02
"""A PER within 2 % of the best is a hit."""
RAY = "ray ASHA grace=4"
GRID = np.linspace(0, 1, 201)[1:]
"""Shares of all batches of the drawn runs at which regret is compared."""
PER_AT_START = 1.0


def outcome(bank: Bank, search: Search) -> dict[str, Any]:
    """One search as numbers: batches to the hit (inf if none), batches spent, and its regret along GRID."""
    target = {run.label: run.best_per for run in bank.runs}[search.winner]
    total = sum(run.batches for run in bank.runs if run.label in search.drawn)
    steps = np.searchsorted(search.trace.batches, GRID * total, side="right") - 1
    best = np.where(steps >= 0, search.trace.best[np.maximum(steps, 0)], PER_AT_START)
    return {
        "hit": search.batches_to(WITHIN * target),
        "spent": float(search.spent),
        "share": search.spent / total,
        "killed": search.winner_stopped,
        "regret": search.best_per / target - 1,
        "curve": np.minimum(best, PER_AT_START) / target - 1,
    }


def expected_batches(outcomes: list[dict[str, Any]], picks: np.ndarray) -> np.ndarray:
    """Expected batches to a hit for each row of `picks` (int [draws, repeats]); infinity where none was a hit."""
    hit = np.array([o["hit"] for o in outcomes])
    cost = np.where(np.isfinite(hit), hit, [o["spent"] for o in outcomes])
    with np.errstate(divide="ignore"):
        return np.asarray(cost[picks].sum(axis=1) / np.isfinite(hit)[picks].sum(axis=1))


def compare(name: str, outcomes: list[dict[str, Any]], full: list[dict[str, Any]], ray: list[dict[str, Any]]) -> Any:
    """The row of one rule beside full runs and Ray's ASHA on the same orders."""
    count = len(outcomes)
    picks = np.random.default_rng(0).integers(count, size=(2000, count))
    everyone = np.arange(count)[None]
    ratio = expected_batches(outcomes, picks) / expected_batches(full, picks)
    area = np.array([o["curve"].mean() for o in outcomes])
    less = np.array([o["curve"].mean() for o in ray]) - area
    less_low, less_high = bootstrap(less)
    return {
        "rule": name,
        "cost": float((expected_batches(outcomes, everyone) / expected_batches(full, everyone))[0]),
        "cost_low": float(np.quantile(ratio, 0.025, method="lower")),
        "cost_high": float(np.quantile(ratio, 0.975, method="higher")),
        "killed": float(np.mean([o["killed"] for o in outcomes])),
        "missed": float(np.mean([math.isinf(o["hit"]) for o in outcomes])),
        "regret": float(np.mean([o["regret"] for o in outcomes])),
        "spent": float(np.mean([o["share"] for o in outcomes])),
        "area": float(area.mean()),
        "less": float(less.mean()),
        "less_low": less_low,
        "less_high": less_high,
        "curve": np.mean([o["curve"] for o in outcomes], axis=0).tolist(),
    }


def judge(bank: Bank, rules: list[str], count: int, workers: int, trials: int | None) -> Iterator[dict[str, Any]]:
    """A row for each rule, ours and the rivals'; the first two runs are what the others are compared with."""
    makers = rivals(bank)

    def run(name: str) -> list[dict[str, Any]]:
        began = time.monotonic()
        foreign: Callable[[int], Any] | None = makers.get(name)
        rule = {"kind": "none"} if foreign else parse_rule(name)
        found = [
            outcome(bank, search)
            for search in repeats(bank, rule, count, workers=workers, trials=trials, foreign=foreign)
        ]
        print(f"{bank.name}: {name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return found

    full, ray = run("none"), run(RAY)
    yield compare("none", full, full, ray)
    yield compare(RAY, ray, full, ray)
    for name in [*rules, *makers]:
        if name not in ("none", RAY):
            yield compare(name, run(name), full, ray)


def sheet(rows: list[dict[str, Any]]) -> Sheet:
    """What people read of the rows, cheapest of those that seldom miss first."""

    def interval(row: dict[str, Any], key: str, digits: int) -> str:
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        return f"{row[key]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    return Sheet.of(
        {
            "rule": row["rule"],
            "cost": interval(row, "cost", 2),
            "killed": f"{row['killed']:.0%}",
            "missed": f"{row['missed']:.0%}",
            "regret": f"{row['regret']:.3f}",
            "spent": f"{row['spent']:.2f}",
            "area": f"{row['area']:.3f}",
            "less than Ray's ASHA": interval(row, "less", 3),
        }
        for row in rows
    )


def plot(found: dict[str, list[dict[str, Any]]], path: Path, shown: list[str]) -> None:
    """Mean regret against the share of batches spent, a panel for each bank."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "stopping", "svg.fonttype": "none"})  # the same figures give the same file
    import matplotlib.pyplot as plt

    lines = math.ceil(len(found) / 2)
    figure, panels = plt.subplots(lines, 2, figsize=(11, 3.8 * lines), squeeze=False, sharex=True, sharey=True)
    for panel, (title, rows) in zip(panels.flat, found.items(), strict=False):
        for row in rows:
            if row["rule"] in shown:
                style = "--" if row["rule"].startswith(("ray", "optuna")) else ":" if row["rule"] == "none" else "-"
                panel.plot(GRID, np.maximum(row["curve"], 1e-3), style, label=row["rule"], linewidth=1.6)
        panel.set(title=title, yscale="log", xlim=(0, 1))
        panel.grid(alpha=0.3)
    figure.supxlabel("batches spent / batches of all full runs")
    figure.supylabel("mean regret (best PER so far / best drawn run - 1)")
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Judge, print the tables, write the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--banks", type=Path, nargs="+", default=list(BANKS), help="files of recorded runs")
    parser.add_argument("--rules", nargs="*", default=list(RULES), help="rules as in --stopping")
    parser.add_argument("--repeats", type=int, default=50, help="searches for each rule")
    parser.add_argument("--workers", type=int, default=8, help="virtual workers")
    parser.add_argument("--parts", nargs="+", choices=("whole", "halves"), default=["whole", "halves"])
    parser.add_argument("--format", choices=("table", "markdown"), default="table")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    parser.add_argument("--plot", type=Path, help="also draw regret against batches (SVG; needs matplotlib)")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for path in arguments.banks:
        bank = read_curves(path, Path("results") / "studies").whole()
        for part in arguments.parts:
            trials = None if part == "whole" else len(bank.runs) // 2
            title = f"{path.stem}, {part}: {trials or len(bank.runs)} of {len(bank.runs)} runs"
            found[title] = list(judge(bank, arguments.rules, arguments.repeats, arguments.workers, trials))
            print(f"\n## {title}\n\n{render(sheet(found[title]), arguments.format)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1, default=str) + "\n")
    if arguments.plot:
        plot(found, arguments.plot, [*arguments.rules, RAY, "optuna MedianPruner"])


if __name__ == "__main__":
    main()
