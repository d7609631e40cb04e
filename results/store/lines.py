"""The lines of a log: what proves them, and how they are read.

A line is `{"event": kind, "seq": n, "time": unix seconds, ..., "sum": "BBBBBBBB-CCCCCCCC"}`. C is the CRC-32 of the
line's canonical content, begun with B, which is the C of the line before: so a line proves what it says, that nothing
before it was changed or taken out, and where it belongs. Both are eight hexadecimal digits; B of the first line is 0.
The canonical content is the event without its `sum` as Python's `json.dumps` writes it with separators `,` and `:`,
without the closing brace: how a line is spaced does not matter.

Logs of before have lines without `sum`. They are read as they are, as long as no line before them has one. Where such
a log goes on, C is computed for its lines in the same way, so that B of the first new line proves all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

from results.store.validity import damage

EPOCH = b'{"event":"epoch",'
"""How the log's writer begins an epoch."""
_START = b'{"event":"'
_TAIL = len(',"sum":"00000000-00000000"}\n')
_SUM = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})")
_TOLD = 20


def content(event: Mapping[str, Any]) -> bytes:
    """The canonical content of an event without its `sum`: what the checksum is of."""
    return json.dumps(event, allow_nan=False, separators=(",", ":")).encode("ascii")[:-1]


def sealed(content: bytes, before: int) -> tuple[bytes, int]:
    """The line of a canonical content that follows a line whose checksum is `before`; and its own checksum."""
    own = crc32(content, before)
    return b'%b,"sum":"%08x-%08x"}\n' % (content, before, own), own


