"""What a search says when it ends: its best configurations, why it ended, and the commands that come next."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.checkpoints import size_text
from tuner.study import budgets, checkpoints

if TYPE_CHECKING:
    from tuner.study.study import Study


def finish(study: Study, reason: str, results_dir: Path) -> int:
    """Print the table, why the search ended and what to do next; returns the exit status."""
    from results.best import best
    from results.confirmed import confirmed
    from results.pareto import front
    from tuner.planned.lineage import lineage_table

    name = study.settings["study"]
    trials = study.state.trials.values()
    failed = [t for t in trials if t.status == "failed"]
    print()
    if study.settings.get("lineage"):
        print(lineage_table(results_dir, name).render("table"))
    else:
        fresh = confirmed(results_dir, [name]) if study.settings.get("confirms") else None
        several = front(results_dir, [name]) if study.settings.get("costs") else None
        print((fresh or several or best(results_dir, [name], top=10)).render("table"))
    if used := sum(checkpoints.files_of(study.folder).values()):
        print(f"\ncheckpoints: {size_text(used)} in {study.folder / checkpoints.FOLDER}")
    where = "" if results_dir == Path("results") / "studies" else f" --results {results_dir}"
    if reason == "interrupted":
        print(f"\nstopped by you; everything reported is kept. Go on with: tuner resume {name}{where}")
        return 130
    for line in budgets.advice(study, reason, where):
        print(f"\n{line}")
    how = "--pareto" if study.settings.get("costs") else "--top 5"
    print(f"\nnext: tuner best {study.settings.get('confirms') or name} {how}{where}")
    if study.settings["space"] and study.state.leader:
        print(f"      tuner confirm {name} --top 5 --seeds 5{where}   (does the lead stay with fresh seeds?)")
    print(f'      tuner query "select schedule_kind, min(best_per), count(*) from trials group by 1 order by 2"{where}')
    if failed and len(failed) == len(trials):
        print(f"error: every trial failed; the first said: {failed[0].error}", file=sys.stderr)
        return 1
    return 0
