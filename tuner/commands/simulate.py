"""`tuner simulate`: whole searches in virtual time over recorded curves, rule by rule."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import click

from results.output import Sheet, render
from results.store.paths import where_option
from results.terminal_plot import Line, plot
from search_spaces import InputError, load_space
from search_spaces.parsing.given import parse_settings
from search_spaces.searchers import Searcher
from search_spaces.stopping import retirement, rule_text
from tuner.analysis.pictures import check_out, plot_regret
from tuner.commands.options import curves_options, format_option, out_option, parse_rule, results_option
from tuner.simulation.curves import Bank, check_rule, read_curves, rule_note
from tuner.simulation.points import TablePoints
from tuner.simulation.regret import regret_curve, summary
from tuner.simulation.simulate import TABLE, Search
from tuner.simulation.simulate import repeats as search
from tuner.simulation.surrogate import Surrogate

DEFAULT_RULES = (
    "asha",
    "asha promote=true",
    "asha at=horizon",
    "asha at=area metric=either reduction=4 promote=true drain=0.65",
    "median",
)
"""The rules that are tried when none is named, as far as the curves allow."""
NONE = "none"
_MARKS = "o+x*#@%&=~"


@click.command(
    epilog="""\b
Examples:
  tuner simulate an4
  tuner simulate curves.parquet --stopping "asha at=horizon grace=0.25" --stopping median --workers 8
  tuner simulate an4 --searcher tpe --repeats 10 --plot regret.png
  tuner simulate an4 --searcher "tpe group=true" --surrogate --trials 24 --stopping asha
"""
)
@click.argument("source", metavar="STUDY|FILE")
@click.option(
    "--stopping",
    "rules",
    multiple=True,
    metavar="RULE",
    help='A rule with its settings, such as "asha at=horizon grace=0.25"; may be given several times '
    "[default: the study's own rule and one of each other kind].",
)
@click.option(
    "--searcher",
    default="random",
    show_default=True,
    metavar="SEARCHER",
    help="How recorded runs are chosen: random, or by a searcher; its proposal is replaced by the nearest unused run.",
)
@click.option(
    "--surrogate",
    is_flag=True,
    help="Let the searcher have the points that it proposes: their curves come from a model of the recorded runs.",
)
@click.option("--workers", type=click.IntRange(min=1), default=8, show_default=True, help="Trials at once.")
@click.option("--repeats", type=click.IntRange(min=2), default=50, show_default=True, help="Searches for each rule.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials in each search [default: all recorded runs].")
@out_option("Plot the regret to this file as well: .png, .svg or .html.", "--plot")
@curves_options
@format_option
@results_option
def simulate(source: str, form: str, out: Path | None, **given: Any) -> None:
    """Simulate whole searches over recorded learning curves, for several stopping rules.

    The curves are those of a STUDY, or of a .csv or .parquet FILE (docs/curves.md). Time is virtual, and nothing is
    trained; the decisions are made by the same code as in a real search. Every rule sees the same random orders of the
    same runs. "none" trains all runs in full; the other rules are compared with it. The cost is counted in batches.
    """
    if out is not None:
        check_out(out)
    bank, rows, curves = _run(source, **given)
    if form in ("csv", "json"):
        click.echo(render(Sheet.of(rows), form), nl=False)
    else:
        click.echo(render(Sheet.of(map(_shown, rows)), form), nl=False)
    drawn = {name: regret_curve(bank, searches, base) for name, searches, base in curves}
    if out is not None:
        plot_regret(drawn, out, f"{bank.name}: regret of {given['repeats']} searches, mean and 95 % interval")
        click.echo(f"wrote {out}", err=True)
    if form == "table":
        click.echo(_terminal(drawn))
        best = min(rows, key=lambda row: row["to_2"])["rule"].partition(",")[0]  # "none, at random" is no rule
        where = where_option(given["results_dir"])
        click.echo(f'next: tuner audit {quote(source)} --rule "{best}"{where}; tuner search SPACE --stopping "{best}"')


def _run(
    source: str,
    rules: Sequence[str],
    searcher: str,
    surrogate: bool,
    workers: int,
    repeats: int,
    trials: int | None,
    every: int | None,
    space: str | None,
    results_dir: Path,
) -> tuple[Bank, list[dict[str, Any]], list[tuple[str, list[Search], list[Search]]]]:
    """The bank, a summary for each rule, and (rule, its searches, the full runs) for the curves."""
    chooses = parse_settings(searcher, Searcher, "searcher")
    bank = read_curves(source, results_dir, space=load_space(space) if space else None, every=every)
    if surrogate or chooses["kind"] != "random":
        TablePoints(bank)  # says what is missing before anything is run
    named = list(chosen_rules(bank, rules, "stopping"))
    for note in (*bank.notes, *(f"{note}; they are left out here" for note in stopped_note(bank))):
        click.echo(f"note: {note}", err=True)
    bank = bank.whole()
    model = Surrogate(bank) if surrogate else None
    if model is not None:
        click.echo(
            f"note: the surrogate ranks runs that it has not seen with a correlation of {model.score:.2f}", err=True
        )
    plans = [(NONE, TABLE, {"kind": NONE})]
    if chooses["kind"] != "random":
        plans = [("none, at random", TABLE, {"kind": NONE}), (NONE, chooses, {"kind": NONE})]
    plans += [(name, chooses, rule) for name, rule in named if rule["kind"] != NONE]
    rows: list[dict[str, Any]] = []
    curves: list[tuple[str, list[Search], list[Search]]] = []
    for number, (name, who, rule) in enumerate(plans, 1):
        running = search(bank, rule, repeats, searcher=who, workers=workers, trials=trials, surrogate=model)
        found = list(_counted(running, repeats, f"{number} of {len(plans)}: {name}"))
        curves.append((name, found, curves[0][1] if curves else found))
        rows.append(summary(name, bank, found, curves[0][1]))
    return bank, rows, curves


def chosen_rules(bank: Bank, given: Sequence[str], option: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(text, settings) of the rules named; of the study's own and the usual ones that the bank allows if none is."""
    for text in given:
        rule = parse_rule(text, option)
        check_rule(bank, rule)
        if note := rule_note(bank, rule):
            click.echo(f"note: {text}: {note}", err=True)
        yield text, rule
    if given:
        return
    seen: list[Mapping[str, Any]] = []
    if bank.stopping is not None and (why := retirement(bank.stopping)):
        click.echo(f"note: left out: the study's own rule: {why}", err=True)
    elif bank.stopping is not None and bank.stopping["kind"] != NONE:
        seen.append(bank.stopping)
        yield rule_text(bank.stopping), dict(bank.stopping)
    for text in DEFAULT_RULES:
        rule = parse_rule(text, option)
        try:
            check_rule(bank, rule)
        except InputError as error:
            click.echo(f"note: left out: {text}: {error}", err=True)
            continue
        if rule not in seen:
            yield text, rule


