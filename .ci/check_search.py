"""Checks what `make search` made: python .ci/check_search.py STUDY OUTPUT, where OUTPUT is a file of what it printed.

The table that was printed, the Parquet files and what `tuner query` answers must be one search of `quickstart`, to its
end. Prints what is wrong, a line each, and exits with 1; or one line, and 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from search_spaces import load_space

ENDED = {"completed", "stopped"}


def asked(sql: str) -> list[dict]:
    """The rows that `tuner query` gives."""
    command = [sys.executable, "-m", "tuner", "query", sql, "--format", "json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def problems(study: str, printed: str) -> list[str]:
    """What is wrong with the search, a line each."""
    folder = Path("results", "studies", study)
    trials = pq.read_table(folder / "trials.parquet").to_pylist()
    epochs = pq.read_table(folder / "epochs.parquet").to_pylist()
    budget = load_space("quickstart").budget.trials
    best = min((trial["best_per"] for trial in trials if trial["best_per"] is not None), default=1.0)
    (answer,) = asked(f"select count(*) as n, min(best_per) as best from trials where study = '{study}'")
    (row,) = asked(f"select count(*) as n, min(per) as best from epochs where study = '{study}'")
    checks = {
        f"{len(trials)} trials instead of {budget}": len(trials) == budget,
        f"states {sorted({t['status'] for t in trials})}": {t["status"] for t in trials} <= ENDED,
        "a trial's epochs are not its rows": sum(t["epochs"] for t in trials) == len(epochs) > budget,
        f"the best PER is {best}: nothing was learned": 0 < best < 0.6,
        f"the best PER {best:.4f} is not in the table that was printed": f"{best:.4f}" in printed,
        "the next step is not printed": f"tuner best {study}" in printed,
        f"tuner query over trials answers {answer}": answer == {"n": budget, "best": best},
        f"tuner query over epochs answers {row}": row == {"n": len(epochs), "best": best},
    }
    return [line for line, right in checks.items() if not right]


def main(study: str, output: str) -> int:
    """Print what is wrong; the exit status."""
    wrong = problems(study, Path(output).read_text())
    for line in wrong:
        print(f"make search: {line}", file=sys.stderr)
    if not wrong:
        print(f"make search: the printed table, the Parquet files and tuner query agree on study {study}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
