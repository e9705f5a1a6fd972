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
    "portraits": ("next3d.commands.data_portraits:portraits", "Photos and films of people to crops, cameras and heads."),
    "overlay": ("next3d.commands.data_overlay:overlay", "What tracking finds in one photo, as a picture."),
    "check": ("next3d.commands.data_check:check", "Read a data set completely and report what is wrong with it."),
    "stats": ("next3d.commands.data_stats:stats", "Sizes, cameras, heads and brightness of a data set."),
    "convert": ("next3d.commands.data_convert:convert", "Copy a data set: folder or zip, smaller images, another image format."),
    "shard": ("next3d.commands.data_shard:shard", "Shuffle a data set into tar files, for large disks and object storage."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def data() -> None:
    """Make, check and convert data sets."""