def lines_of(events: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The lines of a log that begins with these events, which have their numbers."""
    before = 0
    for event in events:
        line, before = sealed(content(event), before)
        yield line


def following(line: bytes, before: int) -> int | None:
    """The checksum of a line that is as it was written and follows one with the checksum `before`; None if not so."""
    own = crc32(line[:-_TAIL], before)
    return own if line[-_TAIL:] == b',"sum":"%08x-%08x"}\n' % (before, own) else None


def has_sum(line: bytes) -> bool:
    """Whether a line in the writer's form has a checksum, right or wrong."""
    return line[-_TAIL:].startswith(b',"sum":"')


def following_old(line: bytes, before: int) -> int | None:
    """The same of a line without a checksum; None if it has one, or is not in the writer's form."""
    if not line.startswith(_START) or not line.endswith(b"}\n") or has_sum(line):
        return None
    return crc32(line[:-2], before)


class OldEvent(dict[str, Any]):
    """The event of a line without a checksum, which cannot be verified."""


def decode(line: bytes) -> dict[str, Any] | None:
    """The event of one line, its `sum` included, or None if the line is no event."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(event, dict) and isinstance(event.get("event"), str) and type(event.get("seq")) is int:
        return event
    return None


@dataclass(frozen=True)
class Read:
    """One line, read by itself: its event, or what is wrong with it."""

    event: dict[str, Any] | None
    wrong: str | None = None
    before: int | None = None
    """The checksum of the line before, as the line has it; None for a line of before."""
    own: int = 0


def read_line(line: bytes) -> Read:
    """The event of a line without its `sum`; its place among the others is not looked at (`LineScanner` does)."""
    event = decode(line)
    if event is None:
        return Read(None, "is no event")
    if "sum" not in event:
        return Read(OldEvent(event))
    given = event.pop("sum")
    found = _SUM.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        return Read(None, "damaged: its checksum is none")
    before, own = int(found[1], 16), int(found[2], 16)
    if following(line, before) == own:
        return Read(event, None, before, own)
    try:
        right = crc32(content(event), before) == own  # the line may be spaced in another way
    except ValueError:  # NaN, which no writer leaves
        right = False
    return Read(event, None, before, own) if right else Read(None, "damaged: its checksum is wrong")


class Numbers:
    """Which numbers have been seen, of a sequence that nearly always comes in order."""

    def __init__(self, following: int = 1) -> None:
        self.next = following
        self.missing: list[range] = []
        """Numbers before `next` that were not seen."""

    def copy(self) -> Numbers:
        """The same numbers."""
        other = Numbers(self.next)
        other.missing = list(self.missing)
        return other

    def take(self, number: int) -> bool:
        """Note a number; False if it had been seen."""
        if number >= self.next:
            if number > self.next:
                self.missing.append(range(self.next, number))
            self.next = number + 1
            return True
        for index, gap in enumerate(self.missing):
            if number in gap:
                parts = (range(gap.start, number), range(number + 1, gap.stop))
                self.missing[index : index + 1] = [part for part in parts if part]
                return True
        return False


@dataclass
class LineScanner:
    """Lines of a log, in order, to events: what is damaged, or was there before, is left out and noted.

    `seq`, `sum` and `events` describe the place behind the last line that was taken: its number, its checksum and how
    many there were.
    """

    name: str
    problems: list[str]
    lines: int = 0
    seq: int = 0
    sum: int | None = 0
    """None behind a damaged line: what that one had is not known."""
    known: int = 0
    """The checksum of the last line that was taken and had one: what the next line is to follow."""
    events: int = 0
    summed: bool = False
    """Whether a line with a checksum has come."""
    mark: int = 0
    """A number of which `marked` is to be known."""
    marked: tuple[int | None, int] | None = None
    """(sum, events) behind the line with the number `mark`."""
    numbers: Numbers = field(default_factory=Numbers)
    _notes: int = 0

    def scan(self, lines: Iterable[bytes], wanted: Callable[[bytes], bool] | None = None) -> Iterator[dict[str, Any]]:
        """The events of the next lines, each with its newline: one without is a torn last line.

        Of lines in perfect order those that are not `wanted` are proven and not parsed.
        """
        for line in lines:
            self.lines += 1
            own = following(line, self.sum) if self.summed and self.sum is not None else None
            if own is not None and self.orderly():
                if wanted is not None and not wanted(line):
                    self.taken(self.seq + 1, own)
                    continue
                event = decode(line)
                if event is not None and event["seq"] == self.seq + 1 and damage(event, proven=True) is None:
                    del event["sum"]
                    self.taken(event["seq"], own)
                    yield event
                    continue
            yield from self._scan_line(line)

    def taken(self, seq: int, own: int | None, count: int = 1) -> None:
        """Note that `count` lines in perfect order were taken, the last of them with this number and checksum."""
        self.seq, self.sum, self.events = seq, own, self.events + count
        if own is not None:
            self.known = own
        if seq >= self.numbers.next:
            self.numbers.next = seq + 1
        if seq == self.mark:
            self.marked = self.sum, self.events

    def copy(self) -> LineScanner:
        """One that goes on from here and leaves this one alone."""
        return replace(self, problems=[], numbers=self.numbers.copy())

    def orderly(self) -> bool:
        """Whether lines in perfect order can follow: nothing before is missing or unknown."""
        return self.sum is not None and not self.numbers.missing and self.numbers.next == self.seq + 1

    def _scan_line(self, line: bytes) -> Iterator[dict[str, Any]]:
        if not line.strip():
            return
        found = read_line(line)
        if found.event is None and line.endswith(b"\n") and line.count(_START) > 1:
            self._note("the end of a line within it is damaged; each event is read by itself")
            for part in re.split(rb"(?=\{\"event\":\")", line):
                if end := part.rfind(b"}") + 1:
                    yield from self._take(read_line(part[:end] + b"\n"), part)
            return
        yield from self._take(found, line)

    def _take(self, found: Read, line: bytes) -> Iterator[dict[str, Any]]:
        event, wrong = found.event, found.wrong
        if event is not None and found.before is None and self.summed:
            wrong = "damaged: it has no checksum, and lines before it have"
        if event is not None and wrong is None and (why := damage(event, proven=found.before is not None)):
            wrong = f"damaged: {why}"
        if event is None or wrong is not None:
            self.sum = None
            torn = not line.endswith(b"\n") and event is None
            self._note(f"a torn last line ({len(line)} bytes) is skipped" if torn else _left_out(wrong, line))
            return
        self._place(found, event["seq"], event)
        if not self.numbers.take(event["seq"]):
            self._note(f"event {event['seq']} was there before; this line is left out")
            return
        own = found.own if found.before is not None else None
        if own is None and self.sum is not None:
            raw = following_old(line, self.sum)
            own = raw if raw is not None else crc32(content(event), self.sum)
        self.summed = self.summed or found.before is not None
        self.taken(event["seq"], own)
        yield event

    def _place(self, found: Read, seq: int, event: Mapping[str, Any]) -> None:
        """Note what does not fit between this line and the last one that was taken."""
        if seq in (self.seq, 0) or seq < self.numbers.next:
            return
        if seq != self.seq + 1:
            self._note(f"event {self.seq + 1} was expected, found {seq}")
        elif found.before is not None and self.sum not in (None, found.before):
            self._note(
                f"event {seq} does not follow from the lines before it: one of them was changed, or is of another log"
            )

    def _note(self, what: str) -> None:
        self._notes += 1
        if self._notes <= _TOLD:
            self.problems.append(f"{self.name}: line {self.lines}: {what}")
        else:
            more = f"{self.name}: and {self._notes - _TOLD} more up to line {self.lines}"
            if self._notes > _TOLD + 1:
                self.problems.pop()
            self.problems.append(more)


def _left_out(wrong: str | None, line: bytes) -> str:
    if wrong == "is no event":
        return f"a line that is no event ({len(line)} bytes) is skipped"
    return f"{wrong}; it is left out"
