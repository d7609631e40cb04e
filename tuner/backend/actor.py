"""The process in which trials run, as Tune knows it. Imports little: every worker loads this before its first epoch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from ray import tune

from search_spaces import InputError
from trainable.data.intact import DataChanged
from tuner.study.faults import fault_of


class TrialActor(tune.Trainable):
    """A worker process; it serves one attempt after another, so that torch is imported once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin an attempt; an error is reported by its first step."""
        try:
            self._rows = config["work"](config["job"], config["place"])
        except Exception as error:
            self._rows = _raising(error)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next attempt without a new process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch: its row, or the error that ended the attempt."""
        try:
            # As text: Tune keeps a history of every number in a result, tens of kilobytes for each trial.
            return {"row": json.dumps(next(self._rows))}
        except StopIteration:
            return {"error": "the trial had already run to its end"}
        except DataChanged as error:
            return {"error": str(error), "data": os.uname().nodename}
        except InputError as error:
            return {"error": str(error), "final": True}
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if "CUDA" in text or fault_of(text).kind == "memory":
                raise  # a process with a broken CUDA context, or one that keeps its memory, cannot be reused
            return {"error": text}

    def cleanup(self) -> None:
        """Before the process ends: finish pending writes."""
        if close := getattr(self._rows, "close", None):
            close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Does nothing: checkpoints are written by `run_trial`, under the trial's own number."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Does nothing: see `save_checkpoint`."""


def _raising(error: Exception) -> Iterator[dict[str, Any]]:
    raise error
    yield {}
