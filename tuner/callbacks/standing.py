"""Where a search stands, as plain JSON: from a study's state, or from what its driver last wrote of itself.

To make the state of a long log again takes tens of seconds, and the driver has it. Once its log is long, it writes
`STUDY/now.json` every few seconds (`writer.py`); whoever looks reads that.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.output import clock, visible
from results.store.lines import read_line
from results.store.paths import StudyPaths
from search_spaces.checkpoints import size_text
from search_spaces.stopping import rule_text
from tuner.callbacks.progress import summarise
from tuner.study import budgets, checkpoints
from tuner.study.state import StudyState

STALE_SECONDS = 30.0
"""A driver that has logged events and not written where it stands for so long is not believed."""
_TAIL = 1 << 16

Standing = dict[str, Any]
"""`facts` as `tuner status --format json` gives them, those apart that change by themselves; and the texts of some."""


def of_state(study: str, state: StudyState, held: bool) -> Standing:
    """Where the study stands; `held` says whether a driver runs it."""
    settings, leader = state.settings, state.leader
    space, plan = settings.space, settings.plan
    # Without a driver nothing is running, whatever the log ends with.
    statuses = [t.status if held or t.status != "running" else "interrupted" for t in state.trials.values()]
    facts = {
        "study": study,
        "what": f"space {space['name']}" if space else f"{len(plan)} planned runs" if plan else "recorded runs",
        "data": settings.data.name,
        "searcher": settings.searcher.kind,
        "stopping": settings.stopping.kind,
        "driver": "ended" if state.ended else "running" if held else "gone",
        "reason": state.ended,
        "host": settings.host,
        "trials": len(state.trials),
        "budget": settings.budget.as_dict(),
        "statuses": dict(Counter(statuses)),
        "epochs": sum(len(t.pers) for t in state.trials.values()),
        "best_per": leader.best[0] if leader and leader.best else None,
        "best_trial": leader.number if leader else None,
        "best_epoch": leader.best[1] if leader and leader.best else None,
        "running": [
            {"trial": t.number, "epoch": t.epoch, "epochs": t.config.epochs, "per": t.last_row.get("per")}
            for t in (state.running if held else ())
        ],
        "checkpoints": settings.checkpoints.as_dict(),
        "rungs": {key.name: len(came) for key, came in sorted(state.history.rungs.items())},
    }
    begin, end = state.session
    return {
        "facts": facts,
        "rule": rule_text(settings.stopping.as_dict()),
        "limits": budgets.text(settings.budget),
        "leader": _leader(state),
        "rungs": "; ".join(f"{key}: {len(came)} reached" for key, came in sorted(state.history.rungs.items())),
        "seconds": state.driver_seconds,
        "session": [begin, end],
    }


def _leader(state: StudyState) -> str | None:
    leader = state.leader
    if leader is None or leader.best is None:
        return None
    per, epoch = leader.best
    chosen = summarise(leader)
    text = f"best so far: PER {per:.4f}, trial {leader.number}, epoch {epoch} of {leader.config.epochs}"
    return text + (f" ({chosen})" if chosen else "")


def seconds(standing: Standing, held: bool) -> float:
    """Wall time of the study's drivers, up to now while one runs."""
    begin, end = standing["session"]
    running = held and not standing["facts"]["reason"]
    return float(standing["seconds"] + max(0.0, (time.time() if running else end) - begin))


def whole(standing: Standing, folder: Path, held: bool, last_event: float, problems: list[str]) -> dict[str, Any]:
    """The facts that `tuner status` shows, with those that change by themselves; seconds of all drivers."""
    files = checkpoints.files_of(folder)
    facts: dict[str, Any] = {}
    for key, value in standing["facts"].items():
        facts[key] = value
        if key == "host":
            facts["last_event"] = last_event
            facts["seconds"] = seconds(standing, held)
    facts["checkpoints"] = {"files": len(files), "bytes": sum(files.values()), **facts["checkpoints"]}
    return {**facts, "problems": problems}


def text(standing: Standing, facts: Mapping[str, Any], driver: str) -> str:
    """The facts as a few lines; `driver` says whether anybody runs the study."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(facts["statuses"].items()))
    lines = [
        f"study {facts['study']}: {facts['what']}, data {facts['data']}, searcher {facts['searcher']}, "
        f"stopping {standing['rule']}" + (f", budget {standing['limits']}" if standing["limits"] != "-" else ""),
        f"driver: {driver}",
        f"trials: {facts['trials']} started ({counts or 'none'}), {facts['epochs']} epochs, "
        f"{clock(facts['seconds'])} of wall time",
    ]
    lines += [standing["leader"]] if standing["leader"] else []
    for row in facts["running"]:
        now = "" if row["per"] is None else f", PER {row['per']:.4f}"
        lines.append(f"running: trial {row['trial']} at epoch {row['epoch']} of {row['epochs']}{now}")
    kept = facts["checkpoints"]
    if kept["bytes"]:
        limit = f" of {size_text(kept['budget'])}" if kept.get("budget") else ""
        lines.append(f"checkpoints: {size_text(kept['bytes'])}{limit} in {kept['files']} files")
    lines += [f"rungs: {standing['rungs']}"] if standing["rungs"] else []
    return "\n".join(visible(line) for line in [*lines, *(f"problem: {line}" for line in facts["problems"])])


def running_on(host: str | None, last_event: float) -> str:
    """That a driver runs the study, as text."""
    return f"running on {host}, last event {clock(time.time() - last_event)} ago"


class Glance:
    """What the driver of a long log wrote of itself last, and the log's last event."""

    def __init__(self, standing: Standing, folder: Path, last_event: float) -> None:
        self._standing, self._folder, self._last_event = standing, folder, last_event

    def facts(self, problems: list[str]) -> dict[str, Any]:
        """As `whole`."""
        return whole(self._standing, self._folder, True, self._last_event, problems)

    def text(self, problems: list[str]) -> str:
        """As a few lines."""
        driver = running_on(self._standing["facts"]["host"], self._last_event)
        return text(self._standing, self.facts(problems), driver)


def glance(folder: Path) -> Glance | None:
    """Where the study stands by its driver's word, a few seconds ago at most; None where there is none to believe.

    Only for a study that a driver runs. It is believed as long as it has noted the log's last event, or wrote lately.
    """
    paths = StudyPaths(folder)
    try:
        standing = json.loads(paths.now.read_bytes())
        ago = time.time() - paths.now.stat().st_mtime
        with paths.log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            lines = file.read().split(b"\n")
        last = next((event for line in reversed(lines) if (event := read_line(line + b"\n").event)), None)
        if last is None or standing["seq"] > last["seq"] or (standing["seq"] < last["seq"] and ago > STALE_SECONDS):
            return None
        if not {"facts", "rule", "limits", "leader", "rungs", "seconds", "session"} <= standing.keys():
            return None
        return Glance(standing, folder, last["time"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
