"""The report as one HTML page, which contains everything it needs and loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
import math
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from results.best import Best
from results.output import format_value, visible
from results.report import averaged, plots, searched
from results.report.facts import Extras, Facts, Row, spent
from results.report.plots import Panel

# The page may load nothing from elsewhere; Plotly's WebGL plots compile their shaders with eval.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'"
)
_FAILED = ("failed", "diverged", "interrupted")
_MOST_FAILURES = 200


class ReportPage:
    """Collects the sections and plots of a page."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, str]] = []
        self.figures: list[dict[str, Any]] = []

    def add(self, title: str, *parts: str) -> None:
        """A section with a heading and parts of HTML; nothing if all parts are empty."""
        body = "".join(parts)
        if body:
            self.sections.append((title, body))

    def panels(self, panels: Iterable[Panel | None], *, small: bool = False) -> str:
        """Plots side by side; those without data are left out."""
        drawn = [self._panel(panel) for panel in panels if panel and panel.data]
        return f'<div class="panels{" small" * small}">{"".join(drawn)}</div>' if drawn else ""

    def _panel(self, panel: Panel) -> str:
        number = len(self.figures)
        self.figures.append(
            {"data": panel.data, "layout": panel.layout, "height": panel.height, "log": panel.log, "logged": False}
        )
        button = f'<button data-log="{number}" aria-pressed="false">log scale</button>' if panel.log else ""
        about = f"<p>{text(panel.about)}</p>" if panel.about else ""
        least = f"min-width:{panel.least}px;" if panel.least else ""
        words = text(f"{panel.title}. {panel.about} The tables have the numbers.")
        scroll = ' class="scroll" tabindex="0"' if panel.least else ""
        return (
            f'<figure class="panel{" wide" * panel.wide}"><figcaption><h3>{text(panel.title)}</h3>{button}{about}'
            f'</figcaption><div{scroll}><div data-plot="{number}" role="img" aria-label="{words}" '
            f'style="{least}height:{panel.height}px"></div></div></figure>'
        )

    def html(self, title: str, lead: str, state: str | None) -> str:
        """The whole page; with `state` it asks its server for newer versions."""
        links = "".join(f'<li><a href="#s{n}">{text(name)}</a></li>' for n, (name, _) in enumerate(self.sections))
        body = "".join(
            f'<section id="s{n}" aria-labelledby="h{n}"><h2 id="h{n}">{text(name)}</h2>{content}</section>'
            for n, (name, content) in enumerate(self.sections)
        )
        figures = json.dumps(self.figures, separators=(",", ":"), allow_nan=False)
        for sign in "<>&":  # so that no text of a study can end the script element
            figures = figures.replace(sign, f"\\u{ord(sign):04x}")
        watched = f' data-state="{html.escape(state)}"' if state is not None else ""
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
            f"<style>{_file('page.css')}</style></head>\n<body{watched}>"
            f'<a class="skip" href="#main">Skip to the content</a><header><h1>{text(title)}</h1>{lead}</header>'
            f'<nav aria-label="Sections"{" class=long" * (len(self.sections) > 12)}><ul>{links}</ul></nav>'
            f'<main id="main">{body}</main>\n'
            f'<script type="application/json" id="figures">{figures}</script>\n'
            f"<script>{_plotly()}</script>\n<script>{_file('page.js')}</script></body></html>\n"
        )


def render(studies: Sequence[Facts], table: Best, extras: Mapping[str, Extras], state: str | None = None) -> str:
    """The report on `studies` as HTML.

    `table` is the best-config table over all of them; `extras` are the parts that need torch or Optuna. `state`
    identifies the data that the page was made from: the page reloads itself when its server has another state.
    """
    page, now = ReportPage(), datetime.now(UTC)
    names = [facts.study for facts in studies]
    several = len(studies) > 1
    page.add("Best configurations", _table(table), _notes(table))
    page.add("Progress", page.panels([plots.best_over_trials(studies), plots.best_over_hours(studies)]))
    for facts in studies:
        before = f"{facts.study}: " if several else ""
        extra = extras.get(facts.study, Extras())
        for title, body in _sections(page, facts, extra, now.timestamp()):
            page.add(before + title, body)
    problems = list(dict.fromkeys(problem for facts in studies for problem in facts.problems))
    page.add("Problems met in the files", _list(problems))
    lead = "".join(_cards(facts, several) for facts in studies)
    lead += f'<p class="soft">Made {now:%Y-%m-%d %H:%M} UTC. Lower PER is better; PER is the corpus PER on validation '
    lead += "data. Every number is in the tables: tuner query --schema.</p>"
    return page.html(f"Search report: {', '.join(names)}", lead, state)


def text(value: Any) -> str:
    """Text for HTML, attributes included; control characters are written out."""
    return html.escape(visible(str(value)))


