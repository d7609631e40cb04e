"""What the log says of one trial."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from search_spaces import RunConfig

FINAL = ("completed", "stopped", "diverged", "failed")
"""The final states; `running` and `interrupted` trials continue when the study is resumed."""
OPEN = ("running", "interrupted", "paused")
"""The other states; a `paused` trial waits at a rung and continues if it is promoted."""
STOPPED_BY_HAND = "stopped by hand"
"""The reason of a trial's end after `tuner stop --trial`."""


PER_ATTEMPT = ("event", "seq", "time", "elapsed", "host", "trial", "attempt", "from_epoch")
"""The fields of a `trial_started` event that differ from attempt to attempt."""


@dataclass
class TrialState:
    """What the log says of one trial."""

    number: int
    seed: int
    origin: str
    params: dict[str, Any]
    config: RunConfig
    started_with: dict[str, Any] = field(default_factory=dict)
    """The fields of its `trial_started` event that every attempt repeats."""
    attempt: int = 0
    status: str = "running"
    error: str | None = None
    faults: Counter[str] = field(default_factory=Counter)
    """Attempts that died, by `faults.counted_as`."""
    alone: bool = False
    """Whether it ran out of memory beside others, so that its next attempt runs alone."""
    pers: dict[int, float | None] = field(default_factory=dict)
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
    def epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        return max(self.pers, default=0)

    @property
    def inherited(self) -> int:
        """The epoch of another trial from which it continues; 0 where it started from new weights."""
        return int(self.started_with.get("from_trial_epoch") or 0)

    @property
    def final(self) -> bool:
        """Whether it has ended for good."""
        return self.status in FINAL

    @property
    def best(self) -> tuple[float, int] | None:
        """(best PER, its epoch); None before the first PER that is not NaN."""
        known = [(per, epoch) for epoch, per in self.pers.items() if per is not None]
        return min(known) if known else None

    def objective(self, name: str) -> float | None:
        """The value the searcher minimises: `best_per` or `last_per`."""
        if name == "last_per":
            return self.pers.get(self.epoch)
        return self.best[0] if self.best else None
