"""From a sample's keys to its picture and ground truth.

The scene is rasterised SUPERSAMPLING times finer than asked for, shaded in linear light, box-filtered and only then put over the
background and encoded. SUPERSAMPLING is odd, so that segmentation and depth can be taken exactly at the pixel centres.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams
from next3d.render.cameras import project
from next3d.synthetic.backgrounds import draw_background
from next3d.synthetic.draws import numpy_stream
from next3d.synthetic.looks import Look, sample_look
from next3d.synthetic.paint import Paint, paint_body, paint_clothes, paint_eyes, paint_hair, paint_skin
from next3d.synthetic.portrait import Portrait, Segment
from next3d.synthetic.sampling import keyed_camera, keyed_params
from next3d.synthetic.scene import BODY_SKIN, Attributes, Scene, build_scene
from next3d.synthetic.shading import shade_eyes, shade_hair, shade_matte, shade_skin, surroundings
from next3d.synthetic.surface import HeadSurface, Material, head_surface, light_view
from next3d.types import Camera
from torch_utils.ops.rasterize import Fragments, rasterize

SUPERSAMPLING = 3
SHADOW_SIZE = 160
SHADOW_BIAS = 0.018
_SEGMENTS = {
    Material.SKIN: Segment.SKIN,
    Material.EYE: Segment.EYES,
    Material.MOUTH: Segment.MOUTH,
    Material.TEETH: Segment.TEETH,
    Material.TONGUE: Segment.MOUTH,
    Material.HAIR: Segment.HAIR,
    Material.CLOTHES: Segment.CLOTHES,
    BODY_SKIN: Segment.SKIN,
}
_MOUTH_ALBEDO = (0.20, 0.055, 0.05)
_TONGUE_ALBEDO = (0.42, 0.14, 0.13)
_TEETH_ALBEDO = (0.74, 0.68, 0.58)


def render_sample(head: HeadModel, seed: int, index: int, resolution: int) -> Portrait:
    """Sample `index` of the data set with this seed, whatever else is rendered."""
    background = draw_background(numpy_stream(seed, index, "background"), resolution)
    return render_portrait(head, keyed_params(head, seed, index), keyed_camera(seed, index), sample_look(seed, index), background)


@torch.no_grad()
def render_portrait(head: HeadModel, params: HeadParams, camera: Camera, look: Look, background: npt.NDArray[np.float32]) -> Portrait:
    """Render one person.

    Args:
        head: poses the mesh; its triangles are drawn exactly as it returns them.
        params: of one head, batch size 1.
        camera: one camera.
        look: everything else about the person.
        background: [H, H, 3], linear RGB; sets the resolution H.
    """
    size = len(background)
    surface = head_surface(head)
    mesh = head(params)
    scene = build_scene(mesh.vertices[0], surface, look)
    fine = size * SUPERSAMPLING
    fragments = rasterize(project(scene.vertices[None], camera), scene.faces, (fine, fine), perspective=True)
    color = _shade(scene, fragments, camera, surface, look)
    center = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    face, depth = fragments.face[0, center, center], fragments.depth[0, center, center]
    segments = torch.tensor([int(_SEGMENTS[key]) for key in sorted(_SEGMENTS)] + [int(Segment.BACKGROUND)])
    material = torch.where(face >= 0, scene.materials[face.clamp_min(0)], len(_SEGMENTS))
    landmarks = mesh.landmarks
    return Portrait(
        image=_develop(color, torch.from_numpy(background), look.lighting.exposure),
        segmentation=segments[material].to(torch.uint8).numpy(),
        depth=torch.where(face >= 0, depth, 0.0).numpy(),
        label=camera.to_label()[0].numpy(),
        head={field.name: getattr(params, field.name)[0].numpy() for field in fields(params)},
        landmarks_2d=((project(landmarks, camera)[0, :, :2] + 1) * (size / 2)).numpy(),
        landmarks_3d=landmarks[0].numpy(),
    )


def _shade(scene: Scene, fragments: Fragments, camera: Camera, surface: HeadSurface, look: Look) -> Tensor:
    """Light and coverage [4, S, S] that reach the camera, before exposure."""
    face = fragments.face[0]
    shown = (face >= 0).nonzero(as_tuple=True)
    face = face[shown]
    weights = fragments.barycentrics[0][shown]  # [P, 3]
    corners = scene.attributes[scene.faces[face]]  # [P, 3, 14]
    points = Attributes.from_columns((corners * weights[..., None]).sum(dim=1))
    lamp = light_view(scene.vertices, scene.faces, torch.from_numpy(look.lighting.lamp_direction), SHADOW_SIZE)
    lit = lamp.lit(points.position, SHADOW_BIAS)
    view = F.normalize(camera.cam2world[0, :3, 3] - points.position, dim=1)
    light = torch.zeros(len(face), 3)
    materials = scene.materials[face]
    for material in materials.unique().tolist():
        chosen = (materials == material).nonzero()[:, 0]
        light[chosen] = _shade_material(material, points[chosen], view[chosen], lit[chosen], surface, look)
    image = torch.zeros(4, *fragments.face.shape[1:])
    image[:, shown[0], shown[1]] = torch.cat([light, torch.ones(len(light), 1)], dim=1).T
    return image


def _shade_material(material: int, points: Attributes, view: Tensor, lit: Tensor, surface: HeadSurface, look: Look) -> Tensor:
    """Light [P, 3] leaving points of one material."""
    normals = F.normalize(points.normal, dim=1)
    away = (normals * view).sum(dim=1) < 0
    occlusion = points.occlusion
    if material in (Material.HAIR, Material.CLOTHES, BODY_SKIN):
        # Sheets are seen from both sides; inside is darker.
        normals = torch.where(away[:, None], -normals, normals)
        occlusion = torch.where(away, 0.30 * occlusion, occlusion)
        lit = torch.where(away, 0.15 * lit, lit)
    ambient = surroundings(normals, look.lighting)
    if material == Material.HAIR:
        direction = F.normalize(points.direction, dim=1)
        return shade_hair(paint_hair(points.local, look.hair), normals, direction, view, ambient * occlusion[:, None], lit, look.lighting)
    if material == Material.SKIN:
        paint = paint_skin(points.local, points.lips, surface, look.skin, look.brows, look.hair)
        return shade_skin(paint, normals, view, ambient, occlusion, lit, look.lighting)
    if material == BODY_SKIN:
        return shade_skin(paint_body(len(lit), look.skin), normals, view, ambient, 0.8 * occlusion, lit, look.lighting)
    if material == Material.EYE:
        return shade_eyes(paint_eyes(points.local, surface, look.eyes), normals, view, ambient, occlusion, lit, look.lighting)
    if material == Material.CLOTHES:
        return shade_matte(paint_clothes(points.local, look.clothes), normals, ambient, occlusion, lit, look.lighting)
    albedo = {Material.TEETH: _TEETH_ALBEDO, Material.TONGUE: _TONGUE_ALBEDO}.get(Material(material), _MOUTH_ALBEDO)
    paint = Paint(torch.tensor(albedo).expand(len(lit), 3), torch.zeros(len(lit)))
    return shade_matte(paint, normals, ambient, occlusion**1.3, lit, look.lighting)


def _develop(color: Tensor, background: Tensor, exposure: float) -> npt.NDArray[np.uint8]:
    """Supersampled light and coverage [4, S, S] over a background [H, H, 3] to sRGB bytes [H, H, 3]."""
    small = F.avg_pool2d(color[None], SUPERSAMPLING)[0].permute(1, 2, 0)  # [H, H, 4], colours weighted by coverage
    linear = exposure * small[..., :3] + (1 - small[..., 3:]) * background
    bright = torch.where(linear > 0.7, 0.7 + 0.3 * torch.tanh((linear - 0.7) / 0.3), linear)  # highlights roll off
    encoded = torch.where(bright <= 0.0031308, 12.92 * bright, 1.055 * bright.clamp_min(1e-6) ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().clamp(0, 255).to(torch.uint8).numpy()
