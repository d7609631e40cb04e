"""Early-stopping rules judged on recorded full runs: what each costs, what it finds, how often it loses the winner.

    python benchmarks/stopping.py                     # the rules below on all shipped banks
    python benchmarks/stopping.py --banks benchmarks/data/an4.parquet --repeats 10 --rules "asha grace=4" "ray ASHA"

Each repeat is a search in virtual time (`tuner.simulation.simulate`: the real study, 8 workers) that draws the bank's
runs in a random order; every rule sees the same orders. `whole` repeats draw all runs; `halves` a random half of them,
so that the run that ought to win is another one from repeat to repeat. `--rules` takes rules as in `--stopping`, the
rivals of `benchmarks/rivals.py`, and the oracles: somebody who knows where every started trial ends, and lets on only
the best of them so far, but must train each up to a share of its batches.

Columns. *cost*: batches until a PER within 2 % of the best drawn run's was seen over what random search with full runs
spends until it sees one: the sum over repeats of batches spent (up to that PER, or in all where it was never seen) over
the number of repeats that saw it (expected running time, Hansen et al. 2009), with the 95 % interval of a bootstrap
over repeats. *time*: the same in virtual time, in which idle workers count. *by half*: repeats that saw that PER by
half of the batches of all full runs. *lost*: repeats in which the best drawn run did not come to its end. *missed*:
that never saw that PER. *regret*: best PER at the end over the best drawn run's, less 1. *spent*: batches over all the
batches of the drawn runs. Means over banks have intervals of a bootstrap over banks and repeats.

With `--json` every figure is kept there, and what is there already is not run again: a comparison can be widened by
rules or banks, and drawn again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program, this file's own folder comes first
from benchmarks.rivals import ORACLES, oracles, rivals
from results.output import Sheet, render
from tuner.commands.options import parse_rule
from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.simulate import Search, repeats

DATA = Path(__file__).parent / "data"
CHOSEN_ON = ("an4", "synthetic")
"""The banks that settings of rules were chosen on."""
RULES = (
    "none",
    "median",
    "asha grace=4 reduction=2",
    "asha at=horizon grace=0.25 reduction=1.5",
    "asha at=area metric=either grace=0.1 reduction=4 promote=true drain=true",
    "asha at=area metric=either grace=0.075 reduction=6 promote=true drain=true",
    "asha at=area metric=per grace=0.1 reduction=4 promote=true drain=true",
    "ray ASHA grace=4",
    "optuna MedianPruner",
    *ORACLES,
)
WITHIN = 1.02
"""A PER within 2 % of the best is a hit."""
DRAWS = 2000
"""Of a bootstrap."""
GRID = np.linspace(0, 1, 201)[1:]
"""Shares of all batches of the drawn runs at which regret is compared."""
PER_AT_START = 1.0


def outcome(bank: Bank, search: Search) -> dict[str, Any]:
    """One search as numbers: batches and time to the hit (inf if none), both in all, and its regret along GRID."""
    target = {run.label: run.best_per for run in bank.runs}[search.winner]
    total = sum(run.batches for run in bank.runs if run.label in search.drawn)
    steps = np.searchsorted(search.trace.batches, GRID * total, side="right") - 1
    best = np.where(steps >= 0, search.trace.best[np.maximum(steps, 0)], PER_AT_START)
    hit = search.batches_to(WITHIN * target)
    return {
        "hit": hit,
        "hit_time": float(search.trace.time[np.searchsorted(search.trace.batches, hit)]) if hit < math.inf else hit,
        "spent": float(search.spent),
        "spent_time": float(search.trace.time[-1]),
        "share": search.spent / total,
        "by_half": hit <= total / 2,
        "lost": search.winner_stopped,
        "regret": search.best_per / target - 1,
        "curve": np.minimum(best, PER_AT_START) / target - 1,
    }


def expected(outcomes: list[dict[str, Any]], picks: np.ndarray, what: str = "") -> np.ndarray:
    """Expected batches to a hit for each row of `picks` (int [draws, repeats]), or `_time`; infinity without a hit."""
    hit = np.array([o[f"hit{what}"] for o in outcomes])
    cost = np.where(np.isfinite(hit), hit, [o[f"spent{what}"] for o in outcomes])
    with np.errstate(divide="ignore"):
        return np.asarray(cost[picks].sum(axis=1) / np.isfinite(hit)[picks].sum(axis=1))


def picks_of(count: int, seed: int = 0) -> np.ndarray:
    """int [1 + DRAWS, count]: every repeat once, then bootstrap draws of them."""
    drawn = np.random.default_rng(seed).integers(count, size=(DRAWS, count))
    return np.concatenate([np.arange(count)[None], drawn])


def compare(name: str, outcomes: list[dict[str, Any]], full: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of one rule beside full runs on the same orders."""
    picks = picks_of(len(outcomes))
    ratio = expected(outcomes, picks) / expected(full, picks)
    times = [float(expected(each, picks[:1], "_time")[0]) for each in (outcomes, full)]
    low, high = interval(ratio[1:])
    return {
        "rule": name,
        "cost": float(ratio[0]),
        "cost_low": low,
        "cost_high": high,
        "time": times[0] / times[1],
        **{key: float(np.mean([o[key] for o in outcomes])) for key in ("by_half", "lost", "regret", "share")},
        "missed": float(np.mean([math.isinf(o["hit"]) for o in outcomes])),
        "curve": np.mean([o["curve"] for o in outcomes], axis=0).round(5).tolist(),
        "ratios": ratio[1:].round(4).tolist(),
    }


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap draws."""
    return float(np.quantile(draws, 0.025, method="lower")), float(np.quantile(draws, 0.975, method="higher"))


def judge(
    bank: Bank, rules: Sequence[str], count: int, workers: int, trials: int | None, known: dict[str, Any]
) -> list[dict[str, Any]]:
    """A row for each rule, those of other libraries and the oracles included; full runs come first.

    `known` are the rows of this comparison that need not be run again; new ones are put there.
    """
    makers = {**rivals(bank), **oracles(bank)}

    def run(name: str) -> list[dict[str, Any]]:
        began = time.monotonic()
        foreign: Callable[[int], Any] | None = makers.get(name)
        rule = {"kind": "none"} if foreign else parse_rule(name)
        searches = repeats(bank, rule, count, workers=workers, trials=trials, foreign=foreign)
        found = [outcome(bank, search) for search in searches]
        print(f"{bank.name}: {name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return found

    names = ["none", *(name for name in rules if name != "none")]
    full = run("none") if set(names) - set(known) else []
    for name in names:
        if name not in known:
            known[name] = compare(name, full if name == "none" else run(name), full)
    return [known[name] for name in names]


def means(banks: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several banks, each with the same rules, as one row for each rule."""
    rng = np.random.default_rng(0)
    picked = rng.integers(len(banks), size=(DRAWS, len(banks)))
    found = []
    for rows in zip(*banks, strict=True):
        ratios = np.array([row["ratios"] for row in rows])
        low, high = interval(ratios[picked, np.arange(DRAWS)[:, None]].mean(axis=1))
        keys = ("cost", "time", "by_half", "lost", "missed", "regret", "share")
        mean = {key: float(np.mean([row[key] for row in rows])) for key in keys}
        curve = np.mean([row["curve"] for row in rows], axis=0)
        found.append({"rule": rows[0]["rule"], **mean, "cost_low": low, "cost_high": high, "curve": curve})
    return found


