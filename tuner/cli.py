"""The `tuner` command: what users type, and what they get when something is wrong.

Nothing heavy is imported here (torch, ray, optuna): each command imports what it needs when it runs.
Exit status: 0 done, 1 a job failed, 2 usage or input, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback

import click

from search_spaces.errors import InputError
from tuner.commands import (
    audit,
    changelog,
    confirm,
    data,
    evaluate,
    export,
    importance,
    lineage,
    maintain,
    plan,
    query,
    report,
    results,
    runs,
    search,
    simulate,
    spaces,
    stop,
    submit,
    sync,
    train,
    trials,
    watch,
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="First steps: tuner data synthetic small --out data/small; "
    "tuner search quickstart --data data/small; tuner best",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="b2t-tuner", prog_name="tuner")
def tuner(debug: bool) -> None:
    """Search the training settings of a GRU-CTC phoneme decoder, stop weak trials early, ask which was best."""


for command in (
    *data.COMMANDS,
    *spaces.COMMANDS,
    *runs.COMMANDS,
    *plan.COMMANDS,
    *search.COMMANDS,
    *confirm.COMMANDS,
    *lineage.COMMANDS,
    *train.COMMANDS,
    *evaluate.COMMANDS,
    *results.COMMANDS,
    *report.COMMANDS,
    *trials.COMMANDS,
    *importance.COMMANDS,
    *audit.COMMANDS,
    *simulate.COMMANDS,
    *export.COMMANDS,
    *query.COMMANDS,
    *maintain.COMMANDS,
    *changelog.COMMANDS,
    *watch.COMMANDS,
    *stop.COMMANDS,
    *submit.COMMANDS,
    *sync.COMMANDS,
):
    tuner.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        status = tuner.main(arguments, prog_name="tuner", standalone_mode=False)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except InputError as error:
        _fail(error.problems, debug)
        status = error.exit_status
    except (KeyboardInterrupt, click.exceptions.Abort):
        print("stopped", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        _fail([f"{type(error).__name__}: {error}", "this should not happen; --debug shows where it did"], debug)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _fail(lines: list[str], debug: bool) -> None:
    if debug:
        traceback.print_exc()
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
