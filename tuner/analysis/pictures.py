"""Plots in files: the learning rates of runs, one labelled line for each; the regret of searches."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces import InputError, RunConfig
from search_spaces.common import atomic
from trainable.schedules import lr_curve

if TYPE_CHECKING:  # commands that draw nothing do without matplotlib, which takes half a second to import
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

ENDINGS = ("png", "svg", "html")

# Okabe & Ito's colours, which colour-blind readers can distinguish, without yellow (too pale for a line).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
POINTS = 2000
"""Points of a line at most; a file of every batch of every run would be 20 MB."""


def check_out(out: Path) -> str:
    """The ending of a picture's file, png for a device or a pipe; raises InputError if it is none of `ENDINGS`."""
    ending = out.suffix.removeprefix(".").lower() or ("png" if atomic.is_stream(out) else "")
    if ending not in ENDINGS:
        raise InputError(f"{out}: the ending {out.suffix!r} is not allowed; give .png, .svg or .html")
    return ending


def plot_schedules(
    configs: Mapping[str, RunConfig], out: Path, pers: Mapping[str, float] | None = None, linear: bool = False
) -> int:
    """Draw the rate of every batch of the named runs into `out` (.png, .svg or .html); returns the number of lines.

    Runs with the same rates share a line; `pers`, where known, are written beside their names. The axis of the rates
    is logarithmic, so that rates of 0 (where a warm-up begins) have no place and are left out, or `linear`.
    """
    check_out(out)
    lines = _lines({name + _per(pers, name): config for name, config in configs.items()})
    _save(_draw(lines, linear), out, "Learning rates")
    return len(lines)


def plot_regret(curves: Mapping[str, np.ndarray], out: Path, title: str) -> None:
    """Draw regret against batches spent into `out`; each curve float64 [points, 4]: share spent, mean, low, high."""
    check_out(out)
    figure, _ = _figure(9, 6)
    axes = figure.add_axes((0.09, 0.09, 0.88, 0.83))
    axes.set(title=title, xlabel="batches spent, as a share of full runs", ylabel="regret: best PER so far - best PER")
    axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.7)
    positive = [float(curve[:, 1][curve[:, 1] > 0].min()) for curve in curves.values() if (curve[:, 1] > 0).any()]
    floor = min(positive, default=1e-4) / 2
    axes.set_ylim(floor, 1.5 * max(float(curve[:, 1].max()) for curve in curves.values()) or 1.0)
    for i, (name, curve) in enumerate(curves.items()):
        share, mean, low, high = curve.T
        mean, low, high = (np.maximum(values, floor / 10) for values in (mean, low, high))  # 0 is below the picture
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(share, mean, color=colour, linestyle=_dash(i), linewidth=1.6, label=name)
        axes.fill_between(share, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.legend(fontsize=8.5, frameon=False)
    _save(figure, out, title)


def _figure(width: float, height: float) -> tuple[Figure, FigureCanvasAgg]:
    """An empty figure, in inches, and what draws it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, FigureCanvasAgg(figure)


def _save(figure: Figure, out: Path, title: str) -> None:
    """Write the figure to `out` in one step, in the format of its ending."""
    import matplotlib as mpl

    ending = check_out(out)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        if ending == "png":
            figure.savefig(buffer, format="png", dpi=150)
        else:
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    content = buffer.getvalue()
    if ending == "html":
        drawing = content[content.index(b"<svg") :]
        content = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>\n".encode() + drawing
    atomic.write(out, content, advice="choose another --out")


def _per(pers: Mapping[str, float] | None, name: str) -> str:
    value = (pers or {}).get(name)
    return "" if value is None else f" (PER {value:.4f})"


def _lines(configs: Mapping[str, RunConfig]) -> list[tuple[str, np.ndarray]]:
    """(label, float64 [batches]) of each different curve, the runs that share one named together."""
    groups: list[tuple[list[str], np.ndarray]] = []
    for name, config in configs.items():
        curve = lr_curve(config)
        for names, other in groups:
            if np.array_equal(curve, other):
                names.append(name)
                break
        else:
            groups.append(([name], curve))
    return [(" = ".join(names), curve) for names, curve in groups]


def _draw(lines: Sequence[tuple[str, np.ndarray]], linear: bool = False) -> Figure:
    figure, canvas = _figure(13, 8)
    axes = figure.add_axes((0.07, 0.08, 0.91, 0.86))
    axes.set(title="Learning rate of every batch", xlabel="batch (optimizer step)", ylabel="learning rate")
    axes.set_yscale("linear" if linear else "log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.7)
    longest = max(len(curve) for _, curve in lines)
    for i, (_, curve) in enumerate(lines):
        at = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), POINTS)).astype(int))
        rates = curve[at] if linear else np.where(curve[at] > 0, curve[at], np.nan)
        axes.plot(at, rates, color=COLOURS[i % len(COLOURS)], linestyle=_dash(i), linewidth=1.6)
    axes.set_xlim(0, longest * 1.3)
    low = min(curve[curve > 0].min() for _, curve in lines)
    high = max(curve.max() for _, curve in lines)
    axes.set_ylim(*((0, high * 1.05) if linear else (low / 2, high * 2)))
    canvas.draw()
    _label(figure, axes, lines)
    return figure


def _dash(i: int) -> Any:
    return DASHES[i // len(COLOURS) % len(DASHES)]


def _label(figure: Figure, axes: Any, lines: Sequence[tuple[str, np.ndarray]]) -> None:
    """Each label beside the end of its line, moved up or down until it covers no other."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken: list[Bbox] = []
    ends = [(len(curve) - 1, curve[curve > 0][-1]) for _, curve in lines]
    for i in sorted(range(len(lines)), key=lambda i: (ends[i][0], -ends[i][1])):
        text = axes.annotate(
            lines[i][0],
            xy=ends[i],
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=COLOURS[i % len(COLOURS)],
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.6},
            arrowprops={"arrowstyle": "-", "color": COLOURS[i % len(COLOURS)], "linewidth": 0.7, "shrinkA": 0},
        )
        for step in range(2 * len(lines) + 1):
            offset = (step + 1) // 2 * (1 if step % 2 else -1) * 11
            text.set_position((9, offset))
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # an annotation's own extent has the arrow in it
            inside = axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