def sheet(rows: list[dict[str, Any]]) -> Sheet:
    """What people read of the rows."""
    return Sheet.of(
        {
            "rule": row["rule"],
            "cost": f"{row['cost']:.2f} [{row['cost_low']:.2f}, {row['cost_high']:.2f}]",
            "time": f"{row['time']:.2f}",
            "by half": f"{row['by_half']:.0%}",
            "lost": f"{row['lost']:.0%}",
            "missed": f"{row['missed']:.0%}",
            "regret": f"{row['regret']:.3f}",
            "spent": f"{row['share']:.2f}",
        }
        for row in rows
    )


def plot(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Mean regret against the share of batches spent, a panel for each title."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "stopping", "svg.fonttype": "none"})  # the same figures give the same file
    import matplotlib.pyplot as plt

    lines = math.ceil(len(found) / 2)
    figure, panels = plt.subplots(lines, 2, figsize=(10, 3.4 * lines), squeeze=False, sharex=True, sharey=True)
    for panel, (title, rows) in zip(panels.flat, found.items(), strict=False):
        for row in rows:
            ours = row["rule"].startswith("asha at=")
            style = "-" if ours else ":" if row["rule"] in ("none", *ORACLES) else "--"
            panel.plot(GRID, np.maximum(row["curve"], 1e-3), style, label=row["rule"], linewidth=1.4)
        panel.set(title=title, yscale="log", xlim=(0, 1))
        panel.title.set_fontsize(9)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(found) :]:
        panel.set_axis_off()
    figure.supxlabel("batches spent / batches of all full runs")
    figure.supylabel("mean regret (best PER so far / best drawn run - 1)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def groups(names: Sequence[str]) -> dict[str, list[str]]:
    """The groups of banks that means are taken over: those that chose no setting, and all."""
    new = [name for name in names if name not in CHOSEN_ON]
    found = {f"all {len(names)} banks": list(names)} if len(new) < len(names) else {}
    found[f"the {len(new)} banks that chose nothing"] = new
    return {title: group for title, group in found.items() if len(group) > 1}


def main() -> None:
    """Judge, print the tables, write the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--banks", type=Path, nargs="+", help="files of recorded runs [default: all of benchmarks/data]"
    )
    parser.add_argument("--rules", nargs="*", default=list(RULES), help="rules as in --stopping, rivals and oracles")
    parser.add_argument("--repeats", type=int, default=50, help="searches for each rule")
    parser.add_argument("--workers", type=int, default=8, help="virtual workers")
    parser.add_argument("--parts", nargs="+", choices=("whole", "halves"), default=["whole", "halves"])
    parser.add_argument("--format", choices=("table", "markdown"), default="table")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    parser.add_argument("--plot", type=Path, help="also draw regret against batches (SVG; needs matplotlib)")
    arguments = parser.parse_args()
    saved = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    found: dict[str, list[dict[str, Any]]] = {}
    drawn: dict[str, list[dict[str, Any]]] = {}
    banks = [read_curves(path, Path("results") / "studies").whole() for path in arguments.banks or shipped()]
    for part in arguments.parts:
        rows: dict[str, list[dict[str, Any]]] = {}
        for bank in banks:
            trials, name = None if part == "whole" else len(bank.runs) // 2, Path(bank.name).stem
            title = f"{name}, {part}: {trials or len(bank.runs)} of {len(bank.runs)} runs"
            known = saved.setdefault(f"{title}, {arguments.repeats} repeats, {arguments.workers} workers", {})
            found[title] = rows[name] = judge(
                bank, arguments.rules, arguments.repeats, arguments.workers, trials, known
            )
            print(f"\n## {title}\n\n{render(sheet(found[title]), arguments.format)}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(saved) + "\n")
        for title, group in groups(list(rows)).items():
            mean = drawn[f"mean of {title}, {part}"] = means([rows[name] for name in group])
            print(f"\n## mean of {title}, {part}\n\n{render(sheet(mean), arguments.format)}", flush=True)
    if arguments.plot:
        plot(drawn or found, arguments.plot)


def shipped() -> list[Path]:
    """The banks that come with the program."""
    return sorted(DATA.glob("*.parquet"))


if __name__ == "__main__":
    main()
