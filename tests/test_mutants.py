"""The tool that changes the program to see whether tests notice (`make mutants`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is beside the packages, not one of them

from benchmarks import mutants
from benchmarks.changes import mutants_of

ROOT = Path(__file__).parents[1]
SOURCE = b'''"""Numbers: 1 + 1."""

LIMIT: dict[int, str] = {}


def share(count: int, rows: list[int], least: int = 2) -> float | None:
    """The share of `count`, 1 or less."""
    if count < least and not rows:
        raise ValueError(f"count: {count + 1} is too many")
    total = round(sum(rows) / count)
    for row in rows:
        if row == 0:
            break
        total += row
    return min(total, 1.0)
'''


def becomes(source: bytes) -> list[str]:
    return [mutant.becomes for mutant in mutants_of("core.py", source)]


def test_every_kind_of_change_is_made_once() -> None:
    """Comparisons, and/or, not, numbers, calculations, calls, removed statements, break and return."""
    assert sorted(becomes(SOURCE)) == sorted(
        [
            "def share(count: int, rows: list[int], least: int = 3) -> float | None:",
            "def share(count: int, rows: list[int], least: int = 1) -> float | None:",
            "if count <= least and not rows:",
            "if count < least or not rows:",
            "if count < least and (rows):",
            "pass",
            "total = int(sum(rows) / count)",
            "total = round(max(rows) / count)",
            "total = round(sum(rows) * count)",
            "if row != 0:",
            "if row == 1:",
            "continue",
            "pass",
            "total -= row",
            "return None",
            "return max(total, 1.0)",
            "return min(total, 2.0)",
            "return min(total, 0.0)",
        ]
    )


def test_a_change_is_one_place_and_compiles() -> None:
    """Whatever is changed in the core's modules is still Python, differs from it, and says where it is."""
    for module in mutants.TESTS:
        source = (ROOT / module).read_bytes()
        found = mutants_of(module, source)
        assert len(found) > 20
        for mutant in found[:: len(found) // 20]:
            changed = mutant.source(source)
            compile(changed, module, "exec")
            assert changed != source
            assert mutant.lines[0] <= mutant.line <= mutant.lines[1]


def test_the_tests_that_are_named_are_there() -> None:
    """A file of tests that was moved or renamed is noticed here."""
    assert [test for tests in mutants.TESTS.values() for test in tests if not (ROOT / "tests" / test).exists()] == []


def test_the_changes_that_are_listed_are_changes_of_the_source() -> None:
    """`mutants.yaml` names none that an edit has made impossible, and has a reason for each."""
    assert mutants.Listed.read(ROOT).reasons


CORE = """
def clamp(value, low):
    if value < low:
        return low
    return value


def forever(number):
    while number > 0:
        number -= 1
    return number
"""
TEST = """
from core import clamp, forever

def test_clamp():
    assert clamp(1, 2) == 2
    assert clamp(3, 2) == 3

def test_forever():
    assert forever(3) == 0
"""
PROGRAM = """
import sys
from pathlib import Path
from benchmarks import mutant_runs, mutants

mutants.TESTS = {"core.py": ["test_core.py"]}
mutant_runs.WARM, mutant_runs.MARGIN = ["pytest"], 1.0
sys.exit(mutants.main(Path(sys.argv.pop(1))))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A program of two functions with a test of each."""
    for name, text in {"core.py": CORE, "tests/test_core.py": TEST, "benchmarks/mutants.yaml": "[]\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(checkout), "--jobs", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_survivors_are_named_and_too_many_are_a_failure(checkout: Path) -> None:
    """Of three changes one is killed by a test, one ends in an endless loop, and one survives: 67 %, exit status 1. The
    checkout itself is never changed.
    """
    changes = [("value < low", "value <= low"), ("value < low", "value > low"), ("number -= 1", "pass")]
    done = run(checkout, *(word for old, new in changes for word in ("--try", "core.py", old, new)))
    assert done.returncode == 1, done.stderr
    assert "core.py:3: survived\n  - value < low\n  + value <= low\n" in done.stdout
    assert "by tests/test_core.py::test_clamp" in done.stderr
    assert "endless  by the limit of time" in done.stderr
    assert "66.7% killed of 3 that are not listed" in done.stdout
    assert (checkout / "core.py").read_text() == CORE


def test_a_listed_survivor_does_not_count(checkout: Path) -> None:
    """A change that is listed with a reason is shown with it and left out of the share."""
    (checkout / "benchmarks" / "mutants.yaml").write_text(
        "- {module: core.py, was: 'if value < low:', becomes: 'if value <= low:', why: equal values are one value}\n"
    )
    (checkout / "core.py").write_text(CORE.partition("def forever")[0])
    (checkout / "tests" / "test_core.py").write_text(
        "from core import clamp\n\ndef test_clamp():\n    assert clamp(1, 2) == 2 and clamp(3, 2) == 3\n"
    )
    done = run(checkout, "--count", "99")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "listed: equal values are one value" in done.stdout
    assert "100.0% killed" in done.stdout


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("{module: core.py, was: 'if value < low:', becomes: 'if value <= low:', why: ''}", "has no reason"),
        (
            "{module: core.py, was: 'if value < 7:', becomes: 'if value <= 7:', why: x}",
            "is no change of today",
        ),
    ],
)
def test_a_wrong_entry_in_the_list_is_an_error(checkout: Path, entry: str, line: str) -> None:
    """An entry without a reason, or for code that is not there any more, ends the run with status 2."""
    (checkout / "benchmarks" / "mutants.yaml").write_text(f"- {entry}\n")
    done = run(checkout)
    assert done.returncode == 2
    assert line in done.stderr


def test_a_suite_that_fails_by_itself_is_no_measure(checkout: Path) -> None:
    """Where a test fails with nothing changed, no change is tried."""
    (checkout / "tests" / "test_core.py").write_text(TEST.replace("== 2", "== 9"))
    done = run(checkout, "--try", "core.py", "value < low", "value > low")
    assert done.returncode == 2
    assert "core.py: with nothing changed tests/test_core.py::test_clamp fails" in done.stderr
