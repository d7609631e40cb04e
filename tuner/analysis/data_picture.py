"""The picture of a session: its features, one utterance with its phonemes, and histograms of lengths."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces import InputError
from search_spaces.common import atomic
from search_spaces.parsing.feature_choice import ARRAYS, COLUMNS, SUBSETS
from trainable.data.dataset import Dataset, Split

if TYPE_CHECKING:  # commands that draw nothing do without matplotlib, which takes half a second to import
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

ENDINGS = ("png", "svg", "pdf")
MOST_UTTERANCES = 400
"""Columns of the session's picture; of longer sessions every k-th utterance is drawn."""
COLOURS = {"train": "#0072B2", "val": "#D55E00", "test": "#009E73"}


def plot_data(dataset: Dataset, out: Path, session: str | None = None, utterance: int | None = None) -> dict[str, Any]:
    """Draw a session and one of its utterances into `out` (.png, .svg or .pdf); returns which ones they are.

    `session` defaults to that of the utterance, or the first; `utterance` is its number in the data folder and defaults
    to the session's first labelled one. Raises `InputError` where they do not exist or do not belong together.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if _ending(out) not in ENDINGS:
        raise InputError(f"{out}: the ending {out.suffix!r} is not allowed; give .png, .svg or .pdf")
    split, row = _choose(dataset, session, utterance)
    session = dataset.days[int(split.day[row])]
    figure = Figure(figsize=(13, 10.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, height_ratios=(1.0, 1.25, 0.8))
    _draw_session(figure.add_subplot(grid[0, :]), dataset, session, int(split.utterance[row]))
    _draw_utterance(figure.add_subplot(grid[1, :]), dataset, split, row)
    seconds = dataset.bin_ms / 1000
    _draw_lengths(figure.add_subplot(grid[2, 0]), dataset, session, "bins", seconds, "length of an utterance (s)")
    _draw_lengths(figure.add_subplot(grid[2, 1]), dataset, session, "label_lengths", 1.0, "phonemes in an utterance")
    _write(figure, out)
    return {"session": session, "utterance": int(split.utterance[row])}


def _choose(dataset: Dataset, session: str | None, utterance: int | None) -> tuple[Split, int]:
    """The split and the row in it of the utterance to draw."""
    if session is not None and session not in dataset.days:
        some = ", ".join(dataset.days[:5]) + (", ..." if len(dataset.days) > 5 else "")
        raise InputError(f"{dataset.path}: there is no session {session}; the sessions are {some}")
    day = None if session is None else dataset.days.index(session)
    fallback = None
    for split in dataset.splits.values():
        for row in range(len(split)):
            if utterance is not None:
                if split.utterance[row] != utterance:
                    continue
                if day is not None and split.day[row] != day:
                    other = dataset.days[int(split.day[row])]
                    raise InputError(
                        f"{dataset.path}: utterance {utterance} belongs to session {other}, not to {session}"
                    )
                return split, row
            if day is None or split.day[row] == day:
                if split.label_lengths[row]:
                    return split, row
                fallback = fallback or (split, row)
    if fallback is None:
        count = sum(len(split) for split in dataset.splits.values())
        raise InputError(f"{dataset.path}: there is no utterance {utterance}; give 0 to {count - 1}")
    return fallback


def _draw_session(axes: Axes, dataset: Dataset, session: str, chosen: int) -> None:
    """The mean of each feature over each utterance, in the order of the data folder: drift and silent channels."""
    day = dataset.days.index(session)
    rows = sorted(
        (int(split.utterance[i]), name, i)
        for name, split in dataset.splits.items()
        for i in np.flatnonzero(split.day == day).tolist()
    )
    step = -(-len(rows) // MOST_UTTERANCES)
    drawn = rows[::step]
    means = np.stack([dataset.splits[name].features(i).mean(axis=0, dtype=np.float64) for _, name, i in drawn], axis=1)
    _heat(axes, means, (0, len(rows)), "mean over the utterance")
    place = [number for number, _, _ in rows].index(chosen)
    axes.annotate(
        f"utterance {chosen}",
        xy=((place + 0.5) / len(rows), 1.0),
        xytext=(0, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=8,
        arrowprops={"arrowstyle": "-|>", "linewidth": 0.8, "color": "black"},
    )
    every = f", every {step}th drawn" if step > 1 else ""
    axes.set_title(f"{dataset.name}, session {session}: {len(rows)} utterances{every}", loc="left", fontsize=11, pad=25)
    axes.set(xlabel="utterance of the session", ylabel="feature")
    _whole_ticks(axes.xaxis)
    _name_arrays(axes, len(means))


def _draw_utterance(axes: Axes, dataset: Dataset, split: Split, row: int) -> None:
    """Features over time; the phonemes are spread evenly below, because their times are not known."""
    features = split.features(row).T
    seconds = features.shape[1] * dataset.bin_ms / 1000
    _heat(axes, features, (0.0, seconds), "feature value")
    names = [dataset.classes[label] for label in split.label(row).tolist()]
    for i, name in enumerate(names):
        silent = name == "SIL"
        axes.annotate(
            "|" if silent else name,
            xy=((i + 0.5) / len(names), 0),
            xytext=(0, -20 - 11 * (i % 2) * (len(names) > 30)),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            color="#999999" if silent else "black",
            annotation_clip=False,
        )
    spread = "phonemes spread evenly (their times are not known), | = SIL" if names else "no labels"
    axes.set_xlabel(f"time (s); {spread}", labelpad=18 + 11 * (len(names) > 30) if names else 4)
    axes.set_ylabel("feature")
    _name_arrays(axes, len(features))
    text = split.text[row] if len(split.text[row]) <= 90 else split.text[row][:87] + "..."
    name = next(name for name, part in dataset.splits.items() if part is split)
    axes.set_title(f"utterance {split.utterance[row]} ({name}): {text}", loc="left", fontsize=11)


def _heat(axes: Axes, values: np.ndarray, across: tuple[float, float], what: str) -> None:
    """Values [features, columns] in colours that are even around 0, cut at their 99th percentile."""
    finite = values[np.isfinite(values)]
    limit = float(np.percentile(np.abs(finite), 99)) if finite.size else 0.0
    image = axes.imshow(
        values,
        aspect="auto",
        origin="lower",
        cmap="RdBu_r",
        vmin=-(limit or 1.0),
        vmax=limit or 1.0,
        extent=(*across, 0, len(values)),
        interpolation="nearest",
    )
    figure = axes.get_figure()
    assert figure is not None  # noqa: S101 (axes are made by a figure)
    figure.colorbar(image, ax=axes, label=what, pad=0.01, fraction=0.03, extend="both")


def _whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _name_arrays(axes: Axes, count: int) -> None:
    """At the 512 features of a '25 recording, the array and kind of each 64 instead of their numbers."""
    _whole_ticks(axes.yaxis)
    if count != COLUMNS:
        return
    spans = [
        (f"{name} {kind}", span) for name in ARRAYS for kind, span in zip(("tx", "power"), SUBSETS[name], strict=True)
    ]
    axes.set_yticks([*(span.start for _, span in spans), COLUMNS], labels=[""] * (len(spans) + 1))
    middles = [(span.start + span.stop) / 2 for _, span in spans]
    axes.set_yticks(middles, labels=[name for name, _ in spans], minor=True, fontsize=7.5)
    axes.tick_params(axis="y", which="minor", length=0)
    axes.set_ylabel("")


