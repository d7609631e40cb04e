"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from results.store.paths import RESULTS
from results.store.remote import working_folder
from search_spaces import checkpoints
from search_spaces.lengths.ladder import read_lengths
from search_spaces.lengths.scale import MOST
from search_spaces.parsing.given import parse_settings
from search_spaces.stopping import Stopping
from search_spaces.writing import refuse_existing

LOGGERS = ("tensorboard", "mlflow", "wandb")
"""Tools that runs can be written to (`tuner/callbacks/loggers.py`)."""


class CardShare(click.ParamType):
    """A number from 0 on, or the word auto."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number, or "auto"."""
        if value == "auto":
            return "auto"
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share < float("inf"):
            self.fail(f"{value!r} is not allowed; give a number from 0 on, such as 0.25, or auto", param, ctx)
        return share


class ResultsFolder(click.Path):
    """A folder, or the URI of an object store, which becomes its local working folder, brought up to date."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The local folder."""
        if "://" in str(value):
            return working_folder(str(value))
        return super().convert(value, param, ctx)


def results_option(function: Any) -> Any:
    """--results: the folder that holds the studies."""
    return click.option(
        "--results",
        "results_dir",
        type=ResultsFolder(path_type=Path, file_okay=False),
        default=RESULTS,
        envvar="TUNER_RESULTS",
        show_default=True,
        show_envvar=True,
        help="Folder with the studies, or an object store: s3://BUCKET/PREFIX, gs://...",
    )(function)


def out_option(
    text: str,
    flag: str = "--out",
    *,
    default: Path | None = None,
    required: bool = False,
    folder: bool = False,
    with_force: bool = False,
) -> Callable[[Any], Any]:
    """`flag` FILE with the help `text`, and --force: a file that exists is refused without it, before anything is done.

    A device or a pipe (/dev/null, /dev/stdout) is no file to replace: it is written to. With `folder` a folder may be
    given too; a command that replaces more than that one file gets `force`, by `with_force`.
    """

    def given(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
        if path is not None:
            refuse_existing(path, context.meta[_FORCE], flag)
        return path

    def forced(context: click.Context, parameter: click.Parameter, force: bool) -> bool:
        context.meta[_FORCE] = force
        return force

    # To click a default of None is a default too, with which a required option may be left out.
    defaults: dict[str, Any] = {} if default is None else {"default": default, "show_default": True}

    def decorate(function: Any) -> Any:
        out = click.option(
            flag,
            "out",
            type=click.Path(path_type=Path, dir_okay=folder),
            **defaults,
            required=required,
            callback=given,
            help=text,
        )
        replace = f"Replace what {flag} names if it exists."
        force = click.option(
            "--force", is_flag=True, is_eager=True, expose_value=with_force, callback=forced, help=replace
        )
        return out(force(function))

    return decorate


_FORCE = "tuner.force"


def refuse_taken(path: Path) -> None:
    """For a command that names its --out itself: what its `out_option` would have said of `path`."""
    refuse_existing(path, click.get_current_context().meta[_FORCE])


def format_option(function: Any) -> Any:
    """--format: how a table is written."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "json", "markdown"]),
        default="table",
        show_default=True,
        help="Format of the table.",
    )(function)


def json_option(function: Any) -> Any:
    """--format table|json: for output that is not a single table."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Output for people, or for programs.",
    )(function)


def data_option(function: Any) -> Any:
    """--data: a packed data folder."""
    return click.option(
        "--data",
        "data_dir",
        type=click.Path(path_type=Path),
        required=True,
        help="Packed data folder, made by 'tuner data import' or 'tuner data synthetic'.",
    )(function)


def parse_rule(text: str, option: str = "stopping") -> dict[str, Any]:
    """A stopping rule's settings from its kind and `key=value` after it, as `--stopping` takes them.

    Raises InputError, a line for each problem.
    """
    return parse_settings(text, Stopping, option)


