"""Videos as data sets: every frame with its ground truth, one folder and one identity per clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from dnnlib.errors import UserError
from next3d.head.model import HeadModel, HeadParams
from next3d.media.portrait_files import EncodedPortrait
from next3d.synthetic.generate import MAX_RESOLUTION, MIN_RESOLUTION
from next3d.synthetic.motion import clip_params
from next3d.synthetic.render import render_sample
from next3d.synthetic.writer import encode


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What a set of videos is made of; equal configs give equal bytes."""

    clips: int
    """Number of videos, each of another person."""
    frames: int
    """Of every clip."""
    fps: float = 25.0
    """Frames per second."""
    resolution: int = 128
    """Height and width of every frame."""
    seed: int = 0
    """A clip depends on this and on its number, and begins alike however long it is."""
    head: str = "procedural"
    """Name of the head model."""
    further_truth: bool = False
    """Also write normals and 478 landmarks."""

    def __post_init__(self) -> None:
        if self.clips < 1 or self.frames < 1:
            raise UserError(f"{self.clips} clips of {self.frames} frames: expected at least one of each.")
        if not 1 <= self.fps <= 240:
            raise UserError(f"frames per second: {self.fps:g}, expected 1 to 240.")
        if not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            raise UserError(f"resolution: {self.resolution}, expected {MIN_RESOLUTION} to {MAX_RESOLUTION} pixels.")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed}, expected 0 or more.")

    @property
    def count(self) -> int:
        """Frames of all clips."""
        return self.clips * self.frames

    def make(self, head: HeadModel, index: int) -> EncodedPortrait:
        """One frame: the clip's person, clothes, light and camera in the moment of the frame."""
        clip, frame = divmod(index, self.frames)
        params = _clip(head, self.seed, clip, self.frames, self.fps)[frame : frame + 1]
        portrait = render_sample(head, self.seed, clip, self.resolution, params=params, moment=index, further=self.further_truth)
        return encode(portrait, identity=clip, name=frame_name(clip, frame).removesuffix(".png"))

    def notes(self) -> Mapping[str, object]:
        """What the frames' names do not say."""
        return {"video": {"fps": self.fps, "frames": self.frames, "clips": self.clips}}


@lru_cache(maxsize=1)
def _clip(head: HeadModel, seed: int, clip: int, frames: int, fps: float) -> HeadParams:
    return clip_params(head, seed, clip, frames, fps)


def frame_name(clip: int, frame: int) -> str:
    """`clip00000/frame000000.png`, below each kind's folder."""
    return f"clip{clip:05d}/frame{frame:06d}.png"
