"""What a card brings, one part after the other, each within its time; a table at the end, and all figures as JSON.

    bash benchmarks/card.sh                       # installs what is missing first
    python benchmarks/card.py --out card          # the same without installing
    python benchmarks/card.py --device cpu --quick --only profile      # shows that it runs

The parts: the tests that need a card; training beside the reference in all precisions, with measures left out and the
memory; where the time of a step goes; several trials on the card, with and without MPS, at full size and at `small`; a
real search on Ray. A part that does not end within its time, or whose packages are missing, is left out and named: the
whole ends within `--limit` seconds. No part changes a setting of the card.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STEPS = 8


@dataclass(frozen=True)
class Part:
    """One measurement: a command with `{out}` and `{data}`, its time in seconds, and the modules it needs."""

    name: str
    command: tuple[str, ...]
    limit: int
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    writes: str | None = None
    """The JSON file of its figures, below `{out}`."""


def packing(name: str, run: str, counts: tuple[int, ...], limit: int, without: bool) -> Part:
    """Several trials at once on the card."""
    file = f"packing-{name}{'-without-mps' if without else ''}.json"
    command = ("benchmarks/packing.py", "--run", run, "--set", "training.precision=bf16", "--data", "{data}")
    numbers = tuple(map(str, counts))
    rest = ("--counts", *numbers, "--batches", "30", "--device", "{device}", "--json", f"{{out}}/{file}")
    environment = {"TUNER_NO_MPS": "1"} if without else {}
    words = "without MPS" if without else "with MPS"
    return Part(f"trials at once, {name}, {words}", (*command, *rest), limit, ("psutil",), environment, file)


TRAIN = ("benchmarks/training.py", "--data", "{data}", "--device", "{device}")
PARTS = (
    Part("tests", ("-m", "pytest", "-q", "-n", "0", "-m", "gpu", "tests/trainable"), 100, ("pytest", "hypothesis")),
    Part(
        "training, full size",
        (*TRAIN, "--steps", "20", "--rounds", "3", "--json", "{out}/training.json"),
        150,
        writes="training.json",
    ),
    Part("a step's time", ("benchmarks/card.py", "--profile", "{out}", "--device", "{device}"), 60, writes="step.json"),
    packing("full size", "speechBaseline4", (1, 2, 4), 70, without=True),
    packing("full size", "speechBaseline4", (1, 2, 4), 70, without=False),
    packing("small", "small", (1, 4, 8), 60, without=True),
    packing("small", "small", (1, 4, 8, 16), 60, without=False),
    Part(
        "a search on Ray",
        (
            *("-m", "tuner", "search", "quickstart", "--data", "{out}/small", "--results", "{out}/results"),
            *("--study", "card", "--trials", "16", "--gpus-per-trial", "auto"),
        ),
        90,
        ("ray", "optuna"),
    ),
)


def main() -> int:
    """Run the parts and print the table; the exit status says whether all of them ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("card"), help="folder for figures, data and logs")
    parser.add_argument("--data", type=Path, help="a packed data folder; else synthetic `paper` lengths are made")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--limit", type=float, default=470, help="seconds for all parts [default: 470]")
    parser.add_argument("--only", metavar="TEXT", help="only the parts with this in their name")
    parser.add_argument("--quick", action="store_true", help="tiny models and data: shows that it runs")
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.profile:
        profile_step(given.profile, given.device)
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.limit
    found: dict[str, Any] = {"about": about(given.device), "parts": {}}
    print(*(f"{key}: {value}" for key, value in found["about"].items()), sep="\n", flush=True)
    data = given.data or make_data(given.out, given.quick)
    for part in PARTS:
        if given.only and given.only not in part.name:
            continue
        found["parts"][part.name] = run(part, given, data, end - time.monotonic())
        (given.out / "card.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("\n".join(["", *lines(found)]))
    print(f"\nall figures: {given.out / 'card.json'}")
    return int(any(part["status"] != "ran" for part in found["parts"].values()))


def about(device: str) -> dict[str, str]:
    """The date, the commit, the versions and the card."""
    import torch

    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    cuda = device == "cuda" and torch.cuda.is_available()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": git.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "card": torch.cuda.get_device_name() if cuda else "none",
        "cores": str(len(os.sched_getaffinity(0))),
    }


def make_data(out: Path, quick: bool) -> Path:
    """Synthetic data: the lengths of the published recordings for the full size, `small` for the search."""
    from trainable.data.synthetic import SIZES, generate, make_synthetic

    if not (out / "small" / "dataset.json").is_file():
        make_synthetic(out / "small", "tiny" if quick else "small")
    if quick:
        return out / "small"
    if not (out / "paper" / "dataset.json").is_file():
        size = replace(SIZES["paper"], train=1200, val=160)
        generate(out / "paper", size, 0, source={"kind": "synthetic", "size": "paper", "train": size.train})
    return out / "paper"


