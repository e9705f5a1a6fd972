"""Write a small folder of reference numbers with our own code: a guard where those of the original networks are not at hand.

python -m tests.reference.record OUT_FOLDER [--seed N]

It has the format of the folders of the originals, and is read by `python -m tests.reference OUT_FOLDER`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dnnlib.files import atomic_write
from next3d.head.model import OBJECT_TO_WORLD
from next3d.head.topology import Topology
from next3d.types import HeadMesh
from tests.models import MOUTH, ToyHead, face_mask, labels, toy_head, uv_at
from tests.reference import tiny
from tests.reference.folder import FORMS, IMAGES, Folder, thin
from tests.reference.run import compute

TAG = "tiny"
KINDS = ("next3d", "next3d_disc", "eg3d")
COUNT, POINTS, EXTRA_COLUMNS = 2, 60, 3
RESOLUTION_A = 16
RESOLUTIONS_B = {"next3d": 64, "eg3d": 24}
STRIDE, WINDOW = 8, (28, 36)
IMAGE_WINDOW, WHOLE = 16, 32
"""Side of the centre of images; up to this size they are stored whole."""
R1_GAMMA = 5.0
RINGS, SEGMENTS, SIZE = 16, 24, 1.6
HOLE = (0.5, 0.25)
"""Half extent of the open mouth, in longitude and latitude."""
STAGES = ("render_front", "render_side", "render_top", "mouth_plane", "stitch_in", "stitch_out")
FEATURE_MAPS = ("textures", "static_planes", "planes", "blended_planes", *STAGES)
VIEW_ARRAYS = ("verts_ndc", "pix_to_face", "zbuf", "bary", "uv", "alpha_masked", "alpha_filled")
FIRST_SAMPLE = (*VIEW_ARRAYS, "ray_origins", "ray_dirs", "feature_samples")
"""Stored for the first sample alone."""
IN_RUN_B = ("ws", "ws_nocutoff", "feature_rgb_pre_sr", "image_raw", "image_depth", "image")
LEFT_OUT = ("A/view1/bary", "A/view2/bary", "A/feature_rgb_pre_sr")
LARGEST_GRID = 128
"""Larger images are stored without their grid."""

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class OpenHead(ToyHead):
    """An ellipsoid without the triangles of the mouth; its landmarks are those of the closed one."""

    closed: ToyHead

    def mesh(self, count: int = 1, seed: int | None = None) -> HeadMesh:
        """As `ToyHead.mesh`."""
        return self.closed.mesh(count, seed)


def open_head() -> OpenHead:
    """A head with an open mouth."""
    closed = toy_head(RINGS, SEGMENTS)
    topology = closed.topology
    centers = topology.uvs[topology.uv_faces].mean(dim=1)
    away = (centers - uv_at(*torch.tensor(MOUTH))) / torch.tensor([HOLE[0] / (2 * np.pi), HOLE[1] / np.pi])
    return OpenHead(closed.without(away.norm(dim=1) < 1), closed.vertices, closed)


def configs(seed: int) -> dict[str, Any]:
    """`configs.json`."""
    common = {"tag": TAG, "seed": seed, "N": COUNT, "nrrA": RESOLUTION_A, "sub_stride": STRIDE, "crop": list(WINDOW)}
    generators = {
        "next3d": {"c_extra": EXTRA_COLUMNS, "G_kwargs": tiny.next3d_arguments()},
        "eg3d": {"c_extra": 0, "G_kwargs": tiny.eg3d_arguments(c_scale=0.5)},
    }
    found: dict[str, Any] = {kind: common | {"nrrB": RESOLUTIONS_B[kind]} | values for kind, values in generators.items()}
    return found | {"disc": {"seed": seed, "r1_gamma": R1_GAMMA, "D_kwargs": tiny.discriminator_arguments()}}


def states(seed: int, topology: Topology) -> dict[str, tiny.State]:
    """State dicts by kind."""
    return {
        "next3d": tiny.next3d_state(seed, topology),
        "next3d_disc": tiny.discriminator_state(seed + 1),
        "eg3d": tiny.eg3d_state(seed + 2),
    }


def inputs(seed: int, toy: ToyHead, drawn: Mapping[str, tiny.State]) -> dict[str, Arrays]:
    """What the networks are fed with, by kind, and the names of the parameters whose gradients are measured."""
    rng = torch.Generator().manual_seed(seed)
    mesh = toy.mesh(COUNT, seed=seed)
    vertices = torch.cat([mesh.vertices, mesh.landmarks], dim=1) * (SIZE / OBJECT_TO_WORLD)

    def generator_inputs(extra: int) -> Arrays:
        label = torch.cat([labels(COUNT, seed), torch.randn(COUNT, extra, generator=rng)], dim=1)
        points = torch.rand(COUNT, POINTS, 3, generator=rng) * 1.1 - 0.55
        return _arrays({"in/z": torch.randn(COUNT, tiny.LATENT, generator=rng), "in/c": label, "S/points": points})

    images = {"in/image": _picture(128, rng), "in/image_raw": _picture(RESOLUTION_A, rng)}
    return {
        "next3d": {
            **generator_inputs(EXTRA_COLUMNS),
            **_arrays({"in/v": vertices, "in/uv_face_mask_png": (face_mask()[0] * 255).round().byte()}),
            "Ggrad/names": _parameter_names(drawn["next3d"]),
        },
        "next3d_disc": {
            **_arrays({"in/c": labels(COUNT, seed + 1)} | {name: value.half() for name, value in images.items()}),
            "Dgrad/names": _parameter_names(drawn["next3d_disc"]),
        },
        "eg3d": generator_inputs(0),
    }


def record(target: Path, seed: int) -> None:
    """Write the folder."""
    target.mkdir(parents=True, exist_ok=True)
    with atomic_write(target / "configs.json") as temporary:
        temporary.write_text(json.dumps(configs(seed), indent=1) + "\n")
    toy = open_head()
    drawn = states(seed, toy.topology)
    fed = inputs(seed, toy, drawn)
    for kind in KINDS:
        _write(target / f"{kind}_{TAG}.state.npz", {name: _packed(name, value) for name, value in drawn[kind].items()})
        _write(target / f"{kind}_{TAG}.io.npz", fed[kind])
    folder = Folder(target)
    for kind in KINDS:
        computed = [part for name, value in compute(folder, kind) for part in kept(name, value.detach())]
        _write(target / f"{kind}_{TAG}.io.npz", fed[kind] | _arrays(dict(computed)))


def kept(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What of a computed array is stored: large ones are thinned, and some are stored for the first sample alone."""
    run, last = name.partition("/")[0], name.rpartition("/")[2]
    if name in LEFT_OUT or (run == "B" and last not in IN_RUN_B):
        return
    if last in FEATURE_MAPS:
        yield from ((f"{name}/{form}", thin(name, form, value, stride=STRIDE, window=WINDOW[1] - WINDOW[0])) for form in FORMS)
    elif last in IMAGES and value.shape[-1] > WHOLE:
        forms = ("crop", "mean", "std", "absmax")
        yield from ((f"{name}/{form}", thin(name, form, value, stride=STRIDE, window=IMAGE_WINDOW)) for form in forms)
        if run != "Ggrad" and value.shape[-1] <= LARGEST_GRID:
            yield f"{name}/sub", thin(name, "sub", value[:1], stride=STRIDE, window=0)
    elif last == "mouth_crop64":
        yield name, value[:1, ..., ::2, ::2]
    else:
        yield name, value[:1] if last in FIRST_SAMPLE else value


def _picture(size: int, rng: torch.Generator) -> Tensor:
    """Smooth images [COUNT, 3, size, size] in few values, so that they pack well."""
    coarse = torch.randn(COUNT, 3, 8, 8, generator=rng)
    return (F.interpolate(coarse, size=(size, size), mode="bicubic") * 4).round() / 4


def _parameter_names(state: tiny.State) -> np.ndarray[Any, Any]:
    return np.array([name for name in state if tiny.is_parameter(name)])


def _packed(name: str, value: Tensor) -> Tensor:
    """Weights hold no more than float16; the mesh and the filters stay as they are."""
    rounded = tiny.is_parameter(name) or name.endswith(("noise_const", "w_avg"))
    return value.half() if rounded else value


def _arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: value.numpy() for name, value in tensors.items()}


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


@click.command()
@click.argument("target", type=click.Path(file_okay=False, path_type=Path), metavar="OUT_FOLDER")
@click.option("--seed", default=0, show_default=True, help="Draws weights and inputs.")
def main(target: Path, seed: int) -> None:
    """Write a folder of reference numbers made by this project."""
    record(target, seed)
    size = sum(path.stat().st_size for path in target.iterdir())
    click.echo(f"{target}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
