"""Every reference case of the Next3D and EG3D generators, through the public stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.discriminator import Discriminator
from next3d.generator import TriplaneGenerator
from next3d.head.model import OBJECT_TO_WORLD
from next3d.official import load_official_state
from next3d.official.build import own_name
from next3d.official.generators import ReleasedNext3D
from next3d.official.mouth import PixelBoxes
from next3d.official.rasters import front_landmarks
from next3d.render.renderer import decode_points
from next3d.types import Camera, GeneratorOutput, HeadMesh, Identity, Planes, Rasters, RaySampling, Styles
from tests.reference.folder import Folder, Stored
from torch_utils.ops.rasterize import Fragments

Named = Iterator[tuple[str, Tensor]]
VERTICES_BEFORE_LANDMARKS = -68
TRUNCATION_B = 0.7
TRUNCATION_NO_CUTOFF = 0.5


@dataclass
class Probe:
    """Remembers what stages tell."""

    seen: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, name: str, value: Tensor) -> None:
        self.seen[name] = value


def load_generator(folder: Folder, kind: str) -> TriplaneGenerator:
    """The generator of next3d or eg3d, by `load_official_state`."""
    mask = folder.uv_mask() if kind == "next3d" else None
    module = load_official_state(folder.state(kind), folder.configs[kind]["G_kwargs"], uv_mask=mask)
    assert isinstance(module, TriplaneGenerator)
    return module


def compute_eg3d(folder: Folder, network: TriplaneGenerator | None = None) -> Named:
    """Arrays of eg3d; `network` replaces the one that the folder's tensors make."""
    network = load_generator(folder, "eg3d") if network is None else network
    stored, config = folder.stored("eg3d"), folder.configs["eg3d"]
    with torch.no_grad():
        for run, resolution in _runs(config):
            styles = _styles(network, stored, run, cutoff=7)
            planes = network.still(network.identity(styles))
            output, features = _render(network, planes, stored["in/c"], styles, run, resolution)
            yield f"{run}/ws", _rows(styles)
            yield f"{run}/planes", planes.features.flatten(1, 2)
            yield from _rendered(run, output, features)
            if run == "A":
                yield from _rays(network, stored, resolution)
                yield from _points(network, planes, stored)


def compute_next3d(folder: Folder, network: TriplaneGenerator | None = None, judge: Discriminator | None = None) -> Named:
    """Arrays of next3d; `network` and `judge` replace those that the folder's tensors make."""
    network = load_generator(folder, "next3d") if network is None else network
    assert isinstance(network, ReleasedNext3D)
    stored, config = folder.stored("next3d"), folder.configs["next3d"]
    points = stored["in/v"] * OBJECT_TO_WORLD
    mesh = HeadMesh(points[:, :VERTICES_BEFORE_LANDMARKS], points[:, VERTICES_BEFORE_LANDMARKS:])
    with torch.no_grad():
        probe = Probe()
        rasters = network.rasterize(mesh, probe=probe)
        yield from _views(probe.seen, rasters, len(network.topology.faces))
        for run, resolution in _runs(config):
            styles = _styles(network, stored, run, cutoff=14)
            identity = network.identity(styles)
            blended = network.animate(identity, mesh, rasters=rasters, probe=probe)
            output, features = _render(network, blended, stored["in/c"], styles, run, resolution)
            yield f"{run}/ws", _rows(styles)
            yield from ((f"{run}/{name}", value) for name, value in _animation(network, identity, mesh, probe.seen))
            yield f"{run}/blended_planes", blended.features
            yield from _rendered(run, output, features)
            if run == "A":
                yield from _rays(network, stored, resolution)
                yield from _points(network, blended, stored)
        yield "B/ws_nocutoff", _rows(network.mapping(stored["in/z"], stored["in/c"], truncation=TRUNCATION_NO_CUTOFF))
    if any(name.startswith("Ggrad/") for name in stored) and (judge is not None or folder.holds("next3d_disc")):
        yield from _gradients(folder, network, judge, mesh)


