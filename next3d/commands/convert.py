"""`next3d convert`: published network pickles to files that run nothing when they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.errors import CheckpointError, UserError
from dnnlib.params import EXISTING_FILE, OutputFile

if TYPE_CHECKING:
    from next3d.official.build import Converted
    from next3d.official.published import Published

NETWORK_FILE = OutputFile(".safetensors")


@click.command()
@click.argument("official", type=EXISTING_FILE, metavar="OFFICIAL.pkl")
@click.argument("out", type=NETWORK_FILE, metavar="OUT.safetensors")
@click.option("--raw", type=NETWORK_FILE, help="Also write the generator without averaging.")
@click.option("--discriminator", type=NETWORK_FILE, help="Also write the discriminator.")
def convert(official: Path, out: Path, raw: Path | None, discriminator: Path | None) -> None:
    """Convert a published EG3D or Next3D network; nothing inside the pickle is executed.

    OUT gets the running average of the generator, which every command here takes as --network. The licence of the weights stays that
    of their source.

    \b
    Examples:
      next3d convert next3d_ffhq_512.pkl next3d-ffhq-512.safetensors
      next3d convert ffhqrebalanced512-64.pkl eg3d.safetensors --discriminator eg3d-judge.safetensors
    """
    from next3d.checkpoint import save_converted
    from next3d.official.published import AVERAGE, JUDGE, RAW, Published

    _check_distinct(official, [path for path in (out, raw, discriminator) if path is not None])
    published = Published.open(official)
    targets = {AVERAGE: out, RAW: raw, JUDGE: discriminator}
    wanted = {name: published.convert(name) for name, path in targets.items() if path is not None}
    for line in published.summary():
        click.echo(line)
    for name in targets:
        for line in _described(published, name, wanted.get(name)):
            click.echo(line)
    for name, network in wanted.items():
        path = targets[name]
        assert path is not None
        save_converted(path, network.module, published.metadata(name))
        click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _check_distinct(source: Path, targets: list[Path]) -> None:
    """No file may be written twice, nor over what is read."""
    taken = {source.resolve()}
    for path in targets:
        if path.resolve() in taken:
            raise UserError(f"{path}: is the source or another output of the same command; give every output a name of its own.")
        taken.add(path.resolve())


def _described(published: Published, name: str, converted: Converted | None) -> Iterator[str]:
    """What one network of the file is; one that nobody wants need not be of a kind that is known."""
    from next3d.official.published import TITLES, describe

    if converted is None and name not in published.snapshot.networks:
        return
    try:
        yield from describe(name, converted or published.convert(name))
    except CheckpointError as error:
        click.echo(f"Warning: {TITLES[name]}: left alone, {error}", err=True)
