"""Reading what others wrote: a damaged object costs that object and nothing else.

Libraries fail in many ways at damaged input. Here each way becomes an `Unusable` that says where it was, so that an
importer leaves the object out and goes on. A value of one element (MATLAB and netCDF write such) is that value.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from search_spaces.wording import reason_of
from trainable.data.packed import Unusable

MOST_BYTES = 2**31
"""The largest array of one utterance that is read: an hour of 512 features in bins of 10 ms is 0.7 GB."""
POINTERS = {
    b"version https://git-lfs": "git lfs pull",
    b"/annex/objects/": "git annex get",
}
"""How a small text file begins that stands for a large one -> the command that brings the large one."""


def unusable(where: str, reason: str, detail: str = "") -> Unusable:
    """What an importer raises about a file or an utterance; `detail` follows the reason in its line."""
    return Unusable(f"{where}: {reason}{f' ({detail})' if detail else ''}", reason)


@contextmanager
def reading(where: str, reason: str = "cannot be read", hint: str = "") -> Iterator[None]:
    """Whatever a library does with a damaged object inside the block becomes an `Unusable` of this reason.

    `hint` says what to do. Errors that are `InputError` already are left as they are.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise unusable(where, "needs more memory than there is") from None
    except Exception as error:  # a damaged file can fail anywhere in the library that reads it
        what = reason_of(error).split(";")[0][:80]
        raise unusable(where, reason, f"{what}; {hint}" if hint else what) from None


def whole_number(value: Any, where: str, key: str) -> int:
    """An integer from a number of any type, or an array of one element; `Unusable` for anything else."""
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind in "biuf":
        number = array.ravel()[0].item()
        if math.isfinite(number) and number == int(number):
            return int(number)
    shown = f"it is {str(array.ravel()[0])[:20]!r}" if array.size == 1 else f"it has {array.size} elements"
    raise unusable(where, f"{key} is not a whole number", shown)


def text_of(value: Any, where: str, key: str) -> str:
    """A text from a text, bytes, character codes, or an array of one of them; `Unusable` for anything else."""
    array = np.asarray(value)
    if array.dtype.kind in "iu" and array.ndim:
        return text_of_codes(array, where, key)
    while isinstance(value, np.ndarray) and value.size == 1:  # a cell of a cell, as MATLAB has them
        value = value.ravel()[0]
    if isinstance(value, np.ndarray) and value.size == 0:
        return ""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        raise unusable(where, f"{key} is not a text", f"it is {type(value).__name__}")
    return value.encode(errors="replace").decode().rstrip("\0").strip()  # what is no character is lost


def text_of_codes(codes: Any, where: str, key: str) -> str:
    """A text from character codes ended by 0."""
    codes = np.asarray(codes).ravel()
    if codes.dtype.kind not in "iuf" or not np.isfinite(codes).all():
        raise unusable(where, f"{key} are not character codes")
    end = np.flatnonzero(codes == 0)
    codes = codes[: end[0] if end.size else None]
    if codes.size and (codes.min() < 0 or codes.max() >= 0x110000):
        raise unusable(where, f"{key} are not character codes", f"{codes.min():g} to {codes.max():g}")
    return "".join(chr(int(code)) for code in codes).encode(errors="replace").decode().strip()


def unpad(padded: Any, length: Any, where: str, key: str, length_key: str) -> np.ndarray:
    """The first `length` class ids of a row padded with 0, int64; `Unusable` where the two contradict each other.

    A length of None is the number of ids that are not 0. A row may have further dimensions of length 1.
    """
    padded = np.asarray(padded)
    if padded.ndim == 0 or padded.size != max(padded.shape) or padded.dtype.kind not in "iuf":
        raise unusable(where, f"{key} is not a row of class ids", f"{padded.dtype} {list(padded.shape)}")
    padded = padded.ravel()
    if not np.isfinite(padded).all() or (padded != np.trunc(padded)).any() or (np.abs(padded) > 2**31).any():
        raise unusable(where, f"{key} is not a row of class ids")
    length = int(np.count_nonzero(padded)) if length is None else whole_number(length, where, length_key)
    if not 0 <= length <= len(padded) or (padded[:length] == 0).any() or (padded[length:] != 0).any():
        raise unusable(where, f"{length_key} is not the length of {key}")
    return padded[:length].astype(np.int64)


def check_file(file: Path) -> None:
    """Raise `Unusable` where a file that is listed holds nothing to read, and name what it is."""
    if file.is_symlink() and not file.exists():
        raise unusable(str(file), "link that leads nowhere", _of_link(file))
    if not file.is_file():
        raise unusable(str(file), "not a file", "a folder of this name" if file.is_dir() else "")
    with reading(str(file)), file.open("rb") as opened:
        start = opened.read(200)
    if not start:
        raise unusable(str(file), "an empty file", "copy it again")
    for begins, command in POINTERS.items():
        if start.startswith(begins):
            raise unusable(str(file), "stands for content that is not here", f"{command} brings it")


def _of_link(file: Path) -> str:
    target = str(file.readlink()) if file.is_symlink() else "?"
    command = next((c for part, c in ((".git/annex", "git annex get"), (".dvc", "dvc pull")) if part in target), "")
    return f"to {target[:80]}" + (f"; {command} brings the content" if command else "")


def files_below(
    folder: Path, wanted: Callable[[str], bool], skip: Callable[[Unusable], None], notice: Callable[[str, str], None]
) -> list[Path]:
    """The files below a folder whose names are `wanted`, sorted; links to folders are followed, hidden names are not.

    `skip` is told folders that cannot be read and files that are elsewhere (`FILE.dvc`); `notice` is told other links
    that lead nowhere: a session may be behind one.
    """
    found: list[Path] = []
    seen: set[str] = set()
    todo = [folder]  # links to folders come last, so that a folder is met under its own name first
    while todo:
        for above, folders, names in os.walk(todo.pop(0), onerror=lambda error: skip(_of_folder(error))):
            here = os.path.realpath(above)
            if here in seen:
                folders.clear()
                continue
            seen.add(here)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            todo += [Path(above, name) for name in folders if Path(above, name).is_symlink()]
            for name in (name for name in (*folders, *names) if not name.startswith(".")):
                file = Path(above, name)
                if wanted(name):
                    found.append(file)
                elif name.endswith(".dvc") and wanted(name[:-4]) and name[:-4] not in names:
                    skip(unusable(str(file), "stands for content that is not here", "dvc pull brings it"))
                elif file.is_symlink() and not file.exists():
                    notice("link that leads nowhere", f"{file} {_of_link(file)}")
    return sorted(found)


def _of_folder(error: OSError) -> Unusable:
    return unusable(str(error.filename), "folder cannot be read", error.strerror or "")
