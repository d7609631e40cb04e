"""YAML as it comes: anchors are read, and what would take the computer down is one line, at once."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from search_spaces import InputError, load_run
from search_spaces.parsing.yaml_file import MOST_DEEP, MOST_VALUES, parse_value, read_yaml

EIGHT = ", ".join
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x]", *(f"a{i}: &a{i} [{EIGHT([f'*a{i - 1}'] * 8)}]" for i in range(1, 17))]
)
MERGES = "\n".join(["a0: &a0 {k: 1}", *(f"a{i}: &a{i} {{<<: [{EIGHT([f'*a{i - 1}'] * 8)}]}}" for i in range(1, 17))])
HOSTILE = {
    "an alias bomb": (BOMB, f"more than {MOST_VALUES} values"),
    "a bomb of merges": (MERGES, f"more than {MOST_VALUES} values"),
    "a long list": ("x:\n" + "- 1\n" * (MOST_VALUES + 1), f"more than {MOST_VALUES} values"),
    "a list in itself": ("x: &a [*a]", "*a stands for what it is in"),
    "a mapping in itself, merged": ("x: &a {<<: *a}", "*a stands for what it is in"),
    "an alias to nothing": ("x: *a", "undefined alias"),
    "deep brackets": ("x: " + "[" * 100_000, f"more than {MOST_DEEP} brackets"),
    "deep indents": ("x:\n" + "".join(" " * i + "y:\n" for i in range(1, 500)), f"more than {MOST_DEEP}"),
    "a Python object": ("x: !!python/object/apply:os.system [true]", "the tag"),
    "bytes": ("x: !!binary aGk=", "the tag"),
    "an impossible date": ("x: !!timestamp 2001-99-99", "the tag"),
    "a word as bool": ("x: !!bool y", "no YAML"),
    "a word as int": ("x: !!int y", "no YAML"),
    "a list as key": ("x: {? [a] : b}", "no YAML"),
    "a number without end": ("x: " + "9" * 5000, "a number of 5000 digits"),
    "a zero byte": ("x: \x00", "unacceptable character"),
    "a tab": ("x:\n\ty: 1", "tab"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_yaml_is_one_line_at_once(kind, tmp_path):
    """In a file and as a value of --set: refused in well under a second, with the line where it is."""
    text, word = HOSTILE[kind]
    path = tmp_path / "x.yaml"
    path.write_text(text)
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        read_yaml(path, "x.yaml")
    said = str(caught.value)
    assert word in said and said.startswith("x.yaml: ") and said.endswith("correct the YAML there")
    assert "\n" not in said and len(said) < 300
    with pytest.raises(ValueError, match=r"correct the YAML there$"):
        parse_value(text)
    assert time.process_time() - begun < 1


def test_deep_brackets_do_not_crash_the_process(tmp_path):
    """libyaml's composer overflows the stack on these; the whole command says a line and ends with 2."""
    (tmp_path / "x.yaml").write_text("base: " + "[" * 200_000)
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "spaces", "show", "x.yaml"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_anchors_of_a_sensible_size_are_read(tmp_path):
    """An alias is what it stands for, and `<<` merges, keys that are given winning."""
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1, y: [1, 2]}\nb: *a\nc: {<<: *a, x: 2}\nd: [*a, *a]\n")
    one = {"x": 1, "y": [1, 2]}
    assert read_yaml(path, "x") == {"a": one, "b": one, "c": {"x": 2, "y": [1, 2]}, "d": [one, one]}
    many = "a: &a [" + "1, " * 90 + "1]\n" + "".join(f"b{i}: *a\n" for i in range(90))
    path.write_text(many)
    assert len(read_yaml(path, "x")["b89"]) == 91


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    """Its size is looked at first."""
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(InputError, match="are no settings"):
        read_yaml(path, "x.yaml")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("training.seed=&a [*a]", "stands for what it is in"),
        ("training.seed=*a", "undefined alias"),
        ("training.seed={a: &x 1, b: *x}", "is not allowed"),
        ("training.seed=" + "9" * 5000, "a number of 5000 digits"),
        ("training.seed=" + "[" * 5000, "brackets"),
    ],
)
def test_a_value_with_anchors_is_a_value_or_a_line(given, word):
    """--set reads YAML too; what is quoted of a long value is its beginning."""
    assert load_run("small", ["training.seed=&a 7"]).config.training.seed == 7
    with pytest.raises(InputError) as caught:
        load_run("small", [given])
    assert word in str(caught.value) and len(str(caught.value)) < 300 and "\n" not in str(caught.value)
