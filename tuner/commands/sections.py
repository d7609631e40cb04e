"""Help in sections, for commands with many options."""

from __future__ import annotations

import click

SECTIONS: dict[str, tuple[str, ...]] = {
    "The study": ("study", "data_dir", "space", "results_dir", "resume_", "force_unlock"),
    "How it searches": ("seed", "searcher", "stopping", "start", "warm_start", "objectives"),
    "When it ends": ("trials", "hours", "gpu_hours", "target_per", "no_improvement", "then"),
    "Machines": (
        *("cpus_per_trial", "gpus_per_trial", "concurrent", "cpus", "address", "stage_data", "custom"),
        *("retries", "hung_after"),
    ),
    "Checkpoints": ("checkpoint_every", "best_weights", "checkpoint_budget"),
    "While it runs": ("log", "notify", "notify_on", "storage"),
}
"""Heading -> names of the parameters below it; those of no section come under Options."""


class Sectioned(click.Command):
    """A command whose options are listed by what they are for."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section that has an option of this command."""
        left = {param.name: param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        for heading, names in {**SECTIONS, "Options": tuple(left)}.items():
            found = [left.pop(name) for name in names if name in left]
            rows = [row for param in found if (row := param.get_help_record(ctx)) is not None]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
