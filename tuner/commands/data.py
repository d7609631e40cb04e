"""`tuner data`: bring recordings in, make synthetic ones, look at a data folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.group()
def data() -> None:
    """Import recordings, make synthetic data, show a data folder."""


def _progress_bar() -> tuple[Any, Any]:
    """(context manager, callback(done, total, what)) for long work; silent where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    task = bar.add_task("", total=None)

    def advance(done: int, total: int, what: str) -> None:
        bar.update(task, completed=done, total=total, description=what)

    return bar, advance


@data.command("import", epilog="Example: tuner data import b2t25 recordings/hdf5_data_final --out data/t15")
@click.argument("kind", metavar="KIND")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option(
    "--bin-ms", type=float, default=None, help="Length of a time bin in milliseconds [default: the format's]."
)
def import_(kind: str, source: Path, out: Path, bin_ms: float | None) -> None:
    """Pack recordings into a data folder.

    KIND is the layout of SOURCE: b2t25 is the Brain-to-Text '25 layout, a folder for each session with
    data_train.hdf5, data_val.hdf5 and data_test.hdf5.
    """
    from trainable.importers import import_dataset

    options: dict[str, Any] = {} if bin_ms is None else {"bin_ms": bin_ms}
    bar, advance = _progress_bar()
    with bar:
        summary = import_dataset(kind, source, out, progress=advance, **options)
    _print_summary(summary)
    click.echo(f"\nwrote {out}; next: tuner data show {out}")


@data.command(epilog="Example: tuner data synthetic small --out data/small")
@click.argument("size", type=click.Choice(["tiny", "small", "paper"]))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the data.")
def synthetic(size: str, out: Path, seed: int) -> None:
    """Make synthetic neural data.

    tiny is for tests, small for a laptop, paper has the size of the '24 recordings (256 features, 24 days, 9,680
    utterances, 2.8 GB).
    """
    from trainable.synthetic import make_synthetic

    bar, advance = _progress_bar()
    with bar:
        make_synthetic(out, size, seed=seed, progress=advance)
    click.echo(f"wrote {out}; next: tuner data show {out}")


@data.command(epilog="Example: tuner data show data/small --kernel 16 --stride 4")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kernel", type=click.IntRange(min=1), default=32, show_default=True, help="Bins in one input window.")
@click.option("--stride", type=click.IntRange(min=1), default=4, show_default=True, help="Bins between windows.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How it is written.",
)
def show(folder: Path, kernel: int, stride: int, form: str) -> None:
    """Show sessions, utterances, lengths, features, and the labels that do not fit a kernel and stride."""
    from trainable.data import open_dataset, summary

    facts = summary(open_dataset(folder), kernel, stride)
    if form == "json":
        import json

        click.echo(json.dumps(facts, indent=2))
    else:
        _print_summary(facts)


def _print_summary(facts: dict[str, Any], indent: int = 0) -> None:
    """Nested facts as aligned lines; lists of dicts with the same keys as small tables."""
    width = max((len(str(key)) for key in facts), default=0) + 2
    pad = " " * indent
    for key, value in facts.items():
        label = str(key).replace("_", " ")
        if isinstance(value, dict) and len(value) <= 5 and all(isinstance(v, int | float) for v in value.values()):
            spread = ", ".join(f"{name} {number:.6g}" for name, number in value.items())
            click.echo(f"{pad}{label:<{width}}{spread}")
        elif isinstance(value, dict):
            click.echo(f"{pad}{label}")
            _print_summary(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            click.echo(f"{pad}{label}")
            _print_rows(value, indent + 2)
        else:
            click.echo(f"{pad}{label:<{width}}{_words(value)}")


def _words(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)}: {value[0]}, {value[1]}, ... {value[-1]}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print_rows(rows: list[dict[str, Any]], indent: int) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for key in rows[0]:
        table.add_column(str(key).replace("_", " "), justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*(Text(f"{v:.4g}" if isinstance(v, float) else str(v)) for v in row.values()))
    Console().print(Padding(table, (0, 0, 0, indent)))


COMMANDS = (data,)
