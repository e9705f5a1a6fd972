"""What tracking found, drawn on the photo: the fitted mesh, detected and fitted landmarks, gaze, the crop, and the figures in words.

Lines and letters are drawn at twice the size and shrunk, so that they are smooth; small faces are enlarged together with their photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from next3d.head.dense import IRIS_START, dense_embedding
from next3d.head.model import HeadModel, Joint, axis_angle_to_matrix
from next3d.head.topology import Topology
from next3d.render.cameras import moved_image_camera, project
from next3d.render.shaded import vertex_normals
from next3d.tracking.quality import view_angles
from next3d.tracking.types import CropFrame, HeadFit, Pixels, Points
from next3d.types import Camera, HeadMesh
from torch_utils.ops.rasterize import rasterize

Layer = npt.NDArray[np.uint8]

DENSE_CHAINS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7, 33),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249, 263),
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146, 61),
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78),
    (70, 63, 105, 66, 107),
    (300, 293, 334, 296, 336),
    (168, 6, 197, 195, 5, 4),
)
"""Lids, lips, brows and the bridge of the nose among the 478 points."""
IRISES = ((469, 470, 471, 472), (474, 475, 476, 477))
"""Points around the irises among them."""
LANDMARK_CHAINS = (
    (36, 37, 38, 39, 40, 41, 36),
    (42, 43, 44, 45, 46, 47, 42),
    (48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 48),
    (60, 61, 62, 63, 64, 65, 66, 67, 60),
    (17, 18, 19, 20, 21),
    (22, 23, 24, 25, 26),
    (27, 28, 29, 30),
)
"""The same chains among the 68 landmarks."""

FITTED, DETECTED, GAZE, FRAME = (64, 224, 255), (255, 222, 64), (255, 84, 84), (255, 255, 255)
_TINTS = {
    # region: (red, green, blue, opacity); later ones paint over earlier ones
    "": (0.55, 0.70, 0.90, 0.14),
    "neck": (0.55, 0.70, 0.90, 0.00),
    "face": (0.30, 0.62, 1.00, 0.36),
    "lips": (1.00, 0.35, 0.45, 0.36),
    "mouth_interior": (0.30, 0.10, 0.12, 0.15),
    "teeth": (1.00, 1.00, 0.95, 0.15),
    "left_eye": (1.00, 1.00, 1.00, 0.12),
    "right_eye": (1.00, 1.00, 1.00, 0.12),
}
_REGION = 2.2
"""Side of the square in which the mesh is drawn; crop sides."""
_BORDER = 0.25
"""Opacity above which the mesh is outlined: face and features."""
_MESH_SIZE = 700
"""Largest picture of a mesh; larger ones are enlarged."""


@dataclass(frozen=True, kw_only=True)
class OverlayStyle:
    """What is drawn, and how large."""

    mesh: bool = True
    landmarks: bool = True
    gaze: bool = True
    frame: bool = True
    legend: bool = True
    face_size: int = 560
    """Photos whose largest crop is smaller than this are enlarged, pixels; 0 leaves them alone."""
    largest: int = 3072
    """Photos are shrunk to this many pixels on their longer side."""


def draw_overlay(
    photo: Pixels,
    head: HeadModel,
    fit: HeadFit,
    frames: Sequence[CropFrame],
    found: Sequence[Points] | None = None,
    style: OverlayStyle | None = None,
) -> Pixels:
    """Draw N faces on their photo.

    Args:
        photo: [H, W, 3].
        head: the model of the fit.
        fit: N heads; their cameras are those of the crops.
        frames: N crops.
        found: N times the detector's points [478, 2 or 3], photo coordinates.
        style: what is drawn.

    Returns:
        A picture like the photo, perhaps larger or smaller.
    """
    style = style or OverlayStyle()
    scale = picture_scale(photo.shape, frames, style)
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    picture = Image.fromarray(photo)
    picture = picture.resize(size, Image.Resampling.LANCZOS) if size != picture.size else picture
    scaled = [CropFrame(frame.left * scale, frame.top * scale, frame.side * scale) for frame in frames]
    with torch.no_grad():
        meshes = head(fit.params)
        if style.mesh:
            for number, frame in enumerate(scaled):
                _lay_mesh(picture, meshes[number : number + 1], fit.camera[number : number + 1], head.topology, frame)
        for number, frame in enumerate(scaled):
            points = None if found is None else found[number][:, :2] * scale
            _lay_lines(picture, head, fit[number : number + 1], meshes[number : number + 1], frame, points, style)
    if style.legend:
        for number, frame in enumerate(scaled):
            points = np.zeros((0, 2)) if found is None else found[number][:, :2] * scale
            _lay_legend(picture, legend_lines(head, fit[number : number + 1]), frame, points)
    return np.asarray(picture)


def picture_scale(shape: tuple[int, ...], frames: Sequence[CropFrame], style: OverlayStyle) -> float:
    """How much a photo [H, W, ...] is enlarged."""
    side = max((frame.side for frame in frames), default=float(style.face_size))
    wanted = max(1.0, style.face_size / side)
    return min(wanted, style.largest / max(shape[:2]))


def legend_lines(head: HeadModel, fit: HeadFit) -> list[str]:
    """What was found of the first head of a fit, in short lines; degrees."""
    yaw, pitch, roll = (_degrees(angle) for angle in view_angles(fit)[0])
    pose = fit.params.pose[0]
    gaze = (pose[Joint.LEFT_EYE] + pose[Joint.RIGHT_EYE]) / 2
    lines = [
        f"yaw {yaw:+d}°  pitch {pitch:+d}°  roll {roll:+d}°",
        f"jaw {_degrees(pose[Joint.JAW, 0])}°" + _blink(head, fit),
        f"gaze yaw {_degrees(gaze[1]):+d}°  pitch {_degrees(gaze[0]):+d}°",
    ]
    error = float(fit.error[0])
    return lines if math.isnan(error) else [*lines, f"error {100 * error:.1f} % of the eyes' distance"]


def _degrees(angle: Tensor) -> int:
    return round(math.degrees(float(angle)))


def _blink(head: HeadModel, fit: HeadFit) -> str:
    names = getattr(head, "expression_names", ())
    if "eyeBlinkLeft" not in names:
        return ""
    shut = [float(fit.params.expression[0, names.index(f"eyeBlink{side}")]) for side in ("Right", "Left")]
    return f"  blink {shut[0]:.2f} {shut[1]:.2f}"


def _lay_mesh(picture: Image.Image, mesh: HeadMesh, camera: Camera, topology: Topology, frame: CropFrame) -> None:
    """The shaded mesh, half transparent, with a line around the face."""
    side = frame.side * _REGION
    left, top = frame.left - (side - frame.side) / 2, frame.top - (side - frame.side) / 2
    box = _inside(picture, left, top, side)
    if box is None:
        return
    layer = Image.fromarray(mesh_layer(mesh, camera, topology, max(16, min(_MESH_SIZE, round(side)))))
    ratio = layer.width / side
    x0, y0, x1, y1 = (min(max((edge - start) * ratio, 0.0), float(layer.width)) for edge, start in zip(box, (left, top) * 2, strict=True))
    shown = layer.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))
    picture.paste(shown.convert("RGB"), box[:2], shown.getchannel("A"))


def _inside(picture: Image.Image, left: float, top: float, side: float) -> tuple[int, int, int, int] | None:
    """The whole pixels of a square that lie in a picture: left, top, right, bottom; None where there are none."""
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
    x1, y1 = min(picture.width, math.ceil(left + side)), min(picture.height, math.ceil(top + side))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def mesh_layer(mesh: HeadMesh, camera: Camera, topology: Topology, size: int) -> Layer:
    """One head [size, size, 4] under a lamp beside the camera, in a square that is `_REGION` times the camera's picture."""
    new = mesh.vertices.new_tensor
    wide = moved_image_camera(camera, new([0.0]), new([1 / _REGION]), new([[0.0, 0.0]]))
    fragments = rasterize(project(mesh.vertices, wide), topology.faces, (2 * size, 2 * size), perspective=True, cull="back")
    lamp = camera.cam2world[0, :3, :3] @ F.normalize(new([-0.35, -0.45, -0.8]), dim=0)
    light = 0.30 + 0.80 * (vertex_normals(mesh.vertices, topology.faces)[0] @ lamp).clamp_min(0)
    tints = _tints(topology).to(light)
    tints = torch.cat([tints[:, :3] * light[:, None], tints[:, 3:]], dim=1)  # [V, 4]

    covered = fragments.face[0] >= 0  # [2S, 2S]
    corners = topology.faces[fragments.face[0][covered]]  # [M, 3]: of covered pixels alone, they are few
    picture = tints.new_zeros(*covered.shape, 4)
    picture[covered] = (tints[corners] * fragments.barycentrics[0][covered][..., None]).sum(dim=1)
    picture[_border(picture[..., 3] > _BORDER, size)] = new([*(level / 255 for level in FITTED), 0.8])
    picture[..., :3] *= picture[..., 3:]  # colours times opacity may be averaged
    picture = F.avg_pool2d(picture.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)  # [S, S, 4]
    straight = torch.cat([picture[..., :3] / picture[..., 3:].clamp_min(1e-6), picture[..., 3:]], dim=-1)
    return np.asarray((straight.clamp(0, 1) * 255).round().byte().cpu().numpy())


