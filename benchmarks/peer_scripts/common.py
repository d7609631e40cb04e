"""One trial, for the programs that train in a function of their user's: the same trainable as this program's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search_spaces import Space

EPOCHS = "epochs.jsonl"
"""In the folder of a search: a line for each epoch of any trial, {time, per}, in the order of their ends."""


def epochs_of(
    space: Space, params: Mapping[str, Any], seed: int, data: str, folder: str
) -> Iterator[tuple[int, float]]:
    """(epoch, PER) of a trial as it trains; each is noted in `EPOCHS`. A PER that is not a number is 1."""
    import torch

    from trainable import train
    from trainable.data.dataset import open_dataset

    torch.set_num_threads(1)
    for report in train(space.config(params, seed), open_dataset(data)):
        per = 1.0 if report.diverged else report.per
        with (Path(folder) / EPOCHS).open("a") as file:
            file.write(json.dumps({"time": time.time(), "per": per}) + "\n")
        yield report.epoch, per
