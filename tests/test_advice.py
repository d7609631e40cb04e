"""No message and no page advises to remove results: what is damaged is repaired, and what is in the way is renamed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("tuner", "results", "trainable", "search_spaces")
VERBS = r"(?:remove|delete|erase|wipe|clear|discard|drop|unlink|destroy|purge|truncate|throw away|get rid of)"
RESULTS = (
    r"(?:results?|stud(?:y|ies)|search(?:es)?|folders?|director(?:y|ies)|logs?|events\.jsonl|events|tables?|parquet|"
    r"checkpoints?|weights|trials?|files?|runs?|everything|it|them|that|one)"
)
ADVICE = re.compile(
    r"\brm\s+(?:-|\S*\.jsonl|\S*results)|\brmtree\b|\bfind\b.*-delete\b"
    rf"|(?<!to )(?<!that )(?<!cannot )(?<!will )\b{VERBS}\b(?:(?:\W+\w+){{0,4}}?\W+{RESULTS}\b|\s+\{{\}})"
    r"|\b(?:search|train)\s+(?:\w+\s+){0,3}(?:again|anew|afresh)\b|\bstart over\b|\bfrom scratch\b",
    re.IGNORECASE,
)
"""What tells somebody to remove results, or to search once more instead of having them repaired."""

_YAML = "a line of a YAML file that the user has just written"
ALLOWED = {
    "Check, merge, clean and delete studies": "what a group of commands is for",
    "Delete STUDIES with their checkpoints. This cannot be undone": "the help of the command that does it, and asks",
    "delete {} ({}, {})? This cannot be undone": "the question that `results delete` asks",
    "tuner results delete first": "the same, in the page on the commands",
    "remove checkpoints that are no longer needed": "the help of `results clean`, which says which ones",
    "Train the best configurations again with new seeds": "what `tuner confirm` is for",
    "train the best five again with five new seeds": "the same, in the README",
    "train them again with new seeds": "the same, in the page on results",
    "train it again": "`tuner show` prints the command that repeats a run",
    "put it back and resume the study, or search again": "its folder was deleted: nothing else is left",
    "the study's folder is deleted or moved under its search": "the table's row on that message",
    "every decision that of a replay from scratch": "what the chaos of the benchmarks compares",
    "is damaged or cut short; remove it": "a word list that was downloaded, and is downloaded again",
    "; remove them": "word lists that were downloaded",
    "is in the range already; give a value outside it, or remove it": _YAML,
    "is how often the value of `or` is drawn; add `or`, or remove it": _YAML,
    "is set by the search for each trial; remove it": _YAML,
    "is also given under {}; remove one of the two": _YAML,
    "remove it or change {}.kind": _YAML,
    "is not an active dimension here; remove it": _YAML,
    "is given together with objectives; remove one of the two": _YAML,
    "is also a dimension; remove one of the two": _YAML,
}
"""Part of the text that is meant -> why it may say so."""


def messages(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each string that a program can show, with {} for the values in it; and of each command's help."""
    tree = ast.parse(source)
    left_out: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out.add(node.value)  # what a function or a field is, for readers of the source
        elif isinstance(node, ast.JoinedStr):
            left_out.update(node.values)
            yield node.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_is_command(each) for each in node.decorator_list):
            yield node.lineno, ast.get_docstring(node) or ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.lineno, node.value


def _is_command(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith((".command", ".group"))


def advice(text: str) -> list[str]:
    """What in a text tells somebody to remove results, but for what is allowed."""
    flat = " ".join(text.split())
    for allowed in ALLOWED:
        flat = flat.replace(allowed, "")
    return [found[0] for found in ADVICE.finditer(flat)]


def texts() -> Iterator[tuple[str, str]]:
    """(place, text) of every message of the program and every paragraph of its pages."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for line, text in messages(path.read_text()):
                yield f"{path.relative_to(ROOT)}:{line}", text
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]:
        for number, paragraph in enumerate(path.read_text().split("\n\n"), start=1):
            yield f"{path.relative_to(ROOT)}, paragraph {number}", paragraph


def test_nothing_advises_to_remove_results() -> None:
    """All strings that a program can show, and all pages."""
    found = [f"{place}: {what}" for place, text in texts() for what in advice(text)]
    assert found == []


def test_each_exception_is_still_there() -> None:
    """An exception whose text is gone would hide another one."""
    everything = "\n".join(" ".join(text.split()) for _, text in texts())
    assert [each for each in ALLOWED if each not in everything] == []


PLANTED = (
    'raise InputError(f"{folder}: its log is damaged; remove the folder and search again")',
    'raise InputError("the tables cannot be read; " f"delete {path} and resume")',
    'NOTE = "rm -rf results/an4"',
    'print(f"try: rm {study}/events.jsonl")',
    'x = {"advice": "get rid of the old checkpoints first"}',
    'raise InputError("damaged: clear the results folder, then start over")',
    'WORDS = "The study is of another version. Train it again."',
    'click.option("--force", help="Erase the log and begin.")',
    '@group.command()\ndef fix():\n    """Wipe a study that is damaged."""',
)


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_advice_is_found(planted: str) -> None:
    """In an error, an f-string in pieces, a constant, an option's help or a command's help."""
    assert any(advice(text) for _, text in messages(planted))


@pytest.mark.parametrize(
    "text",
    [
        "its copy is removed when the search has ended",
        "{}: the study's folder was deleted; what was there is kept",
        "'tuner results repair {}' rebuilds the log from them",
        "no result is removed to make room",
    ],
)
def test_what_is_said_of_files_is_no_advice(text: str) -> None:
    """That something was removed, or will be, or is not."""
    assert advice(text) == []


def test_what_readers_of_the_source_see_is_not_shown() -> None:
    """Docstrings of functions, and of constants, are no messages."""
    source = '"""Delete it."""\nX = 1\n"""Remove the log."""\ndef f():\n    """Remove a study."""\n'
    assert list(messages(source)) == []
