"""Plots curves as text: lines of braille dots, two by four per character, with a mark at the points.

Each line has its own mark, so that lines can be distinguished without colour.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille bit of a dot by its row and column in the character."""
_RUNG = "┊"
_APART = 3  # columns between two marks of a line; more points than that show as dots alone


@dataclass(frozen=True)
class Line:
    """One curve: `points` (x, y) with rising x, a label, the one character drawn at its points.

    A point whose y is not a number leaves a gap. A line that is not `joined` shows its points alone.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    mark: str
    joined: bool = True

    @property
    def runs(self) -> list[list[tuple[float, float]]]:
        """The points between gaps."""
        found: list[list[tuple[float, float]]] = [[]]
        for x, y in self.points:
            if y is None or not math.isfinite(y):
                found.append([])
            else:
                found[-1].append((x, y))
        return [run for run in found if run]


def plot(
    lines: Sequence[Line],
    *,
    width: int = 80,
    height: int = 16,
    x_label: str = "",
    verticals: Sequence[float] = (),
) -> str:
    """The lines in one picture of `height` rows, axes and legend around it, at most `width` columns; ends in a newline.

    `verticals` are values of x where a dashed line is drawn. Where no line has a point, one sentence says so.
    """
    points = [point for line in lines for run in line.runs for point in run]
    if not points:
        return "(no curve: nothing was reported)\n"
    frame = _Frame(points, max(20, width - 9), height)
    cells = [[" "] * frame.columns for _ in range(height)]
    for x in verticals:
        if frame.x0 <= x <= frame.x1:
            for row in cells:
                row[frame.cell(x, frame.y0)[1]] = _RUNG
    # The first line is drawn last, on top of the others.
    for line in reversed(lines):
        if line.joined:
            _draw_joined(cells, frame, line)
    for line in reversed(lines):
        _draw_marks(cells, frame, line)
    rows = [f"{_axis_label(frame, index):>7} ┤{''.join(row)}".rstrip() for index, row in enumerate(cells)]
    rows.append(f"{'':8}└{'─' * frame.columns}")
    rows.append(_x_axis(frame, x_label))
    legend = "   ".join(f"{line.mark} {line.label}" for line in lines if line.runs)
    return "\n".join([*rows, f"{'':9}{legend}"]) + "\n"


class _Frame:
    """Where a point lies: in dots, and in characters."""

    def __init__(self, points: Sequence[tuple[float, float]], columns: int, rows: int) -> None:
        xs, ys = zip(*points, strict=True)
        self.columns, self.rows = columns, rows
        self.x0, self.x1 = min(xs), max(xs)
        self.y0, self.y1 = min(ys), max(ys)
        if self.x0 == self.x1:
            self.x1 = self.x0 + 1
        if self.y1 - self.y0 < 1e-9:
            self.y0, self.y1 = self.y0 - 0.1, self.y1 + 0.1

    def dot(self, x: float, y: float) -> tuple[int, int]:
        """(row, column) in dots, from the top left."""
        across = (x - self.x0) / (self.x1 - self.x0) * (2 * self.columns - 1)
        down = (self.y1 - y) / (self.y1 - self.y0) * (4 * self.rows - 1)
        return round(down), round(across)

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """(row, column) in characters."""
        down, across = self.dot(x, y)
        return down // 4, across // 2


def _draw_joined(cells: list[list[str]], frame: _Frame, line: Line) -> None:
    for run in line.runs:
        for (xa, ya), (xb, yb) in itertools.pairwise(run):
            (down_a, across_a), (down_b, across_b) = frame.dot(xa, ya), frame.dot(xb, yb)
            steps = max(abs(down_b - down_a), abs(across_b - across_a), 1)
            for step in range(steps + 1):
                down = down_a + round((down_b - down_a) * step / steps)
                across = across_a + round((across_b - across_a) * step / steps)
                _set_dot(cells, down, across)


def _set_dot(cells: list[list[str]], down: int, across: int) -> None:
    row = cells[down // 4]
    old = ord(row[across // 2])
    bits = old if 0x2800 <= old <= 0x28FF else 0x2800
    row[across // 2] = chr(bits | _DOTS[down % 4][across % 2])


def _draw_marks(cells: list[list[str]], frame: _Frame, line: Line) -> None:
    last = -_APART
    points = [point for run in line.runs for point in run]
    for index, (x, y) in enumerate(points):
        row, column = frame.cell(x, y)
        if not line.joined or column - last >= _APART or index == len(points) - 1:
            cells[row][column] = line.mark
            last = column


def _axis_label(frame: _Frame, row: int) -> str:
    every = max(1, (frame.rows - 1) // 4)
    if row % every and row != frame.rows - 1:
        return ""
    if row != frame.rows - 1 and frame.rows - 1 - row < every:
        return ""
    value = frame.y1 - (frame.y1 - frame.y0) * row / (frame.rows - 1)
    return f"{value:.3f}"


def _x_axis(frame: _Frame, label: str) -> str:
    left, right = f"{frame.x0:g}", f"{frame.x1:g}"
    middle = label.center(max(0, frame.columns - len(left) - len(right)))
    return f"{'':9}{left}{middle}{right}"
