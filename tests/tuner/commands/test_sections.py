"""Help in sections."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tuner.cli import COMMANDS, tuner
from tuner.commands.search import resume, search
from tuner.commands.sections import SECTIONS


def test_every_option_of_a_search_stands_under_a_heading_once():
    """Only --help is left for the last section, and no section names an option that no command has."""
    named = [name for names in SECTIONS.values() for name in names]
    assert len(named) == len(set(named))
    has = {param.name for command in (search, resume) for param in command.params if isinstance(param, click.Option)}
    assert has == set(named)


def test_help_shows_the_headings_that_a_command_needs():
    """All of them for `search`, each followed by its options."""
    text = CliRunner().invoke(search, ["--help"]).output
    places = [text.index(f"{heading}:") for heading in SECTIONS]
    assert places == sorted(places)
    assert text.index("How it searches:") < text.index("--stopping") < text.index("When it ends:")


def test_the_list_of_commands_fits_80_columns():
    """`tuner --help` at 80 columns shows each command on one line, with the whole of what it does."""
    text = CliRunner().invoke(tuner, ["--help"], terminal_width=80).output
    for heading, commands in COMMANDS.items():
        assert f"\n{heading}:\n" in text
        for name, (_, line) in commands.items():
            assert any(row.split(maxsplit=1) == [name, line] for row in text.splitlines()), name


@pytest.mark.parametrize("name", [name for commands in COMMANDS.values() for name in commands])
def test_a_command_says_the_same_in_the_list_and_in_its_help(name):
    """The line in the list and the first sentence of the command's help begin with the same verb; lists are whole."""
    [line] = [commands[name][1] for commands in COMMANDS.values() if name in commands]
    command = tuner.get_command(click.Context(tuner), name)
    text = CliRunner().invoke(command, ["--help"], prog_name=f"tuner {name}", terminal_width=80).output
    assert line.endswith(".")
    assert command.help.split()[0] == line.split()[0]
    lists = text.partition("Commands:\n")[2].partition("\n\n")[0]
    assert "..." not in lists
    if isinstance(command, click.Group):
        assert all(part in lists for part in command.commands)
