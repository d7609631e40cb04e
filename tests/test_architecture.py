"""The structure of the program, read from its imports: rooms and their order, no circles, nothing hidden in functions.

`python tests/test_architecture.py [CHECKOUT]` prints the figures of this checkout, or of another one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("search_spaces", "trainable", "results", "tuner")
_LEFT = ("search_spaces", "trainable", "results")
_ABOVE_STUDY = (*_LEFT, "tuner.study")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "search_spaces.common": ("search_spaces",),
    "search_spaces.parsing": ("search_spaces",),
    "search_spaces": ("search_spaces.parsing", "search_spaces.common"),
    "trainable.data": ("search_spaces",),
    "trainable": ("search_spaces", "trainable.data"),
    "results.store": ("search_spaces",),
    "results": ("search_spaces", "results"),
    "tuner.study": _LEFT,
    "tuner.callbacks": _ABOVE_STUDY,
    "tuner.simulation": _ABOVE_STUDY,
    "tuner.analysis": _ABOVE_STUDY,
    "tuner.planned": _ABOVE_STUDY,
    "tuner.backend": (*_ABOVE_STUDY, "tuner.callbacks"),
    "tuner.launch": (
        *_ABOVE_STUDY,
        *("tuner.callbacks", "tuner.simulation", "tuner.analysis", "tuner.planned", "tuner.backend"),
    ),
    "tuner": (*_LEFT, "tuner"),
}
"""Folder -> the folders, and all in them, that its files may import from besides itself. The longest match counts."""

SLOW = {
    "torch": "takes more than a second to import",
    "ray": "takes about two seconds to import, and reads the environment when it is",
}
"""Why a file may import another inside a function: that one loads such a package, and not every command needs it."""
HIDDEN = {
    (
        "tuner.study.state",
        "tuner.study.searchers.telling",
    ): "loads Optuna, which whoever only looks at a study does without",
    ("tuner.front.studies", "tuner.analysis.report"): "loads Optuna and scikit-learn: four seconds for one method",
}
"""The other imports inside a function: (importing, imported) -> the reason."""
PRIVATE = {
    "ray": "tuner.backend.ray_private",
    "optuna": "tuner.study.searchers.optuna_private",
    "pickle": "trainable.data.pickle_private",
    "torch": "trainable.compute.torch_private",
}
"""Library -> the one module that uses names of it that its documentation does not promise. Each of them says in NAMES
what for, and its test fails with that line when an upgrade has moved one."""
NO_UNDERSCORE = (
    *("temporary_state", "ray_actor", "get_pickled_error", "error_file", "evaluated_params", "print_to_stdstream"),
    *("relative_params", "system_attrs", "get_trial_system_attrs", "set_trial_system_attr", "current_frame"),
)
"""Such names that do not begin with an underscore."""
UNDERSCORE = ("_replace", "_fields", "_asdict", "_make", "_exit")
"""Names that begin with one and are documented all the same."""
MOST_FLAT = 16
"""Modules in one folder, `__init__` apart."""
UNLIMITED = ("tuner.commands",)
"""Folders of many small files of one kind."""


@dataclass(frozen=True)
class Import:
    """One import of one of our modules by another."""

    source: str
    target: str
    line: int
    hidden: bool
    """Inside a function."""
    typing: bool
    """For types only."""


class House:
    """The modules of a checkout and the imports between them, also those in functions and under TYPE_CHECKING."""

    def __init__(self, root: Path) -> None:
        self.files = {_name(path, root): path for room in ROOMS for path in sorted((root / room).rglob("*.py"))}
        self.imports: list[Import] = []
        self.slow: dict[str, set[str]] = {}
        """Module -> the packages of `SLOW` that it imports at its top."""
        for module, path in self.files.items():
            self._read(module, path)

    def _read(self, module: str, path: Path) -> None:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node, hidden, typing in _imports(tree):
            for name in _names(node, package):
                if name.split(".")[0] in SLOW and not hidden and not typing:
                    self.slow.setdefault(module, set()).add(name.split(".")[0])
                target = name if name in self.files else name.rpartition(".")[0]
                if target in self.files and target != module:
                    self.imports.append(Import(module, target, node.lineno, hidden, typing))

    def graph(self) -> dict[str, set[str]]:
        """Module -> the modules that it imports."""
        found: dict[str, set[str]] = {module: set() for module in self.files}
        for each in self.imports:
            found[each.source].add(each.target)
        return found

    def loads(self, module: str) -> set[str]:
        """The packages of `SLOW` that importing a module loads, by itself or through others."""
        graph: dict[str, set[str]] = {}
        for each in self.imports:
            if not each.hidden and not each.typing:
                graph.setdefault(each.source, set()).add(each.target)
        seen, todo, found = {module}, [module], set()
        while todo:
            now = todo.pop()
            found |= self.slow.get(now, set())
            for target in graph.get(now, set()) - seen:
                seen.add(target)
                todo.append(target)
        return found


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    """Each import, whether it is inside a function, and whether it is there for types only."""
    todo: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while todo:
        node, hidden, typing = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, hidden, typing
        hidden = hidden or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        todo += [(child, hidden, typing) for child in ast.iter_child_nodes(node)]


def _names(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """What an import names, in full: `from a import b` is `a.b`, a module or something in one."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    return [f"{base}.{alias.name}" for alias in node.names]


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    reached = {module: _reached(graph, module) for module in graph}
    groups = {frozenset(b for b in reached[a] if a in reached[b]) for a in graph if a in reached[a]}
    return sorted(sorted(group) for group in groups)


