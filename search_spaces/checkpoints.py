"""Which checkpoints a search keeps: when a trial's state is saved, which weights are kept, how much space they use.

The same settings are used in space files (`checkpoints:`), in the command-line options, and in the study's log.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

EVERY = "auto, rungs, a number of epochs such as '3 epochs', or of minutes such as '10 minutes'"
SIZE = "a size such as 500MB, 200GB or 1.5TB"
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_WORDS = {"": "epochs", "epoch": "epochs", "epochs": "epochs", "m": "minutes", "min": "minutes"}
_WORDS |= {"minute": "minutes", "minutes": "minutes"}


def parse_every(text: str) -> str:
    """The normal form of how often a state is saved: auto, rungs, `3 epochs` or `10 minutes`. Raises ValueError."""
    words = str(text).strip().lower()
    if words in ("auto", "rungs"):
        return words
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", words)
    unit = _WORDS.get(found[2]) if found else None
    number = float(found[1]) if found else 0.0
    if unit is None or number <= 0 or (unit == "epochs" and number != int(number)):
        raise ValueError(f"{text!r} is not allowed; give {EVERY}")
    return f"{number:g} {unit}"


def parse_size(text: str) -> int:
    """Bytes of a size with its unit. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", str(text).strip())
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    size = int(float(found[1]) * units.get(found[2].lower(), 0)) if found else 0
    if size <= 0:
        raise ValueError(f"{text!r} is not allowed; give {SIZE}")
    return size


def size_text(size: float) -> str:
    """Bytes for people: `1.2 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class Checkpoints(BaseModel):
    """Which checkpoints a search keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    every: str = Field(
        "auto",
        description=f"when a trial's full state is saved: {EVERY}; auto = every epoch, but in at most 5 % of the "
        "time; rungs = where the rule may stop or pause the trial",
    )
    best_weights: Literal["full", "half", "none"] = Field(
        "full", description="the weights of a trial's best epoch: full, half (float16), or none = not kept"
    )
    budget: int | None = Field(
        None, description=f"disk space for all checkpoints of the study, in bytes or as {SIZE}", gt=0
    )

    @field_validator("every", mode="before")
    @classmethod
    def _every(cls, value: object) -> str:
        return parse_every(str(value))

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: object) -> object:
        return parse_size(value) if isinstance(value, str) else value
