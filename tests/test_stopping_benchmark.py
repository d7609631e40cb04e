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

from benchmarks.stopping import CHOSEN_ON, GRID, compare, expected, groups, judge, means, shipped
from search_spaces import load_space
from tuner.simulation.curves import read_curves

ROOT = Path(__file__).parents[1]


def found(hit: float, spent: float, time: float = 1.0) -> dict:
    """An outcome with a flat regret; a batch takes `time`."""
    return {
        "hit": hit,
        "hit_time": time * hit,
        "spent": spent,
        "spent_time": time * spent,
        "share": 0.5,
        "by_half": hit < spent / 2,
        "lost": math.isinf(hit),
        "regret": 0.1,
        "curve": np.full(len(GRID), 0.1),
    }


def test_a_search_that_never_hits_pays_all_it_spent_and_counts_for_nothing():
    """Expected batches are those of every repeat, shared among the repeats that saw a good PER."""
    picks = np.arange(2)[None]
    assert expected([found(100, 900), found(300, 900)], picks)[0] == 200
    assert expected([found(100, 900), found(math.inf, 900)], picks)[0] == 1000
    assert math.isinf(expected([found(math.inf, 900)] * 2, picks)[0])


def test_a_rule_beside_itself_costs_one_without_an_interval():
    """Cost 1 with an interval of no width; a rule that makes every batch slower has the same cost and more time."""
    same = [found(100, 900), found(300, 900)]
    row = compare("same", same, same)
    assert (row["cost"], row["cost_low"], row["cost_high"], row["time"]) == (1, 1, 1, 1)
    slow = compare("slow", [found(100, 900, 2), found(300, 900, 2)], same)
    assert (slow["cost"], slow["time"], slow["by_half"]) == (1, 2, 1)


def test_the_mean_over_banks_lies_within_the_interval_of_a_bootstrap_over_banks():
    """Costs 0.5 and 0.7: mean 0.6, and an interval from one bank alone to the other."""
    full = [found(100, 900), found(100, 900)]
    rows = [[compare("r", [found(hit, 900)] * 2, full)] for hit in (50, 70)]
    mean = means(rows)[0]
    assert mean["cost"] == pytest.approx(0.6)
    assert (mean["cost_low"], mean["cost_high"]) == pytest.approx((0.5, 0.7))
    assert list(groups(["an4", "synthetic", "a", "b"]).values()) == [["an4", "synthetic", "a", "b"], ["a", "b"]]
    assert list(groups(["a", "b"]).values()) == [["a", "b"]]


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
    """At least 150 runs in all, none stopped, with rates and configurations."""
    banks = [read_curves(path, ROOT) for path in shipped() if path.stem in CHOSEN_ON]
    assert sum(len(found.whole().runs) for found in banks) >= 150
    for found in banks:
        assert found.stopped == 0
        horizons = {run.horizon for run in found.runs}
        assert max(horizons) == 8 * min(horizons)
        assert found.has("lr") and all(run.own_config and run.params for run in found.runs)


def test_the_banks_that_chose_nothing_are_whole_runs_without_probes():
    """Ten, of a dozen runs or more, small files; one has horizons that differ eightfold. No run was stopped."""
    paths = [path for path in shipped() if path.stem not in CHOSEN_ON]
    assert len(paths) == 10 and all(path.stat().st_size < 100_000 for path in paths)
    banks = {path.stem: read_curves(path, ROOT) for path in paths}
    for found in banks.values():
        assert len(found.runs) >= 12 and found.stopped == 0
        assert all(run.own_config and run.params for run in found.runs) and found.has("val_loss")
    horizons = {run.horizon for run in banks["horizons-6"].runs}
    assert max(horizons) == 8 * min(horizons)
    for name in ("one_horizon", "short_horizons"):
        assert load_space(ROOT / "benchmarks" / "data" / f"{name}.yaml").stopping.kind == "none"


def test_the_comparison_prints_a_table_for_each_bank_and_part(tmp_path, end):
    """Each rule asked for, of ours and of others, has a row with its cost, and no other; full runs cost 1 and lose
    nobody."""
    bank(tmp_path / "made_up.parquet")
    program = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "stopping.py"), "--banks", "made_up.parquet"),
            *("--repeats", "2", "--rules", "asha grace=1", "ray ASHA", "oracle from 1/4"),
            *("--json", "rows.json", "--plot", "regret.svg"),
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
        assert title.partition(", 2 repeats")[0] in done.out
        assert list(rows) == ["none", "asha grace=1", "ray ASHA", "oracle from 1/4"]
        assert rows["none"]["cost"] == 1 and rows["none"]["lost"] == 0
        assert rows["oracle from 1/4"]["cost"] < 1 and rows["oracle from 1/4"]["lost"] == 0
        assert all(row["share"] <= 1 for row in rows.values())
    assert "oracle" in (tmp_path / "regret.svg").read_text()


def test_what_was_compared_before_is_not_run_again(tmp_path):
    """With the figures of an earlier comparison only a rule that is new is run, beside full runs."""
    bank(tmp_path / "c.parquet")
    curves, known = read_curves(tmp_path / "c.parquet", tmp_path), {}
    rows = judge(curves, ["median"], 2, 4, None, known)
    assert [row["rule"] for row in rows] == ["none", "median"] == list(known)
    known["median"]["cost"] = 17
    again = judge(curves, ["median", "asha grace=1"], 2, 4, None, known)
    assert [row["rule"] for row in again] == ["none", "median", "asha grace=1"]
    assert again[1]["cost"] == 17 and again[0] == rows[0]
