"""What cards did, measured: the hours of a search without data at hand. `docs/hardware.md` has the whole table."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces import RunConfig


@dataclass(frozen=True)
class Measured:
    """One measurement: optimizer steps a second of `trials` trials together, that share a card."""

    card: str
    date: str
    hidden: int
    layers: int
    batch_size: int
    precision: str
    trials: int
    mps: bool
    batches_per_second: float


_FULL = {"card": "H100 80 GB", "date": "2026-11-22", "hidden": 1024, "layers": 5, "batch_size": 64, "precision": "bf16"}
MEASURED = (
    Measured(**_FULL, trials=1, mps=False, batches_per_second=23.5),  # type: ignore[arg-type]
    Measured(**_FULL, trials=2, mps=False, batches_per_second=37.8),  # type: ignore[arg-type]
    Measured(**_FULL, trials=4, mps=False, batches_per_second=37.1),  # type: ignore[arg-type]
    Measured(**_FULL, trials=4, mps=True, batches_per_second=58.4),  # type: ignore[arg-type]
)
"""Synthetic utterances of the published lengths (314 bins on average), evaluations left out; torch 2.11, CUDA 13.
They are of the version of that day, before the changes that were made because of them."""


def hours(config: RunConfig, batches: tuple[float, float]) -> list[str]:
    """Lines on how long a search of so many batches (lowest, highest) takes on one card; empty for other model sizes.

    The batch size may differ, which hardly changes a step's time; other precisions are taken as they were measured.
    """
    same = [m for m in MEASURED if (m.hidden, m.layers) == (config.model.hidden, config.model.layers)]
    lines = []
    for one in [m for m in same if m.trials == 1 or m.mps]:
        low, high = (total / one.batches_per_second / 3600 for total in batches)
        span = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
        how = "one trial at a time" if one.trials == 1 else f"{one.trials} trials sharing it through MPS"
        lines.append(
            f"on one {one.card}, {how}: about {span} hours ({one.batches_per_second:g} batches/s in {one.precision}, "
            f"measured {one.date} on synthetic recordings; yours may be longer or shorter)"
        )
    return lines
