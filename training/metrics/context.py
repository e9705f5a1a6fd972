"""What metrics share: the network under test, the data set, the settings, and everything that is made once for several of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from dnnlib.cache import find_published
from dnnlib.errors import ConfigError, UserError
from next3d.generator import TriplaneGenerator
from next3d.head import load_head
from next3d.head.model import HeadModel
from torch_utils.distributed import World, barrier, gather_rows, world
from training.dataset import PortraitDataset
from training.metrics.catalog import Need
from training.metrics.detector import INCEPTION, Detector, load_detector
from training.metrics.recognition import IResNet, load_recognition
from training.metrics.scenes import Sampler, Scenes

Say = Callable[[str], None]
PROGRESS_CHUNKS = 50
"""Calls of a function from which on it is said how far they are."""
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """How much is measured, and with which files."""

    images: int = 50000
    """Generated images of distribution metrics."""
    reals: int | None = None
    """Real images that they are compared with, at most the whole data set. None: as many as generated ones, and all for 50 000 and more."""
    people: int = 500
    """Generated people (or images, or commands) of each avatar metric."""
    holdout: int = 500
    """The last images of the data set, to which nothing is fitted: regressors' floors are measured there. Training should leave them out,
    too (`--holdout`)."""
    fitting: int = 2000
    """Real images, none of the held-out ones, to which regressors are fitted."""
    seed: int = 0
    """Key of every random number."""
    batch: int = 16
    """Images generated or looked at at once."""
    detector: Path | None = None
    """Weights of the feature detector of FID, KID, precision and recall; None looks into the cache of published files."""
    download: bool = False
    """Fetch published files that are not in the cache."""
    face_recognition: Path | None = None
    """Weights of a face-recognition network for identity consistency; without it a regressor is trained on identity labels."""
    intervals: bool = True
    """Compute confidence intervals and floors, where they cost extra time."""

    def __post_init__(self) -> None:
        if min(self.images, self.people, self.holdout, self.fitting, self.images if self.reals is None else self.reals) < 4:
            raise ConfigError("metrics: images, reals, people, holdout and fitting must be at least 4")
        if self.batch < 1:
            raise ConfigError(f"metrics: batch={self.batch}, expected at least 1")


@dataclass
class Context:
    """One network under test and what its metrics share. All ranks of a group make the same context and measure the same metrics."""

    sampler: Sampler
    """Scenes to images [N, 3, H, H] in [-1, 1] on the CPU: the network, or anything that stands for one."""
    latent_size: int
    """Length of a scene's z."""
    dataset: PortraitDataset
    """Opened at the resolution of the sampler's images."""
    settings: MetricSettings = field(default_factory=MetricSettings)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where detectors and regressors compute."""
    generator: TriplaneGenerator | None = None
    """The network itself, for what pictures do not say (depth, planes); None if only pictures exist."""
    say: Say = lambda line: None
    """Told what is going on; silent on all ranks but the first."""
    world: World = field(default_factory=world)
    truncation: float = 1.0
    """Of the sampler; what is asked of the generator itself is truncated alike."""
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)
    _of_network: set[str] = field(default_factory=set, repr=False)

    def once(self, key: str, make: Callable[[], _Made], *, network: bool = False) -> _Made:
        """What `make` returned when it was first called under this key: images, features, fitted readers.

        Args:
            key: its name.
            make: makes it.
            network: it comes from the network under test, and is forgotten when another one is.
        """
        if key not in self._kept:
            self._kept[key] = make()
            if network:
                self._of_network.add(key)
        made: _Made = self._kept[key]
        return made

    def test_another(self, sampler: Sampler, generator: TriplaneGenerator | None = None) -> None:
        """Put another network under test; what was made of real images stays."""
        self.sampler, self.generator = sampler, generator
        for key in self._of_network:
            del self._kept[key]
        self._of_network.clear()

    def kept(self, key: str) -> Any:
        """What was made under this key; None if nothing was yet."""
        return self._kept.get(key)

    def rows(self, count: int, make: Callable[[int, int], Tensor], size: int | None = None, title: str = "") -> Tensor:
        """Rows 0 … count - 1 of something that costs much, each computed on one rank only; the same bytes on every rank.

        Args:
            count: number of rows, at least 1.
            make: rows [stop - start, ...] from `start` to `stop`. It is called for the same ranges whatever the number of ranks, so that
                rounding does not depend on it either.
            size: rows per call; None is `settings.batch`.
            title: what is said now and then, with how much is done.
        """
        size = size or self.settings.batch
        chunks = -(-count // size)
        first, last = (chunks * rank // self.world.size for rank in (self.world.rank, self.world.rank + 1))
        parts = []
        for chunk in range(first, last):
            parts.append(make(chunk * size, min((chunk + 1) * size, count)))
            tenth = 10 * (chunk + 1 - first) // (last - first)
            if title and last - first >= PROGRESS_CHUNKS and tenth > 10 * (chunk - first) // (last - first):
                self.say(f"{title}: {10 * tenth} %")
        # A rank without a chunk of its own must still know the shape of a row.
        mine = torch.cat(parts) if parts else make(0, min(size, count))[:0]
        return gather_rows(mine)

    def generate(self, scenes: Scenes) -> Tensor:
        """Images [N, 3, H, H] in [-1, 1] of scenes, drawn by all ranks together. All of them stay in memory: N is hundreds, not 50 000."""
        return self.rows(len(scenes), lambda start, stop: self.sampler(scenes[start:stop]))

    @property
    def head(self) -> HeadModel:
        """The data set's head model, on the CPU; only where `lacks("heads")` is None."""
        return self.once("head", lambda: load_head(self.dataset.head_name))

    @property
    def detector(self) -> Detector:
        """The feature detector; only where `lacks("detector")` is None.

        Raises:
            CheckpointError: its file holds something else.
        """
        return self.once("detector", lambda: load_detector(self._detector_path(), self.device))

    @property
    def face_recognition(self) -> IResNet:
        """The face-recognition network that the settings name.

        Raises:
            CheckpointError: its file holds something else.
        """
        path = self.settings.face_recognition
        if path is None:
            raise ConfigError("no face-recognition network was named; give its weights with --face-recognition FILE.")
        return self.once("face recognition", lambda: load_recognition(path, self.device))

    def _detector_path(self, *, download: bool = False) -> Path:
        return self.settings.detector or find_published(INCEPTION, download=download, say=self.say)

    def _detector_problem(self) -> str | None:
        """None if the detector is there and can be read. The first rank fetches it if that is wanted; the others wait."""
        problem = None
        if self.world.is_first:
            problem = _problem(lambda: self._detector_path(download=self.settings.download))
        barrier()
        return problem or _problem(lambda: self.detector)

    def lacks(self, need: Need) -> str | None:
        """None if a need is met, else a sentence: what is missing and what to do."""
        path = self.dataset.path
        if need == "detector":
            return self._detector_problem()
        if need == "heads" and not self.dataset.head_name:
            return f"{path}: its heads are meshes, but this metric moves them; measure on a data set that has heads.npz."
        if need == "heads" and self.generator is not None and not self.generator.animatable:
            return "moves heads, but those of this network have no mesh that moves them."
        if need == "generator" and (self.generator is None or not self.generator.animatable):
            return "needs the network itself, with a mesh that moves its head."
        if need == "face_mesh":
            from next3d.tracking.face_mesh import face_mesh_problem

            return face_mesh_problem(self.dataset.resolution)
        if need == "face_recognition" and self.settings.face_recognition is not None:
            return _problem(lambda: self.face_recognition)
        return None


def _problem(attempt: Callable[[], object]) -> str | None:
    """What is wrong with an attempt, as a sentence; None if nothing."""
    try:
        attempt()
    except UserError as error:
        return str(error)
    return None
