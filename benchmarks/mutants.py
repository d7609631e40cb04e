"""Do the tests notice when the program is wrong? Small changes are made to the core, one at a time; tests must fail.

    make mutants                                   200 changes, chosen with seed 0, and a table of what survived
    python benchmarks/mutants.py --seed 3 --count 50 --only trainable/
    python benchmarks/mutants.py --list --only results/best.py
    python benchmarks/mutants.py --try results/best.py '>= 3' '>= 2'

A change (mutant) is a `<` that becomes `<=`, a `+` that becomes `-`, a number that becomes one more, a statement that
is removed, and so on: `benchmarks/changes.py` has all. They are made in temporary copies of the checkout. The tests of
a module are those that `TESTS` names, without those that start Ray; the first failure ends a run. A mutant is
killed if a test fails, or if the tests do not come to an end.

`benchmarks/mutants.yaml` lists changes that no test can notice, with the reason why. They do not count. An entry that
fits no change of today's source is an error.

Exit status: 0 if at least 90 % were killed, 1 if not, 2 for wrong input. Everything runs on the CPU; each worker needs
about 1 GB of memory.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a program, this file's own folder comes first
from benchmarks.changes import Mutant, by_hand, mutants_of
from benchmarks.mutant_runs import Stop, run_all

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "trainable/schedules.py": ["trainable/test_schedules.py"],
    "trainable/averaging.py": ["trainable/test_averaging.py"],
    "trainable/choosing.py": ["trainable/test_choosing.py"],
    "trainable/keeping.py": ["trainable/test_keeping.py"],
    "trainable/loop.py": ["trainable/test_loop.py"],
    "trainable/data/batches.py": ["trainable/data/test_batches.py", "trainable/data/test_prefetch.py"],
    "search_spaces/config.py": ["search_spaces/test_run_files.py", "search_spaces/test_spaces.py"],
    "search_spaces/dimensions/dimension.py": ["search_spaces/test_ranges.py"],
    "search_spaces/dimensions/reading.py": ["search_spaces/test_spaces.py", "search_spaces/test_constraints.py"],
    "results/best.py": ["results/test_best.py", "results/test_statistics.py", "tuner/commands/test_best_cli.py"],
    "results/store/events.py": ["results/store/test_events.py"],
    "results/store/lock.py": ["results/store/test_lock.py"],
    "results/store/replay.py": ["results/store/test_tables.py"],
    "tuner/study/rules/rungs.py": [
        "tuner/study/test_stopping.py",
        "tuner/study/test_pausing.py",
        "tuner/study/test_rates.py",
    ],
    "tuner/study/rules/stopping.py": ["tuner/study/test_stopping.py", "tuner/study/test_pausing.py"],
    "tuner/study/faults.py": ["tuner/study/test_faults.py", "tuner/study/test_patience.py"],
    "tuner/study/state.py": [
        "tuner/study/test_study.py",
        "tuner/study/test_searcher.py",
        "tuner/study/test_pausing.py",
        "tuner/study/test_budgets.py",
        "tuner/study/test_measures.py",
        "tuner/study/test_ladder.py",
        "tuner/study/test_compact.py",
        "tuner/callbacks/test_sealing.py",
    ],
    "tuner/study/study.py": [
        "tuner/study/test_study.py",
        "tuner/study/test_pausing.py",
        "tuner/study/test_budgets.py",
        "tuner/study/test_population.py",
        "tuner/study/test_checkpoints.py",
        "tuner/study/test_patience.py",
        "tuner/study/test_faults.py",
        "tuner/study/test_ladder.py",
    ],
}
"""Module -> the files below tests/ that are to notice when it is wrong."""

LISTED = "benchmarks/mutants.yaml"
ENOUGH = 0.9


@dataclass
class Listed:
    """`mutants.yaml`: changes that no test can notice, and why."""

    reasons: dict[tuple[str, str, str], str]

    @classmethod
    def read(cls, root: Path) -> Listed:
        """Raises Stop where an entry has no reason, or fits no change of today's source."""
        path, reasons, wrong = root / LISTED, {}, []
        for entry in yaml.safe_load(path.read_text()) or []:
            key = (entry["module"], entry["was"], entry["becomes"])
            reasons[key] = str(entry.get("why") or "").strip()
            if not reasons[key]:
                wrong.append(f"{path.name}: {' | '.join(key)}: has no reason; say why no test can notice it")
        known = {m.key for module in {key[0] for key in reasons} for m in read_mutants(root, module)}
        wrong += [
            f"{path.name}: {' | '.join(key)}: is no change of today's source; remove or renew it"
            for key in reasons
            if key not in known
        ]
        if wrong:
            raise Stop("\n".join(wrong))
        return cls(reasons)


