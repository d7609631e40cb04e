"""The report as one HTML page, which contains everything it needs and loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from results.best import Best
from results.report import about, answers, averaged, head, plots, runs, searched
from results.report.facts import Extras, Facts
from results.report.plots import Panel
from results.report.tables import list_of, rows_table, sortable, text

# The page may load nothing from elsewhere; Plotly's WebGL plots compile their shaders with eval.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'"
)


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
        names = ("data", "layout", "height", "log", "logged", "view", "study")
        self.figures.append({name: getattr(panel, name) for name in names})
        pressed = str(panel.logged).lower()
        button = f'<button data-log="{number}" aria-pressed="{pressed}">log scale</button>' if panel.log else ""
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
            f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
            f'<main id="main">{body}</main>\n'
            '<div id="chosen" role="status" hidden><span></span><button>show all alike</button></div>\n'
            f'<script type="application/json" id="figures">{figures}</script>\n'
            f"<script>{_plotly()}</script>\n<script>{_file('page.js')}</script></body></html>\n"
        )


def render(studies: Sequence[Facts], table: Best, extras: Mapping[str, Extras], state: str | None = None) -> str:
    """The report on `studies` as HTML.

    `table` is the best-config table over all of them; `extras` are the parts that need torch or Optuna. `state`
    identifies the data that the page was made from: the page reloads itself when its server has another state.
    """
    page, now = ReportPage(), datetime.now(UTC).timestamp()
    if len(studies) == 1:
        _one(page, studies[0], table, extras.get(studies[0].study, Extras()), now)
        lead = head.cards(studies[0])
    else:
        lead = _several(page, studies, table, extras, now)
    page.add("Problems met in the files", list_of(list(dict.fromkeys(p for facts in studies for p in facts.problems))))
    lead += f'<p class="soft">Made {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC. Lower PER is better; PER is '
    lead += "the corpus PER on validation data. Click a trial in a plot or a row of the table to see it in all plots. "
    lead += "Every number is in the tables: tuner query --schema.</p>"
    return page.html(f"Search report: {', '.join(facts.study for facts in studies)}", lead, state)


def _one(page: ReportPage, facts: Facts, table: Best, extra: Extras, now: float) -> None:
    """The sections of a page about one study, the answer first."""
    progress = page.panels([plots.best_over_trials([facts]), plots.best_over_hours([facts])])
    page.add("The answer", head.answer(facts, extra, table, "yaml-0"), progress)
    page.add("Best configurations", sortable(table), page.panels([answers.seeds(table)]))
    for title, body in _sections(page, facts, extra, now):
        page.add(title, body)


def _several(page: ReportPage, studies: Sequence[Facts], table: Best, extras: Mapping[str, Extras], now: float) -> str:
    """A chapter for each of several studies; returns the table of them, which links to the chapters."""
    page.add("Best configurations", list_of(table.notes), sortable(table), page.panels([answers.seeds(table)]))
    page.add("Progress", page.panels([plots.best_over_trials(studies), plots.best_over_hours(studies)]))
    links = {}
    for number, facts in enumerate(studies):
        extra = extras.get(facts.study, Extras())
        links[facts.study] = f"s{len(page.sections)}"
        parts = [head.cards(facts), head.answer(facts, extra, None, f"yaml-{number}")]
        parts += [f"<h3>{text(title)}</h3>{body}" for title, body in _sections(page, facts, extra, now) if body]
        page.add(facts.study, *parts)
    return head.studies(studies, links)


def _sections(page: ReportPage, facts: Facts, extra: Extras, now: float) -> list[tuple[str, str]]:
    """(title, HTML) of the sections about one study."""
    kinds = (False, True) if plots.averaged(facts) else (False,)
    curves = [plots.learning_curves(facts, raw) for raw in kinds] if facts.curves else []
    if len(curves) == 1:
        curves[0].wide = True
    nothing = "" if facts.curves or not facts.trials else "<p>No epochs were recorded, so there are no curves.</p>"
    what = [answers.importance(facts, extra), searched.parallel(facts)]
    wrong = page.panels([answers.phonemes(extra.errors), answers.days(extra.errors)]) if extra.errors else ""
    return [
        ("Learning curves", nothing + page.panels(curves)),
        ("What mattered", _soft(extra.importance_note) + page.panels(what)),
        ("Averages of the weights", _averages(page, facts)),
        (f"Settings against {facts.measure.removeprefix('best ')}", _slices(page, facts)),
        ("Errors of the best", wrong or _soft(extra.errors_note)),
        ("Schedules and workers", page.panels([runs.rates(facts, extra), runs.timeline(facts, now)])),
        ("Failures", about.failures(facts)),
        ("What was searched", about.searched(facts)),
        ("Provenance", about.provenance(facts)),
    ]


def _soft(note: str) -> str:
    return f"<p>{text(note)}</p>" if note else ""


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
    said = "At the last epoch at which all of a trial's averages were evaluated; differences are within trials, with "
    said += "standard errors."
    note = f'<p class="soft">{text(said)}</p>' + _soft(luck)
    return page.panels([averaged.panel(facts)]) + note + rows_table(averaged.HEADERS, rows) if rows else ""


def _file(name: str) -> str:
    return (pkgutil.get_data("results.report", name) or b"").decode()


def _plotly() -> str:
    return (pkgutil.get_data("plotly", "package_data/plotly.min.js") or b"").decode()
