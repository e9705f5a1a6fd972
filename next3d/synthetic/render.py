"""From a sample's keys to its picture and ground truth.

The scene is rasterised SUPERSAMPLING times finer than asked for, shaded in linear light, box-filtered and only then put over the
background and encoded. SUPERSAMPLING is odd, so that segmentation and depth can be taken exactly at the pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.dense import dense_embedding
from next3d.head.model import HeadModel, HeadParams
from next3d.render.cameras import project
from next3d.synthetic.backgrounds import draw_background
from next3d.synthetic.camera import Effects, defocus, draw_effects, expose
from next3d.synthetic.draws import numpy_stream
from next3d.synthetic.geometry import light_view
from next3d.synthetic.looks import Extras, Look, sample_look
from next3d.synthetic.paint import Paint, beard_cover, paint_body, paint_clothes, paint_eyes, paint_hair, paint_mouth, paint_skin
from next3d.synthetic.portrait import FurtherTruth, Portrait, Segment
from next3d.synthetic.sampling import PORTRAIT_CAMERAS, CameraRange, keyed_camera, keyed_params
from next3d.synthetic.scene import BEARD, Points, Scene, build_scene, locate
from next3d.synthetic.shading import Light, shade_eyes, shade_glossy, shade_hair, shade_matte, shade_skin, surroundings
from next3d.synthetic.skin_fields import SkinFields
from next3d.synthetic.surface import HeadSurface, Material, head_surface
from next3d.types import Camera
from torch_utils.ops.rasterize import Fragments, rasterize

SUPERSAMPLING = 3
DETAIL_RESOLUTION = 128
"""Smaller pictures are plain: no glasses, hats, earrings, full beards or effects of cameras."""
SHADOW_SIZE = 160
SHADOW_BIAS = 0.010
SHADOW_LIFT = 0.014
"""Points are moved this far off their surface before asking whether the lamp sees them, world units: grazing light casts no stripes."""
_PLAIN = (Material.SKIN, Material.BODY, Material.CLOTHES, Material.HAIR)
"""Materials that fewer samples do justice to."""
_SEGMENTS = {
    Material.SKIN: Segment.SKIN,
    Material.EYE: Segment.EYES,
    Material.MOUTH: Segment.MOUTH,
    Material.TEETH: Segment.TEETH,
    Material.TONGUE: Segment.MOUTH,
    Material.BODY: Segment.SKIN,
    Material.CLOTHES: Segment.CLOTHES,
    Material.HAIR: Segment.HAIR,
    Material.EXTRA: Segment.EXTRA,
    Material.HAT: Segment.EXTRA,
}


@dataclass(frozen=True)
class Film:
    """A camera's effects and its noise."""

    effects: Effects
    sensor: np.random.Generator


def render_sample(
    head: HeadModel,
    seed: int,
    index: int,
    resolution: int,
    *,
    person: int | None = None,
    params: HeadParams | None = None,
    moment: int | None = None,
    further: bool = False,
    cameras: CameraRange = PORTRAIT_CAMERAS,
) -> Portrait:
    """Sample `index` of the data set with this seed, whatever else is rendered.

    Args:
        head: poses the mesh.
        seed: of the data set.
        index: the sample.
        resolution: height and width, pixels.
        person: the sample whose identity is shown; None for `index`.
        params: other head parameters in the same picture.
        moment: draws the sensor's noise; None for `index`.
        further: also make the ground truth that is not always wanted.
        cameras: where the camera may stand.
    """
    background = draw_background(numpy_stream(seed, index, "background"), resolution)
    params = keyed_params(head, seed, index, person) if params is None else params
    look = sample_look(seed, index, person)
    if resolution < DETAIL_RESOLUTION:
        look = replace(look, extras=Extras())
        film = None
    else:
        film = Film(draw_effects(numpy_stream(seed, index, "effects")), numpy_stream(seed, index if moment is None else moment, "sensor"))
    return render_portrait(head, params, keyed_camera(seed, index, cameras), look, background, film=film, further=further)


