"""Options of a command in sections, and a suggestion for an unknown command."""

from __future__ import annotations

import click

from search_spaces.wording import did_you_mean

SECTIONS: dict[str, tuple[str, ...]] = {
    "The study": ("study", "data_dir", "space", "scale", "lengths", "results_dir", "resume_", "force_unlock"),
    "How it searches": ("seed", "searcher", "stopping", "start", "warm_start", "objectives"),
    "When it ends": ("trials", "hours", "gpu_hours", "batches", "utterances", "target_per", "no_improvement", "then"),
    "Machines": (
        *("cpus_per_trial", "gpus_per_trial", "concurrent", "cpus", "address", "stage_data", "custom"),
        *("retries", "hung_after", "give_up_after"),
    ),
    "Checkpoints": ("checkpoint_every", "best_weights", "checkpoint_budget"),
    "While it runs": ("log", "notify", "notify_on", "storage"),
}
"""Heading -> names of the parameters below it; those of no section come under Options."""


class Sectioned(click.Command):
    """A command whose options are listed in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section that has an option of this command."""
        left = {param.name: param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        for heading, names in {**SECTIONS, "Options": tuple(left)}.items():
            found = [left.pop(name) for name in names if name in left]
            rows = [row for param in found if (row := param.get_help_record(ctx)) is not None]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class NearestNames(click.Group):
    """A group of commands that suggests the nearest name for an unknown command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; UsageError with a suggestion for an unknown command."""
        name = str(args[0])
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            hint = did_you_mean(name, known) + f"'{ctx.command_path} --help' lists the commands"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the whole of its first sentence."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(limit=300)) for name, command in commands if command is not None]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
