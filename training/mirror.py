"""Samples as their own mirror images, which doubles a data set: picture, camera and head are mirrored together and exactly.

A picture is flipped; its camera becomes the one that sees the mirrored world so (`mirrored_camera`); a head's vertices are mirrored at
x = 0 and change places through the topology's left-right map, so that a vertex stays what it is: render(mirror(x)) = flip(render(x)).
Which samples are mirrored is drawn by their global position: no order of the data and no file changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from next3d.head.landmarks import mirror_order
from next3d.head.topology import Topology
from next3d.render.cameras import mirrored_camera
from next3d.types import Camera, HeadMesh


class Mirror:
    """Mirror images of batches, sample by sample."""

    def __init__(self, topology: Topology, device: torch.device | str) -> None:
        """Raises ConfigError where the topology has no left-right map."""
        if topology.mirror_vertices is None:
            raise ConfigError(
                "--mirror: the data set's meshes have no left-right map, so their mirror images are not known; "
                "use data with head parameters, or leave --mirror out"
            )
        known = topology.mirror_landmarks
        self._vertices = topology.mirror_vertices.to(device)
        self._landmarks = (torch.from_numpy(mirror_order()) if known is None else known).to(device)  # 68 landmarks are in the usual order

    def image(self, image: Tensor, flip: Tensor) -> Tensor:
        """Images [N, C, H, H], mirrored where `flip` [N] bool says so."""
        return torch.where(flip[:, None, None, None], image.flip(3), image)

    def camera(self, camera: Camera, flip: Tensor) -> Camera:
        """Cameras, mirrored where `flip` [N] says so."""
        other = mirrored_camera(camera)
        where = flip[:, None, None]
        return Camera(torch.where(where, other.cam2world, camera.cam2world), torch.where(where, other.intrinsics, camera.intrinsics))

    def mesh(self, mesh: HeadMesh, flip: Tensor) -> HeadMesh:
        """Heads, mirrored where `flip` [N] says so."""
        where = flip[:, None, None]
        vertices = torch.where(where, _mirrored(mesh.vertices, self._vertices), mesh.vertices)
        return HeadMesh(vertices, torch.where(where, _mirrored(mesh.landmarks, self._landmarks), mesh.landmarks))


def _mirrored(points: Tensor, order: Tensor) -> Tensor:
    """Points [N, P, 3] mirrored at x = 0, each in the place of its counterpart."""
    moved = points[:, order]
    return torch.cat([-moved[..., :1], moved[..., 1:]], dim=-1)