@torch.no_grad()
def render_portrait(
    head: HeadModel,
    params: HeadParams,
    camera: Camera,
    look: Look,
    background: npt.NDArray[np.float32],
    *,
    film: Film | None = None,
    further: bool = False,
) -> Portrait:
    """Render one person.

    Args:
        head: poses the mesh; its triangles are drawn exactly as it returns them.
        params: of one head, batch size 1.
        camera: one camera.
        look: everything else about the person.
        background: [H, H, 3], linear RGB; sets the resolution H.
        film: what the camera does to the picture; None for a perfect one.
        further: also make normals and 478 landmarks.
    """
    size = len(background)
    surface = head_surface(head)
    mesh = head(params)
    scene = build_scene(mesh.vertices[0], mesh.landmarks[0], surface, look)
    fine = size * SUPERSAMPLING
    points = project(scene.vertices[None], camera)
    scene = _without_backs_of_mouth(scene, points[0])
    fragments = rasterize(points, scene.faces, (fine, fine), perspective=True)
    color = _shade(scene, fragments, camera, surface, look)
    center = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    face, depth = fragments.face[0, center, center], fragments.depth[0, center, center]
    segments = torch.tensor([int(_SEGMENTS[key]) for key in Material] + [int(Segment.BACKGROUND)])
    material = torch.where(face >= 0, scene.materials[face.clamp_min(0)], len(Material))
    return Portrait(
        image=_develop(color, torch.from_numpy(background), look.lighting.exposure, film, torch.where(face >= 0, depth, 0.0).numpy()),
        segmentation=segments[material].to(torch.uint8).numpy(),
        depth=torch.where(face >= 0, depth, 0.0).numpy(),
        label=camera.to_label()[0].numpy(),
        head={field.name: getattr(params, field.name)[0].numpy() for field in fields(params)},
        landmarks_2d=_pixels(mesh.landmarks, camera, size),
        landmarks_3d=mesh.landmarks[0].numpy(),
        further=_further_truth(head, mesh.vertices, scene, fragments, camera, size) if further else None,
    )


