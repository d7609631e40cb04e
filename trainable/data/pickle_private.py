"""The names of CPython's `pickle` that its documentation does not promise, in one place.

An unpickler written in Python is there (`pickle.py` has always had one), but not as documented API. `NAMES` says what
each name is used for; tests/trainable/data/test_pickle_private.py looks for each and fails with that line. No other
module uses such names (tests/test_architecture.py).
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

NAMES = {
    "pickle._Unpickler": "to read pickles with a memo that no index can make claim gigabytes",
    "Unpickler.dispatch": "to leave long byte strings of a pickle in their file",
    "Unpickler.read": "to read the length of a byte string",
    "Unpickler.append": "to put what stands for a byte string on the stack",
    "Unpickler._unframer.current_frame": "to know whether a byte string lies in the file itself or in a frame's copy",
}
"""Where a name is -> what it is used for. `read`, `append` and `_unframer` are there while `load` runs."""

Unpickler = pickle._Unpickler
"""Python's own unpickler in Python: its memo is a dict, so that no index in a pickle can claim gigabytes."""

_BYTES = {pickle.BINBYTES: "<I", pickle.BINBYTES8: "<Q", pickle.BYTEARRAY8: "<Q"}
"""Instructions that are followed by a length and so many bytes -> the form of the length."""


def dispatch(least: int, take: Callable[[Any, int], Any]) -> dict[int, Callable[[Any], None]]:
    """A dispatch table with which an unpickler asks `take(unpickler, length)` for each byte string of `least` bytes or
    more whose content begins at the file's position, instead of reading it.
    """
    table: dict[int, Any] = dict(Unpickler.dispatch)
    for instruction, code in _BYTES.items():
        table[instruction[0]] = lambda unpickler, code=code: _put_bytes(unpickler, code, least, take)
    return table


def _put_bytes(unpickler: Any, code: str, least: int, take: Callable[[Any, int], Any]) -> None:
    header = unpickler.read(struct.calcsize(code))
    if len(header) < struct.calcsize(code):
        raise EOFError
    (length,) = struct.unpack(code, header)
    frame = unpickler._unframer.current_frame
    if length < least or (frame is not None and frame.tell() < len(frame.getbuffer())):
        unpickler.append(unpickler.read(length))
        return
    unpickler._unframer.current_frame = None
    unpickler.append(take(unpickler, length))
