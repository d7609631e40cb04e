"""One training run of the GRU-CTC phoneme decoder: data, model, augmentation, schedules, loop, decoding, checkpoints.

`train` and `EpochReport` are imported, and torch with them, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainable.loop import EpochReport, train

__all__ = ["EpochReport", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from trainable import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