def _reached(graph: Mapping[str, set[str]], module: str) -> set[str]:
    seen: set[str] = set()
    todo = [module]
    while todo:
        for target in graph.get(todo.pop(), set()) - seen:
            seen.add(target)
            todo.append(target)
    return seen


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """1 for a module that imports nothing of ours, else one more than the highest that it imports.

    Modules of a circle stand on one another: the circle is as high as it has modules.
    """
    group = {module: tuple(circle) for circle in circles(graph) for module in circle}
    height: dict[tuple[str, ...], int] = {}

    def of(members: tuple[str, ...]) -> int:
        if members not in height:
            below = {group.get(t, (t,)) for m in members for t in graph.get(m, set())} - {members}
            height[members] = len(members) + max((of(other) for other in below), default=0)
        return height[members]

    return {module: of(group.get(module, (module,))) for module in graph}


def room_of(module: str) -> str:
    """The folder of `MAY_IMPORT` that a module belongs to."""
    return max((room for room in MAY_IMPORT if _inside(module, room)), key=len)


def _inside(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def wrong_arrows(house: House) -> list[str]:
    """Imports from a folder that `MAY_IMPORT` does not allow, a line each."""
    found = []
    for each in house.imports:
        room, other = room_of(each.source), room_of(each.target)
        if room != other and not any(_inside(other, allowed) for allowed in MAY_IMPORT[room]):
            found.append(f"{each.source}:{each.line} imports {each.target}: {room} may not import from {other}")
    return found


def hidden_imports(house: House) -> list[str]:
    """Imports of our modules inside functions that neither `SLOW` nor `HIDDEN` explains, a line each."""
    found = []
    for each in house.imports:
        needed = house.loads(each.target) - house.loads(each.source)
        if each.hidden and not needed and (each.source, each.target) not in HIDDEN:
            found.append(f"{each.source}:{each.line} imports {each.target} inside a function")
    return found


def private_names(house: House) -> list[str]:
    """Uses of a library's private names outside the modules of `PRIVATE`, a line each."""
    found = []
    for module, path in house.files.items():
        if module not in PRIVATE.values():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            own = _own_names(tree)
            uses = {(node.lineno, use) for node in ast.walk(tree) for use in _private_uses(node, own)}
            found += [f"{module}:{line} uses {use}, a private name of a library" for line, use in sorted(uses)]
    return found


def _own_names(tree: ast.AST) -> set[str]:
    """What a file itself defines: functions, classes, variables, attributes of its objects."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            own.add(node.attr)
    return own


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _private_uses(node: ast.AST, own: set[str]) -> Iterator[str]:
    """The private names of libraries that a piece of a program uses. Its own objects' are those that `own` has."""
    if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
        for name in _names(node, ""):
            if name.split(".")[0] not in (*ROOMS, "__future__") and any(map(_is_private, name.split("."))):
                yield name
    elif isinstance(node, ast.Attribute):
        wanted = node.attr in NO_UNDERSCORE or (_is_private(node.attr) and not _is_self(node.value))
        if wanted and node.attr not in own:
            yield ast.unparse(node)
    elif isinstance(node, ast.keyword) and node.arg and _is_private(node.arg) and node.arg not in own:
        yield f"{node.arg}="
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in (*NO_UNDERSCORE, "_temp_dir"):
        yield repr(node.value)
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        text = node.args[1] if len(node.args) > 1 else None
        if name in ("getattr", "hasattr", "setattr") and isinstance(text, ast.Constant) and isinstance(text.value, str):
            if _is_private(text.value) and text.value not in own:
                yield f"{name}(..., {text.value!r})"
        elif name.endswith("trial.Trial"):
            yield f"{name}(study, id)"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and len(name) > 1 and name not in UNDERSCORE


def crowded(house: House) -> list[str]:
    """Folders with more than `MOST_FLAT` modules, a line each."""
    flat: dict[str, int] = {}
    for module, path in house.files.items():
        if path.name != "__init__.py":
            folder = module.rpartition(".")[0]
            flat[folder] = flat.get(folder, 0) + 1
    return [f"{f}: {n} modules" for f, n in flat.items() if n > MOST_FLAT and f not in UNLIMITED]


@pytest.fixture(scope="module")
def house() -> House:
    """This checkout."""
    return House(ROOT)


def test_no_files_import_each_other_in_a_circle(house):
    """Whatever is imported can be read, tested and moved without what imports it."""
    assert circles(house.graph()) == []


def test_rooms_import_only_what_stands_before_them(house):
    """Imports go from right to left through the rooms of `MAY_IMPORT`, those for types too."""
    assert wrong_arrows(house) == []


def test_our_modules_are_imported_at_the_top(house):
    """What a file needs is read at its head; only what is slow to load waits inside a function."""
    assert hidden_imports(house) == []


def test_private_names_of_a_library_are_in_one_module(house):
    """What an upgrade of Ray, Optuna, torch or Python may move without a word is used, and tested, in one place."""
    assert private_names(house) == []
    assert set(PRIVATE.values()) <= house.files.keys()


def test_the_suites_are_loaded_by_tests_only(house):
    """`tuner.testing` needs hypothesis, which whoever searches does not have."""
    outside = [f"{each.source}:{each.line}" for each in house.imports if not _inside(each.source, "tuner.testing")
               and _inside(each.target, "tuner.testing")]  # fmt: skip
    assert outside == []


def test_folders_stay_small_enough_to_be_seen(house):
    """Nobody has to look for a file among more than sixteen."""
    assert crowded(house) == []


def test_every_folder_says_what_lives_there(house):
    """The `__init__` of a folder tells in a line or two what it holds, and below `tuner` what it may import."""
    for module, path in house.files.items():
        if path.name == "__init__.py":
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            assert text and len(text) > 20, module
            assert "." not in module or "mport" in text or module.endswith("report") or "importers" in module, module


PLANTED = {
    "a circle": {
        "tuner/study/a.py": "from tuner.study import b",
        "tuner/study/b.py": "from tuner.study.c import x",
        "tuner/study/c.py": "def f():\n    from tuner.study.a import y\n",
    },
    "a circle for types": {
        "results/a.py": "from results.b import x",
        "results/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from results.a import y\n",
    },
    "a relative circle": {"results/a.py": "from . import b", "results/b.py": "from .a import x"},
    "an arrow to the right": {"results/a.py": "import tuner.study.b", "tuner/study/b.py": ""},
    "an arrow between rooms": {
        "tuner/study/a.py": "def f():\n    from tuner.launch.b import x\n",
        "tuner/launch/b.py": "",
    },
    "an arrow to a neighbour": {"tuner/analysis/a.py": "from tuner.planned.b import x", "tuner/planned/b.py": ""},
    "a hidden import": {"tuner/study/a.py": "def f():\n    from tuner.study.b import x\n", "tuner/study/b.py": ""},
    "a private module": {"tuner/study/a.py": "def f():\n    from ray._private import services\n"},
    "a private class": {"trainable/a.py": "import pickle\nclass A(pickle._Unpickler):\n    pass\n"},
    "a private attribute": {"results/a.py": "def f(controller):\n    return controller._live_trials\n"},
    "a private argument": {"tuner/backend/a.py": "import ray\nray.init(_temp_dir='x')\n"},
    "a private name in quotes": {"tuner/backend/a.py": "def f(actor):\n    return getattr(actor, '_actor_id')\n"},
    "a private name without underscore": {"tuner/a.py": "def f(trial):\n    return trial.temporary_state.ray_actor\n"},
    "a private way to make an object": {"tuner/study/a.py": "import optuna\ndef f(s): optuna.trial.Trial(s, 1)\n"},
    "a private key": {"tuner/study/a.py": "def f(names):\n    return [n for n in names if 'relative_params' in n]\n"},
    "a crowd": {f"results/m{n}.py": "" for n in range(MOST_FLAT + 1)},
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_found(what, tmp_path):
    """Each kind of disorder fails, by itself, in a tree that has nothing else."""
    for file, text in PLANTED[what].items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
        for folder in list((tmp_path / file).relative_to(tmp_path).parents)[:-1]:
            (tmp_path / folder / "__init__.py").touch()
    planted = House(tmp_path)
    graph = planted.graph()
    found = [circles(graph), wrong_arrows(planted), hidden_imports(planted), crowded(planted), private_names(planted)]
    expected = {"circle": 0, "arrow": 1, "hidden": 2, "crowd": 3, "private": 4}
    assert found[next(place for word, place in expected.items() if word in what)], what


def test_what_loads_torch_may_wait_inside_a_function(tmp_path):
    """A light file imports a heavy one where it is used, also through a third; a heavy file has no reason to."""
    files = {
        "trainable/heavy.py": "import torch",
        "trainable/between.py": "from trainable.heavy import x",
        "tuner/light.py": "def f():\n    from trainable.between import x\n",
        "tuner/heavy_too.py": "import torch\ndef f():\n    from trainable.heavy import x\n",
    }
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(dedent(text))
    assert hidden_imports(House(tmp_path)) == ["tuner.heavy_too:3 imports trainable.heavy inside a function"]


def test_private_names_of_ones_own_are_no_librarys(tmp_path):
    """What a file itself defines, named tuples' methods and double underscores are left alone; a line names the use."""
    file = tmp_path / "tuner/study/a.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "class A:\n    def __init__(self): self._x = 1\n    def __eq__(self, other): return other._x == self._x\n"
        "def f(a, p, t): return p._replace(x=a.__class__), a._x, t._trial_id\n"
    )
    assert private_names(House(tmp_path)) == ["tuner.study.a:4 uses t._trial_id, a private name of a library"]


def main(root: Path) -> None:
    """Print the figures of a checkout."""
    house = House(root)
    graph, found = house.graph(), circles(house.graph())
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in house.files.values())
    print(f"{len(house.files)} files, {lines} lines, {sum(map(len, graph.values()))} arrows between files")
    print(f"files in circles: {sum(map(len, found))} (in {len(found)} circles)")
    print(f"longest path of imports: {max(floors(graph).values())} files")
    for room in ROOMS:
        units: dict[str, set[str]] = {}
        for module, targets in graph.items():
            inside = [_unit(name, room) for name in targets if _inside(name, room)]
            if _inside(module, room):
                units.setdefault(_unit(module, room), set()).update(set(inside) - {_unit(module, room)})
        print(f"{room}/: {len(units)} files and folders on {max(floors(units).values())} floors")
    print(f"imports inside functions: {sum(each.hidden for each in house.imports)}")


def _unit(module: str, room: str) -> str:
    """The file or folder of a room that a module is, or is in."""
    return ".".join(module.split(".")[: room.count(".") + 2])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)


def test_the_longest_files_of_tests_are_there():
    """A file that was renamed would lose its place at the begin of a run (`LONGEST` of tests/conftest.py)."""
    from tests.conftest import LONGEST

    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []
