"""The head of the report: the answer, the numbers of a study as cards, a row for each of several studies."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from results.best import Best
from results.output import format_value
from results.report.axes import duration
from results.report.facts import Extras, Facts, Row, spent
from results.report.searched import settings
from results.report.tables import list_of, text


def answer(facts: Facts, extra: Extras, table: Best | None, key: str) -> str:
    """The best configuration in a line, the verdict on it (the notes of `table`), and its run file, folded."""
    row = facts.first
    notes = list_of(table.notes) if table is not None else ""
    if row is None:
        return ("<p>No trial has reported a PER yet.</p>" if facts.trials else "") + notes
    own = _row_of(table, facts.study, row["trial"])
    words = f"Trial {row['trial']}{_run(row)}: {_value(facts, row, own)}"
    chosen = ", ".join(f"{s.header} {format_value(row[s.column], s.column)}" for s in _set(facts, row))
    return (
        f'<p class="answer"><strong>{text(words)}</strong></p>'
        + (f"<p>{text(chosen)}</p>" if chosen else "")
        + notes
        + _best_config(extra, row, key)
    )


def _set(facts: Facts, row: Row) -> list[Any]:
    return [setting for setting in settings(facts) if row.get(setting.column) is not None]


def _run(row: Row) -> str:
    return f" ({row['run']})" if row.get("run") else ""


def _value(facts: Facts, row: Row, own: Mapping[str, Any]) -> str:
    """The PER: the mean over new seeds with its interval where it is confirmed."""
    if own.get("mean") is not None:
        low, high = own.get("low"), own.get("high")
        reach = f", 95 % interval {low:.4f} to {high:.4f}" if low is not None and high is not None else ""
        return f"PER {own['mean']:.4f}, the mean over {own['seeds']} new seeds{reach}"
    if facts.objective == "best_per":
        return f"PER {row['best_per']:.4f}" + (f" at epoch {row['best_epoch']}" if row["best_epoch"] else "")
    return f"{facts.measure} {facts.score(row):.4g}"


def _row_of(table: Best | None, study: str, trial: int) -> dict[str, Any]:
    if table is None:
        return {}
    return next((row for row in table.sheet.dicts() if (row.get("study"), row.get("trial")) == (study, trial)), {})


def _best_config(extra: Extras, row: Row, key: str) -> str:
    if not extra.best_yaml:
        return ""
    rerun = f"<p>Run it again: <code>{text(extra.rerun)}</code></p>" if extra.rerun else ""
    return (
        "<details><summary>The whole configuration as a run file</summary>"
        f"<p>Trial {row['trial']}, to be saved as best.yaml. "
        f'<button class="copy" data-copy="{key}">Copy</button></p>'
        f'{rerun}<pre id="{key}" tabindex="0">{html.escape(extra.best_yaml)}</pre></details>'
    )


def cards(facts: Facts) -> str:
    """The numbers of one study."""
    used, device = spent(facts), facts.device[0]
    best = facts.ranked[:1]
    shown = [
        _best_card(facts, best[0]) if best else ("Best PER", "none yet", "no trial has reported a PER"),
        ("Trials", str(len(facts.trials)), _counts(facts) or "none started"),
        ("Epochs trained", f"{used.epochs:,}", _saved_epochs(used.saved, used.planned)),
        (f"{device} time used", duration(used.seconds), _saved_time(used.seconds_saved)),
        ("Study", str(facts.about["status"]), _budget(facts)),
    ]
    body = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}<small>{text(small)}</small></dd></div>"
        for name, value, small in shown
    )
    return f'<dl class="cards">{body}</dl>'


def _counts(facts: Facts) -> str:
    return ", ".join(f"{count} {status}" for status, count in facts.counts().items())


def _budget(facts: Facts) -> str:
    begun, ended = facts.about.get("created"), facts.about.get("ended")
    took = f", {duration((ended - begun).total_seconds())} from start to end" if begun and ended else ""
    return f"of {facts.about.get('budget_trials') or 'any number of'} trials{took}"


def _best_card(facts: Facts, row: Row) -> tuple[str, str, str]:
    if facts.objective == "best_per":
        return "Best PER", f"{row['best_per']:.4f}", _where(row)
    per = "" if row["best_per"] is None else f", best PER {row['best_per']:.4f}"
    return facts.measure.capitalize(), f"{facts.score(row):.4g}", f"trial {row['trial']}{per}"


def _where(row: Row) -> str:
    return f"trial {row['trial']}" + (f", epoch {row['best_epoch']}" if row["best_epoch"] else "")


def _saved_epochs(saved: int, planned: int) -> str:
    if not saved:
        return "no rule stopped a trial"
    return f"of {planned:,} planned: {saved / planned:.0%} saved by stopping early"


def _saved_time(seconds: float) -> str:
    return f"about {duration(seconds)} saved by stopping early" if seconds else "no rule stopped a trial"


def _scored(facts: Facts, score: float) -> str:
    """The best of a study; what is no PER among PERs says what it is."""
    return f"{score:.4f}" if facts.objective == "best_per" else f"{score:.4g} ({facts.measure.removeprefix('best ')})"


def studies(found: Sequence[Facts], links: Mapping[str, str]) -> str:
    """A row for each study, with a link to its chapter."""
    names = ("study", "state", "best", "trial", "trials", "epochs", "time used", "saved by stopping")
    body = []
    for facts in found:
        used, first = spent(facts), facts.first
        score = facts.score(first) if first else None
        cells = [
            "none yet" if score is None else _scored(facts, score),
            "" if first is None else str(first["trial"]),
            f"{len(facts.trials)} ({_counts(facts)})" if facts.trials else "none",
            f"{used.epochs:,}",
            f"{duration(used.seconds)} {facts.device[0]}",
            f"{used.saved / used.planned:.0%}" if used.saved else "",
        ]
        link = f'<a href="#{links[facts.study]}">{text(facts.study)}</a>'
        state = f"<td>{text(facts.about['status'])}</td>"
        body.append(f"<tr><td>{link}</td>{state}" + "".join(f"<td>{text(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'
