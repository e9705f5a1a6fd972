"""`next3d convert`: published network pickles to files that run nothing when they are loaded, and networks to half their size."""

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
@click.argument("source", type=EXISTING_FILE, metavar="NETWORK")
@click.argument("out", type=NETWORK_FILE, metavar="OUT.safetensors")
@click.option("--raw", type=NETWORK_FILE, help="Also write the generator without averaging.  Published pickles only.")
@click.option("--discriminator", type=NETWORK_FILE, help="Also write the discriminator.  Published pickles only.")
@click.option("--half", is_flag=True, help="Store weights in half precision.  Networks of ours only.")
def convert(source: Path, out: Path, raw: Path | None, discriminator: Path | None, half: bool) -> None:
    """Convert a published EG3D or Next3D network (a pickle), or make a network of ours half as large.

    Nothing inside a pickle is executed. OUT gets the running average of the generator, which every command here takes as --network. The
    licence of the weights stays that of their source.

    \b
    Examples:
      next3d convert next3d_ffhq_512.pkl next3d-ffhq-512.safetensors
      next3d convert ffhqrebalanced512-64.pkl eg3d.safetensors --discriminator eg3d-judge.safetensors
      next3d convert network-000200.safetensors small.safetensors --half
    """
    from next3d.official.published import is_published

    _check_distinct(source, [path for path in (out, raw, discriminator) if path is not None])
    if is_published(source):
        if half:
            raise UserError(f"{source}: --half is for networks of ours; convert it first, then the result with --half.")
        _convert_published(source, out, raw, discriminator)
        return
    if raw is not None or discriminator is not None:
        raise UserError(f"{source}: --raw and --discriminator are for published pickles; a network file of ours has one generator.")
    if not half:
        raise UserError(f"{source}: is a network of ours already; give --half to store its weights in half precision.")
    _halve(source, out)


def _halve(source: Path, out: Path) -> None:
    """Write a network of ours in half precision; what its file says of it stays."""
    from next3d.checkpoint import load_generator, read_network_metadata, save_generator

    said = {name: text for name, text in read_network_metadata(source).items() if name not in ("format", "format_version", "config")}
    save_generator(out, load_generator(source), metadata=said, half=True)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def _convert_published(official: Path, out: Path, raw: Path | None, discriminator: Path | None) -> None:
    """Write the networks of a published pickle that are wanted, and say what each is."""
    from next3d.checkpoint import save_converted
    from next3d.official.published import AVERAGE, JUDGE, RAW, Published

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
