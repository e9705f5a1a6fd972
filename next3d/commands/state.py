"""`next3d state …`: resume states that fit into a repository, and back."""

from __future__ import annotations

from pathlib import Path

import click

from dnnlib.errors import UserError
from dnnlib.params import EXISTING_FILE, EXISTING_FOLDER, OUTPUT_DIR, OutputFile, Real

MIB = 1 << 20


@click.group()
def state() -> None:
    """Carry a training to another machine."""


@state.command()
@click.argument("source", type=EXISTING_FILE, metavar="STATE")
@click.argument("folder", type=OUTPUT_DIR, metavar="FOLDER")
@click.option("--part-mib", type=Real(min=0, min_open=True), default=15, show_default=True, help="No file is larger, MiB.")
def pack(source: Path, folder: Path, part_mib: float) -> None:
    """Pack the resume state STATE into FOLDER: half of the bytes, in files of limited size.

    An older packed state in FOLDER goes when the new one is complete. `train --resume FOLDER` continues it.

    \b
    Examples:
      next3d state pack runs/00000-demo-128-data-gpus1-batch8-gamma0.3/network-000123.state states/demo-128
      next3d state pack network-000123.state carried --part-mib 4
    """
    from training.state import pack_state

    paths = pack_state(source, folder, int(part_mib * MIB))
    for path in paths:
        click.echo(f"{path}: {path.stat().st_size / MIB:.2f} MiB")
    total = sum(path.stat().st_size for path in paths)
    click.echo(f"{total / MIB:.2f} MiB in all, {total / source.stat().st_size:.0%} of {source}.")


@state.command()
@click.argument("folder", type=EXISTING_FOLDER, metavar="FOLDER")
@click.argument("out", type=OutputFile(".state"), metavar="OUT.state")
def unpack(folder: Path, out: Path) -> None:
    """Make an ordinary resume state of the packed one in FOLDER.

    \b
    Example:
      next3d state unpack states/demo-128 network-000123.state
    """
    from training.state import unpack_state

    if out.exists():
        raise UserError(f"{out}: is there already; give another name or remove it.")
    images = unpack_state(folder, out)
    click.echo(f"{out}: {images / 1000:g} kimg, {out.stat().st_size / MIB:.2f} MiB")
