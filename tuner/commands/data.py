"""`tuner data`: import recordings, make synthetic ones, show and check a data folder."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import Any

import click

from trainable.data.checks import check_dataset
from trainable.data.dataset import open_dataset
from trainable.data.importers import import_dataset
from trainable.data.overview import summary
from trainable.data.synthetic import make_synthetic
from tuner.analysis.data_picture import plot_data
from tuner.commands.options import FiniteRange, json_option, out_option
from tuner.commands.sections import NearestNames


@click.group(cls=NearestNames)
def data() -> None:
    """Import recordings, make synthetic data, check a data folder and plot it."""


def _progress_bar() -> tuple[Any, Any]:
    """(context manager, callback(done, total, what)) for long work; silent where there is no terminal."""
    if not sys.stderr.isatty():  # a bar that is disabled writes a line break with rich up to 14
        return nullcontext(), lambda done, total, what: None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )
    task = bar.add_task("", total=None)

    def advance(done: int, total: int, what: str) -> None:
        bar.update(task, completed=done, total=total, description=what)

    return bar, advance


SHOWN = 20
"""Lines about left out files and utterances that an import prints; the summary counts them all."""


@data.command(
    "import",
    epilog="""\b
Examples:
  tuner data import b2t25 recordings/hdf5_data_final --out data/t15
  tuner data import b2t24-mat competitionData --out data/t12 --dev-split 0.1 --labels phonemes.csv
  tuner data import reference-pickle ptDecoder_ctc --out data/t12 --dev-split 0.1
  tuner data import arrays sessions --out data/mine --bin-ms 10 --skip bad.csv
