"""The times at which the files of a data folder last changed, so that verified files need not be read again.

`verified.json` in the folder holds the fingerprint that was verified and the stamps of the files at that time. It is
written with the folder and after each verification; where it cannot be written, or does not fit, the data are read.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from search_spaces.common import atomic

STAMP_FILE = "verified.json"
Stamp = dict[str, list[int]]
"""File -> bytes, and when it was last written and last changed in any way (moved into place, say), in ns."""


def stamp_of(folder: Path, names: tuple[str, ...]) -> Stamp:
    """The stamp of the files `names` now; a file that is not there has none. Reads no content."""
    found: Stamp = {}
    for name in names:
        with contextlib.suppress(OSError):
            # Opened, so that a network file system asks its server instead of answering from memory.
            fd = os.open(folder / name, os.O_RDONLY)
            try:
                status = os.fstat(fd)
            finally:
                os.close(fd)
            found[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return found


def remembered(folder: Path, fingerprint: str) -> Stamp | None:
    """The stamp under which the content was last found to have this fingerprint; None if it never was."""
    try:
        known = json.loads((folder / STAMP_FILE).read_bytes())
        return dict(known["files"]) if known["fingerprint"] == fingerprint else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def remember(folder: Path, fingerprint: str, stamp: Stamp) -> None:
    """Keep the stamp of content that has this fingerprint; nothing where the folder cannot be written."""
    with contextlib.suppress(OSError):
        atomic.write(folder / STAMP_FILE, json.dumps({"fingerprint": fingerprint, "files": stamp}) + "\n")
