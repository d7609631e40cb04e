"""The private names of CPython's pickle are where `trainable/data/pickle_private.py` looks for them.

With a new Python, a test here fails with the name that has moved and what it was used for.
"""

from __future__ import annotations

import io
import pickle
import platform
from types import SimpleNamespace

import pytest

from trainable.data import pickle_private

THIS = f"Python {platform.python_version()}"


def caught_while_loading() -> SimpleNamespace:
    """What an unpickler has while it loads."""
    seen: dict[str, object] = {}

    class Looks(pickle_private.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            seen.update(vars(self))
            return dict

    Looks(io.BytesIO(pickle.dumps(OSError, 4))).load()
    return SimpleNamespace(**seen, dispatch=pickle_private.Unpickler.dispatch)


@pytest.mark.parametrize("name", pickle_private.NAMES)
def test_pickle_still_has(name, gone):
    """Each name that the documentation of Python does not promise; the failure says what no longer works."""
    objects = {"pickle": pickle, "Unpickler": caught_while_loading()}
    assert gone(THIS, {name: pickle_private.NAMES[name]}, objects) == []


def test_what_is_gone_is_one_line(gone):
    """The line that a new Python gives: which name, and what it was used for."""
    name = "Unpickler.dispatch"
    assert gone("Python 3.20", {name: pickle_private.NAMES[name]}, {"Unpickler": SimpleNamespace()}) == [
        "Python 3.20: Unpickler.dispatch is gone; used to leave long byte strings of a pickle in their file"
    ]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_long_byte_strings_are_given_away_and_short_ones_are_read(protocol):
    """Only what is long enough is asked for, each once, with its length and the file where it begins."""
    short, long = b"s" * 99, b"l" * 70_000  # a frame holds less than that
    file = io.BytesIO(pickle.dumps([short, long, bytearray(long)] if protocol == 5 else [short, long], protocol))

    def take(unpickler, length):
        return ("taken", file.read(length))

    class Diverts(pickle_private.Unpickler):
        dispatch = pickle_private.dispatch(100, take)

    found = Diverts(file).load()
    assert found[0] == short
    assert found[1:] == [("taken", long)] * (len(found) - 1)
    assert len(found) == (3 if protocol == 5 else 2)
