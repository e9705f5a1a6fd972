"""`next3d data …`: everything about data sets."""

from __future__ import annotations

import click

from next3d.commands.main import LazyGroup

COMMANDS = {
    "synthetic": ("next3d.commands.data_synthetic:synthetic", "Render portraits with exact ground truth."),
    "synthetic-video": (
        "next3d.commands.data_synthetic_video:synthetic_video",
        "Render videos of people who talk and look around, with exact ground truth.",
    ),
    "check": ("next3d.commands.data_check:check", "Read a data set completely and report what is wrong with it."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def data() -> None:
    """Make and check data sets."""
