"""The `tuner` command: what users type, and what they get when something is wrong.

Nothing heavy is imported here (torch, ray, optuna): a command's module is imported when that command is called.
Exit status: 0 done, 1 a job failed, 2 usage or input, 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import traceback

import click

from results.store import telling
from search_spaces.errors import InputError
from search_spaces.redact import redacted
from search_spaces.wording import show
from tuner import terminal
from tuner.commands.sections import NearestNames

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Data": {
        "data": ("data:data", "Import recordings, make synthetic data, check and plot them."),
        "evaluate": ("evaluate:evaluate", "Decode a split of a data set with a checkpoint; list the errors."),
    },
    "Search": {
        "spaces": ("spaces:spaces", "List and show search spaces; make a narrower one."),
        "runs": ("runs:runs", "List, show, compare and plot single configurations."),
        "plan": ("plan:plan", "Show what a search will cost, before it is run."),
        "search": ("search:search", "Search a space; this starts a study."),
        "resume": ("search:resume", "Continue a study from where its log ends."),
        "campaign": ("campaign:campaign", "Run a whole campaign: search, confirm, test, report."),
        "train": ("train:train", "Train one configuration, outside any study."),
        "confirm": ("confirm:confirm", "Train the best configurations again with new seeds."),
        "lineage": ("lineage:lineage", "Train the 23 recorded runs again, as one study."),
        "simulate": ("simulate:simulate", "Simulate whole searches over recorded learning curves."),
        "audit": ("audit:audit", "Check if a stopping rule would have stopped the best run."),
    },
    "Ask": {
        "best": ("results:best", "Show the best configurations, and which of them are a tie."),
        "show": ("trials:show", "Show one trial: result, settings, curve, checkpoints."),
        "compare": ("trials:compare", "Compare trials and runs side by side."),
        "importance": ("importance:importance", "Show how much each searched setting mattered."),
        "query": ("query:query", "Run SQL over the tables (read-only)."),
    },
    "Share": {
        "report": ("report:report", "Write one HTML page about one or more studies."),
        "changelog": ("changelog:changelog", "Write the history of a study as text."),
        "export": ("export:export", "Write a trained decoder, or the tables, for other programs."),
        "log": ("listeners:log", "Write a study's trials to TensorBoard, MLflow or W&B."),
    },
    "Cluster": {
        "submit": ("submit:submit", "Run a command on a Ray cluster, as a Ray job."),
        "sync": ("sync:sync", "Synchronize a study with its copy in an object store."),
    },
    "Upkeep": {
        "studies": ("studies:studies", "Show all studies: state, best PER, last sign of life."),
        "doctor": ("doctor:doctor", "Check what a search needs: torch, card, Ray, disk."),
        "status": ("watch:status", "Show the state of a study: trials, best PER, rungs."),
        "watch": ("watch:watch", "Follow a running study from any shell or machine."),
        "dashboard": ("listeners:dashboard", "Show a study in optuna-dashboard, in a browser."),
        "stop": ("stop:stop", "Stop a running study, or one of its trials."),
        "set": ("set:set_command", "Change a running search: trials at once."),
        "note": ("note:note", "Write a note on a study or a trial into its log."),
        "tag": ("note:tag", "Put tags on a study or a trial, or take them off."),
        "results": ("maintain:results_group", "Check, merge, clean and delete studies; import past runs."),
    },
}
"""Heading -> command -> (`module:name` in `tuner.commands`, its line in the list)."""


class LazyGroup(NearestNames):
    """The commands of `COMMANDS`, listed under their headings; a command is imported when it is first needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the headings."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, imported now; None if there is none of that name."""
        for commands in COMMANDS.values():
            if name in commands:
                module, _, function = commands[name][0].partition(":")
                command: click.Command = getattr(importlib.import_module(f"tuner.commands.{module}"), function)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list, a heading for each section; no command is imported for it."""
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()], col_max=12)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="First steps: tuner data synthetic small --out data/small; "
    "tuner search quickstart --data data/small; tuner best",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="b2t-tuner", prog_name="tuner")
@click.pass_context
def tuner(context: click.Context, debug: bool) -> None:
    """Search the training settings of a GRU-CTC phoneme decoder, and compare the results.

    A study is one search: many trials, of which weak ones are stopped early. Everything is in its folder.
    Without a command, the studies are shown, and the next step.
    """
    if context.invoked_subcommand is None:
        importlib.import_module("tuner.commands.studies").home()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    own = arguments is None
    if own:
        terminal.leave_on_sigterm()
    terminal.show_any_text()
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    telling.begin()
    try:
        status = tuner.main(arguments, prog_name="tuner", standalone_mode=False)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        print(redacted(said.getvalue()), end="", file=sys.stderr)
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
    except OSError as error:
        _fail([_of_the_system(error)], debug)
        status = 2 if error.errno == errno.ENAMETOOLONG else 1
    except Exception as error:
        _fail(
            [f"{type(error).__name__}: {error}", "this is a bug; run the same command with --debug for the traceback"],
            debug,
        )
        status = 1
    telling.finish()
    if own:
        terminal.leaves_now()
    sys.exit(status if isinstance(status, int) else 0)


def _of_the_system(error: OSError) -> str:
    """One line on what the operating system refused: its words, and the file."""
    if error.errno == errno.ENAMETOOLONG:
        return f"{show(str(error.filename))}: is too long for a file's name; give a shorter one"
    words = error.strerror or str(error).strip() or type(error).__name__
    return f"{error.filename}: {words}" if error.filename is not None else words


def _fail(lines: list[str], debug: bool) -> None:
    if debug:
        print(redacted(traceback.format_exc()), end="", file=sys.stderr)
    for line in lines:
        print(f"error: {redacted(line)}", file=sys.stderr)
