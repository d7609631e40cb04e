"""`tuner importance`: which settings mattered in a search, and where the good values lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from results.output import Sheet, render
from results.store.paths import where_option
from tuner.analysis.importance import disagreements
from tuner.analysis.importance import importance as importance_of
from tuner.analysis.partial import partial
from tuner.commands.options import format_option, results_option

_BAR = 24


@click.command(
    epilog="""\b
Examples:
  tuner importance an4
  tuner importance an4 --partial schedule.peak_lr
"""
)
@click.argument("study")
@click.option(
    "--partial", "name", metavar="SETTING", help="Show the mean best PER by the value of this setting instead."
)
@click.option(
    "--bins", type=click.IntRange(2, 50), default=6, show_default=True, help="Number of ranges for --partial."
)
@format_option
@results_option
def importance(study: str, name: str | None, bins: int, form: str, results_dir: Path) -> None:
    """Show how much each searched setting of STUDY mattered, by PED-ANOVA and fANOVA.

    A stopped trial is compared with others at the last epoch that both reached. A setting that exists only under a
    condition is judged among the trials that meet the condition. "chance" is the importance that a setting without
    any effect would get.
    """
    if name is not None:
        click.echo(_partial(results_dir, study, name, bins, form), nl=False)
        return
    rows = importance_of(results_dir, study)
    click.echo(render(_sheet(rows, form), form, headers={"ped_anova": "PED-ANOVA", "fanova": "fANOVA"}), nl=False)
    if form == "table":
        mattered = [row["path"] for row in rows if row["ped_anova"] is not None and row["ped_anova"] > row["chance"]]
        click.echo("")
        if not mattered:
            click.echo("no setting mattered more than chance explains; more trials may show more")
        for line in disagreements(rows):
            click.echo(line)
        best = mattered[0] if mattered else rows[0]["path"]
        where = where_option(results_dir)
        click.echo(f"next: tuner importance {study} --partial {best}{where}; tuner spaces narrow {study}{where}")


def _sheet(rows: list[dict[str, Any]], form: str) -> Any:
    if form in ("csv", "json"):
        return Sheet.of(rows)
    shown: list[dict[str, Any]] = []
    for row in rows:
        known = row["ped_anova"] is not None
        line = {"setting": row["path"], "only where": row["active"], "trials": row["trials"]}
        line |= {key: round(row[key], 2) if known else None for key in ("ped_anova", "chance", "fanova")}
        # Rounded numbers can look equal where this was decided.
        line["note"] = ("above chance" if row["ped_anova"] > row["chance"] else "") if known else row["note"]
        shown.append(line)
    columns = ["setting", "only where", "trials", "ped_anova", "chance", "fanova", "note"]
    idle = [name for name in ("only where", "note") if not any(line[name] for line in shown)]
    return Sheet.of(shown, [name for name in columns if name not in idle])


def _partial(results_dir: Path, study: str, name: str, bins: int, form: str) -> str:
    rows = partial(results_dir, study, name, bins)
    if form in ("csv", "json"):
        return render(Sheet.of(rows), form)
    worst, best = max(row["mean"] for row in rows), min(row["mean"] for row in rows)
    shown = [
        {
            name: row["value"],
            "trials": row["trials"],
            "stopped": row["stopped"],
            "mean best_per": row["mean"],
            "+-": None if row["error"] is None else f"{row['error']:.4f}",
            "lowest best_per": row["lowest"],
            "mean": _bar(row["mean"], worst) + (" lowest" if row["mean"] == best else ""),
        }
        for row in rows
    ]
    text = render(Sheet.of(shown), form)
    if form == "table" and any(row["stopped"] for row in rows):
        text += "\nstopped trials count with the PER they had; the rows differ in other settings too\n"
    return text


def _bar(value: float, largest: float) -> str:
    eighths = round(8 * _BAR * value / largest) if largest > 0 else 0
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
