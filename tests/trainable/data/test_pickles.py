"""Pickles of strangers: plain data comes through, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import InputError
from trainable.data.pickles import load_plain

PLAIN = {
    "lrStart": 0.02,
    "bidirectional": True,
    "path": "/data/ü",
    "none": None,
    "days": [[1, 2], (3.5, "x")],
    "testCER": np.linspace(0.9, 0.2, 7),
    "counts": np.arange(12, dtype=np.int32).reshape(3, 4).T,
    "names": np.array(["AA", "SIL"]),
    "scalar": np.float32(0.5),
    "big": 10**30,
}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that a hostile pickle would make."""
    return tmp_path / "it-ran"


class Reduces:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def written(folder: Path, data: bytes) -> Path:
    path = folder / "args"
    path.write_bytes(data)
    return path


def refused(folder: Path, data: bytes) -> str:
    for mapped in (True, False):
        with pytest.raises(InputError) as caught:
            load_plain(written(folder, data), mapped=mapped)
        assert len(caught.value.problems) == 1
        assert "\n" not in caught.value.problems[0]
    return caught.value.problems[0]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_through(tmp_path, protocol, mapped):
    """Every pickle protocol gives back dicts, lists, texts, numbers and arrays as they went in."""
    found = load_plain(written(tmp_path, pickle.dumps(PLAIN, protocol)), mapped=mapped)
    assert found.keys() == PLAIN.keys()
    for key, value in PLAIN.items():
        np.testing.assert_array_equal(found[key], value)
    assert found["counts"].dtype == np.int32
    assert type(found["scalar"]) is float


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_large_arrays_stay_in_the_file(tmp_path, protocol):
    """Mapped, an array of 8 MB takes no memory; it is read-only, and one that is named twice is one array."""
    array = np.random.default_rng(0).normal(size=(1000, 1000))
    days = {"train": [{"x": array, "again": array, "turned": np.asfortranarray(array[:300]), "small": array[:2, :2]}]}
    path = written(tmp_path, pickle.dumps(days, protocol))
    tracemalloc.start()
    day = load_plain(path, mapped=True)["train"][0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 8
    for key, value in days["train"][0].items():
        np.testing.assert_array_equal(day[key], value)
    assert day["x"] is day["again"]
    assert not day["x"].flags.writeable


def test_an_array_that_claims_to_lie_beyond_the_file_is_refused(tmp_path):
    """A length of bytes that the file does not have is a cut file, however large it says it is."""
    for length in (2**20, 2**40, 2**63):
        refused(tmp_path, b"\x80\x04\x8e" + struct.pack("<Q", length) + b"x" * 100)
        refused(tmp_path, b"\x80\x05\x96" + struct.pack("<Q", length) + b"x" * 100)


def test_big_endian_arrays_keep_their_values(tmp_path):
    """The byte order that a dtype is given is the one its bytes are read with."""
    values = np.array([1.5, -2.25], dtype=">f8")
    np.testing.assert_array_equal(load_plain(written(tmp_path, pickle.dumps(values, 4))), values)


def test_a_command_does_not_run(tmp_path, mark):
    """os.system by way of __reduce__ is named in the refusal and not called."""
    line = refused(tmp_path, pickle.dumps({"lr": Reduces(os.system, f"touch {mark}")}))
    assert "system" in line
    assert not mark.exists()


def test_builtins_do_not_run(tmp_path, mark):
    """eval, exec, getattr and __import__ are out of reach, in the old text protocol too."""
    for name in ("eval", "exec", "getattr", "__import__"):
        code = f"open({str(mark)!r}, 'w')"
        refused(tmp_path, b"c__builtin__\n" + name.encode() + b"\n(V" + code.encode() + b"\ntR.")
        refused(tmp_path, b"cbuiltins\n" + name.encode() + b"\n(V" + code.encode() + b"\ntR.")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "ndarray.tofile"),
        ("numpy.f2py", "compile"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy", "os.system"),
        ("trainable.data.pickles", "os.system"),
        ("search_spaces.errors", "InputError"),
    ],
)
def test_the_rest_of_numpy_and_of_this_program_is_out_of_reach(tmp_path, module, name):
    """A name in an admitted package, or a dotted one that leads out of it, is refused."""
    call = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode()
    assert name in refused(tmp_path, call + b"\x93)R.")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_object_arrays_are_refused(tmp_path, mark, protocol):
    """An array of objects is refused, whatever is in it; so are records and dates."""
    hostile = np.array([Reduces(os.system, f"touch {mark}"), None], dtype=object)
    for array in (hostile, np.array([{}], dtype=object), np.zeros(2, "f8,i4"), np.array(["2020"], "M8[D]")):
        refused(tmp_path, pickle.dumps(array, protocol))
    assert not mark.exists()


def test_other_classes_are_refused(tmp_path):
    """Even a harmless class of the standard library is no plain data."""
    assert "OrderedDict" in refused(tmp_path, pickle.dumps(OrderedDict(a=1)))
    assert "Path" in refused(tmp_path, pickle.dumps(Path("a")))


def test_a_shape_that_is_not_its_contents_is_refused(tmp_path):
    """An array that claims more elements than it brings does not read or claim memory beyond its bytes."""
    data = pickle.dumps(np.zeros(3), 4)
    assert data.count(b"K\x03\x85") == 1
    for shape in (b"K\x04\x85", b"J\xff\xff\xff\xff\x85", b"\x8a\x08" + b"\x00" * 7 + b"\x10\x85"):
        refused(tmp_path, _reframed(data, b"K\x03\x85", shape))


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """State given to an admitted function (its defaults, say) is refused, and the next file reads as before."""
    steal = b"\x80\x04cnumpy\ndtype\n}(\x8c\x0c__defaults__)ub."
    assert "changes" in refused(tmp_path, steal)
    refused(tmp_path, b"\x80\x04cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.")
    refused(tmp_path, b"\x80\x04cnumpy\nndarray\n)\x81.")
    np.testing.assert_array_equal(load_plain(written(tmp_path, pickle.dumps(np.arange(3)))), [0, 1, 2])


def test_a_truncated_pickle_is_one_line(tmp_path):
    """Cut anywhere, a pickle gives one line and never half its content."""
    data = pickle.dumps(PLAIN, 4)
    for end in range(0, len(data) - 1, 7):
        refused(tmp_path, data[:end])


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04rest", b"\x89HDF\r\n", b"{'lr': 1}", bytes(range(64))])
def test_foreign_files_are_one_line(tmp_path, data):
    """What is no pickle is refused in one line; it never ends in a traceback."""
    refused(tmp_path, data)


def test_a_memo_index_claims_no_memory(tmp_path):
    """A few bytes that name entry 4,294,967,295 of the memo make no table of that size."""
    found = load_plain(written(tmp_path, b"\x80\x04]r" + struct.pack("<I", 2**32 - 1) + b"."))
    assert found == []


def test_missing_and_oversized_files_are_named(tmp_path):
    """A missing file, a folder and a file that is too large for its kind are each one line with the path."""
    with pytest.raises(InputError, match="nowhere"):
        load_plain(tmp_path / "nowhere")
    with pytest.raises(InputError, match=str(tmp_path)):
        load_plain(tmp_path)
    with pytest.raises(InputError, match="at most"):
        load_plain(written(tmp_path, pickle.dumps(b"x" * 1000)), most_bytes=100)


def _reframed(data: bytes, old: bytes, new: bytes) -> bytes:
    """Protocol 4 with some bytes exchanged, the frame's length set right."""
    body = data[11:].replace(old, new)
    return data[:3] + struct.pack("<Q", len(body)) + body