def stopped_note(bank: Bank) -> Iterator[str]:
    """What it means that some of the recorded runs were stopped."""
    if bank.stopped:
        yield (
            f"{bank.stopped} of {len(bank.runs)} runs were stopped when they were recorded, and how they would have "
            "ended is unknown"
        )


def interval(row: Mapping[str, Any], key: str, digits: int = 2) -> str:
    """A number with its interval: 0.31 [0.28, 0.34]."""
    if row[key] is None:
        return ""
    value, low, high = (f"{row[name]:.{digits}f}" for name in (key, f"{key}_low", f"{key}_high"))
    return f"{value} [{low}, {high}]"


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rule": row["rule"],
        "batches to 2 %": round(row["to_2"]),
        "of full runs": interval(row, "share_2"),
        "by none's": interval(row, "ratio_2"),
        "got there": f"{row['reached_2']:.0%}",
        "to 5 %": interval(row, "share_5"),
        "regret": interval(row, "regret", 4),
        "best stopped": interval(row, "winner_stopped"),
        "spent": f"{row['spent']:.0%}",
    }


def _counted(searches: Iterator[Search], count: int, name: str) -> Iterator[Search]:
    """The searches, with their number on standard error: in place on a terminal, once when done elsewhere."""
    for number, found in enumerate(searches, 1):
        if sys.stderr.isatty():
            print(f"\r{name}: {number} of {count} searches ", end="\n" if number == count else "", file=sys.stderr)
        elif number == count:
            print(f"{name}: {count} searches", file=sys.stderr)
        yield found


def _terminal(curves: Mapping[str, Any]) -> str:
    import shutil

    lines = [
        Line(name, [(float(share), float(mean)) for share, mean in curve[5:, :2]], _MARKS[i % len(_MARKS)])
        for i, (name, curve) in enumerate(curves.items())
    ]
    width = max(60, shutil.get_terminal_size((110, 24)).columns)
    return "\nregret (best PER so far - the best there is), mean of the searches\n" + plot(
        lines, width=width, x_label="batches spent, as a share of full runs"
    )