def _sections(page: ReportPage, facts: Facts, extra: Extras, now: float) -> list[tuple[str, str]]:
    """(title, HTML) of the sections about one study."""
    curves = [plots.learning_curves(facts, raw) for raw in (False, True)] if facts.curves else []
    nothing = "" if facts.curves or not facts.trials else "<p>No epochs were recorded, so there are no curves.</p>"
    what = [plots.importance(facts, extra), searched.parallel(facts)]
    note = f"<p>{text(extra.importance_note)}</p>" if extra.importance_note else ""
    return [
        ("Best configuration as a run file", _best_config(facts, extra, f"yaml-{len(page.sections)}")),
        ("Learning curves", nothing + page.panels(curves)),
        ("What mattered", note + page.panels(what)),
        ("Averages of the weights", _averages(page, facts)),
        (f"Settings against {facts.measure.removeprefix('best ')}", _slices(page, facts)),
        ("Schedules and workers", page.panels([plots.rates(facts, extra), plots.timeline(facts, now)])),
        ("Failures", _failures(facts)),
        ("What was searched", _searched(facts)),
        ("Provenance", _provenance(facts)),
    ]


def _cards(facts: Facts, several: bool) -> str:
    used, device = spent(facts), facts.device[0]
    counts = facts.counts()
    best = facts.ranked[:1]
    words = ", ".join(f"{count} {status}" for status, count in counts.items())
    cards = [
        _best_card(facts, best[0]) if best else ("Best PER", "none yet", "no trial has reported a PER"),
        ("Trials", str(len(facts.trials)), words or "none started"),
        ("Epochs trained", f"{used.epochs:,}", _saved_epochs(used.saved, used.planned)),
        (f"{device}-hours used", _hours(used.hours), _saved_hours(used.hours_saved)),
        ("Study", str(facts.about["status"]), f"of {facts.about.get('budget_trials') or 'any number of'} trials"),
    ]
    body = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}<small>{text(small)}</small></dd></div>"
        for name, value, small in cards
    )
    title = f"<h2>{text(facts.study)}</h2>" if several else ""
    return f'{title}<dl class="cards">{body}</dl>'


def _best_card(facts: Facts, row: Row) -> tuple[str, str, str]:
    if facts.objective == "best_per":
        return "Best PER", f"{row['best_per']:.4f}", _where(row)
    per = "" if row["best_per"] is None else f", best PER {row['best_per']:.4f}"
    return facts.measure.capitalize(), f"{facts.score(row):.4g}", f"trial {row['trial']}{per}"


def _where(row: Row) -> str:
    return f"trial {row['trial']}" + (f", epoch {row['best_epoch']}" if row["best_epoch"] else "")


def _saved_epochs(saved: int, planned: int) -> str:
    return f"of {planned:,} planned: {saved / planned:.0%} saved by stopping early" if saved else "nothing was stopped"


