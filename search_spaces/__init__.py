"""What to run: run configurations and search spaces, as YAML files and as validated objects.

The names below are imported when they are first used: pydantic takes a tenth of a second, and `tuner best` does not
need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InputError

if TYPE_CHECKING:
    from search_spaces.config import RunConfig, flatten, to_dict
    from search_spaces.dimensions.dimension import Dimension
    from search_spaces.loader import Run, diff, load_run, run_names
    from search_spaces.parsing.sections import ABSENT
    from search_spaces.space import Space
    from search_spaces.space_file import load_space, space_names

_HOME = {
    "config": ("RunConfig", "flatten", "to_dict"),
    "loader": ("Run", "diff", "load_run", "run_names"),
    "parsing.sections": ("ABSENT",),
    "dimensions.dimension": ("Dimension",),
    "space": ("Space",),
    "space_file": ("load_space", "space_names"),
}

__all__ = [
    "ABSENT",
    "Dimension",
    "InputError",
    "Run",
    "RunConfig",
    "Space",
    "diff",
    "flatten",
    "load_run",
    "load_space",
    "run_names",
    "space_names",
    "to_dict",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
