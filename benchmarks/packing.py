"""Trials an hour with 1, 2, 4 and 8 of them on one card at a time; on a CPU, in processes on its cores.

    python benchmarks/packing.py --run speechBaseline4 --data data/paper         # a card: the full-size model
    python benchmarks/packing.py --run small --data data/small --device cpu --counts 1 2

Each row starts that many processes, which train the same configuration at the same time, each within its share of the
card's memory; the rates are of all of them together, and a count that runs out of memory is said not to fit. `tuner
search --gpus-per-trial auto` does the same before it begins. Where NVIDIA's MPS daemon runs, processes use the card at
the same time instead of in turns: run this with and without it (`nvidia-cuda-mps-control -d`); the title says which.
Without --data a small synthetic data set is made first.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from rich.console import Console

from search_spaces import load_run
from tuner.backend.packing import BATCHES, COUNTS, Packing, best_packing, measure, mps_note, table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="small", help="the configuration: a run's name or file")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change values of it")
    parser.add_argument("--data", type=Path, help="a packed data folder")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="trials at once")
    parser.add_argument("--batches", type=int, default=BATCHES, help="batches that are timed")
    parser.add_argument("--cpus", type=float, default=1.0, help="torch threads of each process")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--quick", action="store_true", help="1 and 2 tiny trials: shows that it runs")
    given = parser.parse_args()
    console = Console()
    changes = [*given.set, f"training.device={given.device}"]
    if given.quick:
        changes += ["model.hidden=8", "model.layers=1", "training.batch_size=8"]
        given.counts, given.batches = [1, 2], 2
    config = load_run(given.run, changes).config

    def said(row: Packing) -> None:
        rate = "does not fit" if row.batches_per_second is None else f"{row.batches_per_second:.2f} batches/s in all"
        console.print(f"{row.count} at once: {rate}{f' ({row.error})' if row.error else ''}")

    with tempfile.TemporaryDirectory() as folder:
        data = given.data
        if data is None:
            from trainable.data.synthetic import make_synthetic

            data = Path(folder) / "data"
            make_synthetic(data, "tiny" if given.quick else "small")
        found = measure(config, data, sorted(given.counts), given.batches, given.cpus, said)
    console.print(table(found, f"{given.run} on {given.device}, {mps_note()}"))
    console.print(f"best packing: {best_packing(found).count} at once")
    console.print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    if given.json:
        given.json.write_text(json.dumps([row.as_dict() for row in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