def _without_backs_of_mouth(scene: Scene, points: Tensor) -> Scene:
    """The scene without the mouth's walls that show their outside at points [V, 3]: what they are seen through is skin in front of them."""
    mouth = (scene.materials == Material.MOUTH).nonzero()[:, 0]
    a, b, c = points[scene.faces[mouth], :2].unbind(dim=1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    kept = torch.ones_like(scene.materials, dtype=torch.bool)
    kept[mouth[area > 0]] = False  # y is down: clockwise in the picture
    return replace(scene, faces=scene.faces[kept], materials=scene.materials[kept])


def _pixels(points: Tensor, camera: Camera, size: int) -> npt.NDArray[np.float32]:
    """Where points [1, K, 3] are in the picture, [K, 2]."""
    return ((project(points, camera)[0, :, :2] + 1) * (size / 2)).numpy()


def _further_truth(head: HeadModel, vertices: Tensor, scene: Scene, fragments: Fragments, camera: Camera, size: int) -> FurtherTruth:
    center = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    face = fragments.face[0, center, center].flatten()
    weights = fragments.barycentrics[0, center, center].reshape(-1, 3)
    shown = (face >= 0).nonzero()[:, 0]
    points = locate(scene, face[shown], weights[shown])
    normals = F.normalize(points.normal, dim=1)
    # The inside of sheets is seen, too.
    away = ((camera.cam2world[0, :3, 3] - points.position) * normals).sum(dim=1) < 0
    flipped = torch.where((away & (points.material >= Material.BODY))[:, None], -normals, normals)
    image = torch.zeros(size * size, 3).index_copy(0, shown, flipped)
    dense = dense_embedding(head).place(vertices)  # [1, 478, 3]
    return FurtherTruth(image.reshape(size, size, 3).numpy(), _pixels(dense, camera, size), dense[0].numpy())


@dataclass(frozen=True)
class Samples:
    """The P fine samples of an image of H x H pixels that are shaded."""

    place: Tensor
    """[P] int64: in the flattened fine image."""
    pixel: Tensor
    """[P] int64: in the flattened image."""
    weight: Tensor
    """[P]: shares of their pixels; 1 in all where a pixel is covered."""


def choose_samples(face: Tensor, materials: Tensor) -> Samples:
    """Which fine samples of an image of triangles [S, S] are shaded.

    All of them at edges and in eyes and mouth; elsewhere the three of a broken diagonal stand for all nine of a pixel.
    """
    fine, nothing = len(face), len(Material)
    table = torch.cat([materials.new_tensor([nothing]), materials]).to(torch.uint8)
    drawn = table.index_select(0, face.flatten() + 1).reshape(fine, fine)
    parts = [
        (row, column, drawn[row::SUPERSAMPLING, column::SUPERSAMPLING]) for row in range(SUPERSAMPLING) for column in range(SUPERSAMPLING)
    ]
    center = parts[len(parts) // 2][2]
    plain = torch.tensor([material in _PLAIN for material in Material] + [False])[center.long()]
    for _, _, part in parts:
        plain = plain & (part == center)
    places, pixels, weights = [], [], []
    for row, column, part in parts:
        on_diagonal = column == (2 * row + 1) % SUPERSAMPLING
        pixel = ((part < nothing) if on_diagonal else (part < nothing) & ~plain).flatten().nonzero()[:, 0]
        down, right = pixel // len(plain), pixel % len(plain)
        places.append((SUPERSAMPLING * down + row) * fine + SUPERSAMPLING * right + column)
        pixels.append(pixel)
        full = plain.flatten()[pixel].float()
        weights.append((1 + (SUPERSAMPLING - 1) * full) / SUPERSAMPLING**2)
    return Samples(torch.cat(places), torch.cat(pixels), torch.cat(weights))


def _shade(scene: Scene, fragments: Fragments, camera: Camera, surface: HeadSurface, look: Look) -> Tensor:
    """Light and coverage [H * H, 4] that reach the camera, before exposure; colours are weighted by coverage."""
    samples = choose_samples(fragments.face[0], scene.materials)
    face = fragments.face.flatten().index_select(0, samples.place)
    points = locate(scene, face, fragments.barycentrics.reshape(-1, 3).index_select(0, samples.place))
    thin = look.extras.glasses is not None or look.extras.earrings is not None
    thick = scene.faces[scene.materials != Material.EXTRA] if thin else scene.faces
    lamp = light_view(scene.vertices, thick, torch.from_numpy(look.lighting.lamp_direction), SHADOW_SIZE)
    view = F.normalize(camera.cam2world[0, :3, 3] - points.position, dim=1)
    normals = F.normalize(points.normal, dim=1)
    # Sheets are seen from both sides; their inside is darker.
    inside = ((normals * view).sum(dim=1) < 0) & (points.material >= Material.BODY)
    normals = torch.where(inside[:, None], -normals, normals)
    light = Light(
        normals=normals,
        view=view,
        ambient=surroundings(normals, look.lighting),
        occlusion=torch.where(inside, 0.3, points.occlusion),
        lit=lamp.lit(points.position + SHADOW_LIFT * normals, SHADOW_BIAS) * torch.where(inside, 0.15, 1.0),
    )
    shaded = torch.ones(len(face), 4)
    for material in Material:
        chosen = (points.material == material).nonzero()[:, 0]
        if len(chosen):
            shaded[chosen, :3] = _shade_material(material, points, light[chosen], chosen, surface, look)
    pixels = fragments.face[0].numel() // SUPERSAMPLING**2
    return torch.zeros(pixels, 4).index_add_(0, samples.pixel, shaded * samples.weight[:, None])


def _shade_material(material: Material, points: Points, light: Light, chosen: Tensor, surface: HeadSurface, look: Look) -> Tensor:
    """Light [P, 3] leaving the points `chosen` [P], all of one material."""
    lighting, count = look.lighting, len(chosen)
    if material == Material.SKIN:
        columns = F.embedding_bag(points.corners[chosen], surface.skin_columns, per_sample_weights=points.weights[chosen], mode="sum")
        return shade_skin(paint_skin(SkinFields.from_columns(columns), look.skin, look.brows, look.hair), light, lighting)
    if material == Material.BODY:
        return shade_skin(paint_body(points.local[chosen], look.skin), light, lighting)
    if material == Material.HAIR:
        direction = F.normalize(points.direction[chosen], dim=1)
        hair = shade_hair(paint_hair(points.local[chosen], look.hair), direction, light, lighting)
        return _with_skin_below(hair, points.local[chosen], light, look) if look.extras.beard else hair
    if material == Material.EYE:
        return shade_eyes(paint_eyes(points.local[chosen], surface, look.eyes), light, lighting)
    if material in (Material.EXTRA, Material.HAT):
        return shade_glossy(Paint(points.local[chosen], points.direction[chosen, 0]), light, lighting)
    if material == Material.CLOTHES:
        return shade_matte(paint_clothes(points.local[chosen], look.clothes), light, lighting)
    return shade_matte(paint_mouth(material, count), light, lighting)


def _with_skin_below(hair: Tensor, local: Tensor, light: Light, look: Look) -> Tensor:
    """Light [P, 3] leaving hair, with skin that shows through where a beard is thin."""
    thin = (local[:, 2] >= BEARD).nonzero()[:, 0]
    cover = beard_cover(local[thin], local[thin, 2] - BEARD, look.hair)[:, None]
    below = shade_skin(paint_body(local[thin], look.skin), light[thin], look.lighting)
    return hair.index_copy(0, thin, torch.lerp(below, hair[thin], cover))


def _develop(
    color: Tensor, background: Tensor, exposure: float, film: Film | None, depth: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Light and coverage [H * H, 4] over a background [H, H, 3] to sRGB bytes [H, H, 3]; `depth` is [H, H]."""
    small = color.reshape(*background.shape[:2], 4)
    linear = exposure * small[..., :3] + (1 - small[..., 3:]) * background
    if film is not None and film.effects.aperture:
        focus = float(depth[depth > 0].min())
        linear = torch.from_numpy(defocus(linear.numpy(), depth, focus, film.effects.aperture))
    bright = torch.where(linear > 0.7, 0.7 + 0.3 * torch.tanh((linear - 0.7) / 0.3), linear)  # highlights roll off
    encoded = torch.where(bright <= 0.0031308, 12.92 * bright, 1.055 * bright.clamp_min(1e-6) ** (1 / 2.4) - 0.055)
    if film is not None:
        return expose(encoded.numpy(), film.effects, film.sensor)
    return (255 * encoded).round().clamp(0, 255).to(torch.uint8).numpy()
