"""What a driver keeps of thousands of trials that have ended, in little memory."""

from __future__ import annotations

import functools
import json
import math
import zlib
from array import array
from collections.abc import Iterator, Mapping

from search_spaces import RunConfig
from search_spaces.config import to_dict


class KeptConfig:
    """A configuration: 8 KB of objects, which can be packed into some hundred bytes and are made again when asked."""

    __slots__ = ("_config", "_packed")

    def __init__(self, config: RunConfig) -> None:
        self._config: RunConfig | None = config
        self._packed = b""

    def get(self) -> RunConfig:
        """The configuration."""
        return self._config if self._config is not None else _unpacked(self._packed)

    def pack(self) -> None:
        """Let go of the objects."""
        if self._config is not None:
            self._packed = zlib.compress(json.dumps(to_dict(self._config)).encode())
            self._config = None


@functools.lru_cache(maxsize=256)
def _unpacked(packed: bytes) -> RunConfig:
    return RunConfig.model_validate(json.loads(zlib.decompress(packed)))


class Series(Mapping[int, float | None]):
    """Epoch -> PER of a trial that has ended, in 12 bytes an epoch; it cannot be changed."""

    __slots__ = ("_epochs", "_values")

    def __init__(self, values: Mapping[int, float | None]) -> None:
        self._epochs = array("i", values)
        self._values = array("d", (math.nan if value is None else value for value in values.values()))

    def __getitem__(self, epoch: int) -> float | None:
        try:
            value = self._values[self._epochs.index(epoch)]
        except (ValueError, TypeError):
            raise KeyError(epoch) from None
        return None if math.isnan(value) else value

    def __iter__(self) -> Iterator[int]:
        return iter(self._epochs)

    def __len__(self) -> int:
        return len(self._epochs)
