"""The short version of benchmarks/chaos.py: a search is killed, damaged and resumed, and ends as if it had not been."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import chaos


@pytest.mark.ray
def test_killed_damaged_and_resumed_searches_end_as_undisturbed(capfd, warm_python, monkeypatch):
    """A killed driver whose newest checkpoint is spoilt, and a killed worker: no invariant is violated."""
    monkeypatch.setattr(sys, "executable", warm_python)
    assert chaos.main(["--rounds", "2", "--kind", "checkpoint", "--kind", "worker-kill", "--seed", "1"]) == 0
    out, err = capfd.readouterr()
    assert err.count("as undisturbed") == 2
    assert "checkpoint" in out and "worker-kill" in out
