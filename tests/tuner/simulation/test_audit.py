"""An audit says what a rule would have done to runs that are known, and how much a comparison could know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuner.simulation.audit import horizon_groups, rank_correlations, replay
from tuner.simulation.curves import read_curves

NONE = {"kind": "none"}
ASHA = {"kind": "asha", "grace": 1, "reduction": 2, "max_rungs": None}


def by_epoch(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they come when all runs go on side by side."""
    return sorted(table, key=lambda row: (row["batch"], row["trial"]))


def test_the_winner_that_starts_slowly_is_stopped_and_the_audit_says_where(banks: Any, tmp_path: Path) -> None:
    """Side by side, run 3 is worse after its first epoch than the short runs before it: at batch 10, rank 4 of 4."""
    bank = read_curves(banks.write(tmp_path / "c.csv", by_epoch(banks.rows())), tmp_path)
    found = replay(bank, ASHA)
    assert (found.winner, found.winner_per) == ("3", 0.20)
    batch, reason = found.stopped["3"]
    assert batch == 10
    assert "rank 3 of 4" in reason
    assert found.saved == pytest.approx(1 - found.spent / 480)
    assert found.regret == pytest.approx(found.best_per - 0.20)
    assert found.best_per > 0.20


def test_no_rule_stops_nothing(banks: Any, tmp_path: Path) -> None:
    """Full runs save nothing and cost nothing."""
    bank = read_curves(banks.write(tmp_path / "c.csv", banks.rows()), tmp_path)
    found = replay(bank, NONE)
    assert (found.stopped, found.saved, found.regret, found.spent) == ({}, 0, 0, 480)


def test_the_order_of_arrival_counts(banks: Any, tmp_path: Path) -> None:
    """ASHA decides as results come: the first of a file is never worse than those before it."""
    table = banks.rows()
    best_first = [row for row in table if row["trial"] == 3] + [row for row in table if row["trial"] != 3]
    assert "3" not in replay(read_curves(banks.write(tmp_path / "c.csv", best_first), tmp_path), ASHA).stopped
    assert "3" in replay(read_curves(banks.write(tmp_path / "d.csv", by_epoch(table)), tmp_path), ASHA).stopped


@pytest.mark.parametrize("workers", [1, 3])
def test_a_study_s_own_rule_over_its_own_log_stops_what_it_stopped(toy: Any, workers: int) -> None:
    """The replay is the study's loop: the same trials are stopped after the same epochs, and nothing is saved."""
    study = toy.create("s", searcher={"kind": "random"})
    toy.drive(study, workers=workers)
    study.close()
    bank = read_curves("s", toy.folder)
    found = replay(bank, bank.stopping or {})
    assert bank.stopped > 0
    assert {label: batch for label, (batch, _) in found.stopped.items()} == {
        run.label: run.batches for run in bank.runs if not run.complete
    }
    assert found.saved == 0
    assert found.unknown == 0
    assert replay(bank, NONE).unknown == bank.stopped


def test_correlations_see_what_the_horizons_hide(banks: Any, tmp_path: Path) -> None:
    """Straight lines to the end: within a horizon any epoch tells the end; across horizons an equal batch does not."""
    table = [row | {"trial": f"{row['trial']}{again}"} for again in "ab" for row in banks.rows()]
    bank = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    rows = {(row["at"], row["group"]): row for row in rank_correlations(bank)}
    assert rows["1/4", "40"]["spearman"] == rows["1/4", "80"]["spearman"] == pytest.approx(1)
    assert rows["1/4", "all"]["spearman"] == pytest.approx(1)
    assert rows["10 batches", "40"]["spearman"] == rows["10 batches", "80"]["spearman"] == pytest.approx(1)
    mixed = rows["10 batches", "all"]
    assert mixed["runs"] == 16
    assert mixed["spearman"] < 0.6
    assert mixed["low"] < mixed["spearman"] < mixed["high"]
    assert rows["1/16", "all"]["runs"] == 0
    assert rows["1/16", "all"]["spearman"] is None


def test_many_horizons_make_four_groups(banks: Any, tmp_path: Path) -> None:
    """Each run is in one group, named by its shortest and longest horizon."""
    table = [row | {"horizon": 100 + row["trial"], "stopped": "false"} for row in banks.rows()]
    bank = read_curves(banks.write(tmp_path / "c.csv", table), tmp_path)
    groups = horizon_groups(bank.runs)
    assert [len(runs) for runs in groups.values()] == [1, 2, 2, 3] or len(groups) == 4
    assert sum(len(runs) for runs in groups.values()) == 8
    assert next(iter(groups)).startswith("100")


def test_audit_prints_the_verdict_the_correlations_and_what_is_unknown(cli: Any, toy: Any) -> None:
    """A study with stopped trials is audited, and the page says what these do to the answer."""
    study = toy.create("s", searcher={"kind": "random"})
    toy.drive(study, workers=2)
    study.close()
    done = cli("audit", "s", "--rule", "asha grace=1 reduction=2", "--results", toy.folder)
    assert done.status == 0, done.err
    for part in (
        "batches saved",
        "rank correlation with the final PER",
        "how they would have ended is unknown",
        "next: ",
    ):
        assert part in done.out
    full = toy.create("full", searcher={"kind": "random"}, stopping=NONE)
    toy.drive(full)
    full.close()
    done = cli("audit", "full", "--results", toy.folder, "--format", "json", "--repeats", "5", "--rule", "none")
    (row,) = json.loads(done.out)
    assert (row["rule"], row["winner_stopped"], row["saved"], row["often_saved"]) == ("none", False, 0, 0)


def test_audit_has_no_heading_above_nothing(banks: Any, cli: Any, tmp_path: Path) -> None:
    """Runs that are all alike have no rank correlation: a line says so, and no heading stands above an empty table."""
    path = banks.write(tmp_path / "c.csv", [{**row, "per": 0.9} for row in banks.rows()])
    done = cli("audit", path, "--rule", "none")
    assert done.status == 0, done.err
    assert "no rank correlation with the final PER: too few runs have an end, or all have the same" in done.out
    assert "by horizon" not in done.out and "(no rows)" not in done.out


def test_audit_in_another_form_and_its_errors(banks: Any, cli: Any, tmp_path: Path) -> None:
    """Correlations alone as CSV; a rule that cannot be read, or that the curves do not fit, is one line and exit 2."""
    path = banks.write(tmp_path / "c.csv", [{k: r[k] for k in ("trial", "batch", "per")} for r in banks.rows()])
    done = cli("audit", path, "--correlation", "--format", "csv")
    assert done.out.splitlines()[0] == "at,group,runs,spearman,low,high"
    for arguments, said in (
        (("--rule", "asha metric=either"), "compares val_loss, which"),
        (("--rule", "ashes"), "--rule"),
        (("--rule", "asha grace"), "--rule"),
        (("--every", "25"), "has no epoch at each multiple of 25"),
    ):
        done = cli("audit", path, *arguments)
        assert done.status == 2
        (line,) = [line for line in done.err.splitlines() if not line.startswith("note: ")]
        assert line.startswith("error: ") and said in line
