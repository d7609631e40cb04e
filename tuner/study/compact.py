"""What a driver keeps of thousands of trials that have ended, in little memory."""

from __future__ import annotations

import functools
import json
import math
import zlib
from array import array
from collections.abc import ItemsView, Iterator, Mapping, ValuesView

from search_spaces import RunConfig
from search_spaces.config import to_dict


class KeptConfig:
    """A configuration: 8 KB of objects, which can be packed into some hundred bytes and are made again when asked."""

    __slots__ = ("_config", "_packed")

    def __init__(self, config: RunConfig | None) -> None:
        self._config = config
        self._packed = b""

    @property
    def known(self) -> bool:
        """Whether it was read."""
        return self._config is not None or bool(self._packed)

    def get(self) -> RunConfig:
        """The configuration. Raises LookupError where it was not read."""
        if not self.known:
            raise LookupError("this trial's configuration was not read")
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
            return _none_if_nan(self._values[self._epochs.index(epoch)])
        except (ValueError, TypeError):
            raise KeyError(epoch) from None

    def __iter__(self) -> Iterator[int]:
        return iter(self._epochs)

    def __len__(self) -> int:
        return len(self._epochs)

    def items(self) -> ItemsView[int, float | None]:
        """Each epoch with its PER, in the order of the epochs' first reports."""
        return _Items(self)

    def values(self) -> ValuesView[float | None]:
        """The PERs in the same order."""
        return _Values(self)


class _Items(ItemsView[int, float | None]):
    """In one pass, where the mapping's own would look each epoch up."""

    _mapping: Series

    def __iter__(self) -> Iterator[tuple[int, float | None]]:
        return zip(self._mapping._epochs, map(_none_if_nan, self._mapping._values), strict=True)


class _Values(ValuesView[float | None]):
    """The same of the values."""

    _mapping: Series

    def __iter__(self) -> Iterator[float | None]:
        return map(_none_if_nan, self._mapping._values)


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


class Unread(Mapping[int, float | None]):
    """The curve of a trial of which only the number of epochs was read."""

    __slots__ = ("_count",)

    def __init__(self, count: int) -> None:
        self._count = count

    def __getitem__(self, epoch: int) -> float | None:
        raise LookupError(f"epoch {epoch} was not read")

    def __iter__(self) -> Iterator[int]:
        raise LookupError("these epochs were not read")

    def __len__(self) -> int:
        return self._count
