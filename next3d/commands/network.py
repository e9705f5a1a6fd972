"""Options and steps that commands with a trained network share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dnnlib.errors import UserError
from dnnlib.machine import physical_cores
from dnnlib.params import EXISTING_FILE, SEEDS, Real

if TYPE_CHECKING:
    import torch

    from next3d.generator import TriplaneGenerator
    from next3d.head.model import HeadModel
    from next3d.head.topology import Topology
    from next3d.types import HeadMesh

_Function = TypeVar("_Function", bound=Callable[..., object])


def _or_shipped(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    """The network that was named, or the one that comes with the package."""
    from next3d.shipped import shipped_network

    return shipped_network() if value is None else value


def network_option() -> Callable[[_Function], _Function]:
    """`--network`: a path, in every case."""
    text = "Generator: a .safetensors file, or a published .pkl.  [default: the shipped one]"
    return click.option("--network", type=EXISTING_FILE, callback=_or_shipped, help=text)


_OPTIONS = (
    network_option(),
    click.option("--seeds", type=SEEDS, default="0-3", show_default=True, help="Faces, one per number: 0-3,7."),
    click.option("--trunc", type=Real(0, 2), default=0.7, show_default=True, help="1: full variety of faces, 0: the mean face."),
    click.option("--trunc-cutoff", type=click.IntRange(min=0), help="Truncate only this many style rows.  [default: all]"),
    click.option("--head-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the heads that the faces sit on."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]"),
)


_HEAD_OPTIONS = (
    click.option("--obj-path", "--obj_path", type=EXISTING_FILE, help="Pose all heads as this .obj file does.  [default: the head model]"),
    click.option("--lms-path", "--lms_path", type=EXISTING_FILE, help="The 68 landmarks of --obj-path, a text file of x y z."),
    click.option(
        "--lms-cond",
        "--lms_cond",
        type=bool,
        help="Find the mouth by landmark files, or, if false, by the network's own mesh.  [default: files where they are given]",
    ),
)


def network_options(function: _Function) -> _Function:
    """Add the shared options to a command."""
    return _with_options(function, _OPTIONS)


def head_options(function: _Function) -> _Function:
    """Add the options of a head that is given as files."""
    return _with_options(function, _HEAD_OPTIONS)


def _with_options(function: _Function, options: Sequence[Callable[[_Function], _Function]]) -> _Function:
    for option in reversed(options):
        function = option(function)
    return function


@dataclass(frozen=True)
class HeadFiles:
    """A head that is given as files; what `head_options` ask for."""

    mesh: Path
    landmarks: Path | None
    """None: the network's own mesh says where they are."""


def head_files(obj_path: Path | None, lms_path: Path | None, lms_cond: bool | None) -> HeadFiles | None:
    """The values of `head_options`; None where no head is given, so that `lms_cond` has no say here.

    Raises:
        UserError: landmarks without a mesh, or wanted and not given.
    """
    if obj_path is None:
        if lms_path is not None:
            raise UserError(f"--lms-path {lms_path}: landmarks belong to a mesh; give it with --obj-path.")
        return None
    if lms_cond and lms_path is None:
        raise UserError("--lms-cond: is true, but there is no landmark file; give it with --lms-path.")
    return HeadFiles(obj_path, None if lms_cond is False else lms_path)


def open_network(path: Path, device: str, threads: int | None) -> TriplaneGenerator:
    """Load a generator onto a device.

    Raises:
        UserError: no such device, or not a network.
    """
    from next3d.checkpoint import load_generator

    return load_generator(path, device=choose_device(device, threads))


def open_head(path: Path, generator: TriplaneGenerator, advice: str) -> HeadModel:
    """The head model that a network was trained with; `advice` says what to give where there is none.

    Raises:
        UserError: it names none, or the model has changed since.
    """
    from next3d.generator import Generator
    from next3d.head import FLAME_VARIABLE
    from next3d.media.scene import head_of

    if isinstance(generator, Generator) and not (generator.config.head or os.environ.get(FLAME_VARIABLE)):
        raise UserError(f"{path}: this network was trained on meshes and names no head model; {advice}, or give --flame for FLAME's mesh.")
    try:
        return head_of(generator)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_head(files: HeadFiles, path: Path, generator: TriplaneGenerator) -> HeadMesh:
    """The head that is given as files, a batch of one, for the network at `path`.

    Raises:
        UserError: they are damaged, of another topology, or not enough; or the network has no mesh.
    """
    from next3d.head.posed import PosedHeadReader, read_landmarks

    topology = topology_of(path, generator, own_landmarks=files.landmarks is None, advice="give them with --lms-path")
    landmarks = None if files.landmarks is None else read_landmarks(files.landmarks.read_bytes(), str(files.landmarks))
    return PosedHeadReader(topology).read(files.mesh.read_bytes(), str(files.mesh), landmarks)


def topology_of(path: Path, generator: TriplaneGenerator, *, own_landmarks: bool, advice: str) -> Topology:
    """The topology that meshes for a network must have.

    Args:
        path: the network's file, for messages.
        generator: the network.
        own_landmarks: the topology must know where its landmarks are.
        advice: what to do where it does not.

    Raises:
        UserError: the network has no mesh, or lacks the landmarks.
    """
    from next3d.generator import Generator

    if not isinstance(generator, Generator):
        raise UserError(f"{path}: the heads of this network have no mesh that could be posed; leave the mesh out.")
    if own_landmarks and generator.topology.landmark_faces is None:
        raise UserError(f"{path}: this network does not know where on its mesh the landmarks are; {advice}.")
    return generator.topology


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
