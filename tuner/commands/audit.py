"""`tuner audit`: what a stopping rule would have done to recorded runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import click

from results.output import Sheet, render
from results.store.paths import where_option
from search_spaces import load_space
from tuner.commands.options import curves_options, format_option, results_option
from tuner.commands.simulate import chosen_rules, interval, stopped_note
from tuner.simulation.audit import rank_correlations, replay
from tuner.simulation.curves import Bank, read_curves
from tuner.simulation.regret import bootstrap, wilson
from tuner.simulation.simulate import repeats as search

FEW = 12
"""A correlation of fewer runs than this says how many they were."""


@click.command(
    epilog="""\b
Examples:
  tuner audit an4
  tuner audit an4 --rule "asha at=horizon grace=0.25" --repeats 50
  tuner audit curves.csv --correlation --format csv
"""
)
@click.argument("source", metavar="STUDY|FILE")
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="RULE",
    help='A rule with its settings, such as "asha at=horizon grace=0.25"; may be given several times '
    "[default: the study's own rule and one of each other kind].",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Replay in this many random orders as well.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=8, show_default=True, help="Trials at once in the random orders."
)
@click.option("--correlation", is_flag=True, help="Show only the rank correlations.")
@curves_options
@format_option
@results_option
def audit(
    source: str,
    rules: Sequence[str],
    repeats: int,
    workers: int,
    correlation: bool,
    every: int | None,
    space: str | None,
    form: str,
    results_dir: Path,
) -> None:
    """Check if a stopping rule would have stopped the best run, and how much it would have saved.

    The rule is replayed over the recorded curves of a STUDY, or of a .csv or .parquet FILE (docs/curves.md), in the
    order in which the epochs were reported. The second table shows how well the ranking at each point predicts the
    ranking at the end: Spearman's rank correlation with a 95 % bootstrap interval, for each horizon.
    """
    bank = read_curves(source, results_dir, space=load_space(space) if space else None, every=every)
    for note in bank.notes:
        click.echo(f"note: {note}", err=True)
    if correlation:
        found = rank_correlations(bank)
        click.echo(render(Sheet.of(found if form in ("csv", "json") else _pivot(found)), form), nl=False)
        return
    rows = [_audit(bank, name, rule, repeats, workers) for name, rule in chosen_rules(bank, rules, "rule")]
    if form != "table":
        click.echo(render(Sheet.of(rows), form), nl=False)
        return
    winner = rows[0]
    click.echo(
        f"{bank.name}: {len(bank.runs)} runs; the best is {winner['winner']} with PER {winner['winner_per']:.4f}"
    )
    click.echo(render(Sheet.of(map(_shown, rows)), form), nl=False)
    for row in rows:
        if row["reason"]:
            click.echo(f"{row['rule']}: stops {row['winner']} at batch {row['stopped_at']}: {row['reason']}")
    if pivot := _pivot(rank_correlations(bank)):
        click.echo("\nrank correlation with the final PER, by horizon: at a fraction of the run, and at equal batches")
        click.echo(render(Sheet.of(pivot), form), nl=False)
    else:
        click.echo("\nno rank correlation with the final PER: too few runs have an end, or all have the same")
    for line in _caution(bank, rows):
        click.echo(line)
    where = where_option(results_dir)
    click.echo(
        f"next: tuner simulate {quote(source)}{where}"
        + ("" if repeats else f"; tuner audit {quote(source)} --repeats 50{where}")
    )


def _audit(bank: Bank, name: str, rule: Mapping[str, Any], repeats: int, workers: int) -> dict[str, Any]:
    found = replay(bank, rule)
    batch, reason = found.stopped.get(found.winner, (None, None))
    row: dict[str, Any] = {
        "rule": name,
        "winner": found.winner,
        "winner_per": found.winner_per,
        "winner_stopped": found.winner in found.stopped,
        "stopped_at": batch,
        "reason": reason,
        "runs": found.runs,
        "stopped": len(found.stopped),
        "unknown": found.unknown,
        "saved": found.saved,
        "best_per": found.best_per,
        "regret": found.regret,
    }
    return row | (_in_random_orders(bank, rule, repeats, workers) if repeats else {})


def _in_random_orders(bank: Bank, rule: Mapping[str, Any], repeats: int, workers: int) -> dict[str, Any]:
    """Means over random orders of the runs that were trained to their end, with intervals."""
    whole = bank.whole()
    searches = list(search(whole, rule, repeats, workers=workers))
    measures = {
        "often_stopped": [float(each.winner_stopped) for each in searches],
        "often_saved": [1 - each.spent / whole.batches for each in searches],
        "often_regret": [each.best_per - whole.best_per for each in searches],
    }
    row: dict[str, Any] = {"repeats": repeats}
    for key, values in measures.items():
        mean = sum(values) / len(values)
        low, high = wilson(mean, repeats) if key == "often_stopped" else bootstrap(values)
        row |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    return row


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "rule": row["rule"],
        "the best": f"stopped at {row['stopped_at']}" if row["winner_stopped"] else "kept",
        "stopped": f"{row['stopped']} of {row['runs']}",
        "batches saved": f"{row['saved']:.0%}",
        "regret": f"{row['regret']:.4f}",
    }
    if "repeats" in row:
        shown |= {
            "best stopped in orders": interval(row, "often_stopped"),
            "saved in orders": interval(row, "often_saved"),
            "regret in orders": interval(row, "often_regret", 4),
        }
    return shown


def _pivot(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each point, a column for each group that has a correlation somewhere."""
    table: dict[str, dict[str, Any]] = {}
    told = {row["group"] for row in rows if row["spearman"] is not None}
    for row in rows:
        if row["group"] not in told:
            continue
        line = table.setdefault(row["at"], {"at": row["at"]})
        known = row["spearman"] is not None
        few = f" ({row['runs']} runs)" if row["runs"] < FEW else ""
        line[row["group"]] = f"{row['spearman']:.2f} [{row['low']:.2f}, {row['high']:.2f}]{few}" if known else ""
        if row["group"] == "all":
            line["runs"] = row["runs"]
    return list(table.values())


def _caution(bank: Bank, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How stopped runs change the answer."""
    return [
        f"{note}. So 'best' means the best of the other runs, a slow starter among the stopped is not seen, and the "
        f"correlations are those of runs that were not stopped. The rules above would continue up to "
        f"{max(row['unknown'] for row in rows)} of the stopped runs, so they save less than shown. Record curves with "
        "--stopping none to avoid this."
        for note in stopped_note(bank)
    ]