def _border(mask: Tensor, size: int) -> Tensor:
    """The pixels on both sides of a mask's outline [2S, 2S], a four hundredth of the face thick; holes do not count."""
    reach = max(1, round(size / _REGION / 400))
    inside = mask.to(torch.float32)[None, None]
    near = F.max_pool2d(inside, 2 * reach + 1, stride=1, padding=reach)
    deep = 1 - F.max_pool2d(1 - inside, 2 * reach + 1, stride=1, padding=reach)
    return (near > deep)[0, 0]


def _tints(topology: Topology) -> Tensor:
    """Colour and opacity of every vertex [V, 4]."""
    tints = torch.tensor(_TINTS[""]).repeat(len(topology.guide_colors), 1)
    for name, tint in _TINTS.items():
        if name in topology.regions:
            tints[topology.regions[name].cpu()] = torch.tensor(tint)
    return tints


def _lay_lines(
    picture: Image.Image, head: HeadModel, fit: HeadFit, mesh: HeadMesh, frame: CropFrame, found: Points | None, style: OverlayStyle
) -> None:
    """Landmarks, gaze and the crop's border, drawn twice as large and shrunk."""
    width = max(1.5, frame.side / 320)
    margin = frame.side * 0.3 + 4 * width
    box = _inside(picture, frame.left - margin, frame.top - margin, frame.side + 2 * margin)
    if box is None:
        return
    part = picture.crop(box)
    pen = _Pen(part.resize((2 * part.width, 2 * part.height), Image.Resampling.BICUBIC), box[:2], 2 * width)
    if style.frame:
        corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]
        pen.line(np.array([(frame.left + x * frame.side, frame.top + y * frame.side) for x, y in corners]), FRAME, 1.0, edge=True)
    if style.landmarks:
        _draw_landmarks(pen, head, fit, mesh, frame, found)
    if style.gaze:
        for start, end in gaze_rays(head, fit, mesh):
            pen.arrow(frame.to_photo(start), frame.to_photo(end), GAZE)
    smooth = pen.image.resize(part.size, Image.Resampling.BOX)
    drawn = pen.mask.resize(part.size, Image.Resampling.BOX).point(lambda level: 255 if level else 0)
    picture.paste(smooth, box[:2], drawn)