def curves_options(function: Any) -> Any:
    """--every and --space: how recorded curves are read."""
    options = (
        click.option(
            "--every",
            type=click.IntRange(min=1),
            help="Keep only evaluations at multiples of this number of batches (docs/curves.md).",
        ),
        click.option("--space", help="The search space of a file with params; a study has its own."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def set_option(function: Any) -> Any:
    """--set: change a value of a run."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a value by its dotted path, such as schedule.peak_lr=3e-3; can be given several times.",
    )(function)


def scale_option(text: str) -> Callable[[Any], Any]:
    """--scale F, with the help `text`: the same run or space, F times as long."""
    return click.option(
        "--scale", type=FiniteRange(min=0, max=MOST, min_open=True), metavar="F", help=f"{text} [default: 1]."
    )


class RunLengths(click.ParamType):
    """`0.25,0.5,1,2` as numbers."""

    name = "F,F"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The numbers; a usage error for anything else."""
        try:
            return read_lengths(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def lengths_option(function: Any) -> Any:
    """--lengths: whole short runs first, the best settings again in longer ones."""
    return click.option(
        "--lengths",
        type=RunLengths(),
        help="Runs of several lengths, as multiples of the space's, such as 0.25,0.5,1,2: whole short runs first, and "
        "the best third again in longer ones; needs a budget of batches, utterances or trials [default: from "
        "the space].",
    )(function)


class FiniteRange(click.FloatRange):
    """click's FloatRange lets nan pass, and inf where there is no upper end; this one does not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error for anything else."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def _amounts(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, float] | None:
    """NAME=AMOUNT, several times -> {name: amount}; None where nothing was given, {} for "none"."""
    found: dict[str, float] = {}
    if given == ("none",):
        return found
    for text in given:
        name, _, amount = text.rpartition("=")
        try:
            found[name.strip()] = FiniteRange(min=0, min_open=True).convert(amount, param, ctx)
        except click.BadParameter:
            name = ""
        if not name.strip() or name.strip() in ("CPU", "GPU"):
            raise click.BadParameter(
                f"{text!r} is not allowed; give NAME=AMOUNT with an amount above 0, such as "
                "accelerator_type:H200=0.001 (CPUs and GPUs have their own options)",
                ctx,
                param,
            )
    return found or None


def resource_options(function: Any) -> Any:
    """--hours, --cpus-per-trial, --gpus-per-trial, --trial-resource, --concurrent, --cpus, --retries, --address,
    --give-up-after, --stage-data: where trials run.
    """
    options = (
        click.option(
            "--hours", type=FiniteRange(min=0, min_open=True), help="Wall time in hours, all sessions together."
        ),
        click.option(
            "--cpus-per-trial",
            type=FiniteRange(min=0, min_open=True),
            help="CPU cores, and torch threads, for each trial [default: 1; on resume: unchanged].",
        ),
        click.option(
            "--gpus-per-trial",
            type=CardShare(),
            help="GPUs for each trial; 0.25 lets four trials share one. auto (new searches only) first measures how "
            "many trials a GPU should hold [default: auto where a search finds a GPU, else 1 if there is one].",
        ),
        click.option("--concurrent", type=click.IntRange(min=1), help="Trials at once [default: as many as fit]."),
        click.option("--cpus", type=click.IntRange(min=1), help="CPU cores that the local Ray may use [default: all]."),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            help="Further attempts at a trial that failed [default: 1; on resume: unchanged].",
        ),
        click.option(
            "--hung-after",
            type=FiniteRange(min=0),
            metavar="TIMES",
            help="Kill and retry a trial that reports nothing for TIMES its usual epoch time, but never before two "
            "minutes; 0 = do not [default: 20; on resume: unchanged].",
        ),
        click.option("--address", help="Use the Ray cluster at HOST:PORT, or auto [default: a local Ray]."),
        click.option(
            "--give-up-after",
            type=FiniteRange(min=0, min_open=True),
            metavar="MINUTES",
            help="Leave with exit status 1 when for so long no node of the cluster could hold a trial; what was "
            "reported is kept, and resume goes on [default: wait for one].",
        ),
        click.option(
            "--stage-data",
            is_flag=True,
            help="Copy the data to TUNER_STAGE on every node of the cluster [default: all nodes can read --data].",
        ),
        click.option(
            "--trial-resource",
            "custom",
            multiple=True,
            callback=_amounts,
            metavar="NAME=AMOUNT",
            help="Custom Ray resource for each trial: accelerator_type:H200=0.001 uses only machines with such "
            "GPUs; can be given several times [default: none; on resume: unchanged].",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def budget_options(function: Any) -> Any:
    """When a search ends, besides --hours: the limits and --then."""
    options = (
        click.option("--trials", type=click.IntRange(min=1), help="Trials in all [default: the space's budget]."),
        click.option(
            "--gpu-hours",
            type=FiniteRange(min=0, min_open=True),
            help="GPU hours of all trials and sessions together; a trial on a quarter of a GPU counts a quarter.",
        ),
        click.option(
            "--batches",
            type=click.IntRange(min=1),
            help="Batches (optimizer steps) of all trials and sessions together.",
        ),
        click.option(
            "--utterances",
            type=click.IntRange(min=1),
            help="Utterances that all trials and sessions together train on, each as often as it is used.",
        ),
        click.option("--target-per", type=FiniteRange(min=0, max=1), help="End when a trial reaches this PER."),
        click.option(
            "--no-improvement",
            type=click.IntRange(min=1),
            metavar="N",
            help="End when N trials in a row have not improved the best PER.",
        ),
        click.option(
            "--then",
            type=click.Choice(["finish", "stop"]),
            help="What running trials do when a limit is reached [default: at --hours, --gpu-hours, --batches and "
            "--utterances they stop, and continue on resume; at --target-per and --no-improvement they finish].",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


class Parsed(click.ParamType):
    """What a function of `search_spaces.checkpoints` makes of the text."""

    def __init__(self, name: str, parser: str) -> None:
        self.name = name
        self._parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; a usage error for anything else."""
        try:
            return getattr(checkpoints, self._parser)(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def checkpoint_options(function: Any) -> Any:
    """--checkpoint-every, --best-weights, --checkpoint-budget: which checkpoints are kept."""
    options = (
        click.option(
            "--checkpoint-every",
            metavar="WHEN",
            type=Parsed("when", "parse_every"),
            help="When the full training state is saved: auto, rungs, '3 epochs' or '10 minutes'. auto = every epoch, "
            "but in at most 5 % of the time. A killed trial repeats the epochs after the last one [default: from "
            "the space; on resume: unchanged].",
        ),
        best_weights_option,
        click.option(
            "--checkpoint-budget",
            metavar="SIZE",
            type=Parsed("size", "parse_size"),
            help="Disk space for all checkpoints of the study, such as 200GB. Above it, older states are removed, then "
            "the best weights of the worst ended trials [default: from the space; on resume: unchanged].",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def best_weights_option(function: Any) -> Any:
    """--best-weights: how a trial's best weights are kept."""
    return click.option(
        "--best-weights",
        type=click.Choice(["full", "half", "none"]),
        help="How the weights of a trial's best epoch are saved: full, half (float16, half the size) or none "
        "[default: full; on resume: unchanged].",
    )(function)


def observer_options(function: Any) -> Any:
    """--log, --notify, --notify-on, --storage: other programs that follow a search."""
    options = (
        click.option(
            "--log",
            multiple=True,
            type=click.Choice([*LOGGERS, "none"]),
            help="Write the trials to this tool too: tensorboard to STUDY/tensorboard, mlflow to MLFLOW_TRACKING_URI "
            "or to mlflow.db beside the studies, wandb to STUDY/wandb (uploaded at once if WANDB_API_KEY is set). "
            "none = no more [default on resume: as before].",
        ),
        click.option(
            "--notify",
            multiple=True,
            metavar="COMMAND|URL",
            help="Notify a command (JSON on its standard input, no shell) or a webhook (JSON by POST). none = no more "
            "[default on resume: as before; what may hold a secret must be given again].",
        ),
        click.option(
            "--notify-on",
            metavar="KIND,KIND",
            help="Notify at: end (of the search), failure (of a trial), best (when a trial with a new best PER ends) "
            "[default: end,failure].",
        ),
        click.option(
            "--storage",
            metavar="URL|FILE",
            help="Keep a copy as an Optuna study while the search runs: sqlite:///FILE.db, another database, or a "
            "journal file. 'optuna-dashboard URL' shows it. none = no more [default on resume: as before].",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
