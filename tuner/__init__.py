"""Hyperparameter search for a GRU-CTC phoneme decoder: many runs, stopped early where they are weak, kept in tables.

    import tuner

    study = tuner.search("quickstart", data="data/small", study="first", trials=8)
    study = tuner.open("first")
    study.best.config, study.best.per, study.ties
    study.trials.to_pandas()

Each name is loaded when it is first used, so that `import tuner` is quick and the command line stays so. docs/python.md
shows them all.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces import InputError, Space, load_space
    from tuner.front.searching import resume, search
    from tuner.front.studies import StudyView, open, studies
    from tuner.front.table import Table
    from tuner.front.trials import TrialView

_HOME = {
    "search_spaces": ("InputError", "Space", "load_space"),
    "tuner.front.searching": ("resume", "search"),
    "tuner.front.studies": ("StudyView", "open", "studies"),
    "tuner.front.table": ("Table",),
    "tuner.front.trials": ("TrialView",),
}

__all__ = [
    "InputError",
    "Space",
    "StudyView",
    "Table",
    "TrialView",
    "load_space",
    "open",
    "resume",
    "search",
    "studies",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            with warnings.catch_warnings():
                # Of tqdm, which Optuna imports, in a notebook without ipywidgets; nothing here shows tqdm's bars.
                warnings.filterwarnings("ignore", message="IProgress not found")
                return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
