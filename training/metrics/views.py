"""Is the head a thing in space? Two views of the same planes must agree, and their depth must be that of the mesh.

Multi-view consistency: every pixel of one view is put into space by its depth and looked up in the other view; where that sees the same
point (its own depth says so), the colours are compared. Depth is compared with that of the commanded mesh. EG3D (Sec. 5.1)
takes true depth from a published face model instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.generator import Generator
from next3d.head.model import HeadModel, HeadParams, axis_angle_to_matrix
from next3d.render.cameras import project
from next3d.render.mesh_depth import ray_lengths, render_mesh_depth
from next3d.render.rays import camera_rays
from next3d.types import Camera, TensorBundle
from training.metrics.context import Context
from training.metrics.figures import Figure
from training.metrics.intervals import mean_interval
from training.metrics.readings import natural_scenes
from training.metrics.scenes import Scenes, faces_of, quantise
from training.metrics.truth import TruthSampler, picture

TURNS = {"views": math.radians(15), "views25": math.radians(25)}
"""By how much the second camera is turned about the world's vertical axis, to either side in turns; by the beginning of figures' names."""
OPAQUE = 0.9
"""Rays that find less matter than this see the background, too: they have no depth."""
TOLERANCE = 0.02
"""Depths that differ by less, in world units, are the same surface; a head is about 0.5 deep."""
PAIRS = 128
"""People of whom there are pairs of views, at most."""
TRUE_PAIRS = 24
"""People who are rendered for the floor, at most."""
SYNTHETIC_HEAD = "procedural"
"""The head of which synthetic portraits are made: with it, the truth can be rendered for the floor."""


@dataclass(frozen=True)
class View(TensorBundle):
    """N pictures with their depth."""

    image: Tensor
    """[N, 3, H, H] in [-1, 1]."""
    depth: Tensor
    """[N, 1, r, r], world units along the ray."""
    opacity: Tensor
    """[N, 1, r, r] in [0, 1]: how much matter the ray finds."""
    camera: Camera

    def __len__(self) -> int:
        return len(self.image)

    def enlarged(self) -> View:
        """Depth and opacity at the resolution of the image; opacity is that of the least opaque neighbour, so edges do not count."""
        size = self.image.shape[-1]
        if self.depth.shape[-1] == size:
            return self
        least = -F.max_pool2d(-self.opacity, 3, stride=1, padding=1)
        depth, opacity = (F.interpolate(part, size=(size, size), mode="bilinear", align_corners=False) for part in (self.depth, least))
        return replace(self, depth=depth, opacity=opacity)


ManyViews = Callable[[Scenes, Sequence[Camera]], list[View]]
"""Scenes under their own cameras, and the same heads under each of some other sets of cameras."""


def network_views(generator: Generator, head: HeadModel, truncation: float = 1.0) -> ManyViews:
    """Several views of the same planes; what the first is conditioned by conditions all."""
    device = next(generator.parameters()).device

    @torch.inference_mode()
    def render(scenes: Scenes, others: Sequence[Camera]) -> list[View]:
        identity = faces_of(generator, scenes, truncation)
        planes = generator.animate(identity, head(scenes.moving).to(device))
        views = []
        for camera in (scenes.camera, *others):
            output = generator.render(planes, camera.to(device), identity.styles)
            views.append(View(quantise(output.image).cpu(), output.depth.cpu(), output.weights.cpu(), camera))
        return views

    return render


def true_views(truth: TruthSampler) -> ManyViews:
    """Several renderings of the same synthetic people."""

    def render(scenes: Scenes, others: Sequence[Camera]) -> list[View]:
        views = []
        for camera in (scenes.camera, *others):
            portraits = truth.portraits(replace(scenes, camera=camera))
            along_axis = torch.stack([torch.from_numpy(portrait.depth) for portrait in portraits])[:, None]
            image = torch.stack([picture(portrait) for portrait in portraits])
            views.append(View(image, along_axis * ray_lengths(camera, truth.resolution), (along_axis > 0).float(), camera))
        return views

    return render


def turned_camera(camera: Camera, angle: Tensor) -> Camera:
    """Cameras that went around the world's vertical axis by `angle` [N] radians."""
    axis = angle[:, None] * angle.new_tensor([0.0, 1.0, 0.0])
    turn = torch.eye(4).repeat(len(angle), 1, 1)
    turn[:, :3, :3] = axis_angle_to_matrix(axis)
    return replace(camera, cam2world=turn @ camera.cam2world)


def reproject(first: View, second: View) -> tuple[Tensor, Tensor]:
    """What the second view shows of the points that the first one shows.

    Returns:
        colours [N, 3, H, H] at the first view's pixels, and where they are known [N, H, H] bool: both views see that point.
    """
    first, second = first.enlarged(), second.enlarged()
    size = first.image.shape[-1]
    rays = camera_rays(first.camera, size)
    points = rays.origins + rays.directions * first.depth.flatten(1)[..., None]  # [N, H * H, 3]
    place = project(points, second.camera)
    grid = place[..., :2].unflatten(1, (size, size))
    looked_up = F.grid_sample(torch.cat([second.image, second.depth, second.opacity], dim=1), grid, align_corners=False)
    colour, depth, opacity = looked_up.split([3, 1, 1], dim=1)
    distance = (points - second.camera.cam2world[:, None, :3, 3]).norm(dim=2).view_as(depth)
    seen = ((depth - distance).abs() < TOLERANCE) & (opacity > OPAQUE) & (first.opacity > OPAQUE)
    inside = (grid.abs() < 1 - 1 / size).all(dim=3) & (place[..., 2].unflatten(1, (size, size)) > 0)
    return colour, seen[:, 0] & inside


