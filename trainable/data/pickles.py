"""Pickles of strangers, read without running anything in them.

Labs hand on settings, curves and whole data sets as pickles, and a pickle is a program: it may name any function and
have it called. Here it may name only what a numpy array, dtype or number of plain numbers is made of, and even those
names lead to functions of this module that check what they are given. Dicts, lists, tuples, texts, bytes and numbers
need no names.

It stands in this room because both readers may import it from here: the importers of data beside it, and `tuner`,
which reads a lab's result folders (`results` reads none: what it is given are events).
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from search_spaces.errors import InputError
from search_spaces.wording import reason_of
from trainable.data import pickle_private

_DTYPE = re.compile(r"[biuf][1248]|c8|c16|[SU][0-9]{1,6}")
_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")


def load_plain(path: str | Path, most_bytes: int | None = None, *, mapped: bool = False) -> Any:
    """What the pickle at `path` holds: dict, list, tuple, str, bytes, numbers, None, and arrays of numbers or texts.

    Arrays come as a subclass of `numpy.ndarray`; numpy scalars as Python's. With `mapped`, large arrays are read-only
    views of the file, so that it may be larger than the memory, and tuples come as lists. Raises `InputError`, one
    line, for a file that is no pickle, is cut short, is larger than `most_bytes`, or asks for anything else; nothing is
    run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if most_bytes is not None and size > most_bytes:
            raise InputError(f"{path}: has {size} bytes; a file of this kind has {most_bytes} at most")
        with path.open("rb") as file:
            return _MappedUnpickler(file).load() if mapped else _Unpickler(file).load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except InputError:
        raise
    except _Refused as error:
        raise InputError(f"{path}: {error}; only numbers, texts, lists, dicts and arrays of them are read") from error
    except EOFError as error:
        raise InputError(f"{path}: is cut short or empty; copy it again") from error
    except Exception as error:  # whatever the bytes make the machine do: it is their fault
        what = reason_of(error)[:80]
        cut = isinstance(error, pickle.UnpicklingError) and "truncated" in what
        why = "is cut short; copy it again" if cut else f"is no pickle, or a damaged one ({what})"
        raise InputError(f"{path}: {why}") from error


class _Refused(Exception):
    """The pickle asks for something that is not plain data."""


class _Call:
    """A function a pickle may call. It cannot be given attributes, so that no pickle changes it for the next one."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("changes a function")


class _Dtype:
    """A dtype as a pickle builds it: a code, then a byte order; `dtype` is the real one."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        _, order, subarray, names, fields, *_ = state
        if order not in ("<", ">", "|", "=") or not (subarray is names is fields is None):
            raise _Refused("holds an array of records")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array whose content is checked before numpy sees it."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        _check(shape, dtype, data)
        super().__setstate__((1, shape, dtype.dtype, bool(fortran), data))  # type: ignore[arg-type]


_NDARRAY = _Call(lambda *_: _refuse("makes an array without content"))


def _refuse(what: str) -> Any:
    raise _Refused(what)


def _check(shape: Any, dtype: Any, data: Any) -> None:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray | memoryview):
        raise _Refused("holds an array of objects")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused("holds an array of an impossible shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise _Refused("holds an array whose shape is not that of its content")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _NDARRAY or shape != (0,) or code not in (b"b", "b"):
        raise _Refused("holds an array of another class")
    return _Array((0,), np.int8)


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    _check(shape, dtype, data)
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.view(_Array)


def _dtype(code: Any, *_: Any) -> _Dtype:
    if not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise _Refused(f"holds an array of dtype {str(code)[:20]!r}")
    return _Dtype(np.dtype(code))


def _scalar(dtype: Any, data: Any) -> Any:
    _check((), dtype, data)
    return np.frombuffer(data, dtype.dtype)[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("encodes a text")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocols 0 to 2 write bytes of length 0."""
    return b""


_NUMPY_NAMES: dict[str, Any] = {
    "_reconstruct": _Call(_reconstruct),
    "_frombuffer": _Call(_frombuffer),
    "scalar": _Call(_scalar),
    "dtype": _Call(_dtype),
    "ndarray": _NDARRAY,
}


class _Unpickler(pickle_private.Unpickler):
    """Python's own unpickler in Python, with the few names that a pickle may use."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name here; raises `_Refused` for every name that is not numpy's plain few."""
        if module in _NUMPY and name in _NUMPY_NAMES:
            return _NUMPY_NAMES[name]
        if (module, name) == ("_codecs", "encode"):
            return _Call(_encode)
        if (module, name) in (("__builtin__", "bytes"), ("builtins", "bytes")):
            return _Call(_no_bytes)
        raise _Refused(f"asks for {f'{module}.{name}'[:80]!r}, which is not run")


MAPPED_BYTES = 16384
"""Byte strings from this length on are left in the file by `load_plain(mapped=True)`."""


class _Stored:
    """An array of a mapped pickle, until all is read: an ndarray cannot be told later where its content lies."""

    __slots__ = ("array",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        _check(shape, dtype, data)
        flat = np.frombuffer(data, dtype.dtype) if len(data) else np.zeros(0, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _reconstruct_stored(kind: Any, shape: Any, code: Any) -> _Stored:
    _reconstruct(kind, shape, code)
    return _Stored()


def _leave_in_file(unpickler: _MappedUnpickler, length: int) -> memoryview:
    """The next bytes of the file, left where they are."""
    begin = unpickler.file.tell()
    if length > unpickler.size - begin:
        raise EOFError
    unpickler.file.seek(length, 1)
    return unpickler.view[begin : begin + length]


class _MappedUnpickler(_Unpickler):
    """Leaves long byte strings where they are: a pickle has the content of an array in one piece."""

    dispatch: ClassVar[dict[int, Any]] = pickle_private.dispatch(MAPPED_BYTES, _leave_in_file)

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.file = file
        self.size = file.seek(0, 2)
        file.seek(0)
        self.view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if self.size else memoryview(b"")

    def load(self) -> Any:
        """The content, with every array in place."""
        return _with_arrays(super().load())

    def find_class(self, module: str, name: str) -> Any:
        """As for any pickle, but an array is a `_Stored` at first."""
        found = super().find_class(module, name)
        return _Call(_reconstruct_stored) if found is _NUMPY_NAMES["_reconstruct"] else found


def _with_arrays(content: Any) -> Any:
    """`content` with an array for each `_Stored` in its dicts, lists and tuples, which are changed in place."""
    top = [content]
    pending: list[Any] = [top]
    seen = {id(top)}
    while pending:
        box = pending.pop()
        for key, value in list(box.items() if isinstance(box, dict) else enumerate(box)):
            if isinstance(value, tuple):
                value = box[key] = list(value)
            if isinstance(value, _Stored):
                box[key] = value.array
            elif isinstance(value, dict | list) and id(value) not in seen:
                seen.add(id(value))
                pending.append(value)
    return top[0]