def _draw_landmarks(pen: _Pen, head: HeadModel, fit: HeadFit, mesh: HeadMesh, frame: CropFrame, found: Points | None) -> None:
    dense = getattr(head, "identifier", "").startswith("procedural")
    points = dense_embedding(head).place(mesh.vertices.cpu()) if dense else mesh.landmarks.cpu()
    shown = frame.to_photo(_unit(points, fit.camera)[0])
    for chain in DENSE_CHAINS if dense else LANDMARK_CHAINS:
        pen.line(shown[list(chain)], FITTED, 0.8)
    for ring in IRISES if dense else ():
        pen.line(_ellipse(shown[list(ring)]), FITTED, 0.8)
    if found is None:
        return
    for point in found[:IRIS_START]:
        pen.dot(point, DETECTED, 0.75)
    for point in found[IRIS_START:]:
        pen.dot(point, GAZE, 0.9)


def _ellipse(points: Points) -> Points:
    """A closed chain through four points [4, 2] around a middle."""
    angle = np.linspace(0, 2 * np.pi, 25)[:, None]
    along, across = (points[0] - points[2]) / 2, (points[1] - points[3]) / 2
    return np.asarray(points.mean(axis=0) + np.cos(angle) * along + np.sin(angle) * across)


def gaze_rays(head: HeadModel, fit: HeadFit, mesh: HeadMesh, length: float = 0.22) -> list[tuple[Points, Points]]:
    """Where the lines of sight of one head begin and end, unit coordinates [2] each; left eye first.

    Args:
        head: its topology names the irises, or eyes.
        fit: one head.
        mesh: the posed head.
        length: world units.
    """
    regions, rays = head.topology.regions, []
    turn = axis_angle_to_matrix(fit.params.pose[0])  # [5, 3, 3]
    for side, joint in (("left", Joint.LEFT_EYE), ("right", Joint.RIGHT_EYE)):
        region = regions.get(f"{side}_pupil", regions.get(f"{side}_iris", regions.get(f"{side}_eye")))
        if region is None:
            continue
        start = mesh.vertices[0, region].mean(dim=0)
        ahead = (turn[Joint.GLOBAL] @ turn[Joint.NECK] @ turn[joint])[:, 2]
        start_shown, end_shown = _unit(torch.stack([start, start + length * ahead])[None], fit.camera)[0]
        rays.append((start_shown, end_shown))
    return rays


