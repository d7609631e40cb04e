"""What to run: run configurations and search spaces, as YAML files and as validated objects."""

from __future__ import annotations

from .config import RunConfig, flatten, to_dict
from .errors import InputError
from .loader import Run, diff, load_run, run_names
from .settings import ABSENT
from .space import Dimension, Space
from .space_file import load_space, space_names

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
