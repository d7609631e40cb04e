"""One name for one thing: a public class name stands for one class in the whole program."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("search_spaces", "trainable", "results", "tuner")


def public_classes(source: str) -> list[str]:
    """The names of the classes at the top of a file that do not begin with an underscore."""
    tree = ast.parse(source)
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def twice(sources: dict[str, str]) -> dict[str, list[str]]:
    """Class name -> the files that define it, where those are several; `sources` are file -> text."""
    found: dict[str, list[str]] = {}
    for path, source in sources.items():
        for name in public_classes(source):
            found.setdefault(name, []).append(path)
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def test_no_public_class_name_is_defined_twice() -> None:
    """Whoever reads `Run` or `Curve` need not look where it was imported from."""
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 100
    assert twice({str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}) == {}


def test_a_name_used_twice_is_found() -> None:
    """Two rooms with a class of one name are named; private classes may be alike."""
    a, b = (
        "class Run:\n    pass\n\n\nclass _Loop:\n    pass\n",
        "class Run(dict):\n    pass\n\n\nclass _Loop:\n    pass\n",
    )
    assert twice({"a.py": a, "b.py": b}) == {"Run": ["a.py", "b.py"]}