def _unit(points: Tensor, camera: Camera) -> Points:
    """World points [N, K, 3] in unit coordinates [N, K, 2]."""
    return ((project(points.to(camera.cam2world), camera)[..., :2] + 1) / 2).double().cpu().numpy()


class _Pen:
    """Draws on an enlarged part of a picture, in the picture's coordinates, and remembers where."""

    def __init__(self, image: Image.Image, corner: tuple[int, int], width: float) -> None:
        self.image = image
        self.mask = Image.new("L", image.size)
        self._tools = ((ImageDraw.Draw(image), True), (ImageDraw.Draw(self.mask), False))
        self._corner = np.array(corner)
        self._width = width

    def line(self, points: Points, color: tuple[int, int, int], width: float, *, edge: bool = False) -> None:
        """A chain of lines through points [K, 2]; with a dark edge."""
        places = [(float(x), float(y)) for x, y in 2 * (points - self._corner)]
        wide = max(1, round(width * self._width))
        for draw, colored in self._tools:
            if edge:
                draw.line(places, fill=(0, 0, 0) if colored else 255, width=wide + max(2, round(self._width)), joint="curve")
            draw.line(places, fill=color if colored else 255, width=wide, joint="curve")

    def dot(self, point: Points, color: tuple[int, int, int], radius: float) -> None:
        """A disc."""
        (x, y), reach = 2 * (point - self._corner), radius * self._width
        for draw, colored in self._tools:
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color if colored else 255)

    def arrow(self, start: Points, end: Points, color: tuple[int, int, int]) -> None:
        """A line with a head; only a ring where it points at the viewer."""
        along = end - start
        length = float(np.linalg.norm(along))
        self.dot(start, color, 1.1)
        if 2 * length < 4 * self._width:
            return
        across = np.array([-along[1], along[0]]) / length
        size = min(2.5 * self._width, 0.7 * length)
        back = end - along / length * size
        self.line(np.stack([start, back]), color, 1.2)
        corners = 2 * (np.stack([end, back + 0.5 * size * across, back - 0.5 * size * across]) - self._corner)
        for draw, colored in self._tools:
            draw.polygon([(float(x), float(y)) for x, y in corners], fill=color if colored else 255)


def _lay_legend(picture: Image.Image, lines: Sequence[str], frame: CropFrame, points: Points) -> None:
    """Figures on a dark plate under the crop or above it; where there is no room, in the corner with the fewest of the face's points."""
    height = round(min(max(frame.side / 32, max(picture.size) / 120, 11), 64, max(picture.height / 12, 8)))
    font = ImageFont.load_default(height)
    text, gap = "\n".join(lines), max(2, height // 3)
    draw = ImageDraw.Draw(picture)
    edges = draw.multiline_textbbox((0, 0), text, font=font, spacing=gap)
    width, tall = math.ceil(edges[2]) + 2 * gap, math.ceil(edges[3]) + 2 * gap
    bottom = frame.top + frame.side
    under, above = bottom + gap + tall <= picture.height, frame.top - gap - tall >= 0
    left, right = max(frame.left, 0), min(frame.left + frame.side, picture.width)
    if under or above:
        corners = [(min(left, picture.width - width), bottom + gap if under else frame.top - gap - tall)]
    else:
        rows = (min(bottom, picture.height) - tall - gap, max(frame.top, 0) + gap)
        corners = [(column, row) for row in rows for column in (left + gap, right - width - gap)]
    hidden = [((points >= corner) & (points <= np.add(corner, (width, tall)))).all(axis=1).sum() for corner in corners]
    best = corners[int(np.argmin(hidden))]
    corner = (max(0, round(best[0])), max(0, round(best[1])))
    plate = Image.new("RGB", (width, tall), (16, 20, 28))
    picture.paste(plate, corner, Image.new("L", plate.size, 190))
    draw.multiline_text((corner[0] + gap, corner[1] + gap), text, font=font, fill=(240, 244, 250), spacing=gap)
