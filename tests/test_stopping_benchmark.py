"""The comparison of stopping rules: its measure, and that it runs on a bank from the command line."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks.stopping import BANKS, GRID, compare, expected_batches
from tuner.simulation.curves import read_curves

ROOT = Path(__file__).parents[1]


def found(hit: float, spent: float, level: float = 0.1) -> dict:
    """An outcome with a flat regret."""
    curve = np.full(len(GRID), level)
    return {"hit": hit, "spent": spent, "share": 0.5, "killed": math.isinf(hit), "regret": level, "curve": curve}


def test_a_search_that_never_hits_pays_all_it_spent_and_counts_for_nothing():
    """Expected batches are those of every repeat, shared among the repeats that saw a good PER."""
    picks = np.arange(2)[None]
    assert expected_batches([found(100, 900), found(300, 900)], picks)[0] == 200
    assert expected_batches([found(100, 900), found(math.inf, 900)], picks)[0] == 1000
    assert math.isinf(expected_batches([found(math.inf, 900)] * 2, picks)[0])


def test_a_rule_beside_itself_is_neither_better_nor_worse():
    """Cost 1 with an interval of no width, and no difference from Ray's ASHA."""
    same = [found(100, 900), found(300, 900, 0.3)]
    row = compare("same", same, same, same)
    assert (row["cost"], row["cost_low"], row["cost_high"]) == (1, 1, 1)
    assert (row["less"], row["less_low"], row["less_high"]) == (0, 0, 0)


def test_less_regret_than_rays_asha_is_a_positive_difference():
    """Half of Ray's regret everywhere: the difference and its interval are above 0."""
    ours, ray = [found(100, 900, 0.1)] * 3, [found(100, 900, 0.2)] * 3
    row = compare("ours", ours, ours, ray)
    assert row["less"] == pytest.approx(0.1) and row["less_low"] > 0


def bank(path: Path, runs: int = 12) -> None:
    """Runs of 4 and 16 epochs; the long ones are worse at every epoch until the last quarter, where they win."""
    rows = []
    for trial in range(runs):
        long = trial % 2 == 0
        epochs = 16 if long else 4
        for epoch in range(1, epochs + 1):
            share = epoch / epochs
            per = (0.2 if long else 0.4) + 0.01 * trial + (0.6 if long else 0.3) * (1 - share)
            rows.append(
                {
                    "trial": trial,
                    "epoch": epoch,
                    "batch": 25 * epoch,
                    "per": per,
                    "val_loss": 10 * per,
                    "horizon": 25 * epochs,
                    "lr": 1.001 - share,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_the_shipped_banks_hold_whole_runs_of_horizons_that_differ_eightfold():
    """At least 150 runs in all, none stopped, with schedules, probes and configurations."""
    banks = [read_curves(path, ROOT) for path in BANKS]
    assert sum(len(found.whole().runs) for found in banks) >= 150
    for found in banks:
        assert found.stopped == 0
        horizons = {run.horizon for run in found.runs}
        assert max(horizons) == 8 * min(horizons)
        assert found.has("probe_per") and all(run.params for run in found.runs)


def test_the_comparison_prints_a_table_for_each_bank_and_part(tmp_path, end):
    """Every rule and rival has a row with its cost; random search with full runs costs 1, and nobody is killed."""
    bank(tmp_path / "made_up.parquet")
    program = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "stopping.py"), "--banks", "made_up.parquet"),
            *("--repeats", "2", "--rules", "asha grace=1", "median", "--json", "rows.json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    done = end(program, tmp_path)
    assert done.status == 0, done.err
    parts = json.loads((tmp_path / "rows.json").read_text())
    assert [title.split(":")[0] for title in parts] == ["made_up, whole", "made_up, halves"]
    for title, rows in parts.items():
        assert title in done.out
        by_rule = {row["rule"]: row for row in rows}
        assert {"none", "asha grace=1", "median", "ray ASHA", "optuna MedianPruner"} <= set(by_rule)
        assert by_rule["none"]["cost"] == 1 and by_rule["none"]["killed"] == 0
        assert all(row["spent"] <= 1 for row in rows)
