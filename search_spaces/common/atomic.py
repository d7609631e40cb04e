"""Write files and folders in one step: they are made beside their place, synced, and renamed.

A reader finds the old content or the new one, at any time and after any crash, never a part. After an error the old
content is unchanged. The remains of a killed process are named `.NAME.PID.RANDOM.tmp`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces.errors import InputError


def write(
    target: str | Path,
    content: str | bytes,
    *,
    sync_name: bool = False,
    advice: str | None = None,
) -> None:
    """Write a file in one step, text as UTF-8 with its line ends as they are. Options and errors as of `file`."""
    with file(target, sync_name=sync_name, advice=advice) as made:
        made.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def file(
    target: str | Path,
    *,
    sync_name: bool = False,
    old_name: Path | None = None,
    advice: str | None = None,
) -> Iterator[Path]:
    """A path for the block to write a file to, which takes the place of `target` when the block ends.

    The content is on the disk before the file gets its name. With `sync_name` the name is too, for what must survive a
    power cut from here on. With `old_name` the file that was there is kept under that name. A file that is replaced
    hands on its permissions; a symbolic link is replaced, not followed. A device, a FIFO or an open file of this
    process (/dev/null, /dev/stdout) is not replaced: the content is written to it.
    Raises OSError where that fails, or with `advice` an `InputError` that ends with it.
    """
    target = Path(target)
    with _told(target, advice):
        if is_stream(target):
            with tempfile.TemporaryDirectory() as folder:
                yield (made := Path(folder) / target.name)
                _pour(made, target)
            return
        with _beside(target) as made:
            yield made
            with contextlib.suppress(OSError):
                made.chmod(stat.S_IMODE(target.stat().st_mode))
            _sync(made)
            if old_name is not None and target.exists():
                target.replace(old_name)
            made.replace(target)
        if sync_name:
            sync_folder(target.parent)


@contextmanager
def folder(target: str | Path, *, replace: bool = False, advice: str | None = None) -> Iterator[Path]:
    """An empty folder for the block to fill, which is renamed to `target` when the block ends.

    `target` must not be there, or with `replace` is moved away and removed (for a moment there is then neither).
    What is in it, and its name, are on the disk before this returns. Raises as `file` does.
    """
    target = Path(target)
    with _told(target, advice), _beside(target) as made, _beside(target) as old:
        made.mkdir(parents=True)
        yield made
        sync_files(made)
        if replace and target.is_dir():
            target.rename(old)
        try:
            made.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
        sync_folder(target.parent)


def is_stream(target: Path) -> bool:
    """Whether a file must be written to as it is: not a regular one, or one that this process holds open."""
    if _descriptor(target) is not None:
        return True
    try:
        kind = target.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def sync_files(folder: Path) -> None:
    """Bring what is in the files of a folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)


def sync_folder(folder: Path) -> None:
    """Bring the name of a new or renamed file to the disk, on file systems that can."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)


@contextmanager
def _told(target: Path, advice: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if advice is None:
            raise
        raise InputError(f"{target}: cannot be written: {error.strerror or error}; {advice}") from error


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A free name in the same folder; whatever has it at the end is removed."""
    made = target.with_name(f".{target.name[:40]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        yield made
    finally:
        if made.is_dir():
            shutil.rmtree(made, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _descriptor(target: Path) -> int | None:
    """The number behind /dev/stdout, /dev/fd/1, /proc/self/fd/1: opening that by its name would begin a file anew."""
    name = {"/dev/stdout": "/dev/fd/1", "/dev/stderr": "/dev/fd/2"}.get(str(target), str(target))
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", name)
    return int(found[1]) if found else None


def _pour(source: Path, target: Path) -> None:
    number = _descriptor(target)
    fd = os.open(target, os.O_WRONLY) if number is None else os.dup(number)
    with source.open("rb") as written, os.fdopen(fd, "wb") as stream:
        shutil.copyfileobj(written, stream)
