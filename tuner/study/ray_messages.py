"""What gives Ray's messages away, as data: Ray has no codes for what happened to a worker, a node or a connection.

The messages of two versions of Ray, made for real, are in tests/fixtures/ray_messages; tests/tuner/study/
test_ray_messages.py holds every entry against both. Ray is not imported here.
"""

from __future__ import annotations

import re

SIGNS: dict[str, re.Pattern[str]] = {
    # of a worker that died
    "memory monitor": re.compile(r"running low on memory"),
    "memory used": re.compile(r"was ([\d.]+\s?GB)(?: used)? / ([\d.]+\s?GB)"),
    "selected to kill": re.compile(r"^Selected to kill: \(Actor\(([0-9a-f]+)\)", re.MULTILINE),
    "actor silent": re.compile(r"is temporarily unavailable"),
    "actor died": re.compile(r"actor died|actor is dead|worker process has died", re.IGNORECASE),
    "node lost": re.compile(r"node (has )?(died|is dead|was lost|has been)|its node|preempt|NodeDied", re.IGNORECASE),
    "connection cut": re.compile(r"ActorUnavailableError|actor \w+ is unavailable", re.IGNORECASE),
    "not started": re.compile(r"creation task"),
    # of a node or a cluster that refuses
    "library missing": re.compile(r"ModuleNotFoundError[: ]*(.*)"),
    "other version": re.compile(
        r"[Vv]ersion mismatch(?:.*?Ray: (\S+)\s+Python: (\S+).*?Ray: (\S+)\s+Python: (\S+))?", re.DOTALL
    ),
    "token wanted": re.compile(r"AuthenticationError|InvalidAuthToken|[Uu]nauthenticated"),
    "no job client": re.compile(r"ray\[default\]"),
    "job token wanted": re.compile(r"[Aa]uthenticat|[Uu]nauthorized|Forbidden|token"),
    # of the logs of Ray's own processes
    "own error": re.compile(r" [EFC] \d+ \d+\] (?:\(\w+\) )?\S+: (?!Stack trace|\*\*\* |PC: | *@ )(.*)"),
    "too many files": re.compile(r"Too many open files"),
}
"""What happened -> how its message is recognised; groups are what is told of it. "own error" leaves out stack traces;
"other version" has Ray's and Python's of the cluster, then of this process."""


def said(what: str, text: str) -> re.Match[str] | None:
    """The place in a message of Ray that says `what` (a key of `SIGNS`) happened; None if it does not."""
    return SIGNS[what].search(text)
