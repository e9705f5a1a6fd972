"""What the heads in a video do, frame by frame: how they are posed, and from where they are seen.

A head model that moves and a mesh that keeps still are here; a folder of meshes and cameras is in `training/driving.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from next3d.head.model import HeadModel, HeadParams
from next3d.media.motions import MOTIONS, find_motion, walk_position
from next3d.render.cameras import ORBIT_TARGET, orbit_camera
from next3d.synthetic.sampling import keyed_params
from next3d.types import Camera, HeadMesh, TensorBundle

_Bundle = TypeVar("_Bundle", bound=TensorBundle)


class Performance(ABC):
    """Poses and cameras of all frames. Frames are computed or read when they are asked for."""

    frames: int
    """Length."""
    still: bool
    """Every frame has the same poses, so planes serve the whole video."""
    walks: bool = False
    """Faces turn into each other."""
    leads: bool = False
    """One mesh poses all faces, so a tile may show it alone."""

    @abstractmethod
    def mesh(self, index: int, tiles: range) -> HeadMesh | None:
        """The heads in some tiles of frame `index`, on any device; None for networks that have no mesh.

        Raises:
            DatasetError: it comes from a file that is damaged.
        """

    @abstractmethod
    def camera(self, index: int) -> Camera:
        """One camera, from which all tiles of frame `index` are seen; on the CPU."""


class MotionPerformance(Performance):
    """What performances with one of `MOTIONS` share: length, loop and camera."""

    def __init__(self, motion: str, frames: int) -> None:
        """Raises ConfigError for a motion that does not exist."""
        self.motion = find_motion(motion)
        self.frames = frames
        self.walks = self.motion.walks

    def camera(self, index: int) -> Camera:
        """The portrait camera, or where the motion swings it."""
        yaw, pitch = self.motion.angles(index / self.frames) if self.motion.angles else (0.0, 0.0)
        return front_camera(1, yaw=yaw, pitch=pitch)


class HeadPerformance(MotionPerformance):
    """A head model follows a motion; every face sits on a head of its own."""

    def __init__(self, head: HeadModel, motion: str, seeds: Sequence[int], *, frames: int = 120, head_seed: int = 0) -> None:
        """`head_seed` draws the heads' shapes, together with the faces' seeds; the motion fills `frames` once and loops."""
        super().__init__(motion, frames)
        self.head = head
        self.rest = at_rest(head, seed_heads(head, seeds, head_seed=head_seed))
        self.still = self.motion.pose is None and not self.walks
        self._count = len(seeds)

    def mesh(self, index: int, tiles: range) -> HeadMesh:
        """The heads at this moment of the motion."""
        t = index / self.frames
        if self.walks:
            return self.head(walk_rows(self.rest, tiles, self._count, t))
        rest = self.rest[tiles.start : tiles.stop]
        return self.head(self.motion.pose(self.head, rest, t) if self.motion.pose else rest)


class StillPerformance(MotionPerformance):
    """All faces sit on one mesh that keeps still, or on none; the camera may move, and faces may turn into each other."""

    still = True

    def __init__(self, mesh: HeadMesh | None, motion: str, *, frames: int = 120) -> None:
        """`mesh` is a batch of one, or None for networks that have no mesh.

        Raises:
            ConfigError: the motion would move the head itself.
        """
        super().__init__(motion, frames)
        if self.motion.pose is not None:
            possible = " or ".join(name for name, motion in MOTIONS.items() if motion.pose is None)
            reason = "this network has no mesh that could move" if mesh is None else "a mesh file holds a single pose"
            raise ConfigError(f"motion {motion}: needs a head model, but {reason}; choose {possible}.")
        self.leads = mesh is not None
        self._mesh = mesh

    def mesh(self, index: int, tiles: range) -> HeadMesh | None:
        """The same for every tile."""
        return None if self._mesh is None else copies(self._mesh, len(tiles))


def copies(bundle: _Bundle, count: int) -> _Bundle:
    """A batch of one, `count` times; no memory is copied."""
    return bundle.map(lambda rows: rows.expand(count, *rows.shape[1:]))


def front_camera(count: int = 1, device: torch.device | str = "cpu", *, yaw: float = 0.0, pitch: float = 0.0) -> Camera:
    """`count` copies of the portrait camera; other angles in radians swing it around the head, looking at ORBIT_TARGET."""
    return orbit_camera(torch.full((count,), yaw, device=device), torch.full((count,), pitch, device=device), target=ORBIT_TARGET)


def seed_heads(head: HeadModel, seeds: Sequence[int], *, head_seed: int) -> HeadParams:
    """Random heads in random moments, one per seed, on the head model's device."""
    people = [keyed_params(head, head_seed, seed) for seed in seeds]
    columns = {field.name: torch.cat([getattr(person, field.name) for person in people]) for field in fields(HeadParams)}
    return HeadParams(**columns).to(head.neutral(1).shape.device)


def at_rest(head: HeadModel, params: HeadParams) -> HeadParams:
    """The same people with a relaxed face, looking straight ahead."""
    return replace(head.neutral(len(params.shape)), shape=params.shape)


def walk_rows(bundle: _Bundle, tiles: range, count: int, t: float) -> _Bundle:
    """Rows for some tiles, each between those of the two of `count` faces that its walk is leaving and reaching at time t."""
    first, second, fractions = zip(*(walk_position(count, start, t) for start in tiles), strict=True)

    def between(rows: Tensor) -> Tensor:
        fraction = rows.new_tensor(fractions).reshape(-1, *[1] * (rows.ndim - 1))
        return torch.lerp(rows[list(first)], rows[list(second)], fraction)

    return bundle.map(between)
