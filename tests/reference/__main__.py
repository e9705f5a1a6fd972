"""Compute every array of a folder of reference numbers through the public API and compare.

python -m tests.reference ../shared/golden [--dump OUT.npz] [--require-all] [--only KIND] [--next3d FILE] [--eg3d FILE]

Prints a line per array; ends with exit code 1 if one is wrong or, with --require-all, was not computed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

from dnnlib.files import atomic_write
from tests.reference.folder import Folder
from tests.reference.run import KINDS, Networks, Result, run

NETWORK = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dump", type=click.Path(dir_okay=False, path_type=Path), help="Write every computed array as KIND/NAME into this .npz.")
@click.option("--require-all", is_flag=True, help="Fail if a stored output was not computed.")
@click.option("--only", type=click.Choice(KINDS), multiple=True, help="Leave the other kinds out.")
@click.option("--next3d", type=NETWORK, help="Snapshot or converted file in place of the folder's Next3D; a snapshot's D is the judge.")
@click.option("--eg3d", type=NETWORK, help="Snapshot or converted file in place of the folder's EG3D.")
def main(folder: Path, dump: Path | None, require_all: bool, only: tuple[str, ...], next3d: Path | None, eg3d: Path | None) -> None:
    """Run all reference cases of FOLDER."""
    if not (folder / "configs.json").is_file():
        raise click.BadParameter(f"{folder}: has no configs.json; expected a folder of reference numbers.")
    networks = Networks.open({kind: path for kind, path in (("next3d", next3d), ("eg3d", eg3d)) if path is not None})
    result = Result()
    try:
        for kind in only or KINDS:
            if not Folder(folder).holds(kind):
                click.echo(f"{kind}: not in this folder")
                result.missing += [kind] if kind in only else []
                continue
            for comparison in run(Folder(folder), kind, result, networks):
                click.echo(comparison.line())
    finally:  # what was computed before an error is still worth looking at
        if dump is not None:
            _write(dump, result)
    for name in result.missing:
        click.echo(f"{name:44} not computed")
    failed = len(result.failed)
    click.echo(f"{result.passed} arrays agree, {failed} do not, {len(result.missing)} were not computed")
    incomplete = result.missing or not result.arrays
    sys.exit(1 if failed or (require_all and incomplete) else 0)


def _write(path: Path, result: Result) -> None:
    """All computed arrays in one file."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **result.arrays)


if __name__ == "__main__":
    main()
