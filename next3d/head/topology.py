"""What all meshes of one head model share: triangles, UVs, landmarks, regions, the left-right map.

UVs are in [0, 1] with v up, as in OBJ files; row 0 of a texture image is v = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Topology:
    """Connectivity of a head mesh with V vertices, F triangles and T UV coordinates."""

    faces: Tensor
    """[F, 3] int64, counter-clockwise seen from outside."""
    uvs: Tensor
    """[T, 2] float32 in [0, 1]."""
    uv_faces: Tensor
    """[F, 3] int64: the UV coordinate of every triangle corner."""
    uv_mask: Tensor
    """[1, M, M] float32 in [0, 1]: what the neural texture is responsible for, face and eyes but not the mouth's inside.
    Row 0 is v = 1."""
    guide_colors: Tensor
    """[V, 3] float32 in [-1, 1]: the colours in which the discriminator sees the mesh.
    Iris, lids, lips and mouth interior are told apart."""
    landmark_faces: Tensor | None = None
    """[68] int64: the triangle on which each landmark lies; None where landmarks come with the data."""
    landmark_barycentrics: Tensor | None = None
    """[68, 3] float32: where in that triangle."""
    contour_faces: Tensor | None = None
    """[A, 17] int64: for each of A yaws, a degree apart around 0, the triangles on which detectors see landmarks 0-16; None for none."""
    contour_barycentrics: Tensor | None = None
    """[A, 17, 3] float32: where in those triangles."""
    mirror_vertices: Tensor | None = None
    """[V] int64: the vertex that mirrors each vertex at x = 0; None where it is not known."""
    mirror_landmarks: Tensor | None = None
    """[68] int64: the landmark that mirrors each landmark."""
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    """Vertex masks [V] bool by name: face, left_eye, right_eye, left_iris, right_iris, left_lids, right_lids, lips, mouth_interior,
    teeth, tongue, scalp, left_ear, right_ear, neck; the default head also has left_pupil, right_pupil, left_brow, right_brow.
    face includes lids and lips, an eye its iris, an iris its pupil; otherwise regions do not overlap. "Left" is the person's left (+x)."""
    eye_points: Mapping[str, Tensor] = field(default_factory=dict)
    """Vertices [K] int64 to fit eyes to, by name: left_pupil and right_pupil [1], left_iris [8] around the iris's edge, left_upper_lid and
    left_lower_lid [13] along the lids' margins from the inner corner to the outer one, and the same for the right, whose point k mirrors
    the left's. Only the default head has them."""

    def to(self, device: torch.device | str) -> Topology:
        """A copy on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        regions = {name: mask.to(device) for name, mask in self.regions.items()}
        return replace(self, **moved, regions=regions, eye_points={name: index.to(device) for name, index in self.eye_points.items()})

    def geometry(self) -> dict[str, Tensor]:
        """The tensors that data and model must agree on: triangles, UVs and the landmark embedding, without masks and colours."""
        named = {name: getattr(self, name) for name in ("faces", "uvs", "uv_faces", "landmark_faces", "landmark_barycentrics")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The 68 landmarks [N, 68, 3] of posed vertices [N, V, 3]: each is one point of the surface, whatever the pose."""
        if self.landmark_faces is None or self.landmark_barycentrics is None:
            raise ValueError("this topology has no landmark embedding; landmarks must come with the data")
        corners = vertices[:, self.faces[self.landmark_faces]]  # [N, 68, 3 corners, 3]
        return (corners * self.landmark_barycentrics[None, :, :, None]).sum(dim=2)

    def outline_landmarks(self, vertices: Tensor, yaw: Tensor) -> Tensor:
        """The 68 landmarks as detectors draw them: 0-16 lie on the jaw's visible outline, which wanders over the cheek as the head turns.

        For fitting a head to landmarks found in an image; everything else uses `landmarks`.

        Args:
            vertices: [N, V, 3], posed.
            yaw: [N], radians by which each head is turned towards +x as the camera sees it (`next3d.head.model.yaw_in_view`). It is
                rounded to a degree and limited to the yaws that there are, so no gradient reaches it.

        Returns:
            [N, 68, 3]; gradients flow through the vertices. The device is not waited for.

        Raises:
            ValueError: the topology has no landmarks, or no contour.
        """
        if self.contour_faces is None or self.contour_barycentrics is None:
            raise ValueError("this topology has no contour landmarks for turned heads; use `landmarks`")
        reach = len(self.contour_faces) // 2
        row = torch.rad2deg(yaw.detach()).round().clamp(-reach, reach).long() + reach  # [N]
        index = self.faces[self.contour_faces[row]]  # [N, 17, 3 corners]
        sample = torch.arange(len(vertices), device=vertices.device)[:, None, None]
        outline = (vertices[sample, index] * self.contour_barycentrics[row][..., None]).sum(dim=2)
        return torch.cat([outline, self.landmarks(vertices)[:, outline.shape[1] :]], dim=1)


def triangle_set(faces: Tensor) -> Tensor:
    """Triangles [F, 3] in an order of their own, corners ascending: equal for meshes that list the same triangles differently."""
    return torch.unique(faces.sort(dim=1).values, dim=0)
