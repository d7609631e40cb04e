"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from search_spaces import InputError
from search_spaces.common import atomic

ADVICE = "choose another place"


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """While a file is written again and again, each reading gives one writing's content, whole."""
    path, done = tmp_path / "table.csv", threading.Event()
    contents = [bytes([65 + number % 26]) * (50_000 + 1000 * number) for number in range(200)]
    atomic.write(path, contents[0])

    def write_all() -> None:
        for content in contents:
            atomic.write(path, content)
        done.set()

    writer = threading.Thread(target=write_all)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(contents) and path.read_bytes() == contents[-1]
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, there: bool, error: BaseException) -> None:
    """Whatever breaks off the block, the old file stays as it was, or there is none; half of the new one is gone."""
    path = tmp_path / "best.yaml"
    if there:
        path.write_text("old")
    with pytest.raises(type(error)), atomic.file(path) as made:
        made.write_text("half")
        raise error
    assert names(tmp_path) == (["best.yaml"] if there else [])
    assert not there or path.read_text() == "old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Where the content cannot be synced or renamed, both the file and the one kept under `old_name` are unchanged."""
    path, before = tmp_path / "last.pt", tmp_path / "previous.pt"
    path.write_text("old")
    before.write_text("older")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match="No space"), atomic.file(path, old_name=before) as made:
            made.write_text("new")
    assert (path.read_text(), before.read_text(), names(tmp_path)) == ("old", "older", ["last.pt", "previous.pt"])


def test_the_content_is_on_the_disk_before_it_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced, then renamed; with `sync_name` its folder is synced after that."""
    order, sync, replace = [], os.fsync, os.replace

    def synced(fd: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        sync(fd)

    def renamed(*paths: Path) -> None:
        order.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    atomic.write(tmp_path / "a", "text")
    atomic.write(tmp_path / "b", "text", sync_name=True)
    assert order == ["file", "rename", "file", "rename", "folder"]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """After kill -9 in the middle of a block the old file is whole; what is left beside it has a hidden name."""
    path = tmp_path / "best.pt"
    path.write_text("old")
    program = f"""
from search_spaces.common import atomic
with atomic.file({str(path)!r}) as made, made.open("w") as file:
    file.write("half")
    file.flush()
    print("there", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    (left,) = set(names(tmp_path)) - {"best.pt"}
    assert left.startswith(f".best.pt.{process.pid}.") and left.endswith(".tmp")


def test_the_old_file_is_kept_under_a_name_of_its_own(tmp_path: Path) -> None:
    """With `old_name`, a writing moves the file before it there; the first one has none to move."""
    path, before = tmp_path / "last.pt", tmp_path / "previous.pt"
    for content in ("1", "2", "3"):
        with atomic.file(path, old_name=before) as made:
            made.write_text(content)
        assert before.exists() == (content != "1")
    assert (path.read_text(), before.read_text()) == ("3", "2")


def test_permissions(tmp_path: Path) -> None:
    """A new file has those that any new file has; one that replaces another has that one's."""
    path, plain = tmp_path / "best.csv", tmp_path / "plain"
    plain.write_text("")
    atomic.write(path, "1")
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    atomic.write(path, "2")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (0o640, "2")


def test_a_link_is_replaced_and_what_it_names_left_alone(tmp_path: Path) -> None:
    """A symbolic link becomes a file; the file that it named keeps its content."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    atomic.write(tmp_path / "link", "new")
    assert not (tmp_path / "link").is_symlink()
    assert ((tmp_path / "link").read_text(), (tmp_path / "real").read_text()) == ("new", "old")


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    """As UTF-8, with its line ends."""
    atomic.write(tmp_path / "a", "ä\r\nb\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa4\r\nb\n"


def test_a_long_name(tmp_path: Path) -> None:
    """A name that is as long as the file system takes can be written."""
    path = tmp_path / ("ä" * 127)
    atomic.write(path, "text")
    assert path.read_text() == "text"


def test_a_device_is_written_to(tmp_path: Path) -> None:
    """/dev/null is a device afterwards as before, and nothing is made beside it."""
    before = names(Path("/dev"))
    atomic.write("/dev/null", "text")
    assert Path("/dev/null").is_char_device() and names(Path("/dev")) == before


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    """Who reads a named pipe gets the content, and the pipe stays one."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    atomic.write(path, "x" * 200_000)
    reader.join()
    assert read == ["x" * 200_000] and path.is_fifo() and names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_standard_output_goes_on(tmp_path: Path, name: str) -> None:
    """What was printed before and after stays, where the shell sends the output to a file."""
    program = f"""
from search_spaces.common import atomic
print("before", flush=True)
atomic.write({name!r}, "content\\n")
print("after")
"""
    with (tmp_path / "out.txt").open("wb") as file:
        subprocess.run([sys.executable, "-c", program], stdout=file, check=True)
    assert (tmp_path / "out.txt").read_text() == "before\ncontent\nafter\n"


def test_an_error_with_advice_is_one_line(tmp_path: Path) -> None:
    """A place that cannot be written is named with what to do; without advice the OSError is the caller's."""
    path = tmp_path / "no" / "such" / "a.csv"
    with pytest.raises(InputError) as caught:
        atomic.write(path, "text", advice=ADVICE)
    assert caught.value.problems == [f"{path}: cannot be written: No such file or directory; {ADVICE}"]
    with pytest.raises(FileNotFoundError):
        atomic.write(path, "text")
    with pytest.raises(InputError, match="Is a directory"):
        atomic.write(tmp_path, "text", advice=ADVICE)
    assert names(tmp_path) == []


def test_a_folder_is_there_when_it_is_complete(tmp_path: Path) -> None:
    """It has its name at the end of the block only; with `replace` it takes the place of another."""
    for content in ("1", "2"):
        with atomic.folder(tmp_path / "bundle", replace=True) as made:
            (made / f"{content}.txt").write_text(content)
            assert not (tmp_path / "bundle" / f"{content}.txt").exists()
        assert names(tmp_path) == ["bundle"] and names(tmp_path / "bundle") == [f"{content}.txt"]
    with pytest.raises(InputError, match=ADVICE), atomic.folder(tmp_path / "bundle", advice=ADVICE) as made:
        (made / "3.txt").write_text("3")
    assert names(tmp_path) == ["bundle"] and names(tmp_path / "bundle") == ["2.txt"]


@pytest.mark.parametrize("late", [True, False])
def test_an_error_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """An error in the block, and one when the old folder has already been moved away, leave the old one in place."""
    target, rename = tmp_path / "bundle", os.rename
    target.mkdir()
    (target / "old.txt").write_text("old")

    def refuse(source: Path, to: Path) -> None:
        if (Path(source) / "new.txt").exists():
            raise OSError(5, "Input/output error")
        rename(source, to)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(OSError, match=r"Input/output|broken"), atomic.folder(target, replace=True) as made:
            (made / "new.txt").write_text("new")
            if not late:
                raise OSError("broken")
    assert names(tmp_path) == ["bundle"] and (target / "old.txt").read_text() == "old"