def run(part: Part, given: Any, data: Path, left: float) -> dict[str, Any]:
    """Run a part within its time and what is left of all: its status, seconds, figures and the end of its output."""
    missing = [name for name in part.needs if importlib.util.find_spec(name) is None]
    if missing or left < 10:
        status = f"left out: {', '.join(missing)} not installed" if missing else "left out: no time left"
        print(f"\n== {part.name}: {status}", flush=True)
        return {"status": status}
    print(f"\n== {part.name}", flush=True)
    places = {"out": given.out, "data": data, "device": given.device}
    command = [sys.executable, *(word.format(**places) for word in part.command)]
    if given.quick and part.command[0].startswith("benchmarks/") and "--profile" not in part.command:
        command.append("--quick")
    environment = {**os.environ, **part.environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    log = given.out / f"{re.sub('[^a-z]+', '-', part.name.lower())}.txt"
    with log.open("w+", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, timeout=min(part.limit, left)
            )
            status = "ran" if done.returncode == 0 else f"failed with exit status {done.returncode}"
        except subprocess.TimeoutExpired:
            status = f"did not end within {min(part.limit, left):.0f} s"
    said = log.read_text(encoding="utf-8")
    print(said[-3000:], flush=True)
    told: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - begun, 1), "output": said[-2000:]}
    if part.writes and (given.out / part.writes).is_file():
        told["figures"] = json.loads((given.out / part.writes).read_text(encoding="utf-8"))
    return told


def profile_step(out: Path, device: str) -> None:
    """Where the time of a training step goes: `step.json` with wall and kernel milliseconds and launches a step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if __package__:
        from benchmarks.training import SIZES, config_of, ours
    else:
        from training import SIZES, config_of, ours  # type: ignore[import-not-found,no-redef]
    from trainable.data.dataset import open_dataset

    cuda = device == "cuda"
    wait: Callable[[], Any] = torch.cuda.synchronize if cuda else lambda: None
    places = [out / "paper", out / "small"]
    dataset = open_dataset(next(place for place in places if (place / "dataset.json").is_file()))
    rows = []
    for size in ("full", "small") if cuda else ("tiny",):
        for precision in ("bf16", "fp32") if cuda else ("fp32",):
            one = ours(precision, config_of(SIZES[size], device, precision), dataset)

            def steps(step: Callable[[], Any] = one.step) -> float:
                begun = time.perf_counter()
                for _ in range(STEPS):
                    step()
                wait()
                return 1e3 * (time.perf_counter() - begun) / STEPS

            steps()
            row: dict[str, Any] = {"size": size, "precision": precision, "step_ms": steps()}
            with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as seen:
                steps()
            row |= _kernels(seen.key_averages(), "self_device_time_total" if cuda else "self_cpu_time_total")
            print(json.dumps(row, indent=1), flush=True)
            rows.append(row)
    (out / "step.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _kernels(events: Any, key: str) -> dict[str, Any]:
    """Milliseconds and launches a step, and the kernels that take most."""
    ordered = sorted(events, key=lambda event: -getattr(event, key))
    most = [{"kernel": e.key[:90], "ms": getattr(e, key) / STEPS / 1e3, "times": e.count / STEPS} for e in ordered]
    return {
        "kernels_ms": sum(getattr(event, key) for event in ordered) / STEPS / 1e3,
        "launches": sum(event.count for event in ordered if "LaunchKernel" in event.key) / STEPS,
        "most": most[:14],
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The table: a line for each part, with the figures that the goals speak of."""
    told = ["| part | status | seconds | figures |", "|---|---|---|---|"]
    for name, part in found["parts"].items():
        said = figures(name, part)
        told.append(f"| {name} | {part['status']} | {part.get('seconds', '')} | {said} |")
    return told


def figures(name: str, part: Mapping[str, Any]) -> str:
    """The figures of a part in a line."""
    rows = part.get("figures")
    if name == "tests" or (rows is None and name.startswith("a search")):
        last = [line for line in str(part.get("output", "")).splitlines() if line.strip()]
        return last[-1].strip("= ") if last and name == "tests" else ""
    if not rows:
        return ""
    if name.startswith("trials"):
        fitting = [row for row in rows if row["batches_per_second"]]
        return "; ".join(f"{row['count']}: {row['batches_per_second']:.1f} batches/s" for row in fitting)
    if name.startswith("a step"):
        return "; ".join(
            f"{r['size']} {r['precision']} {r['step_ms']:.1f} ms, {r['launches']:.0f} launches" for r in rows
        )
    return "; ".join(filter(None, map(_training, rows)))


def _training(row: Mapping[str, Any]) -> str:
    """A row of `benchmarks/training.py`; empty for those that the table has no room for."""
    if "end_to_end" in row:
        return f"{row['who']} {row['end_to_end']:.0f}/s, {row['ratio']:.2f} x"
    return f"{row['who']} {row['mb']:.0f} MB" if row["table"] == "memory" else ""


if __name__ == "__main__":
    sys.exit(main())