def _saved_hours(hours: float) -> str:
    return f"about {_hours(hours)} saved by stopping early" if hours else "nothing was stopped"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _table(table: Best) -> str:
    """The best-config table, which can be sorted by every column."""
    shown = table.sheet.without(table.hide)
    if not shown.rows:
        return ""
    numeric = [shown.is_number(index) for index in range(len(shown.names))]
    head = "".join(
        f'<th scope="col"{" class=n" * right}{" aria-sort=ascending" * (name == "rank")}>'
        f"<button>{text(table.headers.get(name, name))}</button></th>"
        for name, right in zip(shown.names, numeric, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(_cell(*part) for part in zip(row, shown.names, numeric, strict=True)) + "</tr>"
        for row in shown.rows
    )
    caption = "Best configurations, lowest PER first. Click a column name to sort."
    return (
        f'<p class="soft">{caption} {len(shown.rows)} rows.</p><div class="tall" tabindex="0" role="region" '
        f'aria-label="{caption}"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _cell(value: Any, name: str, right: bool) -> str:
    known = right and value is not None and math.isfinite(value)
    attributes = f' class=n data-v="{float(value):.10g}"' if known else ""
    return f"<td{attributes}>{text(format_value(value, name))}</td>"


def _notes(table: Best) -> str:
    return _list(table.notes)


def _list(lines: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{text(line)}</li>" for line in lines)}</ul>' if lines else ""


def _best_config(facts: Facts, extra: Extras, key: str) -> str:
    if not extra.best_yaml:
        return ""
    rerun = f"<p>Run it again: <code>{text(extra.rerun)}</code></p>" if extra.rerun else ""
    return (
        f"<p>Trial {facts.ranked[0]['trial']}, to be saved as best.yaml. "
        f'<button class="copy" data-copy="{key}">Copy</button></p>'
        f'{rerun}<pre id="{key}" tabindex="0">{html.escape(extra.best_yaml)}</pre>'
    )


def _slices(page: ReportPage, facts: Facts) -> str:
    panels = searched.slices(facts)
    if not panels:
        return ""
    drawn, total = min(600, len(facts.ranked)), len(facts.ranked)
    words = (
        "Vertical axis: best PER. Strong colour: trained to the end; pale, open circle: stopped early, so its PER is "
    )
    words += "that of fewer epochs."
    if drawn < total:
        words += f" {drawn} of {total} trials are drawn: the best 200 and others evenly by rank."
    return f'<p class="soft">{words}</p>{page.panels(panels, small=True)}'


def _averages(page: ReportPage, facts: Facts) -> str:
    rows = averaged.table(facts)
    luck = averaged.luck(facts)
    about = "At the last epoch at which all of a trial's averages were evaluated; differences are within trials, with "
    about += "standard errors."
    note = f'<p class="soft">{text(about)}</p>' + (f"<p>{text(luck)}</p>" if luck else "")
    return page.panels([averaged.panel(facts)]) + note + _rows(averaged.HEADERS, rows) if rows else ""


def _failures(facts: Facts) -> str:
    rows = [row for row in facts.trials if row["status"] in _FAILED]
    if not rows:
        return f"<p>{'None.' if facts.trials else ''}</p>" if facts.trials else ""
    shown = rows[:_MOST_FAILURES]
    names = ("trial", "status", "epochs", "attempts", "host", "error")
    more = f"<p>The first {len(shown)} of {len(rows)}.</p>" if len(shown) < len(rows) else ""
    return more + _rows(names, [[format_value(row[name], name) for name in names] for row in shown])


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    body = "".join("<tr>" + "".join(f"<td>{text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _searched(facts: Facts) -> str:
    space, about = facts.space, facts.about
    data = f"{about.get('data_name') or 'unknown'} ({about.get('data_path') or 'place unknown'})"
    lines = [
        (
            "space",
            f"{space['name']}: {space.get('purpose') or ''}"
            if space.get("name")
            else "none: the runs were given by hand",
        ),
        ("base run", space.get("base")),
        ("data", data),
        ("searcher", _options(about.get("searcher"), about.get("searcher_options"))),
        ("early stopping", _options(about.get("stopping"), about.get("stopping_options"))),
        ("objective", about.get("objective")),
        ("note", about.get("origin_note")),
        *facts.marks,
        ("start points", ", ".join(map(str, space.get("start_points") or []))),
        ("fixed", ", ".join(f"{key} = {value}" for key, value in (space.get("fixed") or {}).items())),
        ("constraints", "; ".join(map(str, space.get("constraints") or []))),
    ]
    dimensions = [d for d in space.get("dimensions", []) if isinstance(d, dict) and "path" in d]
    table = _rows(("setting", "kind", "values", "relative to", "only if"), [_dimension(d) for d in dimensions])
    return f"{_pairs(lines)}{table if dimensions else ''}"


def _dimension(dimension: Row) -> list[str]:
    choices = dimension.get("choices") or []
    values = ", ".join("none" if c is None else format_value(c) for c in choices)
    if not choices:
        values = f"{format_value(dimension.get('low'))} to {format_value(dimension.get('high'))}"
        if dimension.get("mean") is not None:
            values = f"{format_value(dimension['mean'])} \u00b1 {format_value(dimension.get('sd'))}, within {values}"
        if dimension.get("q") is not None:
            values += f", steps of {format_value(dimension['q'])}"
    if dimension.get("complement"):
        values = f"1 - ({values})"
    for other in dimension.get("alternative") or ():
        values += f", or {'none' if other is None else format_value(other)}"
    when = {path: ", ".join(map(str, allowed)) for path, allowed in (dimension.get("when") or {}).items()}
    conditions = " and ".join(f"{path} = {allowed}" for path, allowed in when.items())
    return [str(dimension["path"]), str(dimension.get("kind")), values, str(dimension.get("of") or ""), conditions]


def _provenance(facts: Facts) -> str:
    about = facts.about
    git = about.get("code_git")
    state = " with uncommitted changes" if about.get("code_dirty") else ""
    packages = json.loads(about.get("packages") or "null") or {}
    return _pairs(
        [
            ("program", about.get("code_version")),
            ("git commit", f"{git}{state}" if git else "unknown"),
            ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
            ("data fingerprint", about.get("data_fingerprint")),
            ("driven from", about.get("host")),
            ("workers", ", ".join(sorted({str(row["host"]) for row in facts.trials if row["host"]}))),
            ("resources of a trial", _resources(about)),
            ("seed", about.get("seed")),
            ("started, ended (UTC)", f"{format_value(about.get('created'))}, {format_value(about.get('ended'))}"),
            ("resumed", about.get("resumed")),
        ]
    )


def _resources(about: Row) -> str:
    cpus, gpus = about.get("cpus_per_trial"), about.get("gpus_per_trial")
    return f"{format_value(cpus)} CPUs, {format_value(gpus)} GPUs" if cpus is not None or gpus is not None else ""


def _pairs(lines: Sequence[tuple[str, Any]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>'
        for name, value in lines
        if value not in (None, "", ", ")
    )
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def _options(kind: Any, options: Any) -> str:
    values = {key: value for key, value in (json.loads(options or "null") or {}).items() if key != "kind"}
    said = ", ".join(f"{key} {'any' if value is None else value}" for key, value in values.items())
    return f"{kind}{f' ({said})' if said else ''}" if kind else ""


def _file(name: str) -> str:
    return (pkgutil.get_data("results.report", name) or b"").decode()


def _plotly() -> str:
    return (pkgutil.get_data("plotly", "package_data/plotly.min.js") or b"").decode()