""",
)
@click.argument("kind", metavar="KIND")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--name", help="Name of the data set [default: the folder's].")
@click.option("--bin-ms", type=float, help="Length of a time bin in milliseconds [default: the format's, 20].")
@click.option(
    "--dev-split",
    type=FiniteRange(min=0, max=1, max_open=True),
    help="Hold out this fraction of each session's training utterances as val; the source's own val becomes test.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of --dev-split [default: 0].")
@click.option("--strict", is_flag=True, help="Fail instead of leaving out a file or an utterance.")
@click.option(
    "--sessions",
    type=click.Path(path_type=Path),
    help="File with one session per line: those to import, in this order (reference-pickle: the names of its days).",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Labels made elsewhere: CSV, TSV or .jsonl with session,trial,phonemes; or with text,phonemes (b2t24-mat, "
    "arrays) [default: the source's, or g2p_en].",
)
@click.option(
    "--skip",
    type=click.Path(path_type=Path),
    help="Utterances to leave out: CSV, TSV or .jsonl with session,trial,reason.",
)
@click.option("--features", metavar="A:B|NAMES", help="b2t25: columns A to B - 1, or tx, power, 6v-ventral, 4, ...")
@click.option("--areas", type=click.Choice(["6v", "44", "all"]), help="b2t24-mat: the arrays to take [default: 6v].")
@click.option(
    "--thresholds",
    type=click.Choice(["tx1", "tx2", "tx3", "tx4"]),
    help="b2t24-mat: the threshold of the crossings [default: tx1].",
)
@click.option("--log-features", is_flag=True, default=None, help="b2t24-mat: log(1 + x) before z-scoring.")
def import_(kind: str, source: Path, out: Path, **options: Any) -> None:
    """Pack recordings into a data folder.

    KIND is the layout of SOURCE: b2t25 (the Brain-to-Text '25 HDF5 files), b2t24-mat (the '24 MATLAB files),
    reference-pickle (the data file of neural_seq_decoder), or arrays (a .npz file for each session). docs/data.md
    describes them. What cannot be read is left out; each case is printed and counted. Utterances whose length is far
    from what their text suggests are noticed, and --skip leaves out those that you list.
    """
    bar, advance = _progress_bar()
    with bar:
        given = {key: value for key, value in options.items() if value is not None}
        summary = import_dataset(kind, source, out, progress=advance, **given)
    lines = summary.pop("lines")
    for line in lines[:SHOWN]:
        click.echo(f"skipped: {line}", err=True)
    if len(lines) > SHOWN:
        left_out = sum(row["count"] for row in summary["skipped"])
        click.echo(f"skipped: {left_out - SHOWN} more; --strict shows up to 200 and writes no data", err=True)
    for remark in summary.pop("remarks"):
        click.echo(f"note: {remark}", err=True)
    for table in ("noticed", "skipped", "listed"):
        for row in summary[table]:
            row["example"] = row["example"].removeprefix(f"{source}/")
    if not summary["listed"]:
        del summary["listed"]
    _print_summary(summary)
    click.echo(f"\nwrote {out}; next: tuner data check {quote(str(out))}")


@data.command(epilog="Example: tuner data synthetic small --out data/small")
@click.argument("size", type=click.Choice(["tiny", "small", "paper"]))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the data.")
def synthetic(size: str, out: Path, seed: int) -> None:
    """Make synthetic neural data.

    tiny is for tests, small for a laptop, paper has the size of the '24 recordings (256 features, 24 days, 9,680
    utterances, 2.8 GB).
    """
    bar, advance = _progress_bar()
    with bar:
        make_synthetic(out, size, seed=seed, progress=advance)
    click.echo(f"wrote {out}; next: tuner data show {quote(str(out))}")


@data.command(epilog="Example: tuner data show data/small --kernel 16 --stride 4")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kernel", type=click.IntRange(min=1), default=32, show_default=True, help="Bins in one input window.")
@click.option("--stride", type=click.IntRange(min=1), default=4, show_default=True, help="Bins between windows.")
@json_option
def show(folder: Path, kernel: int, stride: int, form: str) -> None:
    """Show sessions, utterances, lengths, features, and labels that are too long for a kernel and stride."""
    facts = summary(open_dataset(folder), kernel, stride)
    if form == "json":
        import json

        click.echo(json.dumps(facts, indent=2))
    else:
        _print_summary(facts)


@data.command(epilog="Example: tuner data check data/t15 --kernel 14 --stride 4 --format json")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--kernel", type=click.IntRange(min=1), default=32, show_default=True, help="Bins in one input window.")
@click.option("--stride", type=click.IntRange(min=1), default=4, show_default=True, help="Bins between windows.")
@json_option
def check(folder: Path, kernel: int, stride: int, form: str) -> None:
    """Check FOLDER for errors that would spoil training.

    NaN, constant features, labels that are too long for a kernel and stride, the same utterance in two splits, the
    words "held out" as labels, unusual lengths, sessions without training data. Exit status: 1 if there are errors, 0
    if there are only warnings or nothing.
    """
    import json

    dataset = open_dataset(folder)
    bar, advance = _progress_bar()
    with bar:
        findings = check_dataset(dataset, kernel, stride, progress=advance)
    rows = [finding.row() for finding in findings]
    counts = {level: sum(finding.level == level for finding in findings) for level in ("error", "warning", "note")}
    if form == "json":
        click.echo(json.dumps({"path": str(dataset.path), "findings": rows, **counts}, indent=2))
    else:
        for row in rows:
            place = f"[{row['split']}] ({row['count']})" if row["count"] else f"[{row['split']}]"
            click.echo(f"{row['level']:<8}{row['check']} {place}: {row['what']}")
            if row["example"]:
                click.echo(f"        first: {row['example']}")
        counted = ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items())
        utterances = sum(len(split) for split in dataset.splits.values())
        click.echo(f"{folder}: {counted} in {utterances} utterances")
    if counts["error"]:
        raise click.exceptions.Exit(1)


@data.command(epilog="Example: tuner data plot data/t15 --session t15.2023.08.13 --out session.png")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--session", help="The session to plot [default: the first].")
@click.option(
    "--utterance",
    type=click.IntRange(min=0),
    help="The utterance to plot, by its number [default: the session's first].",
)
@out_option("File to write: .png, .svg or .pdf.", default=Path("session.png"))
def plot(folder: Path, session: str | None, utterance: int | None, out: Path) -> None:
    """Plot the features of a session, an utterance with its phonemes, and all lengths."""
    drawn = plot_data(open_dataset(folder), out, session, utterance)
    click.echo(f"wrote {out}: session {drawn['session']}, utterance {drawn['utterance']}")


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
