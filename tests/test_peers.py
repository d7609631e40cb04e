"""The comparison with other programs pairs searches by seed at equal epochs, and goes on where it was stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import peers

ROOT = Path(__file__).parents[1]


def row(peer: str, seed: int, pers: list[float]) -> dict[str, Any]:
    """A search that has ended."""
    return {"peer": peer, "seed": seed, "pers": pers, "wall": 10.0, "load": 1.0}


def test_searches_are_compared_at_the_epochs_that_both_have() -> None:
    """A longer search is cut at the shorter one's epochs; the difference is ours less theirs, by seed."""
    rows = [row("this_program", seed, [0.5, 0.3, 0.1]) for seed in (0, 1)]
    rows += [row("ray_tune", 0, [0.6, 0.4]), row("ray_tune", 1, [0.6, 0.2])]
    ours, ray = peers.table(rows)
    assert (ours["best PER"], ray["best PER"]) == (0.3, 0.3)
    assert (ours["epochs compared"], ours["epochs trained"], ray["epochs trained"]) == (2, 3, 2)
    assert ray["less"] == "+0.0000 [-0.1000, +0.1000]"
    assert "less" not in ours


@pytest.mark.parametrize("peer", peers.PEERS)
def test_lines_of_code_leave_out_what_is_not_code(peer: str, tmp_path: Path) -> None:
    """Comments, docstrings and blank lines do not count; this program's script is the shortest."""
    script = tmp_path / "a.py"
    script.write_text('"""Two\nlines."""\n\n# why\nx = 1\n\ndef f():\n    """One."""\n    return x\n')
    assert peers.lines_of_code(script) == 3
    count = peers.lines_of_code(peers.SCRIPTS / f"{peer}.py")
    assert count >= peers.lines_of_code(peers.SCRIPTS / "this_program.py") > 0


def test_what_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search with the same settings in the file is kept; others are run and added to it, seed by seed."""
    out, ran = tmp_path / "peers.jsonl", []

    def run(peer: str, given: dict[str, Any]) -> dict[str, Any]:
        ran.append((peer, given["seed"]))
        return {**row(peer, given["seed"], [0.5]), **given}

    monkeypatch.setattr(peers, "run", run)
    call = ["peers.py", "--out", str(out), "--peers", "this_program", "ray_tune", "--seeds"]
    for seeds in ("1", "2"):
        monkeypatch.setattr(sys, "argv", [*call, seeds])
        peers.main()
    assert ran == [(peer, seed) for seed in (0, 1) for peer in ("this_program", "ray_tune")]
    assert len(out.read_text().splitlines()) == 4


def test_the_table_alone_needs_no_other_program(tmp_path: Path) -> None:
    """--table reads the file and runs nothing."""
    out = tmp_path / "peers.jsonl"
    out.write_text("".join(json.dumps(row(peer, 0, [0.5])) + "\n" for peer in peers.PEERS))
    call = [sys.executable, str(ROOT / "benchmarks" / "peers.py"), "--out", str(out), "--table"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(peer in done.stdout for peer in peers.PEERS)
