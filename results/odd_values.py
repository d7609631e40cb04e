"""Values that SQL has and Python's own types have not: dates before year 1 and after 9999, infinity, intervals."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = date(1970, 1, 1)
_CYCLE = 146_097
"""Days of 400 years, after which the calendar is the same again."""
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values; what Python has no value for is text, as DuckDB would print it."""
    import pyarrow as pa

    if not pa.types.is_interval(column.type):
        try:
            found: list[Any] = column.to_pylist()
            return found
        except (OverflowError, ValueError, pa.ArrowException):
            pass
    return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    if pa.types.is_interval(scalar.type):
        return _interval(*scalar.as_py())
    try:
        return scalar.as_py()
    except (OverflowError, ValueError, pa.ArrowException):
        pass
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(item) for name, item in scalar.items()}
    if pa.types.is_nested(scalar.type):
        return [_value(item) for item in scalar.values]
    if pa.types.is_date32(scalar.type):
        return _infinite(scalar.value, 31) or _date(scalar.value)
    if pa.types.is_timestamp(scalar.type):
        seconds, rest = divmod(scalar.value, _TICKS[scalar.type.unit])
        days, seconds = divmod(seconds, 86_400)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}" + (
            f".{rest:0{_DIGITS[scalar.type.unit]}d}" if rest else ""
        )
        day, _, era = _date(days).partition(" ")
        return _infinite(scalar.value, 63) or f"{day} {clock}" + (f" {era}" if era else "")
    return str(scalar)


def _infinite(value: int, bits: int) -> str | None:
    """The word for the largest and the smallest number of so many bits, by which DuckDB means infinity."""
    return {2**bits - 1: "infinity", 1 - 2**bits: "-infinity"}.get(value)


def _date(days: int) -> str:
    """Days since 1970 as a date of the Gregorian calendar without end."""
    cycles, rest = divmod(days, _CYCLE)
    day = _EPOCH + timedelta(days=rest)
    year = day.year + 400 * cycles
    text = f"{year if year > 0 else 1 - year:04d}-{day.month:02d}-{day.day:02d}"
    return text if year > 0 else f"{text} (BC)"


def _interval(months: int, days: int, nanoseconds: int) -> str:
    years, months = divmod(abs(months), 12) if months >= 0 else tuple(-part for part in divmod(-months, 12))
    parts = [(years, "year"), (months, "month"), (days, "day")]
    words = [f"{count} {unit}{'s' if abs(count) != 1 else ''}" for count, unit in parts if count]
    if nanoseconds or not words:
        words.append(("-" if nanoseconds < 0 else "") + str(timedelta(microseconds=abs(nanoseconds) // 1000)))
    return " ".join(words)
