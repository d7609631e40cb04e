"""`tuner submit`: run a search's driver on the cluster, as a Ray job."""

from __future__ import annotations

import os
import sys
from shlex import join, quote

import click

from results.store.paths import RESULTS
from search_spaces import InputError
from search_spaces.redact import secrets_of
from tuner.backend import jobs


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Example: tuner submit --address http://head:8265 -- search small --data /shared/an4 "
    "--results /shared/studies --study an4 --trials 64",
)
@click.option("--address", required=True, help="The head's dashboard: http://HEAD:8265.")
@click.option("--python", default="python", show_default=True, help="The Python on the cluster that Ray runs with.")
@click.option("--no-wait", is_flag=True, help="Do not follow the job's log.")
@click.argument("arguments", nargs=-1, required=True, metavar="-- COMMAND ...", type=click.UNPROCESSED)
@click.pass_context
def submit(context: click.Context, address: str, python: str, no_wait: bool, arguments: tuple[str, ...]) -> None:
    """Run COMMAND (search, resume, ...) on a Ray cluster as a Ray job, and follow its log.

    --data and --results must be folders that the cluster can read. Space and run files are sent with the job, with the
    other YAML files in the same folder. Ctrl-C stops following the log; the search continues. Exit status: the job's.
    """
    runs = _options(context)
    allowed = sorted(name for name, options in runs.items() if "--address" in options)
    if arguments[0] not in allowed:
        raise click.UsageError(f"{arguments[0]!r} is not allowed after '--'; give {', '.join(allowed)}")
    if any(secrets_of(argument) for argument in arguments):
        raise InputError(
            "a key in an address after '--': everybody who sees the cluster's jobs would see it; "
            "give it to the cluster's nodes (environment, instance role) and leave it out here"
        )
    line, files = jobs.command_line(arguments, sorted(runs[arguments[0]]), _results())
    client = jobs.connect(address)
    job = jobs.send(client, line, files, python)
    name = line[line.index("--study") + 1] if "--study" in line else line[1] if line[0] == "resume" else "STUDY"
    results = line[line.index("--results") + 1]
    click.echo(f"job {job}: tuner {join(line)}", err=True)
    again = f"(or: ray job stop {job} --address {address})"
    click.echo(f"stop it with: tuner stop {quote(name)} --results {quote(results)}   {again}", err=True)
    status = 0
    try:
        if not no_wait:
            status = jobs.follow(client, job, _show)
    except KeyboardInterrupt:
        click.echo("\nthe job continues", err=True)
        status = 130
    click.echo(f"next: tuner watch {quote(name)} --results {quote(results)}", err=True)
    raise click.exceptions.Exit(status)


def _options(context: click.Context) -> dict[str, set[str]]:
    """Command -> its options, of every command but this one."""
    group = context.parent.command if context.parent else None
    if not isinstance(group, click.Group):
        return {}
    found = {name: group.get_command(context, name) for name in group.list_commands(context) if name != "submit"}
    return {name: {o for p in command.params for o in p.opts} for name, command in found.items() if command}


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _results() -> str:
    return os.environ.get("TUNER_RESULTS", str(RESULTS))
