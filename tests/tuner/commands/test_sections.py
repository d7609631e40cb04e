"""Help in sections."""

from __future__ import annotations

import click
from click.testing import CliRunner

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
