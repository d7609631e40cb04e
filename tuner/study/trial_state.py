"""What the log says of one trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search_spaces import RunConfig
from search_spaces.config import flatten, to_dict
from search_spaces.measures import is_per
from tuner.study.compact import KeptConfig, Series

FINAL = ("completed", "stopped", "diverged", "failed")
"""The final states; `running` and `interrupted` trials continue when the study is resumed."""
OPEN = ("running", "interrupted", "paused")
"""The other states; a `paused` trial waits at a rung and continues if it is promoted."""

PER_ATTEMPT = ("event", "seq", "time", "elapsed", "host", "trial", "attempt", "from_epoch")
"""The fields of a `trial_started` event that differ from attempt to attempt."""


KEPT_OF_A_ROW = ("attempt", "reason", "per", "host")
"""What of its last epoch is asked for when a trial has ended."""


@dataclass
class TrialState:
    """What the log says of one trial."""

    number: int
    seed: int
    origin: str
    params: dict[str, Any]
    kept: KeptConfig
    about: dict[str, Any] = field(default_factory=dict)
    """Of the fields of its `trial_started` event that every attempt repeats, those that are nowhere else here."""
    attempt: int = 0
    status: str = "running"
    error: str | None = None
    faults: Counter[str] = field(default_factory=Counter)
    """Attempts that died, by `faults.counted_as`."""
    alone: bool = False
    """Whether it ran out of memory beside others, so that its next attempt runs alone."""
    pers: Mapping[int, float | None] = field(default_factory=dict)
    measured: Mapping[int, float | None] = field(default_factory=dict)
    """Epoch -> the column that the objective is made of, where that is not the PER."""
    best: tuple[float, int] | None = None
    """(best PER, its epoch); None before the first PER that is not NaN."""
    last_row: dict[str, Any] = field(default_factory=dict)
    rungs: dict[int, float] = field(default_factory=dict)
    """The PER at each rung at which it was compared."""
    compared: dict[int, tuple[int, bool | None]] = field(default_factory=dict)
    """Epoch -> (rung, passed), where it was compared: it is not compared again when the epoch is repeated."""
    stop_logged: str | None = None
    started: float = 0.0
    seconds: float = 0.0
    """Wall seconds of its epochs, over all attempts."""
    gpu_seconds: float = 0.0
    """GPU seconds of the attempts that have ended."""

    @property
    def config(self) -> RunConfig:
        """Its configuration."""
        return self.kept.get()

    @property
    def known(self) -> dict[str, Any]:
        """Dotted path -> value of its configuration, without what is not known of an imported run."""
        unknown = self.about.get("unknown") or ()
        return {path: value for path, value in flatten(self.config).items() if path not in unknown}

    @property
    def started_with(self) -> dict[str, Any]:
        """The fields of its `trial_started` event that every attempt repeats."""
        return {"params": self.params, "seed": self.seed, "origin": self.origin, **self.about} | {
            "config": to_dict(self.config)
        }

    def record(self, epoch: int, per: float | None) -> bool:
        """Take in an epoch's PER; returns whether the best PER is worse than before: the epoch was repeated."""
        before = self.best
        repeated = epoch in self.pers
        if not isinstance(self.pers, dict):  # more of a trial that had ended: a log that was put together by hand
            self.pers = dict(self.pers)
        self.pers[epoch] = per
        if repeated:
            self.best = min(((value, at) for at, value in self.pers.items() if value is not None), default=None)
        elif per is not None:
            self.best = min((per, epoch), self.best or (per, epoch))
        return before is not None and (self.best is None or self.best > before)

    def settle(self) -> None:
        """It has ended for good: keep what is asked of such trials, in little memory."""
        self.kept.pack()
        self.pers = Series(self.pers)
        self.measured = Series(self.measured) if self.measured else {}
        self.last_row = {key: self.last_row[key] for key in KEPT_OF_A_ROW if key in self.last_row}

    @property
    def epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        return max(self.pers, default=0)

    @property
    def inherited(self) -> int:
        """The epoch of another trial from which it continues; 0 where it started from new weights."""
        return int(self.about.get("from_trial_epoch") or 0)

    @property
    def final(self) -> bool:
        """Whether it has ended for good."""
        return self.status in FINAL

    def measure(self, epoch: int, value: float | None) -> None:
        """Take in the value of the objective's column at an epoch."""
        if not isinstance(self.measured, dict):
            self.measured = dict(self.measured)
        self.measured[epoch] = value

    def objective(self, name: str) -> float | None:
        """The value the searcher minimises: `best_per`, `last_per`, or the like of the objective's column."""
        values = self.pers if is_per(name) else self.measured
        if name.startswith("last_"):
            return values.get(self.epoch)
        if is_per(name):
            return self.best[0] if self.best else None
        return min((value for value in values.values() if value is not None), default=None)
