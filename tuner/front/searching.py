"""`tuner.search` and `tuner.resume`: the commands of those names, called from Python.

Arguments are checked by the options of the commands, so both accept and refuse the same values.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console

from results.store.paths import RESULTS
from search_spaces import InputError, Space
from search_spaces.wording import did_you_mean
from tuner.commands import search as commands
from tuner.front.studies import StudyView

PathLike = str | os.PathLike[str]
Names = str | Sequence[str]
"""The value of an option that can be given several times: one, or several."""

_busy = threading.Lock()
"""Held while a search runs in this process: there is one Ray and one signal handler per process."""
_COMMAS = ("objectives", "notify_on", "lengths")
"""Options that take several words in one text."""


def search(
    space: PathLike | Space,
    *,
    data: PathLike,
    study: str | None = None,
    resume: bool = False,
    seed: int | None = None,
    scale: float | None = None,
    lengths: str | Sequence[float] | None = None,
    searcher: str | None = None,
    stopping: str | None = None,
    start: Names | None = None,
    warm_start: Names | None = None,
    objectives: Names | None = None,
    trials: int | None = None,
    hours: float | None = None,
    gpu_hours: float | None = None,
    batches: int | None = None,
    utterances: int | None = None,
    target_per: float | None = None,
    no_improvement: int | None = None,
    then: Literal["finish", "stop"] | None = None,
    cpus: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | Literal["auto"] | None = None,
    concurrent: int | None = None,
    trial_resource: Names | Mapping[str, float] | None = None,
    address: str | None = None,
    give_up_after: float | None = None,
    stage_data: bool = False,
    retries: int | None = None,
    hung_after: float | None = None,
    checkpoint_every: str | None = None,
    best_weights: Literal["full", "half", "none"] | None = None,
    checkpoint_budget: str | int | None = None,
    log: Names | None = None,
    notify: Names | None = None,
    notify_on: Names | None = None,
    storage: str | None = None,
    force_unlock: bool = False,
    results: PathLike | None = None,
    **unknown: Any,
) -> StudyView:
    """Search a space, as `tuner search` does, and return the study when it has ended.

    `space` is a name from `tuner spaces`, a file, or a `Space`. The other arguments are the options of `tuner search`,
    with `_` for `-` (see `tuner search --help`); None is the option's default. Options that can be given several times
    take one text or a list.

    Raises InputError, a line for each problem, for what the command refuses; RuntimeError if every trial failed;
    KeyboardInterrupt if it was stopped (Ctrl-C, the notebook's stop button, `tuner stop`): then everything reported is
    kept, `tuner.open` shows it and `tuner.resume` continues.
    """
    given = locals()
    options = _options(commands.search, "search", given.pop("space"), given | given.pop("unknown"))
    if isinstance(space, Space):
        options["space"] = space
    with _running():
        name, status = commands.start(**options)
    return _finished(options["results_dir"] / name, status)


def resume(
    study: str | StudyView,
    *,
    space: PathLike | Space | None = None,
    scale: float | None = None,
    searcher: str | None = None,
    stopping: str | None = None,
    start: Names | None = None,
    data: PathLike | None = None,
    trials: int | None = None,
    hours: float | None = None,
    gpu_hours: float | None = None,
    batches: int | None = None,
    utterances: int | None = None,
    target_per: float | None = None,
    no_improvement: int | None = None,
    then: Literal["finish", "stop"] | None = None,
    cpus: int | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    concurrent: int | None = None,
    trial_resource: Names | Mapping[str, float] | None = None,
    address: str | None = None,
    give_up_after: float | None = None,
    stage_data: bool = False,
    retries: int | None = None,
    hung_after: float | None = None,
    checkpoint_every: str | None = None,
    best_weights: Literal["full", "half", "none"] | None = None,
    checkpoint_budget: str | int | None = None,
    log: Names | None = None,
    notify: Names | None = None,
    notify_on: Names | None = None,
    storage: str | None = None,
    force_unlock: bool = False,
    results: PathLike | None = None,
    **unknown: Any,
) -> StudyView:
    """Continue a study from where its log ends, as `tuner resume` does, and return it when it has ended.

    `study` is a name, or a study that `tuner.open` or `tuner.search` returned. A given option applies from now on;
    None means "unchanged". Raises what `search` raises.
    """
    given = locals()
    name = given.pop("study")
    if isinstance(name, StudyView):
        given["results"] = name.folder.parent if results is None else results
        name = name.name
    if isinstance(space, Space):
        del given["space"]
    options = _options(commands.resume, "resume", name, given | given.pop("unknown"))
    if isinstance(space, Space):
        options["space"] = space
    with _running():
        status = commands.restart(**options)
    return _finished(options["results_dir"] / options["study"], status)


def _options(command: click.Command, name: str, subject: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the command, by its own names, as it would read them from a command line.

    Raises InputError: the line that the command would print.
    """
    known = {_name(param): param for param in command.params if isinstance(param, click.Option)}
    if wrong := [key for key in given if key not in known]:
        raise InputError(
            f"tuner.{name}: there is no option {key!r}; {did_you_mean(key, known)}help(tuner.{name}) lists them"
            for key in wrong
        )
    for key, value in given.items():
        if known[key].is_flag and value not in (None, True, False):
            raise InputError(f"tuner.{name}: {key}: {value!r} is not allowed; give True or False")
    words = [word for key, value in given.items() for word in _words(known[key], key, value)]
    text = subject if isinstance(subject, str | os.PathLike) else str(getattr(subject, "name", subject))
    try:
        context = command.make_context(f"tuner.{name}", [*words, "--", os.fspath(text)])
    except click.BadParameter as error:
        where = _name(error.param) if isinstance(error.param, click.Option) else error.param and error.param.name
        raise InputError(f"tuner.{name}: {where}: {error.message.rstrip('.')}") from None
    except click.UsageError as error:
        raise InputError(f"tuner.{name}: {error.message.rstrip('.')}") from None
    return context.params


def _name(option: click.Parameter) -> str:
    """`--cpus-per-trial` as Python has it: cpus_per_trial."""
    return option.opts[0].lstrip("-").replace("-", "_")


def _words(option: click.Option, key: str, value: Any) -> list[str]:
    """An option on a command line; nothing for one that is not given."""
    if value is None or (option.is_flag and not value):
        return []
    if option.is_flag:
        return [option.opts[0]]
    if isinstance(value, Mapping):
        value = [f"{name}={amount}" for name, amount in value.items()]
    several = [value] if isinstance(value, str | os.PathLike) or not isinstance(value, Sequence) else list(value)
    if key in _COMMAS and several:
        several = [",".join(map(str, several))]
    return [f"{option.opts[0]}={each}" for each in several]


@contextlib.contextmanager
def _running() -> Iterator[None]:
    """Around a search: one at a time in a process, no other Ray, and its lines on the right stream."""
    if not _busy.acquire(blocking=False):
        raise InputError(
            "a search is running in this process; wait until it has ended, or start this one from another process"
        )
    try:
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            raise InputError(
                "Ray is running in this process, and a search starts its own; end it with ray.shutdown(), "
                "or search from another process"
            )
        # When Ray is imported it tells a notebook, twice, of packages for displays that are not used here.
        logging.getLogger("ray.widgets").setLevel(logging.ERROR)
        # A notebook shows standard error on red, as if all were errors.
        with contextlib.redirect_stderr(sys.stdout) if Console().is_jupyter else contextlib.nullcontext():
            if threading.current_thread() is not threading.main_thread():
                print("note: Ctrl-C arrives in the main thread; 'tuner stop STUDY' stops this one", file=sys.stderr)
            yield
    finally:
        _busy.release()


def _finished(folder: Path, status: int) -> StudyView:
    """The study of a search that has ended; raises for one that was stopped, and for one where all failed."""
    study = StudyView(folder)
    where = "" if folder.parent == RESULTS else f", results={str(folder.parent)!r}"
    name = repr(folder.name) + where
    if status == 130:
        raise KeyboardInterrupt(f"the search was stopped; tuner.open({name}) shows it, tuner.resume({name}) continues")
    if status:
        first = study.query("select error from trials where status = 'failed' order by trial limit 1").to_dicts()
        said = f"; the first said: {first[0]['error']}" if first else ""
        raise RuntimeError(f"every trial of the study failed{said}; tuner.open({name}) shows them")
    return study