def read_mutants(root: Path, module: str) -> list[Mutant]:
    """Every change of a module of the checkout."""
    return mutants_of(module, (root / module).read_bytes())


def show(results: list[tuple[Mutant, dict[str, Any]]], listed: Listed) -> float:
    """Print the table and the survivors; returns the share that was killed of those that are not listed."""
    counts: dict[str, Counter[str]] = {module: Counter() for module in TESTS}
    survivors = []
    for mutant, told in results:
        reason = listed.reasons.get(mutant.key)
        fate = "survived" if told["end"] == "passed" else "killed"
        counts[mutant.module].update(["mutants", fate if reason is None or fate == "killed" else "listed"])
        if fate == "survived":
            survivors.append((mutant, reason))
        elif reason is not None:
            print(f"{mutant.module}:{mutant.line}: is listed, but {told['by']} fails on it: remove it from {LISTED}")
    print(f"{'module':40} mutants  killed  survived  listed")
    total: Counter[str] = Counter()
    for module, count in counts.items():
        total.update(count)
        if count["mutants"]:
            print(f"{module:40} {count['mutants']:7} {count['killed']:7} {count['survived']:9} {count['listed']:7}")
    print(f"{'all':40} {total['mutants']:7} {total['killed']:7} {total['survived']:9} {total['listed']:7}")
    for mutant, reason in sorted(survivors, key=lambda item: (item[0].module, item[0].line)):
        print(f"\n{mutant.module}:{mutant.line}: {'listed: ' + reason if reason else 'survived'}")
        print(f"  - {mutant.was}\n  + {mutant.becomes}")
    share = total["killed"] / max(1, total["killed"] + total["survived"])
    print(f"\n{share:.1%} killed of {total['killed'] + total['survived']} that are not listed")
    return share


def main(root: Path = ROOT) -> int:
    """The command line, for the checkout `root`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="how many changes are tried (200; with --try 0)")
    parser.add_argument("--seed", type=int, default=0, help="which ones are chosen (0)")
    parser.add_argument("--only", nargs="+", default=[""], help="modules whose path begins so")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    parser.add_argument("--list", action="store_true", help="print every change, and try none")
    parser.add_argument(
        "--try",
        dest="given",
        nargs=3,
        action="append",
        metavar=("MODULE", "OLD", "NEW"),
        help="try this change of a text that occurs once; may be given again",
    )
    try:
        return run(parser, parser.parse_args(), root)
    except Stop as why:
        print(why, file=sys.stderr)
        return 2


def run(parser: argparse.ArgumentParser, given: argparse.Namespace, root: Path) -> int:
    """Do what was asked for; returns the exit status."""
    modules = [module for module in TESTS if module.startswith(tuple(given.only))]
    if not modules:
        parser.error(f"--only {' '.join(given.only)}: no module begins so; there are: {', '.join(TESTS)}")
    if unknown := {module for module, _, _ in given.given or []} - TESTS.keys():
        parser.error(f"--try {', '.join(sorted(unknown))}: there are: {', '.join(TESTS)}")
    found = [mutant for module in modules for mutant in read_mutants(root, module)]
    if given.list:
        for mutant in found:
            print(f"{mutant.module}:{mutant.line}\n  - {mutant.was}\n  + {mutant.becomes}")
        return 0
    listed = Listed.read(root)
    count = given.count if given.count is not None else 0 if given.given else 200
    chosen = random.Random(given.seed).sample(found, min(count, len(found)))
    try:
        chosen += [by_hand(module, (root / module).read_bytes(), old, new) for module, old, new in given.given or []]
    except ValueError as error:
        parser.error(f"--try {error}")
    chosen.sort(key=lambda mutant: (mutant.module, mutant.start))
    results = []
    for mutant, told in run_all(chosen, TESTS, root, max(1, min(given.jobs, len(chosen)))):
        results.append((mutant, told))
        by = f"  by {told['by']}" if told["end"] != "passed" else ""
        print(
            f"{len(results)}/{len(chosen)} {mutant.module}:{mutant.line} {mutant.becomes[:60]!r}: {told['end']}{by}",
            file=sys.stderr,
            flush=True,
        )
    return 0 if show(results, listed) >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
