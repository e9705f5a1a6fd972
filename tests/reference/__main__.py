"""Compute every array of a folder of reference numbers through the public API and compare.

python -m tests.reference ../shared/golden [--dump OUT.npz] [--require-all] [--only KIND]

Prints a line per array; ends with exit code 1 if one is wrong or, with --require-all, was not computed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

from dnnlib.files import atomic_write
from tests.reference.folder import Folder
from tests.reference.run import KINDS, Result, run


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dump", type=click.Path(dir_okay=False, path_type=Path), help="Write every computed array as KIND/NAME into this .npz.")
@click.option("--require-all", is_flag=True, help="Fail if a stored output was not computed.")
@click.option("--only", type=click.Choice(KINDS), multiple=True, help="Leave the other kinds out.")
def main(folder: Path, dump: Path | None, require_all: bool, only: tuple[str, ...]) -> None:
    """Run all reference cases of FOLDER."""
    result = Result()
    for kind in only or KINDS:
        for comparison in run(Folder(folder), kind, result):
            click.echo(comparison.line())
    for name in result.missing:
        click.echo(f"{name:44} not computed")
    if dump is not None:
        with atomic_write(dump) as temporary, open(temporary, "wb") as file:
            np.savez(file, **result.arrays)
    failed = len(result.failed)
    click.echo(f"{result.passed} arrays agree, {failed} do not, {len(result.missing)} were not computed")
    sys.exit(1 if failed or (require_all and result.missing) else 0)


if __name__ == "__main__":
    main()