def _draw_lengths(axes: Axes, dataset: Dataset, session: str, what: str, scale: float, label: str) -> None:
    """Histograms of all splits as shares, and the session's utterances as ticks below."""
    day = dataset.days.index(session)
    values = {name: getattr(split, what) * scale for name, split in dataset.splits.items()}
    values = {name: numbers[numbers > 0] for name, numbers in values.items() if (numbers > 0).any()}
    everything = np.concatenate(list(values.values()))
    low, high = everything.min(), everything.max()
    width = max((high - low) / 25, 1e-9) if what == "bins" else max(-(-(high - low + 1) // 25), 1)
    edges = (np.arange(low, high + 2 * width, width) - (0.5 if what != "bins" else 0)).tolist()
    for name, numbers in values.items():
        share = np.full(len(numbers), 1 / len(numbers))
        axes.hist(
            numbers,
            edges,
            weights=share,
            histtype="step",
            color=COLOURS[name],
            linewidth=1.6,
            label=f"{name}: {len(numbers)}, median {np.median(numbers):.3g}",
        )
    here = np.concatenate([getattr(split, what)[split.day == day] * scale for split in dataset.splits.values()])
    here = here[here > 0]
    axes.plot(here, np.full(len(here), -0.03), "|", color="black", alpha=0.5, markersize=6, label="this session")
    axes.set(xlabel=label, ylabel="share of the split")
    if what != "bins":
        _whole_ticks(axes.xaxis)
    top = axes.get_ylim()[1]
    axes.set_ylim(-0.06 * top, 1.45 * top)  # room for the legend above the bars
    axes.lines[0].set_ydata(np.full(len(here), 0.5 * axes.get_ylim()[0]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", ncols=2)


def _ending(out: Path) -> str:
    return out.suffix.removeprefix(".").lower() or ("png" if atomic.is_stream(out) else "")


def _write(figure: Figure, out: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=_ending(out), dpi=130)
    atomic.write(out, buffer.getvalue(), advice="choose another --out")
