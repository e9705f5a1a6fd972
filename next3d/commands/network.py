"""Options and steps that commands with a trained network share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dnnlib.errors import UserError
from dnnlib.machine import physical_cores
from dnnlib.params import EXISTING_FILE, SEEDS

if TYPE_CHECKING:
    import torch

    from next3d.generator import Generator
    from next3d.head.model import HeadModel

_Function = TypeVar("_Function", bound=Callable[..., object])

_OPTIONS = (
    click.option("--network", type=EXISTING_FILE, required=True, help="Generator, a .safetensors file from training."),
    click.option("--seeds", type=SEEDS, required=True, help="Faces, one per number: 0-3,7."),
    click.option(
        "--trunc", type=click.FloatRange(0, 2), default=0.7, show_default=True, help="1: full variety of faces, 0: the mean face."
    ),
    click.option("--trunc-cutoff", type=click.IntRange(min=0), help="Truncate only this many style rows.  [default: all]"),
    click.option("--head-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the heads that the faces sit on."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]"),
)


def network_options(function: _Function) -> _Function:
    """Add the shared options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def open_network(path: Path, device: str, threads: int | None) -> tuple[Generator, HeadModel]:
    """Load a generator and the head that it was trained with onto a device.

    Raises:
        UserError: no such device, or not a network that can be posed.
    """
    from next3d.checkpoint import load_generator
    from next3d.media.scene import head_of

    generator = load_generator(path, device=choose_device(device, threads))
    try:
        return generator, head_of(generator)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def choose_device(name: str, threads: int | None) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` to a device that exists; sets the number of CPU threads on the way."""
    import torch

    torch.set_num_threads(threads or physical_cores())
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if cuda else []), *(f"cuda:{index}" for index in range(cuda))]
    if name == "auto":
        return torch.device(known[1] if cuda else "cpu")
    if name not in known:
        raise UserError(f"--device {name}: there is no such device here; choose auto or one of {', '.join(known)}.")
    return torch.device(name)
