"""The process of a command: the characters that its terminal can show, and how it ends after a signal."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import threading
from typing import Any, NoReturn

_PLAIN = str.maketrans({"─": "-", "━": "-", "│": "|", "┃": "|", "…": "...", "±": "+-", "≤": "<=", "≥": ">="})


def show_any_text() -> None:
    """A terminal or file that has no sign for something gets another one for it, instead of an error after the work.

    Lines of tables become hyphens, other signs `?`. Nothing changes where the output is UTF-8.
    """
    codecs.register_error("tuner", _in_place_of)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # a stream of a test's, or one that is closed
            if codecs.lookup(stream.encoding).name != "utf-8":
                stream.reconfigure(errors="tuner")  # type: ignore[union-attr]
            elif stream.errors == "strict":  # half a character of an odd file name
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _in_place_of(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(sign if sign.isascii() else "?" for sign in text), error.end


def leave_on_sigterm() -> None:
    """SIGTERM at any moment, also while a command tidies up after a first one, ends it as Ctrl-C does: status 130."""

    def told(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, told)


def leaves_now() -> None:
    """The exit status is decided; from here on, a signal ends the process without cleaning up."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(130))
