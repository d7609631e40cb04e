"""The studies of a campaign: begun, gone on with, and what their logs say of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results.store.events import scan_events
from results.store.lock import holder_of
from results.store.paths import StudyPaths
from search_spaces import InputError
from tuner.campaign.record import STUDIES, Campaign
from tuner.launch.search import resume
from tuner.study.request import Request
from tuner.study.settings import StudySettings
from tuner.study.state import StudyState

PLACED = (
    *("cpus", "cpus_per_trial", "gpus_per_trial", "concurrent", "address", "custom", "retries"),
    *("hung_after", "give_up_after", "stage_data"),
)
"""Options of a campaign that say where its trials run."""
SEARCHED = ("searcher", "stopping", "start")
"""Options that only its first search gets; the narrowed one has the searcher and the rule from there."""
_LOCKS = ("lock", "lock.beat", "lock.held")


class Stopped(Exception):
    """A study ended without an answer: stopped by the user (status 130), or every trial failed (1)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def request(campaign: Campaign, *keys: str, **limits: Any) -> Request:
    """The options of a study of the campaign: where it runs, and its limits."""
    asked = campaign.asked
    given = {key: asked.options[key] for key in (*PLACED, *keys) if asked.options.get(key) is not None}
    given |= {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    return Request(
        results_dir=campaign.results_dir,
        data=Path(asked.data["path"]),
        seed=asked.seed,
        part_of=campaign.again,
        **given,
        **limits,
    )


def begun(campaign: Campaign, step: str) -> bool:
    """Whether the log of a step's study has been begun."""
    return StudyPaths(_folder(campaign, step)).log.exists()


def run(campaign: Campaign, step: str, start: Callable[[], int]) -> None:
    """Begin the study of a step by `start`, go on with it, or do nothing where it has ended.

    Raises `Stopped` where it ended without an answer, and InputError as `start` and `resume` do.
    """
    folder = _folder(campaign, step)
    if begun(campaign, step):
        if state(campaign, step).ended not in (None, "interrupted"):
            return
        status = resume(folder.name, request(campaign))
    else:
        _clear(folder)
        status = start()
    if status:
        raise Stopped(status)


def _folder(campaign: Campaign, step: str) -> Path:
    return campaign.results_dir / campaign.study(step)


def _clear(folder: Path) -> None:
    """Remove what a kill left of a study before its log was begun: a lock that nobody holds."""
    if folder.is_dir() and not folder.is_symlink() and holder_of(folder) is None:
        if strange := sorted(path.name for path in folder.iterdir() if path.name not in _LOCKS):
            raise InputError(
                f"{folder}: is there already, and is no study (it has {', '.join(strange[:3])}); "
                "move it away, or choose another --name"
            )
        shutil.rmtree(folder)


def state(campaign: Campaign, step: str) -> StudyState:
    """The state of a step's study, from its log; for reading only."""
    path = StudyPaths(_folder(campaign, step)).log
    found = StudyState(searching=False)
    found.replay(scan_events(path, []), str(path))
    return found


def spent(campaign: Campaign, step: str) -> float:
    """What a step's study has used of the campaign's limit; 0 for one that was not begun."""
    if not begun(campaign, step):
        return 0.0
    found = state(campaign, step)
    first, last = found.session
    return float(
        {
            "trials": len(found.trials),
            "hours": (found.driver_seconds + last - first) / 3600,
            "gpu_hours": found.spent.gpu_seconds / 3600,
            "batches": found.spent.batches,
            "utterances": found.spent.utterances,
        }[campaign.asked.limit]
    )


def left(campaign: Campaign, *steps: str) -> float:
    """What is left of the whole amount after the studies of these steps."""
    return campaign.asked.amount - sum(spent(campaign, step) for step in steps)


def facts(campaign: Campaign, step: str) -> dict[str, Any]:
    """What the record keeps of a step's study."""
    return {
        "study": campaign.study(step),
        "spent": spent(campaign, step),
        "trials": len(state(campaign, step).trials),
    }


def searches(campaign: Campaign) -> list[str]:
    """The names of the searches that were begun."""
    return [campaign.study(step) for step in STUDIES if step != "confirm" and begun(campaign, step)]


def settings(campaign: Campaign, step: str) -> StudySettings:
    """The settings of a step's study."""
    return state(campaign, step).settings
