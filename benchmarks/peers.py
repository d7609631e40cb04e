"""Whole real searches beside what a user would pick instead: the same space, data, trainable and number of workers.

    python benchmarks/peers.py --data data/small --out peers-small.jsonl --seeds 10
    python benchmarks/peers.py --data data/an4 --out peers-an4.jsonl --seeds 10 --peers this_program ray_tune
    python benchmarks/peers.py --out peers-small.jsonl --table                # what there is so far; nothing is run

Each search is a process of its own. A search that has ended is a line of the file, so that the same command goes on
where it was stopped. The scripts are those of `benchmarks/peer_scripts`: what a user writes, their lines counted (code
only; the space is the same file for all, and so is the training of a trial).

The table. *best PER* is the lowest that any trial of a search had, by its first epochs: as many as the shortest of the
searches with this seed had in all. *less* is by how much the PER of this program is lower than the peer's, in pairs by
seed, at the epochs that the two have in common, with the 95 % interval of a bootstrap over seeds. *wall* is from the
start of the process to its end; it means something only where nothing else runs on the machine.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # as a program, this file's own folder comes first
PEERS = ("this_program", "ray_tune", "optuna_alone")
OURS = PEERS[0]
SCRIPTS = Path(__file__).parent / "peer_scripts"


def lines_of_code(script: Path) -> int:
    """Lines that are code: without blank lines, comments and docstrings."""
    text = script.read_text()
    written = {number for number, line in enumerate(text.splitlines(), 1) if line.strip() and line.strip()[0] != "#"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            written -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(written)


def run_here(peer: str, given: Mapping[str, Any], folder: str) -> None:
    """One search, in this process."""
    import importlib

    search = importlib.import_module(f"benchmarks.peer_scripts.{peer}").search
    wanted = search.__annotations__.keys()
    search(**{key: value for key, value in {**given, "folder": folder}.items() if key in wanted})


def epochs_in(peer: str, folder: Path) -> list[float]:
    """The PER of every epoch of a search, in the order of their ends."""
    from benchmarks.peer_scripts.common import EPOCHS
    from results.store.events import read_events

    if peer != OURS:
        rows = [json.loads(line) for line in (folder / EPOCHS).read_text().splitlines()]
        return [row["per"] for row in sorted(rows, key=lambda row: row["time"])]
    events, problems = read_events(folder / "peer" / "events.jsonl")
    if problems:
        raise RuntimeError(f"{folder}: {problems[0]}")
    return [1.0 if event["per"] is None else event["per"] for event in events if event["event"] == "epoch"]


def run(peer: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """One search in a process of its own, with its wall time."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, __file__, "--one", peer, json.dumps(given), folder]
        began, load = time.monotonic(), os.getloadavg()[0]
        paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{peer}, seed {given['seed']}: {done.stderr[-2000:] or done.stdout[-2000:]}")
        seconds = time.monotonic() - began
        pers = epochs_in(peer, Path(folder))
    return {"peer": peer, **given, "wall": round(seconds, 1), "load": load, "pers": pers}


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each peer."""
    from trainable.bootstrap import interval, resamples

    found = []
    by_peer = {peer: {row["seed"]: row for row in rows if row["peer"] == peer} for peer in PEERS}
    for peer, runs in by_peer.items():
        if not runs:
            continue
        least = {seed: min(len(each[seed]["pers"]) for each in by_peer.values() if seed in each) for seed in runs}
        row = {
            "program": peer,
            "seeds": len(runs),
            "best PER": round(mean(min(run["pers"][: least[seed]]) for seed, run in runs.items()), 4),
            "epochs compared": round(mean(least.values())),
            "epochs trained": round(mean(len(run["pers"]) for run in runs.values())),
            "wall": f"{median(run['wall'] for run in runs.values()):.0f} s",
            "lines": lines_of_code(SCRIPTS / f"{peer}.py"),
        }
        both = sorted(runs.keys() & by_peer[OURS].keys())
        if peer != OURS and both:
            less = [_less(by_peer[OURS][seed]["pers"], runs[seed]["pers"]) for seed in both]
            picks = resamples(len(less))
            low, high = interval(_mean_of(less, picks))
            row["less"] = f"{mean(less):+.4f} [{low:+.4f}, {high:+.4f}]"
        found.append(row)
    return found


def _less(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How much lower our best PER is after the epochs that both have."""
    common = min(len(ours), len(theirs))
    return min(theirs[:common]) - min(ours[:common])


def _mean_of(values: Sequence[float], picks: Any) -> Any:
    import numpy as np

    return np.asarray(values)[picks].mean(axis=1)


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=3, metavar=("PEER", "SETTINGS", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--data", default="data/small", help="a packed data set")
    parser.add_argument("--space", default="quickstart")
    parser.add_argument("--out", type=Path, default=Path("peers.jsonl"), help="the searches that have ended")
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, ...; all peers before the next seed")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--trials", type=int, default=24, help="trials of a search")
    parser.add_argument("--workers", type=int, default=2, help="trials at once, a core each")
    parser.add_argument("--table", action="store_true", help="print the table of what there is, and run nothing")
    parser.add_argument("--quick", action="store_true", help="two trials, one seed: shows that it runs")
    given = parser.parse_args()
    if given.one:
        run_here(given.one[0], json.loads(given.one[1]), given.one[2])
        return
    if given.quick:
        given.seeds, given.trials = 1, 2
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    if not given.table:
        _fill(given, rows)
    from results.output import Sheet, render

    print(render(Sheet.of(table(rows)), "table"), end="")


def _fill(given: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Run the searches that the file does not have."""
    from search_spaces import load_run, load_space

    epochs = load_run(load_space(given.space).base).config.epochs
    same = {"space": given.space, "data": str(Path(given.data).resolve()), "trials": given.trials}
    same |= {"workers": given.workers, "epochs": epochs}
    for seed in range(given.seeds):
        for peer in given.peers:
            wanted = {**same, "seed": seed, "peer": peer}
            if any(all(row.get(key) == value for key, value in wanted.items()) for row in rows):
                continue
            rows.append(run(peer, {**same, "seed": seed}))
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            last = rows[-1]
            print(f"{peer}, seed {seed}: {min(last['pers']):.4f}, {last['wall']:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
