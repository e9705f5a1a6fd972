"""What a tracking job is to do, as one value that travels to its workers and names its results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dnnlib.errors import ConfigError
from next3d.tracking.choice import Choice
from next3d.tracking.face_mesh import DetectorSettings
from next3d.tracking.importers import Format
from next3d.tracking.quality import QualityLimits
from next3d.version import VERSION

MIN_RESOLUTION, MAX_RESOLUTION = 64, 2048
RESULTS = 1
"""Raised whenever the program's results change without a new version: results of another number are not taken up again."""


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Another tracker's parameter files in place of a fit."""

    folder: Path
    kind: Format


@dataclass(frozen=True, kw_only=True)
class TrackingSettings:
    """What becomes of photos and films; equal settings and files give equal bytes."""

    resolution: int = 512
    """Height and width of the crops."""
    faces: Choice = "largest"
    """Which faces of a photo are used. Films: the one that is followed."""
    head: str = "procedural"
    """Name of the head model, as `load_head` takes it."""
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    limits: QualityLimits = field(default_factory=QualityLimits)
    """Beyond these a face is rejected."""
    matte: bool = False
    """Also write who is person and who is background."""
    fps: float | None = None
    """Films are resampled to so many frames per second; None keeps their own."""
    every: int = 1
    """One of so many frames of a film is used."""
    imported: ImportSettings | None = None
    """Heads of another tracker in place of a fit."""

    def __post_init__(self) -> None:
        if not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            raise ConfigError(f"resolution: {self.resolution}, expected {MIN_RESOLUTION} to {MAX_RESOLUTION} pixels.")
        if self.fps is not None and not 1 <= self.fps <= 240:
            raise ConfigError(f"frames per second: {self.fps:g}, expected 1 to 240.")
        if self.every < 1:
            raise ConfigError(f"every: {self.every}, expected 1 or more.")

    def key(self, fingerprint: str) -> str:
        """64 hexadecimal digits that differ between settings, head models (by their fingerprint) and versions of the program."""
        return digest(VERSION, RESULTS, fingerprint, asdict(self))


def digest(*parts: object) -> str:
    """64 hexadecimal digits of anything that JSON can say; paths count by their text."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