@dataclass(frozen=True)
class Agreement:
    """How well pairs of views agree; pairs that share no pixel are not a number."""

    psnr: Tensor
    """[N] decibels, over the shared pixels."""
    difference: Tensor
    """[N] mean absolute difference of colours there, in % of the value range."""
    shared: Tensor
    """[N] % of the first view's opaque pixels."""


def agreement(first: View, second: View) -> Agreement:
    """Compare both views' colours of the points that both see."""
    colour, seen = reproject(first, second)
    gap = (colour - first.image) / 2  # a value range of 1
    weight = seen.to(gap)
    area = weight.sum(dim=(1, 2))
    error = (gap.square().mean(dim=1) * weight).sum(dim=(1, 2)) / area
    difference = 100 * (gap.abs().mean(dim=1) * weight).sum(dim=(1, 2)) / area
    opaque = (first.enlarged().opacity > OPAQUE).to(gap).sum(dim=(1, 2, 3))
    return Agreement(-10 * error.clamp_min(1e-10).log10(), difference, 100 * area / opaque.clamp_min(1))


def mesh_depth(head: HeadModel, params: HeadParams, camera: Camera, size: int) -> tuple[Tensor, Tensor]:
    """Depth of the head's mesh along the rays [N, 1, size, size], and the pixels that show its face [N, 1, size, size] bool."""
    faces, regions = head.topology.faces, head.topology.regions
    depth, fragments = render_mesh_depth(head(params), camera, faces, size)
    on_face = regions["face"][faces].all(dim=1) if "face" in regions else torch.ones(len(faces), dtype=torch.bool)
    shown = (fragments.face >= 0) & on_face[fragments.face.clamp_min(0)]
    return depth, shown[:, None]


def depth_error(head: HeadModel, params: HeadParams, view: View) -> Tensor:
    """[N]: median distance along the rays between rendered depth and the mesh's over the face, in % of how deep the head is.

    The head's depth is its extent from front to back, without the neck. Rays that find no matter count with the depth they report.
    """
    truth, face = mesh_depth(head, params, view.camera, view.depth.shape[-1])
    gap = torch.where(face, (view.depth - truth).abs(), torch.nan).flatten(1).nanmedian(dim=1).values
    return 100 * gap / head_extent(head, params)


def head_extent(head: HeadModel, params: HeadParams) -> Tensor:
    """[N] world units from the front to the back of heads looking along +z, neck left out."""
    straight = replace(params, pose=torch.zeros_like(params.pose), expression=torch.zeros_like(params.expression))
    z = head(straight).vertices[..., 2]
    if "neck" in head.topology.regions:
        z = z[:, ~head.topology.regions["neck"]]
    return z.amax(dim=1) - z.amin(dim=1)


def measure_views(context: Context) -> list[Figure]:
    """Multi-view consistency of the network at every turn, with that of true renderings as floor."""
    found, best = _both(context)
    figures = []
    for column, (name, turn) in enumerate(TURNS.items()):
        apart = (
            f"of the points that both of two views of the same planes see, {math.degrees(turn):.0f} degrees apart; floor: true renderings"
        )
        kinds = (
            ("psnr", "dB", apart),
            ("difference", "% of range", "mean absolute difference there"),
            ("shared", "% of head", "pixels whose point both views see"),
        )
        for row, (kind, unit, note) in enumerate(kinds, len(kinds) * column):
            figures.append(_figure(context, f"{name}_{kind}", found[:, row], None if best is None else best[:, row], unit, note))
    return figures


def measure_depth(context: Context) -> list[Figure]:
    """Depth error over the face against the commanded mesh."""
    found, best = _both(context)
    note = "median over the face of the distance between rendered depth and the commanded mesh; floor: true renderings (hair covers faces)"
    return [_figure(context, "depth_error", found[:, -1], None if best is None else best[:, -1], "% of head", note)]


def _both(context: Context) -> tuple[Tensor, Tensor | None]:
    """Figures [N, 3 * T + 1] of the network, and of the truth where it can be rendered: see `_rows`."""

    def make() -> tuple[Tensor, Tensor | None]:
        scenes = natural_scenes(context)[:PAIRS]
        if not isinstance(context.generator, Generator):
            raise TypeError("measuring views needs a generator with a mesh")
        found = _rows(context, network_views(context.generator, context.head, context.truncation), scenes)
        if context.dataset.head_name != SYNTHETIC_HEAD or not context.settings.intervals:
            return found, None
        return found, _rows(context, true_views(TruthSampler(context.head, context.dataset.resolution)), scenes[:TRUE_PAIRS])

    return context.once("avatar: views", make, network=True)


def _rows(context: Context, views: ManyViews, scenes: Scenes) -> Tensor:
    """[N, 3 * T + 1]: PSNR, difference and share of the pixels for each of T turns of the camera, and the depth error of the first view."""
    side = torch.where(torch.arange(len(scenes)) % 2 == 0, 1.0, -1.0)

    def rows(start: int, stop: int) -> Tensor:
        part = scenes[start:stop]
        first, *others = views(part, [turned_camera(part.camera, turn * side[start:stop]) for turn in TURNS.values()])
        columns = [column for other in others for column in vars(agreement(first, other)).values()]
        return torch.stack([*columns, depth_error(context.head, part.moving, first)], dim=1)

    with torch.no_grad():
        return context.rows(len(scenes), rows)


def _figure(context: Context, name: str, values: Tensor, best: Tensor | None, unit: str, note: str) -> Figure:
    """The mean over the pairs for which there is a number."""
    values = values[values.isfinite()]
    low, high = mean_interval(values) if context.settings.intervals else (None, None)
    floor = None if best is None else float(best.nanmean())
    return Figure(name, float(values.mean()), len(values), context.settings.seed, low, high, floor, unit, note)
