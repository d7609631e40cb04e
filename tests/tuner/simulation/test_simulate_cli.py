"""`tuner simulate` compares rules on recorded curves, from a file or a study."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

ASHA = "asha grace=1 reduction=2"


def test_a_table_has_a_row_for_each_rule_and_full_runs_first(banks: Any, cli: Any, tmp_path: Path) -> None:
    """The base comes first, whether it was asked for or not, and regret is drawn below."""
    path = banks.write(tmp_path / "c.csv", banks.rows())
    done = cli("simulate", path, "--stopping", ASHA, "--stopping", "none", "--repeats", "5", "--workers", "2")
    assert done.status == 0, done.err
    assert done.out.count("\nnone ") == done.out.count(f"\n{ASHA} ")
    for part in ("batches to 2 %", "best stopped", "regret (best PER so far", "next: tuner audit"):
        assert part in done.out
    assert "1 of 2: none: 5 searches" in done.err


def test_programs_get_every_number_and_the_same_ones_again(banks: Any, cli: Any, tmp_path: Path) -> None:
    """JSON and CSV hold the same values; a second call gives them again."""
    path = banks.write(tmp_path / "c.csv", banks.rows())
    call = ("simulate", path, "--stopping", ASHA, "--repeats", "4", "--trials", "6", "--format")
    rows = json.loads(cli(*call, "json").out)
    assert rows == json.loads(cli(*call, "json").out)
    assert [row["rule"] for row in rows] == ["none", ASHA]
    assert rows[0]["ratio_2"] == rows[0]["spent"] == 1
    assert rows[1]["spent"] < 1
    table = list(csv.DictReader(io.StringIO(cli(*call, "csv").out)))
    assert float(table[1]["spent"]) == rows[1]["spent"]


def test_a_searcher_is_compared_with_random_full_runs(cli: Any, toy: Any) -> None:
    """A study has parameters and a space: its searcher can be replayed; stopped runs are left out, and it says so."""
    study = toy.create("s", searcher={"kind": "random"})
    toy.drive(study, workers=2)
    study.close()
    call = ("simulate", "s", "--results", toy.folder, "--repeats", "2", "--stopping", "none")
    done = cli(*call, "--searcher", "tpe startup_trials=2", "--format", "json")
    if done.status == 2:  # too few runs came to their end in this study
        assert "too few to judge a rule" in done.err
    else:
        assert [row["rule"] for row in json.loads(done.out)] == ["none, at random", "none"]
        assert "how they would have ended is unknown; they are left out here" in done.err


def test_the_regret_can_be_drawn_to_a_file(banks: Any, cli: Any, tmp_path: Path) -> None:
    """A picture for each ending; another ending is refused before anything is run."""
    path = banks.write(tmp_path / "c.csv", banks.rows())
    call = ("simulate", path, "--stopping", ASHA, "--repeats", "3", "--plot")
    assert cli(*call, tmp_path / "r.svg").status == 0
    assert "regret of 3 searches" in (tmp_path / "r.svg").read_text()
    done = cli(*call, tmp_path / "r.doc")
    assert done.status == 2
    assert "give .png, .svg or .html" in done.err
    assert "searches" not in done.err


def test_what_the_curves_cannot_show_is_one_line(banks: Any, cli: Any, tmp_path: Path) -> None:
    """A searcher without parameters, a rule without a horizon, a file that is not there, an unknown searcher."""
    path = banks.write(tmp_path / "c.csv", [{k: r[k] for k in ("trial", "batch", "per")} for r in banks.rows()])
    for arguments, said in (
        ((path, "--searcher", "tpe"), "a searcher needs the params of each run"),
        ((path, "--stopping", "asha metric=per_raw"), "compares per_raw, which"),
        ((tmp_path / "no.csv",), "No such file"),
        ((path, "--searcher", "oracle"), "--searcher"),
    ):
        done = cli("simulate", *arguments)
        assert done.status == 2
        assert len(done.err.splitlines()) == 1 and said in done.err


def test_without_rules_the_usual_ones_are_tried_as_far_as_the_curves_allow(
    banks: Any, cli: Any, tmp_path: Path
) -> None:
    """Where no horizon is known, as of a stopped run, rules at its fractions are named and left out."""
    table = [{k: r[k] for k in ("trial", "batch", "per")} | {"stopped": str(r["trial"] == 0)} for r in banks.rows()]
    path = banks.write(tmp_path / "c.csv", table)
    done = cli("simulate", path, "--repeats", "2", "--format", "json")
    assert done.status == 0, done.err
    rules = [row["rule"] for row in json.loads(done.out)]
    assert rules[:2] == ["none", "asha"]
    assert not [rule for rule in rules if "horizon" in rule]
    assert "note: left out: " in done.err
