"""Text and tables of the report as HTML; everything that comes from a study is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.best import Best
from results.output import format_value, visible


def text(value: Any) -> str:
    """Text for HTML, attributes included; control characters are written out."""
    return html.escape(visible(str(value)))


def sortable(table: Best) -> str:
    """The best-config table, which can be sorted by every column; a click on a row shows its trial in all plots."""
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
        f"<tr{_trial(whole)}>" + "".join(_cell(*part) for part in zip(row, shown.names, numeric, strict=True)) + "</tr>"
        for whole, row in zip(table.sheet.dicts(), shown.rows, strict=True)
    )
    caption = "Best configurations, lowest PER first. Click a column name to sort, a row to see its trial in the plots."
    return (
        f'<p class="soft">{caption} {len(shown.rows)} rows.</p><div class="tall" tabindex="0" role="region" '
        f'aria-label="{caption}"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _trial(row: Mapping[str, Any]) -> str:
    """What names the trial of a row for the page's script."""
    if row.get("study") is None or row.get("trial") is None:
        return ""
    return f' data-study="{text(row["study"])}" data-trial="{row["trial"]}"'


def _cell(value: Any, name: str, right: bool) -> str:
    known = right and value is not None and math.isfinite(value)
    attributes = f' class=n data-v="{float(value):.10g}"' if known else ""
    return f"<td{attributes}>{text(format_value(value, name))}</td>"


def list_of(lines: Sequence[str]) -> str:
    """Lines as a list; nothing without any."""
    return f'<ul class="notes">{"".join(f"<li>{text(line)}</li>" for line in lines)}</ul>' if lines else ""


def rows_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    body = "".join("<tr>" + "".join(f"<td>{text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs(lines: Sequence[tuple[str, Any]]) -> str:
    """A name and a value on each row; what has none is left out."""
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>'
        for name, value in lines
        if value not in (None, "", ", ")
    )
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'
