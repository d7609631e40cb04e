"""HTML for notebooks. All text from a study's files is escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from results.output import Sheet, format_value, visible

_CURVE = (240, 48)  # pixels


def table(sheet: Sheet, headers: Mapping[str, str] | None = None, caption: str = "") -> str:
    """A sheet as an HTML table, numbers to the right; `headers` gives shorter column names."""
    shown = headers or {}
    sides = ["right" if sheet.is_number(index) else "left" for index in range(len(sheet.names))]
    head = "".join(
        f'<th style="text-align:{side}">{text(shown.get(name, name))}</th>'
        for name, side in zip(sheet.names, sides, strict=True)
    )
    rows = [
        "".join(
            f'<td style="text-align:{side}">{text(format_value(value, name))}</td>'
            for value, name, side in zip(row, sheet.names, sides, strict=True)
        )
        for row in sheet.rows
    ]
    below = f'<p style="opacity:0.7">{text(caption)}</p>' if caption else ""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def text(value: str) -> str:
    """Text escaped for HTML, on one line."""
    return escape(visible(value))


def curve(values: Sequence[float | None]) -> str:
    """A small plot of the PER over the epochs; empty for fewer than two values."""
    points = [(x, y) for x, y in enumerate(values) if y is not None and math.isfinite(y)]
    if len(points) < 2:
        return ""
    width, height = _CURVE
    low, high = min(y for _, y in points), max(y for _, y in points)
    across, up = (width - 4) / max(1, len(values) - 1), (height - 4) / ((high - low) or 1.0)
    drawn = " ".join(f"{2 + x * across:.1f},{2 + (high - y) * up:.1f}" for x, y in points)
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="PER over the epochs">'
        f'<polyline points="{drawn}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )
