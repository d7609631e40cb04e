"""Edits of bytes and texts for benchmarks/fuzz.py: drawn from a seed, applied one after the other."""

from __future__ import annotations

import random
import re
from typing import Any

Edit = tuple[str, int, bytes]
"""(kind, place, bytes): a place is a bit, a byte or a line of what the edits before it left, as its kind has it."""
BYTES = (
    "flip",
    "flip",
    "flip",
    "flip",
    "digit",
    "digit",
    "drop line",
    "double line",
    "move line",
    "cut",
    "insert",
    "zero",
    "space",
)
TEXTS = ("digit", "drop line", "double line", "word", "word", "word", "insert", "space", "indent")
ODD = (
    b"null", b"-1", b"0", b"1e999", b"nan", b".inf", b"true", b"''", b'"', b"'", b"[]", b"{}", b"[1, 2", b"{a: b}",
    b"&a", b"*a", b"!!python/object:os.system", b"99999999999999999999", b"1.5", b"x" * 300, b"\xff\xfe", b"\x00",
    b"\xc3\xa4", b"--", b";", b"select", b"*", b"(", b")", b"<<", b"%", b"\t", b"|", b">", b"2026-99-99", b"1:30",
)  # fmt: skip


def draw(rng: random.Random, whole: bytes) -> list[Edit]:
    """One to three edits of bytes; one flipped bit in half of all cases."""
    if rng.random() < 0.5:
        return [("flip", rng.randrange(8 * max(1, len(whole))), b"")]
    return [_one(rng, rng.choice(BYTES), whole) for _ in range(rng.randint(1, 3))]


def draw_text(rng: random.Random, whole: bytes) -> list[Edit]:
    """One to three edits of words and lines."""
    return [_one(rng, rng.choice(TEXTS), whole) for _ in range(rng.randint(1, 3))]


def _one(rng: random.Random, kind: str, whole: bytes) -> Edit:
    place = rng.randrange(8 * max(1, len(whole)))
    return kind, place, rng.choice(ODD) if kind in ("insert", "word") else bytes([rng.randrange(256)])


def apply(whole: bytes, edits: list[Edit]) -> bytes:
    """What the edits make of it."""
    for kind, place, data in edits:
        whole = _applied(whole, kind, place, data)
    return whole


def _applied(whole: bytes, kind: str, place: int, data: bytes) -> bytes:
    if not whole:
        return data
    byte = place // 8 % len(whole)
    lines = whole.splitlines(keepends=True)
    line = place % len(lines)
    if kind == "flip":
        changed = bytearray(whole)
        changed[byte] ^= 1 << place % 8
        return bytes(changed)
    if kind == "digit":
        found = list(re.finditer(rb"\d", whole))
        if not found:
            return whole
        at = found[place % len(found)].start()
        return whole[:at] + b"%d" % ((whole[at] - 48 + 1 + place % 9) % 10) + whole[at + 1 :]
    if kind == "word":
        found = list(re.finditer(rb"[\w.+-]+", whole))
        if not found:
            return whole
        match = found[place % len(found)]
        return whole[: match.start()] + data + whole[match.end() :]
    if kind in ("drop line", "double line", "move line"):
        taken = lines[line : line + 1]
        rest = lines[:line] + lines[line + 1 :]
        where = line if kind == "double line" else place // 7 % (len(rest) + 1)
        put = {"drop line": [], "double line": taken * 2, "move line": taken}[kind]
        return b"".join(rest[:where] + put + rest[where:])
    if kind == "cut":
        return whole[:byte]
    if kind == "zero":
        length = 1 + place % 300
        return whole[:byte] + bytes(min(length, len(whole) - byte)) + whole[byte + length :]
    if kind == "indent":
        return b"".join([*lines[:line], b"  " + lines[line], *lines[line + 1 :]])
    if kind == "space":
        return whole.replace(b":", b": ") if place % 2 else whole.replace(b"\n", b"\r\n")
    return whole[:byte] + data + whole[byte:]


def odd_value(rng: random.Random, place: Any) -> str:
    """A word for a command line: a number, a name or a path of any kind, existing ones among them."""
    values = (
        "", " ", "0", "-1", "1", "1e9", "1e999", "nan", "inf", "-0.0", "0.5", "10**9", "99999999999999999999",
        "auto", "none", "s", "s/0", "s/99", "s/-1", "s/x", "/", "//", ".", "..", "../s", "../../etc/passwd",
        "/dev/null", "/proc/self/mem", "a/b/c", "~", "*", "?", "[", "s3:", "s3://", "file:///nowhere", "http://x",
        "-", "--", "--x", "=", "a=b", "model.hidden=8", "model.hidden=x", "training.batches=-1", "&a [*a]", "{a: [",
        "asha", "asha grace=0", "asha at=horizon grace=9", "median x=y", "tpe", "gp a", "select 1", "best_per",
        "best_per desc", "schedule_*", "1; drop table trials", "'", '"', "ä", "雪", "\u202e", "\x1b[2J", "a\nb",
        "a\tb", "\udcff", "x" * 300, "x/" * 200, "1:30", "20GB", "-5GB", "2h", "json", "yaml", str(place.results),
        str(place.root), str(place.root / "sound" / "data"), "small", "quickstart", "run16_5", "speechBaseline4",
    )  # fmt: skip
    return rng.choice(values)
