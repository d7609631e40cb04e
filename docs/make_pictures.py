"""Make the pictures of README.md from a study that has ended: python docs/make_pictures.py STUDY --results FOLDER.

`terminal.svg`: the live view of the search, drawn from its log as it was after so many events, and the table of
`tuner best`. `report.png`: `tuner report` in a browser (Chromium), the answer and the learning curves.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from results.report import write
from results.store.events import read_events
from tuner.analysis.report import make_page
from tuner.callbacks.progress import Progress
from tuner.cli import tuner
from tuner.study.state import StudyState

HERE = Path(__file__).parent
WIDTH = 110
COLUMNS = "model_dropout,schedule_kind,schedule_peak_lr"
SHORT = "<style>#s1, #s3, #s3 ~ * { display: none } .tall { max-height: 13.5rem }</style>"
BROWSER = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--timeout=15000",
    "--window-size=1100,1240",
    "--force-device-scale-factor=0.75",
)


def terminal(study: str, results: Path, events: int) -> str:
    """The SVG: the live view after `events` events, then the best-config table."""
    log, _ = read_events(results / study / "events.jsonl")
    state, seen = StudyState(searching=False), log[:events]
    for event in seen:
        state.apply(event)
    console = Console(width=WIDTH, record=True, force_terminal=True, color_system="truecolor", file=io.StringIO())
    elapsed = seen[-1]["time"] - log[0]["time"]
    console.print(
        f"[bold green]$[/] tuner search {state.settings.space['name']} --data data/small --study {study}",
        highlight=False,
    )
    console.print(Progress(console, lambda: state, 2, lambda: elapsed).render())
    best = f"best {study} --top 6 --columns {COLUMNS}"
    table = CliRunner().invoke(tuner, [*best.split(), "--results", str(results)], catch_exceptions=False)
    console.print(f"\n[bold green]$[/] tuner {best}", highlight=False)
    console.print(Text.from_ansi(table.output.strip()))
    return console.export_svg(title="tuner")


def report(study: str, results: Path, out: Path) -> None:
    """The PNG of the report's first screen."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("neither chromium nor google-chrome was found; install one")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write(page, make_page(results, [study]).replace("</head>", f"{SHORT}</head>"))
        command = [browser, *BROWSER, f"--screenshot={out}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def main() -> None:
    """Write both pictures into docs/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--results", type=Path, default=Path("results/studies"))
    parser.add_argument("--events", type=int, default=120, help="events of the log that the live view has seen")
    given = parser.parse_args()
    (HERE / "terminal.svg").write_text(terminal(given.study, given.results, given.events), encoding="utf-8")
    report(given.study, given.results, HERE / "report.png")


if __name__ == "__main__":
    main()
