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
    mirror_vertices: Tensor | None = None
    """[V] int64: the vertex that mirrors each vertex at x = 0; None where it is not known."""
    mirror_landmarks: Tensor | None = None
    """[68] int64: the landmark that mirrors each landmark."""
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    """Vertex masks [V] bool by name: face, left_eye, right_eye, left_iris, right_iris, left_lids, right_lids, lips, mouth_interior,
    teeth, tongue, scalp, left_ear, right_ear, neck; the default head also has left_pupil, right_pupil, left_brow, right_brow.
    face includes lids and lips, an eye its iris, an iris its pupil; otherwise regions do not overlap. "Left" is the person's left (+x)."""

    def to(self, device: torch.device | str) -> Topology:
        """A copy on `device`."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **moved, regions={name: mask.to(device) for name, mask in self.regions.items()})

    def geometry(self) -> dict[str, Tensor]:
        """The tensors that data and model must agree on: triangles, UVs and the landmark embedding, without masks and colours."""
        named = {name: getattr(self, name) for name in ("faces", "uvs", "uv_faces", "landmark_faces", "landmark_barycentrics")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The 68 landmarks [N, 68, 3] of posed vertices [N, V, 3]."""
        if self.landmark_faces is None or self.landmark_barycentrics is None:
            raise ValueError("this topology has no landmark embedding; landmarks must come with the data")
        corners = vertices[:, self.faces[self.landmark_faces]]  # [N, 68, 3 corners, 3]
        return (corners * self.landmark_barycentrics[None, :, :, None]).sum(dim=2)