def _runs(config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Runs and their neural rendering resolutions."""
    return [(run, int(config[f"nrr{run}"])) for run in "AB" if f"nrr{run}" in config]


def _styles(network: TriplaneGenerator, stored: Stored, run: str, *, cutoff: int) -> Styles:
    if run == "A":
        return network.mapping(stored["in/z"], stored["in/c"])
    return network.mapping(stored["in/z"], stored["in/c"], truncation=TRUNCATION_B, cutoff=cutoff)


def _rows(styles: Styles) -> Tensor:
    return torch.cat([styles.static, styles.texture], dim=1)


def _sampling(network: TriplaneGenerator, run: str, batch: int, resolution: int) -> RaySampling:
    """Coarse samples half a spacing late; importance draws 0.5 in run A, mid-points (the default) in run B."""
    fine = network.config.render.fine_samples
    return RaySampling(importance=torch.full((batch, resolution**2, fine), 0.5) if run == "A" else None)


def _render(
    network: TriplaneGenerator, planes: Planes, label: Tensor, styles: Styles, run: str, resolution: int
) -> tuple[GeneratorOutput, Tensor]:
    probe = Probe()
    sampling = _sampling(network, run, len(label), resolution)
    output = network.render(planes, Camera.from_label(label), styles, resolution=resolution, sampling=sampling, probe=probe)
    return output, probe.seen["features"]


def _rendered(run: str, output: GeneratorOutput, features: Tensor) -> Named:
    by_ray = lambda image: image.flatten(2).mT  # noqa: E731
    yield f"{run}/feature_samples", by_ray(features)
    yield f"{run}/depth_samples", by_ray(output.depth)
    yield f"{run}/weight_sum", by_ray(output.weights)
    yield f"{run}/feature_rgb_pre_sr", features[:, :3]
    yield f"{run}/image_raw", output.image_raw
    yield f"{run}/image_depth", output.depth
    yield f"{run}/image", output.image


def _points(network: TriplaneGenerator, planes: Planes, stored: Stored) -> Named:
    if "S/points" not in stored:
        return
    points = stored["S/points"]
    yield "S/sigma", network.density(planes, points)
    yield "S/rgb", decode_points(planes, points, network.decoder, network.config.render.box_warp, network.scheme.plane_axes).features


def _rays(network: TriplaneGenerator, stored: Stored, resolution: int) -> Named:
    rays = network.scheme.rays(Camera.from_label(stored["in/c"]), resolution)
    yield "A/ray_origins", rays.origins
    yield "A/ray_dirs", rays.directions


def _views(seen: dict[str, Tensor], rasters: Rasters, triangles: int) -> Named:
    """What the rasteriser drew, in the released conventions: y up, x to the left, faces counted through the batch."""
    flip = torch.tensor([-1.0, -1.0, 1.0])
    fragments = Fragments(seen["view_face"], seen["view_barycentrics"], seen["view_depth"])
    hit = fragments.face >= 0
    packed = torch.where(hit, fragments.face + triangles * torch.arange(len(hit))[:, None, None, None], -1)
    swapped = torch.where(hit[..., None], fragments.barycentrics[..., [0, 2, 1]], -1)
    grid = torch.stack([2 * rasters.uv[..., 0] - 1, 1 - 2 * rasters.uv[..., 1]], dim=2)  # [N, 4, 2, P, P]
    masked = grid * rasters.visible
    for view in range(hit.shape[1]):
        named = {
            "verts_ndc": seen["view_points"][:, view] * flip,
            "pix_to_face": packed[:, view].int(),
            "zbuf": torch.where(hit[:, view], fragments.depth[:, view], -1),
            "bary": swapped[:, view],
            "uv": masked[:, view],
            "alpha_masked": rasters.visible[:, view],
            "alpha_filled": seen["view_filled"][:, view],
        }
        yield from ((f"A/view{view}/{name}", value) for name, value in named.items())
    yield "A/alpha_planes", rasters.coverage[:, :, 0]


def _animation(network: ReleasedNext3D, identity: Identity, mesh: HeadMesh, seen: dict[str, Tensor]) -> Named:
    front, side, top = seen["texture_planes"].unbind(dim=1)
    boxes = network.mouth.window(mesh.landmarks, network.config.plane_resolution)
    assert isinstance(boxes, PixelBoxes)
    assert identity.texture is not None
    yield "textures", identity.texture
    yield "static_planes", identity.static.flatten(1, 2)
    yield "lm2d_front", front_landmarks(mesh.landmarks)
    yield "mouth_boxes", torch.stack([boxes.start, boxes.end], dim=2).flatten(1)
    yield from (("render_front", front), ("render_side", side), ("render_top", top))
    yield from (("mouth_crop64", seen["mouth_crop"]), ("mouth_plane", seen["mouth"]))
    yield from (("stitch_in", seen["stitched"]), ("stitch_out", seen["blended"]))


def _gradients(folder: Folder, network: ReleasedNext3D, judge: Discriminator | None, mesh: HeadMesh) -> Named:
    """Generator loss and the norms of its gradients; parameters without a counterpart here must have none in the original, too."""
    stored, config = folder.stored("next3d"), folder.configs["next3d"]
    judge = load_discriminator(folder) if judge is None else judge
    network.train().requires_grad_(True)
    z, c = stored["in/z"], stored["in/c"]
    styles = network.mapping(z, c)
    planes = network.animate(network.identity(styles), mesh)
    resolution = config["nrrA"]
    sampling = _sampling(network, "A", len(c), resolution)
    output = network.render(planes, Camera.from_label(c), styles, resolution=resolution, sampling=sampling)
    logits = judge(output.image, output.image_raw, None, c)
    loss = F.softplus(-logits).mean()
    loss.backward()
    yield from (("Ggrad/logits", logits), ("Ggrad/loss", loss), ("Ggrad/image", output.image))
    if names := stored.names("Ggrad/names"):
        yield "Ggrad/norms", gradient_norms(network, names)
    network.zero_grad(set_to_none=True)
    network.eval().requires_grad_(False)


def load_discriminator(folder: Folder) -> Discriminator:
    """The discriminator of the folder."""
    module = load_official_state(folder.state("next3d_disc"), folder.configs["disc"]["D_kwargs"])
    assert isinstance(module, Discriminator)
    return module


def gradient_norms(module: torch.nn.Module, official_names: list[str]) -> Tensor:
    """Norm of each official parameter's gradient, -1 where there is no such parameter or no gradient."""
    own = dict(module.named_parameters())
    found = [own.get(own_name(name)) for name in official_names]
    norms = [-1.0 if value is None or value.grad is None else float(value.grad.double().norm()) for value in found]
    return torch.tensor(norms, dtype=torch.float64)
